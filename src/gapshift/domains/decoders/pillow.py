"""Pillow, with or without its DCT-scaled draft mode."""

from __future__ import annotations

import io
import threading
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gapshift.domains.decoders.samples import (
    FORMATS,
    composited,
    eight_bits,
    in_colours,
    orientation,
    turned,
    wants_grey,
)
from gapshift.errors import UnreadableItemError
from gapshift.schema import Preprocessing

_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")

_FILTERS = threading.Lock()
"""Held while warning filters are changed, which belong to the whole process."""


def decode(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels by Pillow's own conversions. Of 16-bit colour it keeps the high byte by itself."""
    try:
        try:
            return _pixels(content, preprocessing)
        except Warning:  # filters that turn warnings into errors must not make an image with odd metadata unreadable
            with _FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _pixels(content, preprocessing)
    except UnidentifiedImageError as error:  # its own text holds an address in memory
        why = "no image in a known format" if content else "it is empty"
        raise UnreadableItemError(f"Pillow cannot decode it ({len(content)} bytes): {why}") from error
    except Exception as error:
        raise UnreadableItemError(f"Pillow cannot decode it ({len(content)} bytes): {error}") from error


def _pixels(content: bytes, how: Preprocessing) -> NDArray[np.uint8]:
    image, grey = _loaded(content, how), wants_grey(how)
    if image.mode == "F":
        raise ValueError("its samples are floating-point numbers, not 8 or 16 bits")
    if image.mode in _SIXTEEN_BIT:
        return in_colours(eight_bits(np.asarray(image), how.sixteen_bit), grey)
    if how.alpha != "dropped" and image.has_transparency_data:
        return in_colours(composited(image.convert("RGBA"), how.alpha), grey)
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns of a direct conversion, which gives the same colours
    return np.asarray(image.convert("L" if grey else "RGB"))


def _loaded(content: bytes, how: Preprocessing) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if how.decoder == "pillow-draft":
        rows, columns = how.resize.size
        sideways = how.exif_orientation == "applied" and orientation(image) >= 5
        image.draft(None, (rows, columns) if sideways else (columns, rows))
    image.load()
    return turned(image) if how.exif_orientation == "applied" else image
