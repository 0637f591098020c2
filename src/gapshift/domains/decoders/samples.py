"""What all decoders share: colours, depth, transparency, orientation, and whole files."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapshift.schema import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow may try: none of the formats that start another program, such as EPS."""
_EXIF = {"exif", "Raw profile type exif"}
"""Where Pillow keeps EXIF data; looking only then saves a third of a small image's time."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What shows an image upright, by its EXIF orientation (CIPA DC-008, 4.6.4)."""
_GROUND = {"on-white": (255, 255, 255, 255), "on-black": (0, 0, 0, 255)}


def wants_grey(preprocessing: Preprocessing) -> bool:
    """Whether the decoder itself makes the picture grey."""
    return preprocessing.color == "L" and preprocessing.grey is None


def in_colours(pixels: NDArray[np.uint8], grey: bool) -> NDArray[np.uint8]:
    """Pixels (H, W), (H, W, 3) or (H, W, 4) as RGB or, by Pillow, as grey (H, W); alpha is dropped."""
    if pixels.ndim == 2:
        return pixels if grey else np.repeat(pixels[..., np.newaxis], 3, axis=2)
    pixels = pixels[..., :3]
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L")) if grey else pixels


def composited(rgba: NDArray[np.uint8] | Image.Image, alpha: str) -> NDArray[np.uint8]:
    """Pixels with alpha as RGB over white or black, by Pillow's ``alpha_composite``."""
    image = rgba if isinstance(rgba, Image.Image) else Image.fromarray(np.ascontiguousarray(rgba))
    ground = Image.new("RGBA", image.size, _GROUND[alpha])
    return np.asarray(Image.alpha_composite(ground, image))[..., :3]


def eight_bits(samples: NDArray[Any], how: str) -> NDArray[np.uint8]:
    """16-bit samples ``scaled`` to their high byte, ``clipped`` at 255, or ``wrapped`` to their low byte.

    Those are a proper conversion, Pillow's ``convert("L")`` of 16-bit grey, and NumPy's ``astype``.
    """
    whole = samples.clip(0, 65535).astype(np.uint16)
    if how == "clipped":
        return whole.clip(0, 255).astype(np.uint8)
    return (whole >> 8 if how == "scaled" else whole).astype(np.uint8)


def upright(pixels: NDArray[np.uint8], content: bytes) -> NDArray[np.uint8]:
    """Pixels as the file's EXIF orientation, read by Pillow, wants them shown."""
    with suppress(Exception):  # a format that Pillow does not know: no orientation either
        turn = _TURNS.get(orientation(Image.open(io.BytesIO(content), formats=FORMATS)))
        return pixels if turn is None else np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).transpose(turn))
    return pixels


def turned(image: Image.Image) -> Image.Image:
    """A loaded image, turned as its EXIF orientation says."""
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8 (5 and above: height and width change places); 1 where there is none."""
    if not _EXIF & image.info.keys() and image.format != "PNG":  # a PNG may have it behind the pixels
        return 1
    with suppress(Exception):  # damaged EXIF data: the pixels are whole, and OpenCV passes over it too
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def is_cut_jpeg(content: bytes) -> bool:
    """Whether a JPEG lacks the end marker after its first scan: some libraries fill the rest with grey.

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
