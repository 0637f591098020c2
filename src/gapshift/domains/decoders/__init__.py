"""One file per library that turns an encoded image into uint8 pixels.

Each has ``decode(content, preprocessing)``: pixels (H, W, 3) as RGB, or (H, W) where the
contract's color is L and ``grey`` names no formula. It raises UnreadableItemError for bytes
that are no whole image, and SkippedError where the library is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.decoders import ffmpeg, pillow, turbojpeg
from gapshift.schema import Preprocessing

Decoder = Callable[[bytes, Preprocessing], NDArray[np.uint8]]


def _opencv(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    from gapshift.domains.decoders import opencv  # its library is 16 MB that few contracts need

    return opencv.decode(content, preprocessing)


DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "pillow": pillow.decode,
        "pillow-draft": pillow.decode,
        "opencv": _opencv,
        "pyav": ffmpeg.decode,
        "simplejpeg": turbojpeg.decode,
    }
)
