"""From an image's raw form to a model's input, as a contract declares it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, RawImage
from gapshift.domains.decode import decode
from gapshift.domains.resize import resize
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import Deployment, Preprocessing

Tensor = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8]


def prepare(raw: RawImage, preprocessing: Preprocessing) -> Tensor:
    """One image as the model takes it: (C, H, W) or (H, W, C), in the declared dtype.

    Decode, re-encode as JPEG, pass through YUV and make grey where declared, resize, order the
    colours, then (pixels * scale - mean) / std in float32. The dtype uint8 is for models that
    hold their own normalisation: they get the pixels. Raises UnreadableItemError for bytes
    that are no whole image, SkippedError where a declared library is not installed.
    """
    tensor: Tensor = _finish(_pixels(raw, preprocessing)[np.newaxis], preprocessing)[0]
    return tensor


def prepare_batch(raws: Sequence[RawImage], preprocessing: Preprocessing) -> Tensor:
    """Images as one array (N, C, H, W) or (N, H, W, C), each as ``prepare`` makes it.

    Raises DataError for an empty batch and UnreadableItemError for one unreadable image.
    """
    if not raws:
        raise DataError("An empty batch cannot be prepared. Give at least one image.")
    return _finish(np.stack([_pixels(raw, preprocessing) for raw in raws]), preprocessing)


def _pixels(raw: RawImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    return resize(decode(raw, preprocessing), preprocessing.resize)


def _finish(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> Tensor:
    """Uint8 pixels (N, H, W) or (N, H, W, 3) in the model's colours, values and layout."""
    if preprocessing.color == "L":
        pixels = pixels[..., np.newaxis]
    elif preprocessing.color == "BGR":
        pixels = pixels[..., ::-1]
    n, height, width, channels = pixels.shape
    if _planar(preprocessing):  # ahead of the arithmetic, whose result is then contiguous
        pixels = pixels.transpose(0, 3, 1, 2)
    values = _valued(np.ascontiguousarray(pixels), preprocessing)
    if preprocessing.layout == "NHWC-as-NCHW":
        return values.reshape(n, channels, height, width)
    return values.reshape(n, height, width, channels) if preprocessing.layout == "NCHW-as-NHWC" else values


def _planar(preprocessing: Preprocessing) -> bool:
    """Whether a channel's values lie together in memory."""
    return preprocessing.layout.startswith("NCHW")


def _valued(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> Tensor:
    if preprocessing.dtype == "uint8":
        return pixels.copy()  # never the data set's own memory
    values = pixels.astype(np.float32)
    values *= np.float32(preprocessing.scale)
    values -= _per_channel(preprocessing.mean, preprocessing)
    values /= _per_channel(preprocessing.std, preprocessing)
    return values.astype(np.float16) if preprocessing.dtype == "float16" else values


def _per_channel(values: tuple[float, ...], preprocessing: Preprocessing) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32).reshape((-1, 1, 1) if _planar(preprocessing) else (-1,))


# ------------------------------------------------------------ deviations without effect


def no_effect(
    dataset: Dataset, contract_preprocessing: Preprocessing, deviations: Mapping[str, Any], probe: int = 64
) -> str | None:
    """Why these preprocessing deviations together change nothing, or None where they do.

    ``deviations`` are dotted keys with or without ``preprocessing.`` before them. Up to
    ``probe`` evenly spaced items are prepared both ways; one tensor that differs in
    dtype, shape or any value is an effect, and so is an item that only one way can
    read. Items that cannot be read either way say nothing; where no item can be read
    the answer is None. Raises what ``Deployment.deviate`` raises.
    """
    if probe < 1:
        raise DataError(f"probe is {probe}; at least one item has to be compared.")
    reference = Deployment(preprocessing=contract_preprocessing)
    deviated = reference.deviate({_full(key): value for key, value in deviations.items()})
    assert isinstance(deviated.preprocessing, Preprocessing)  # a deviation never leaves its domain
    changed = [key.removeprefix("preprocessing.") for key in reference.differences(deviated)]
    if not changed:
        return "the contract already says so"
    declared = [_by_contract(key, contract_preprocessing, deviated.preprocessing) for key in changed]
    if all(declared):
        return _joined(declared)
    seen: list[RawImage] = []
    for raw in _probed(dataset, probe):
        one, other = _attempt(raw, contract_preprocessing), _attempt(raw, deviated.preprocessing)
        if one is None and other is None:
            continue
        if not _identical(one, other):
            return None
        seen.append(raw)
    return _reason(changed, seen, contract_preprocessing, deviated.preprocessing) if seen else None


def _full(key: str) -> str:
    return key if key.startswith("preprocessing.") else f"preprocessing.{key}"


def _by_contract(key: str, contract: Preprocessing, deployed: Preprocessing) -> str | None:
    """The reason that the settings alone give."""
    if contract.color == "L" and key == "color":
        return "the model takes grey images, which have no channel order"
    if contract.dtype == "uint8" and key == "scale":
        return "the model takes raw uint8 pixels, which no scale touches"
    if key.startswith("yuv.") and contract.yuv.matrix == deployed.yuv.matrix == "none":
        return "yuv.matrix is none: nothing passes through YUV"
    return None


def _probed(dataset: Dataset, probe: int) -> Iterator[RawImage]:
    """Raw forms of evenly spaced items, leaving out what cannot be read at all."""
    positions = np.linspace(0, len(dataset) - 1, min(probe, len(dataset))).round().astype(int)
    for index in positions:
        with suppress(UnreadableItemError):
            raw = dataset.raw(int(index))
            if isinstance(raw, (bytes, np.ndarray)):
                yield raw


def _attempt(raw: RawImage, preprocessing: Preprocessing) -> Tensor | None:
    try:
        return prepare(raw, preprocessing)
    except UnreadableItemError:
        return None


def _identical(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and np.array_equal(one, other)


def _reason(changed: Sequence[str], seen: Sequence[RawImage], contract: Preprocessing, deployed: Preprocessing) -> str:
    """Why tensors that were found identical are so: each key's own reason, or what was found."""
    reasons = [_by_contract(key, contract, deployed) or _by_items(key, seen, contract) for key in changed]
    found = f"{', '.join(changed)}: every probed item ({len(seen)}) gives a bit-identical tensor"
    return _joined(reasons) if all(reasons) else found


_OF_FILES = {
    "decoder": "both decoders give the same pixels for every probed item ({})",
    "chroma_upsampling": "no probed item ({}) has chroma that another upsampling changes",
    "exif_orientation": "no probed item ({}) has an EXIF orientation that turns it",
    "sixteen_bit": "no probed item ({}) has 16-bit samples that the decoder hands over",
}
"""Keys that matter to encoded items alone, and why they changed none."""


def _by_items(key: str, seen: Sequence[RawImage], contract: Preprocessing) -> str | None:
    """The reason that the probed items give, once their tensors were found identical."""
    if key in _OF_FILES:
        if any(isinstance(raw, bytes) for raw in seen):
            return _OF_FILES[key].format(len(seen))
        return "items are stored as pixels: no decoder runs"
    if key == "alpha":
        return f"no probed item ({len(seen)}) has transparency that shows"
    return _by_pictures(key, [decode(raw, contract) for raw in seen], contract)


def _by_pictures(key: str, pictures: Sequence[NDArray[np.uint8]], contract: Preprocessing) -> str | None:
    height, width = contract.resize.size
    if key.startswith("resize.") and all(picture.shape[:2] == (height, width) for picture in pictures):
        return f"every probed item already has the model's size of {height}x{width}: nothing is resized"
    if key == "resize.fit" and all(picture.shape[0] * width == picture.shape[1] * height for picture in pictures):
        return f"every probed item already has the shape of {height}x{width}: no fit cuts or pads"
    grey = all(picture.ndim == 2 or np.ptp(picture, axis=2).max() == 0 for picture in pictures)
    if key == "color" and grey:
        return "every probed item is grey: its channels are equal in any order"
    if key == "grey" and grey and contract.color != "L":
        return "every probed item is grey already"
    return None


def _joined(reasons: Sequence[str | None]) -> str:
    return "; ".join(dict.fromkeys(reason for reason in reasons if reason))
