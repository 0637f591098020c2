"""From a raw form to uint8 pixels: decoded, re-encoded as JPEG, through YUV, made grey, as declared.

By default every library does what its own conversions do: alpha is dropped, palettes and CMYK
are expanded, 16-bit samples keep their high byte, and EXIF orientation is applied. Nothing is
returned for part of an image.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapshift.domains.base import RawImage
from gapshift.domains.colours import in_grey, through_yuv
from gapshift.domains.decoders import DECODERS
from gapshift.domains.decoders.samples import composited, in_colours, wants_grey
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import Preprocessing


def decode(raw: RawImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) as RGB, or (H, W) where the contract's color is L.

    Raises UnreadableItemError for bytes that are no whole image, DataError for an
    array that is no uint8 image, and SkippedError where a library is not installed.
    """
    pixels = _of_pixels(raw, preprocessing) if isinstance(raw, np.ndarray) else _of_file(raw, preprocessing)
    if preprocessing.jpeg_quality is not None:
        pixels = _through_jpeg(pixels, preprocessing.jpeg_quality, preprocessing)
    if preprocessing.yuv.matrix != "none":
        pixels = through_yuv(pixels, preprocessing.yuv)
    if preprocessing.grey is not None:
        pixels = in_grey(pixels, preprocessing.grey)
        return pixels if preprocessing.color == "L" else in_colours(pixels, grey=False)
    return pixels


def _of_file(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    return DECODERS[preprocessing.decoder](content, preprocessing)


def _of_pixels(raw: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels in the asked colours; grey is made by Pillow whatever the decoder, since none runs."""
    shaped = raw.ndim == 2 or (raw.ndim == 3 and raw.shape[2] in (3, 4))
    if raw.dtype != np.uint8 or not shaped or not raw.size:
        raise DataError(
            f"Pixels of dtype {raw.dtype} and shape {raw.shape} are no image. "
            "Valid: uint8 of shape (H, W), (H, W, 3) as RGB or (H, W, 4) as RGBA."
        )
    if raw.shape[2:] == (4,) and preprocessing.alpha != "dropped":
        raw = composited(raw, preprocessing.alpha)
    return in_colours(raw, wants_grey(preprocessing))


def _through_jpeg(pixels: NDArray[np.uint8], quality: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Written as a JPEG (4:2:0, both libraries' default) by OpenCV where it decodes, else by Pillow; decoded again."""
    if preprocessing.decoder != "opencv":
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=quality)
        return _of_file(buffer.getvalue(), preprocessing)
    import cv2

    picture = pixels if pixels.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UnreadableItemError(f"OpenCV cannot write an image of shape {pixels.shape} as JPEG")
    return _of_file(encoded.tobytes(), preprocessing)
