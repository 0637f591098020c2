"""Corruptions of images: the fifteen families of Hendrycks and Dietterich (2019), by their numbers for 32x32 pixels.

Settings are those of CIFAR-10-C unless a docstring says otherwise. Lengths in pixels grow with an
image's shorter side over 32, so that a severity means the same of the whole picture; smaller images
get the published ones. Noise stays a pixel's own, and weakens where a large image is shrunk. Images are float32 in
[0, 1], (H, W) or (H, W, 3).
"""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapshift.domains.corruptions.base import Family

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]

SIDE = 32
"""The shorter side (pixels) that all lengths are published for."""


# ------------------------------------------------------------------------------- noise


def gaussian_noise(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """A sensor's noise in low light."""
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return image + np.float32(scale) * rng.standard_normal(image.shape, dtype=np.float32)


def shot_noise(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """Photons counted: Poisson. Counts depend on the rate, so severities share their seed and are not nested."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return (rng.poisson(image.astype(np.float64) * photons) / photons).astype(np.float32)


def impulse_noise(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """Values that are stuck at black or white."""
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit, white = rng.random((2, *image.shape), dtype=np.float32)
    return np.where(hit < amount, (white < 0.5).astype(np.float32), image)


# -------------------------------------------------------------------------------- blur


def defocus_blur(image: Values, severity: int, rng: np.random.Generator) -> Values:  # noqa: ARG001
    """A lens out of focus: a disk, its edge softened."""
    radius, soft = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    radius, soft = radius * _unit(image), soft * _unit(image)
    reach = int(np.ceil(radius + 2 * soft)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (0, 0), soft)
    return _filtered(image, kernel / kernel.sum())


def glass_blur(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """Frosted glass: pixels taken from next to where they belong, twice, then blurred. Settings are ours.

    The published ones change blur and shuffling at once, so that a higher severity may be the
    clearer picture; here a growing share of pixels moves, each by its own draw.
    """
    share = (0.1, 0.2, 0.35, 0.6, 1.0)[severity - 1]
    height, width = image.shape[:2]
    offsets = np.rint(rng.uniform(-1, 1, (2, 2, height, width)) * _unit(image)).astype(np.intp)
    moves = offsets * (rng.random((2, 1, height, width)) < share)
    y, x = np.mgrid[:height, :width]
    shuffled = image
    for down, right in moves:
        shuffled = shuffled[(y + down).clip(0, height - 1), (x + right).clip(0, width - 1)]
    return _blurred(shuffled, 0.4)


def motion_blur(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """A camera that moves: a trail within 45 degrees of the horizontal."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    angle = rng.uniform(-np.pi / 4, np.pi / 4)
    return _filtered(image, _trail(radius * _unit(image), sigma * _unit(image), angle))


def zoom_blur(image: Values, severity: int, rng: np.random.Generator) -> Values:  # noqa: ARG001
    """A camera that moves towards the scene: the mean over steps of 1% magnification."""
    steps = (5, 10, 15, 20, 25)[severity - 1]
    zooms = [_zoomed(image, 1 + step / 100) for step in range(steps + 1)]
    return np.asarray(np.mean([image, *zooms], axis=0), dtype=np.float32)


# ----------------------------------------------------------------------------- weather


def snow(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """Flakes that fall, and a scene that whitens. One field at every severity, at first thin and small."""
    mean, scale, zoom, least, radius, sigma, kept = (
        (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    unit = _unit(image)
    height, width = image.shape[:2]
    coarse = rng.standard_normal((max(round(height / unit), 1), max(round(width / unit), 1)), dtype=np.float32)
    field = mean + scale * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    field = _zoomed(field, zoom)
    flakes = np.where(field < least, 0, field).clip(0, 1).astype(np.float32)
    flakes = _filtered(flakes, _trail(radius * unit, sigma * unit, rng.uniform(-3 * np.pi / 4, -np.pi / 4)))
    white = np.maximum(image, _over(_grey(image) * 1.5 + 0.5, image))
    covered = kept * image + (1 - kept) * white + _over(flakes + np.rot90(flakes, 2), image)
    return np.asarray(covered, dtype=np.float32)


def frost(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """Ice on the lens. Its crystals are ridges of random fields: the original lays photographs over.

    The first three severities are mixed as published, the last two more strongly: with this ice
    the published ones are the milder.
    """
    kept, ice = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.8, 0.5), (0.7, 0.6))[severity - 1]
    fields = [_clouds(image.shape[:2], rng, 1.0) for _ in range(2)]
    ridges = np.max([1 - np.abs(2 * field - 1) for field in fields], axis=0) ** 3
    crystals = 0.2 + 0.8 * ridges.astype(np.float32)
    tint = np.array([0.85, 0.95, 1.0], dtype=np.float32)
    frozen = kept * image + ice * (crystals if image.ndim == 2 else crystals[..., None] * tint)
    return np.asarray(frozen, dtype=np.float32)


def fog(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """Haze as a fractal field over the scene, which dims. The field's roughness is one at every severity."""
    amount = (0.2, 0.5, 0.75, 1.0, 1.5)[severity - 1]
    brightest = float(image.max())
    haze = _over(np.float32(amount) * _clouds(image.shape[:2], rng, 2.0), image)
    return (image + haze) * np.float32(brightest / (brightest + amount))


# ----------------------------------------------------------------------------- digital


def brightness(image: Values, severity: int, rng: np.random.Generator) -> Values:  # noqa: ARG001
    """Overexposure: the value of hue, saturation and value is raised."""
    more = np.float32((0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1])
    if image.ndim == 2:
        return image + more
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = (hsv[..., 2] + more).clip(0, 1)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.float32)


def contrast(image: Values, severity: int, rng: np.random.Generator) -> Values:  # noqa: ARG001
    """Haze, a dirty lens, flat light: every channel drawn towards its mean."""
    kept = np.float32((0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1])
    mean = np.asarray(image.mean(axis=(0, 1), keepdims=True), dtype=np.float32)
    return mean + kept * (image - mean)


def elastic(image: Values, severity: int, rng: np.random.Generator) -> Values:
    """Stretched and bent: a smooth random displacement. Settings are ours.

    The original changes shape, smoothness and an affine map at once, so that severities are no
    order of one thing; here one field grows, from a root mean square of 1% of the side to 5%.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    fields = [_smooth(rng.standard_normal((height, width), dtype=np.float32), side * 0.1) for _ in range(2)]
    dx, dy = (field / max(float(np.sqrt(np.mean(field**2))), 1e-9) * side * severity * 0.01 for field in fields)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(image, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, dtype=np.float32)


def pixelate(image: Values, severity: int, rng: np.random.Generator) -> Values:  # noqa: ARG001
    """A thumbnail enlarged: shrunk and enlarged by Pillow's box kernel."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = image.shape[:2]
    small = (max(int(width * share), 1), max(int(height * share), 1))
    picture = Image.fromarray(_pixels(image)).resize(small, Image.Resampling.BOX)
    return _values(np.asarray(picture.resize((width, height), Image.Resampling.BOX)))


def jpeg(image: Values, severity: int, rng: np.random.Generator) -> Values:  # noqa: ARG001
    """Compression before the picture came here: JPEG by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(_pixels(image)).save(buffer, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    return _values(np.asarray(Image.open(buffer)))


# ------------------------------------------------------------------------------- parts


def _unit(image: Values) -> float:
    """What a published pixel is long here."""
    height, width = image.shape[:2]
    return float(max(min(height, width) / SIDE, 1.0))


def _over(field: Values, image: Values) -> Values:
    """A field (H, W) in the shape of the image, to be added to it."""
    return field if image.ndim == 2 else field[..., np.newaxis]


def _grey(image: Values) -> Values:
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def _filtered(image: Values, kernel: Values) -> Values:
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), dtype=np.float32)


def _blurred(image: Values, sigma: float) -> Values:
    blurred = cv2.GaussianBlur(image, (0, 0), sigma * _unit(image), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32)


def _trail(radius: float, sigma: float, angle: float) -> Values:
    """A line from the centre outwards that fades as a Gaussian; (2 r + 1) pixels a side, sum 1."""
    reach = max(int(np.ceil(radius)), 1)
    steps = np.linspace(0, radius, 4 * reach + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float32)
    y, x = reach + steps * np.sin(angle), reach + steps * np.cos(angle)
    np.add.at(kernel, (np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)), weights)
    return np.asarray(kernel / kernel.sum(), dtype=np.float32)


def _zoomed(image: Values, factor: float) -> Values:
    """The centre enlarged to the whole."""
    height, width = image.shape[:2]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.column_stack([np.eye(2) * factor, centre * (1 - factor)])
    zoomed = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(zoomed, dtype=np.float32)


def _clouds(shape: tuple[int, ...], rng: np.random.Generator, roughness: float) -> Values:
    """A field (H, W) in [0, 1] whose amplitude falls as 1/frequency**roughness, made by its spectrum."""
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = np.inf  # no mean
    field = np.fft.irfft2(spectrum / frequency**roughness, shape)
    reach = float(np.ptp(field))
    return np.asarray((field - field.min()) / (reach or 1.0), dtype=np.float32)


def _smooth(field: Values, sigma: float) -> Values:
    smooth = cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(smooth, dtype=np.float32)


def _values(pixels: Pixels) -> Values:
    return pixels.astype(np.float32) / np.float32(255)


def _pixels(image: Values) -> Pixels:
    return np.asarray(np.rint(image.clip(0, 1) * 255), dtype=np.uint8)


def _of_pixels(name: str, corrupt: Callable[[Values, int, np.random.Generator], Values]) -> Family[Pixels]:
    def apply(pixels: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
        return _pixels(corrupt(_values(pixels), severity, rng))

    return Family(name, apply)


FAMILIES = tuple(
    _of_pixels(corrupt.__name__.replace("_", "-"), corrupt)
    for corrupt in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        glass_blur,
        motion_blur,
        zoom_blur,
        snow,
        frost,
        fog,
        brightness,
        contrast,
        elastic,
        pixelate,
        jpeg,
    )
)
