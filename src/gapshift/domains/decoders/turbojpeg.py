"""libjpeg-turbo through simplejpeg (``pip install gapshift[jpeg]``), which offers both chroma upsamplings.

Pillow and OpenCV hold the same library and always take its own choice, the fancy one.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.decoders import pillow
from gapshift.domains.decoders.samples import in_colours, is_cut_jpeg, upright, wants_grey
from gapshift.errors import SkippedError, UnreadableItemError
from gapshift.schema import Preprocessing

_PRINT = ("CMYK", "YCCK")


def decode(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels of a JPEG; what is none, or is in printing colours, goes through Pillow."""
    library = _simplejpeg()
    if not content.startswith(b"\xff\xd8\xff"):
        return pillow.decode(content, preprocessing)
    if is_cut_jpeg(content):
        raise UnreadableItemError(f"libjpeg-turbo cannot decode it ({len(content)} bytes): the JPEG has no end marker")
    grey, fast = wants_grey(preprocessing), preprocessing.chroma_upsampling == "plain"
    try:
        if library.decode_jpeg_header(content, strict=False)[2] in _PRINT:
            return pillow.decode(content, preprocessing)
        pixels = library.decode_jpeg(content, "GRAY" if grey else "RGB", fastupsample=fast, strict=False)
    except ValueError as error:
        raise UnreadableItemError(f"libjpeg-turbo cannot decode it ({len(content)} bytes): {error}") from error
    shown = in_colours(pixels[..., 0] if grey else pixels, grey)
    return upright(shown, content) if preprocessing.exif_orientation == "applied" else shown


def _simplejpeg() -> ModuleType:
    try:
        import simplejpeg
    except ImportError as error:
        raise SkippedError(
            "simplejpeg (libjpeg-turbo) is not installed here. Install it with `pip install gapshift[jpeg]`."
        ) from error
    found: ModuleType = simplejpeg
    return found
