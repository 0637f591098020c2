"""Mistakes that are made between an item and a model, as functions of prepared inputs.

What a contract's settings can say (another channel order, another resize) is a deviation and needs no entry here:
``envs/layers/candidates.py`` tries those too. These are the others: turned pictures, statistics applied twice,
token ids off by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.schema import (
    SPECIAL_TOKENS,
    AnyPreprocessing,
    AudioPreprocessing,
    Preprocessing,
    TextPreprocessing,
)

Tensor = NDArray[Any]
_KNOWN_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0.5": ((0.5,), (0.5,)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "MNIST": ((0.1307,), (0.3081,)),
    "SVHN": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
"""Published means and deviations of pixels in 0-1, which templates carry from model to model; 0.5 makes -1 to 1."""
_IN_THE_CATALOG = ("0.5", "ImageNet")
"""Environments of the catalog set these; for pixels in 0-1 they are the same."""
_TURNS = {"rotation-90": 1, "rotation-180": 2, "rotation-270": 3}


@dataclass(frozen=True)
class Mistake:
    """``apply`` turns a batch (n, ...) of inputs as the contract prepares them into what the mistake makes of them; its
    shape and type stay. ``words`` say what it is; ``settings`` what a contract's preprocessing would say for it, where
    settings say it."""

    name: str
    words: str
    apply: Callable[[Tensor], Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)


def mistakes(contract: AnyPreprocessing, sample: Tensor | None = None) -> tuple[Mistake, ...]:
    """The mistakes that inputs prepared by a contract can have. ``sample`` (n, ...) are some of these inputs, from
    which the data's own statistics are taken; control has none."""
    if isinstance(contract, Preprocessing):
        return tuple(_of_images(contract, sample))
    if isinstance(contract, TextPreprocessing):
        return tuple(_of_texts(contract))
    if isinstance(contract, AudioPreprocessing):
        return tuple(_of_sounds(sample))
    return ()


# ---------------------------------------------------------------------------- images


@dataclass(frozen=True)
class _Image:
    """Axes of a batch of images, and its pixels in the contract's scale, mean and deviation taken off."""

    contract: Preprocessing

    @property
    def channel_axis(self) -> int:
        return 1 if self.contract.layout in ("NCHW", "NHWC-as-NCHW") else -1

    @property
    def plane(self) -> tuple[int, int]:
        """The axes of height and width."""
        return (2, 3) if self.channel_axis == 1 else (1, 2)

    def channels(self, values: tuple[float, ...]) -> Tensor:
        """Values that broadcast over a batch."""
        shape = (-1, 1, 1) if self.channel_axis == 1 else (-1,)
        return np.array(values, dtype=np.float32).reshape(shape)

    def pixels(self, x: Tensor) -> Tensor:
        """Pixels times the contract's scale: without mean and deviation."""
        back: Tensor = x.astype(np.float32) * self.channels(self.contract.std) + self.channels(self.contract.mean)
        return back

    def normalised(self, pixels: Tensor) -> Tensor:
        """The contract's mean and deviation applied."""
        made: Tensor = (pixels.astype(np.float32) - self.channels(self.contract.mean)) / self.channels(
            self.contract.std
        )
        return made

    def with_statistics(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
        """Other statistics in the contract's place."""
        return self.on_pixels(lambda p: (p - self.channels(mean)) / self.channels(std))

    def statistics(self, name: str, words: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Mistake:
        """Other statistics, their numbers in the words: a contract is mended by them."""
        count = max(len(mean), len(std))
        settings = {"mean": _rounded(mean, count), "std": _rounded(std, count)}
        said = f"{words} (mean = {settings['mean']}, std = {settings['std']})"
        return Mistake(name, said, self.with_statistics(mean, std), settings)

    def on_pixels(self, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: change(self.pixels(x)).astype(x.dtype)


def _rounded(values: tuple[float, ...], count: int) -> list[float]:
    return [float(f"{value:.6g}") for value in values * (count if len(values) == 1 else 1)]


def _of_images(contract: Preprocessing, sample: Tensor | None) -> Iterator[Mistake]:
    image = _Image(contract)
    yield from _turned(image)
    yield from _reshaped(image)
    if contract.channels == 3:
        axis = image.channel_axis
        yield Mistake(
            "channels-swapped",
            "the channels in the opposite order (BGR for RGB), each with its own mean and deviation",
            lambda x: np.flip(x, axis),
        )
    if contract.dtype != "uint8":
        yield from _scaled(image)
        yield from _other_statistics(image, sample)


def _turned(image: _Image) -> Iterator[Mistake]:
    height, width = image.plane
    for name, quarters in _TURNS.items():
        yield Mistake(name, f"pictures turned by {90 * quarters}°", _turn(quarters, image.plane))
    yield Mistake("flip-horizontal", "pictures mirrored left to right", lambda x: np.flip(x, width))
    yield Mistake("flip-vertical", "pictures upside down, mirrored", lambda x: np.flip(x, height))
    yield Mistake("transposed", "rows and columns exchanged", lambda x: _square(x, np.swapaxes(x, height, width)))


def _turn(quarters: int, plane: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    return lambda x: _square(x, np.rot90(x, quarters, plane))


def _square(x: Tensor, made: Tensor) -> Tensor:
    """What was made, where it has the shape that the model takes; as it was elsewhere."""
    return made if made.shape == x.shape else x


def _reshaped(image: _Image) -> Iterator[Mistake]:
    """The memory of one layout read as the other, the way round that a contract's ``layout`` has no word for."""
    if image.contract.channels == 1:
        return
    planar = image.channel_axis == 1
    other = "interleaved pixels (NHWC)" if planar else "planes (NCHW)"
    yield Mistake("layout-misread", f"{other} copied into the model's buffer as they lie", _misread(planar))
    yield Mistake("layout-undone", f"inputs made as if their memory held {other}", _undone(planar))


def _misread(planar: bool) -> Callable[[Tensor], Tensor]:
    order = (0, 2, 3, 1) if planar else (0, 3, 1, 2)
    return lambda x: np.ascontiguousarray(x.transpose(order)).reshape(x.shape)


def _undone(planar: bool) -> Callable[[Tensor], Tensor]:
    back = (0, 3, 1, 2) if planar else (0, 2, 3, 1)

    def undo(x: Tensor) -> Tensor:
        n, *rest = x.shape
        other = (n, *rest[1:], rest[0]) if planar else (n, rest[-1], *rest[:-1])
        return np.ascontiguousarray(np.ascontiguousarray(x).reshape(other).transpose(back))

    return undo


def _scaled(image: _Image) -> Iterator[Mistake]:
    contract = image.contract
    for name, words, factor in (
        ("scale-times-255", "pixels 255 times too large (0-255 for 0-1)", 255.0),
        ("scale-by-255", "pixels 255 times too small (divided by 255 once more)", 1 / 255),
    ):
        yield Mistake(name, words, _times(image, factor))
    if any(contract.mean) or set(contract.std) != {1.0}:
        yield Mistake(
            "statistics-twice", "mean and deviation applied twice", lambda x: image.normalised(x).astype(x.dtype)
        )
        yield image.statistics("no-statistics", "mean and deviation not applied", (0.0,), (1.0,))
        yield image.statistics("no-mean", "the mean not subtracted", (0.0,), contract.std)
        yield image.statistics("no-deviation", "not divided by the deviation", contract.mean, (1.0,))
        yield image.statistics(
            "mean-added", "the mean added where it is subtracted", tuple(-m for m in contract.mean), contract.std
        )
        yield image.statistics(
            "deviation-multiplied",
            "multiplied by the deviation where it divides",
            contract.mean,
            tuple(1 / s for s in contract.std),
        )
    if len(contract.mean) == 3:
        yield image.statistics(
            "statistics-reversed",
            "mean and deviation of the channels in the opposite order",
            contract.mean[::-1],
            contract.std[::-1],
        )


def _times(image: _Image, factor: float) -> Callable[[Tensor], Tensor]:
    return image.on_pixels(lambda pixels: image.normalised(pixels * np.float32(factor)))


def _other_statistics(image: _Image, sample: Tensor | None) -> Iterator[Mistake]:
    """Published sets, and the data's own."""
    contract = image.contract
    unit = contract.scale * 255  # statistics are of pixels in 0-1
    for name, (mean, std) in _KNOWN_STATISTICS.items():
        in_catalog = name in _IN_THE_CATALOG and unit == 1
        if len(mean) in (1, contract.channels) and not in_catalog:
            yield image.statistics(
                f"{name.lower()}-statistics",
                f"mean and deviation of {name}",
                tuple(m * unit for m in mean),
                tuple(s * unit for s in std),
            )
    if sample is not None and len(sample):
        mean, std = _own_statistics(image, sample)
        yield image.statistics("data-statistics", "mean and deviation of the data itself", mean, std)


def _own_statistics(image: _Image, sample: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel of the pixels behind a sample of inputs."""
    pixels = np.moveaxis(image.pixels(sample), image.channel_axis, -1)
    flat = pixels.reshape(-1, pixels.shape[-1]).astype(np.float64)
    return tuple(flat.mean(axis=0).tolist()), tuple(np.maximum(flat.std(axis=0), 1e-6).tolist())


# ------------------------------------------------------------------------ texts, sounds


def _of_texts(contract: TextPreprocessing) -> Iterator[Mistake]:
    size, special = len(contract.vocabulary), len(SPECIAL_TOKENS)
    for name, words, by, least in (
        ("token-ids-plus-1", "token ids one too high", 1, 0),
        ("token-ids-minus-1", "token ids one too low", -1, 0),
        ("word-ids-plus-1", "ids of words one too high, special tokens as they are", 1, special),
        ("word-ids-minus-1", "ids of words one too low, special tokens as they are", -1, special),
    ):
        yield Mistake(name, words, _moved_ids(by, least, size))
    yield Mistake("tokens-one-later", "tokens one place later", lambda ids: _moved(ids, 1))
    yield Mistake("tokens-one-earlier", "tokens one place earlier (the first is lost)", lambda ids: _moved(ids, -1))
    yield Mistake("tokens-reversed", "tokens in the opposite order", lambda ids: np.flip(ids, 1))


def _moved_ids(by: int, least: int, size: int) -> Callable[[Tensor], Tensor]:
    """Ids from ``least`` on moved by one, within the vocabulary."""
    return lambda ids: np.where(ids >= least, np.clip(ids + by, least, size - 1), ids)


def _moved(ids: Tensor, by: int) -> Tensor:
    made = np.zeros_like(ids)  # [PAD]
    if by > 0:
        made[:, by:] = ids[:, :-by]
    else:
        made[:, :by] = ids[:, -by:]
    return made


def _of_sounds(sample: Tensor | None) -> Iterator[Mistake]:
    yield Mistake("bands-reversed", "mel bands from high to low", lambda x: np.flip(x, 1))
    yield Mistake("time-reversed", "frames from last to first", lambda x: np.flip(x, 2))
    yield Mistake("frames-one-later", "frames one later", lambda x: np.concatenate([x[..., :1], x[..., :-1]], axis=-1))
    yield Mistake(
        "frames-one-earlier", "frames one earlier", lambda x: np.concatenate([x[..., 1:], x[..., -1:]], axis=-1)
    )
    yield Mistake("layout-misread", "frames copied where bands are expected", _transposed_memory)
    if sample is not None and len(sample):
        mean, std = float(sample.mean()), max(float(sample.std()), 1e-6)
        yield Mistake(
            "data-statistics",
            f"mean and deviation of the data itself ({mean:.6g} and {std:.6g}, of features as the contract makes them)",
            lambda x: ((x - np.float32(mean)) / np.float32(std)).astype(x.dtype),
        )


def _transposed_memory(x: Tensor) -> Tensor:
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(x.shape)
