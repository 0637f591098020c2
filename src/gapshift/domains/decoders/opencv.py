"""OpenCV: ``imdecode`` with its own conversions, or its samples as they are in the file."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gapshift.domains.decoders.samples import composited, eight_bits, in_colours, is_cut_jpeg, upright, wants_grey
from gapshift.errors import UnreadableItemError
from gapshift.schema import Preprocessing


def decode(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels by OpenCV's own conversions, or by ours where another depth or alpha is declared."""
    if not content or is_cut_jpeg(content):
        what = "the JPEG has no end marker" if content else "it is empty"
        raise UnreadableItemError(f"OpenCV cannot decode it ({len(content)} bytes): {what}")
    grey = wants_grey(preprocessing)
    if (preprocessing.alpha, preprocessing.sixteen_bit) != ("dropped", "scaled"):
        samples = _imdecode(content, cv2.IMREAD_UNCHANGED)
        if samples.dtype == np.uint16 or samples.shape[2:] == (4,):
            return in_colours(_converted(samples, content, preprocessing), grey)
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    if preprocessing.exif_orientation == "ignored":
        flag |= cv2.IMREAD_IGNORE_ORIENTATION
    pixels = _imdecode(content, flag)
    return _uint8(pixels if grey else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _imdecode(content: bytes, flag: int) -> NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise UnreadableItemError(f"OpenCV cannot decode it ({len(content)} bytes): {error}") from error
    if pixels is None:
        raise UnreadableItemError(f"OpenCV cannot decode it ({len(content)} bytes): no whole image in a known format")
    return np.asarray(pixels)


def _converted(samples: NDArray[Any], content: bytes, how: Preprocessing) -> NDArray[np.uint8]:
    """Samples as the file has them (BGR, BGRA or grey) as RGB or grey; such reading turns nothing upright."""
    eight = eight_bits(samples, how.sixteen_bit) if samples.dtype == np.uint16 else _uint8(samples)
    if eight.ndim == 3:
        eight = eight[..., [2, 1, 0, 3][: eight.shape[2]]]
    if eight.shape[2:] == (4,) and how.alpha != "dropped":
        eight = composited(eight, how.alpha)
    return upright(eight, content) if how.exif_orientation == "applied" else eight


def _uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return pixels.astype(np.uint8, copy=False)
