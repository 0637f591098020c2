"""RGB through YUV and back, and RGB to grey, in 8 bits."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.decoders import ffmpeg
from gapshift.domains.decoders.samples import in_colours
from gapshift.schema import YUV

_LUMA = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722), "mean": (1 / 3, 1 / 3, 1 / 3)}
"""Weights of red, green and blue (ITU-R BT.601-7, 2.5.1; BT.709-6, 3.2)."""
_RANGES = {"full": (255.0, 255.0, 0.0), "limited": (219.0, 224.0, 16.0)}
"""Steps of luma, steps of chroma, and the luma of black."""
_ZERO = 128.0
"""The chroma of grey."""


def in_grey(pixels: NDArray[np.uint8], formula: str) -> NDArray[np.uint8]:
    """Grey (H, W) of RGB pixels (H, W, 3): rounded luma, or the mean of the channels."""
    return _mapped(pixels, np.array([_LUMA[formula]]))


def through_yuv(pixels: NDArray[np.uint8], yuv: YUV) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) as RGB or (H, W) as they are after ``yuv``; raises SkippedError without its library."""
    if pixels.ndim == 2:
        return through_yuv(in_colours(pixels, grey=False), yuv)[..., 1]
    if yuv.library == "ffmpeg":
        return ffmpeg.through_yuv(pixels, yuv)
    between = _mapped(pixels, _to_yuv(yuv.matrix, yuv.range))
    if yuv.chroma == "nv12":
        between = np.dstack([between[..., 0], _halved(between[..., 1:])])
    return _mapped(between, _to_rgb(yuv.read_matrix or yuv.matrix, yuv.read_range or yuv.range))


@cache
def _to_yuv(matrix: str, value_range: str) -> NDArray[np.float64]:
    """Affine map (3, 4) from R, G, B to Y, Cb, Cr, all of 0-255 (BT.601-7, 2.5; BT.709-6, 3 and 4)."""
    red, green, blue = _LUMA[matrix]
    luma, chroma, black = _RANGES[value_range]
    rows = np.array([[red, green, blue], [-red, -green, 1 - blue], [1 - red, -green, -blue]])
    rows[1] /= 2 * (1 - blue)
    rows[2] /= 2 * (1 - red)
    rows *= np.array([[luma], [chroma], [chroma]]) / 255
    return np.column_stack([rows, (black, _ZERO, _ZERO)])


@cache
def _to_rgb(matrix: str, value_range: str) -> NDArray[np.float64]:
    """The inverse of ``_to_yuv``."""
    forward = _to_yuv(matrix, value_range)
    back = np.linalg.inv(forward[:, :3])
    return np.column_stack([back, -back @ forward[:, 3]])


def _mapped(pixels: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An affine map of each pixel, rounded and clipped once; OpenCV's for bytes rounds its factors too."""
    import cv2

    values: NDArray[np.float32] = cv2.transform(pixels.astype(np.float32), matrix)
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _halved(chroma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Chroma (H, W, 2) as means of 2 x 2 pixels, repeated: what is left of it in 4:2:0; odd edges are doubled first."""
    import cv2

    height, width = chroma.shape[:2]
    even = cv2.copyMakeBorder(np.ascontiguousarray(chroma), 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = cv2.resize(even, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(half, dtype=np.uint8).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
