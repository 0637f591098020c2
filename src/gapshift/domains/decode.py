"""From a raw form to uint8 pixels, through Pillow or OpenCV.

Both do what their own conversions do: alpha is dropped (``Image.convert("RGB")``,
``cv2.IMREAD_COLOR``), palettes and CMYK are expanded, 16-bit samples keep their high
byte, and EXIF orientation is applied. Nothing is returned for part of an image.
"""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gapshift.domains.base import RawImage
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import Preprocessing

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow may try: none of the formats that start another program, such as EPS."""
_EXIF = {"exif", "Raw profile type exif"}
"""Where Pillow keeps EXIF data; looking only then saves a third of a small image's time."""

_FILTERS = threading.Lock()
"""Held while warning filters are changed, which belong to the whole process."""


def decode(raw: RawImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) as RGB, or (H, W) where the contract's color is L.

    Raises UnreadableItemError for bytes that are no whole image, and DataError for an
    array that is no uint8 image.
    """
    grey = preprocessing.color == "L"
    if isinstance(raw, np.ndarray):
        pixels = _of_pixels(raw, grey)
    elif preprocessing.decoder == "pillow":
        pixels = _pillow(raw, grey)
    else:
        pixels = _opencv(raw, grey)
    if preprocessing.jpeg_quality is None:
        return pixels
    return _through_jpeg(pixels, preprocessing.jpeg_quality, preprocessing.decoder, grey)


def _of_pixels(raw: NDArray[np.uint8], grey: bool) -> NDArray[np.uint8]:
    """Pixels in the asked colours; grey is made by Pillow whatever the decoder, since none runs."""
    shaped = raw.ndim == 2 or (raw.ndim == 3 and raw.shape[2] in (3, 4))
    if raw.dtype != np.uint8 or not shaped or not raw.size:
        raise DataError(
            f"Pixels of dtype {raw.dtype} and shape {raw.shape} are no image. "
            "Valid: uint8 of shape (H, W), (H, W, 3) as RGB or (H, W, 4) as RGBA."
        )
    if raw.ndim == 2:
        return raw if grey else np.repeat(raw[..., np.newaxis], 3, axis=2)
    pixels = raw[..., :3]
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L")) if grey else pixels


def _pillow(content: bytes, grey: bool) -> NDArray[np.uint8]:
    try:
        try:
            return _pillow_pixels(content, grey)
        except Warning:  # filters that turn warnings into errors must not make an image with odd metadata unreadable
            with _FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _pillow_pixels(content, grey)
    except Exception as error:
        raise UnreadableItemError(f"Pillow cannot decode it ({len(content)} bytes): {error}") from error


def _pillow_pixels(content: bytes, grey: bool) -> NDArray[np.uint8]:
    image = _upright(Image.open(io.BytesIO(content), formats=_FORMATS))
    if image.mode == "F":
        raise ValueError("its samples are floating-point numbers, not 8 or 16 bits")
    if image.mode in _SIXTEEN_BIT:
        return _of_pixels((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8), grey)
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns of a direct conversion, which gives the same colours
    return np.asarray(image.convert("L" if grey else "RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """The loaded image, turned as its EXIF orientation says."""
    image.load()
    if not _EXIF & image.info.keys():
        return image
    with suppress(Exception):  # damaged EXIF data: the pixels are whole, and OpenCV passes over it too
        return ImageOps.exif_transpose(image)
    return image


def _opencv(content: bytes, grey: bool) -> NDArray[np.uint8]:
    if not content or _is_cut_jpeg(content):
        what = "the JPEG has no end marker" if content else "it is empty"
        raise UnreadableItemError(f"OpenCV cannot decode it ({len(content)} bytes): {what}")
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise UnreadableItemError(f"OpenCV cannot decode it ({len(content)} bytes): {error}") from error
    if pixels is None:
        raise UnreadableItemError(f"OpenCV cannot decode it ({len(content)} bytes): no whole image in a known format")
    return _uint8(pixels) if grey else _uint8(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


def _is_cut_jpeg(content: bytes) -> bool:
    """Whether a JPEG lacks the end marker after its first scan: some OpenCV versions fill the rest with grey.

    Segments before the scan are skipped by their length (ITU-T T.81, B.1.1), since a
    thumbnail inside them has an end marker of its own.
    """
    if not content.startswith(b"\xff\xd8"):
        return False
    position = 2
    while content[position : position + 1] == b"\xff":
        marker = content[position + 1 : position + 2]
        if marker == b"\xda":
            return content.find(b"\xff\xd9", position) < 0
        length = 1 if marker == b"\xff" else 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        position += max(length, 1)
    return True


def _through_jpeg(pixels: NDArray[np.uint8], quality: int, library: str, grey: bool) -> NDArray[np.uint8]:
    """Written as a JPEG (4:2:0, both libraries' default) and read again by the same library."""
    if library == "pillow":
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=quality)
        return _pillow(buffer.getvalue(), grey)
    picture = pixels if grey else cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UnreadableItemError(f"OpenCV cannot write an image of shape {pixels.shape} as JPEG")
    return _opencv(encoded.tobytes(), grey)


def _uint8(pixels: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.uint8]:
    return pixels.astype(np.uint8, copy=False)
