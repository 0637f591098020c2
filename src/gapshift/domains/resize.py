"""Resizing through Pillow, OpenCV or torch: the declared kernel, and the way to the size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapshift.schema import UNSMOOTHED, Resize

_PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
# OpenCV's names of them: the library is 16 MB that few contracts need, so it is imported where it works.
_OPENCV = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
    "area": "INTER_AREA",
    "linear-exact": "INTER_LINEAR_EXACT",
    "nearest-exact": "INTER_NEAREST_EXACT",
}

Size = tuple[int, int]
"""(height, width) in pixels."""


def resize(pixels: NDArray[np.uint8], how: Resize) -> NDArray[np.uint8]:
    """``pixels`` (H, W) or (H, W, C), brought to ``how.size``.

    ``crop`` resizes until the size is covered and cuts out the centre (rounded as
    torchvision's Resize and CenterCrop do); ``letterbox`` resizes until it fits and
    centres it between zeros. Pixels of the right size come back as they are: every
    kernel leaves them so.
    """
    source: Size = (pixels.shape[0], pixels.shape[1])
    if source == how.size:
        return pixels
    if how.fit == "crop":
        return _centre_crop(_scale(pixels, _covering(source, how.size), how), how.size)
    if how.fit == "letterbox":
        return _pad(_scale(pixels, _fitting(source, how.size), how), how.size)
    return _scale(pixels, how.size, how)


def _scale(pixels: NDArray[np.uint8], size: Size, how: Resize) -> NDArray[np.uint8]:
    if pixels.shape[:2] == size:
        return pixels
    return _LIBRARIES[how.library](np.ascontiguousarray(pixels), size, how)


def _by_opencv(pixels: NDArray[np.uint8], size: Size, how: Resize) -> NDArray[np.uint8]:
    import cv2

    kernel = getattr(cv2, _OPENCV[how.interpolation])
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=kernel), dtype=np.uint8)


def _by_pillow(pixels: NDArray[np.uint8], size: Size, how: Resize) -> NDArray[np.uint8]:
    image, kernel = Image.fromarray(pixels), _PILLOW[how.interpolation]
    if how.antialias or how.interpolation == "nearest":
        return np.asarray(image.resize(size[::-1], kernel))
    return np.asarray(_point_sampled(image, size, kernel))


def _by_torch(pixels: NDArray[np.uint8], size: Size, how: Resize) -> NDArray[np.uint8]:
    """``F.interpolate`` in float32, rounded and clipped to pixels, as torchvision's resize of tensors does."""
    import torch

    planes = pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
    values = torch.tensor(planes, dtype=torch.float32).permute(2, 0, 1).unsqueeze(0)
    smooth = how.interpolation not in UNSMOOTHED
    scaled = torch.nn.functional.interpolate(
        values,
        size,
        mode=how.interpolation,
        align_corners=how.coordinates == "align-corners" if smooth else None,
        antialias=smooth and how.antialias,
    )
    whole = scaled[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    return np.asarray(whole[..., 0] if pixels.ndim == 2 else whole)


_LIBRARIES = {"pillow": _by_pillow, "opencv": _by_opencv, "torch": _by_torch}


def _point_sampled(image: Image.Image, size: Size, kernel: Image.Resampling) -> Image.Image:
    """The kernel at its own width, whatever the scale: what tensor libraries call antialias=False.

    Pillow's transform maps the centres of pixels, so that this is the half-pixel rule.
    """
    across, down = image.width / size[1], image.height / size[0]
    return image.transform(size[::-1], Image.Transform.AFFINE, (across, 0, 0, 0, down, 0), kernel)


def _covering(source: Size, target: Size) -> Size:
    """The smallest size of the source's shape that covers the target; the long side rounded down."""
    (height, width), (rows, columns) = source, target
    if rows * width >= columns * height:
        return rows, max(columns, width * rows // height)
    return max(rows, height * columns // width), columns


def _fitting(source: Size, target: Size) -> Size:
    """The largest size of the source's shape inside the target; the short side rounded to nearest."""
    (height, width), (rows, columns) = source, target
    if rows * width <= columns * height:
        return rows, min(columns, max(1, (2 * width * rows + height) // (2 * height)))
    return min(rows, max(1, (2 * height * columns + width) // (2 * width))), columns


def _centre_crop(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    top, left = (round((have - want) / 2) for have, want in zip(pixels.shape[:2], size, strict=True))
    return pixels[top : top + size[0], left : left + size[1]]


def _pad(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    padded = np.zeros((*size, *pixels.shape[2:]), dtype=np.uint8)
    padded[top : top + height, left : left + width] = pixels
    return padded
