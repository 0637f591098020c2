"""What a data set is: labelled items, and the raw form in which each one arrives.

A raw form is what a deployment receives, since decoding is part of deployment:

- vision: encoded bytes (a JPEG file), or uint8 pixels of shape (H, W), (H, W, 3) as RGB or
  (H, W, 4) as RGBA;
- audio: the bytes of a WAV file;
- text: a ``Text``; control: an ``Episode``.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import OUTCOMES, AnswerKind, Domain, Item, canonical_json
from gapshift.schema import rank as rank

RawImage = bytes | NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Text:
    """A text, or a pair of texts.

    Where the answer is a span, ``first`` is the question, ``second`` the passage, ``answers``
    the accepted answers, and ``answers[0]`` begins at character ``start`` of ``second``.
    """

    first: str
    second: str | None = None
    answers: tuple[str, ...] = ()
    start: int | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """One run of a control task: its initial state, its physics (name and value, SI units or
    the task's own), and the seed of everything random that happens on the way."""

    task: str
    state: tuple[float, ...]
    physics: tuple[tuple[str, float], ...]
    seed: int


Raw = RawImage | Text | Episode


class Dataset(ABC):
    """Labelled items with stable ids, and their raw forms, read when asked for.

    ``domain`` says what raw forms are, ``kind`` how an item is answered.

    Raises DataError where two items share an id, a label is outside ``classes``, a
    level is outside 1-5, or there are no items.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        items: Iterable[Item],
        domain: Domain = "vision",
        kind: AnswerKind = "classes",
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.items = tuple(items)
        self.domain = domain
        self.kind = kind
        _check(self.name, self.classes, self.items)

    @final
    def __len__(self) -> int:
        return len(self.items)

    @property
    @abstractmethod
    def encoded(self) -> bool:
        """Whether raw forms are encoded bytes (else they are pixels)."""

    @final
    def raw(self, index: int) -> Raw:
        """The raw form of item ``index`` (0-based).

        Raises IndexError outside the data set and UnreadableItemError, naming item
        and file, where the item cannot be read.
        """
        if not 0 <= index < len(self.items):
            raise IndexError(f"{self.name} has items 0 to {len(self.items) - 1}, not {index}")
        try:
            return self._raw(index)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            item = self.items[index].id
            raise UnreadableItemError(f"Item {item!r} of {self.name}: {where}{error.strerror or error}") from error

    @abstractmethod
    def _raw(self, index: int) -> Raw:
        """The raw form of a valid index; an OSError says that it cannot be read."""

    @final
    def digest(self) -> str:
        """SHA-256 (hex) over ids, labels and raw contents in order; computed once.

        An item that cannot be read is hashed as such, so that its return changes the digest.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256()
        for index, item in enumerate(self.items):
            head = f"{item.id}\0{item.label}\0{self.classes[item.label]}\0".encode()
            total.update(hashlib.sha256(head).digest() + self._content(index))
        return total.hexdigest()

    def _content(self, index: int) -> bytes:
        try:
            raw = self.raw(index)
        except UnreadableItemError:
            return hashlib.sha256(b"unreadable\0").digest()
        if isinstance(raw, bytes):
            return hashlib.sha256(b"encoded\0" + raw).digest()
        if not isinstance(raw, np.ndarray):
            return hashlib.sha256(canonical_json([type(raw).__name__, asdict(raw)]).encode()).digest()
        content = hashlib.sha256(f"pixels\0{raw.shape}\0".encode())
        content.update(np.ascontiguousarray(raw).data)
        return content.digest()

    @final
    def subset(self, indices: Iterable[int]) -> Dataset:
        """The items at ``indices`` (0-based), in that order; nothing is copied."""
        return Subset(self, indices)


@final
class Subset(Dataset):
    """Some items of another data set, read through it."""

    def __init__(self, base: Dataset, indices: Iterable[int]) -> None:
        self._base = base
        self._indices = tuple(int(index) for index in indices)
        outside = [index for index in self._indices if not 0 <= index < len(base)]
        if outside:
            raise IndexError(f"{base.name} has items 0 to {len(base) - 1}, not {outside[0]}")
        super().__init__(
            base.name, base.classes, (base.items[index] for index in self._indices), base.domain, base.kind
        )

    @property
    def encoded(self) -> bool:
        return self._base.encoded

    def _raw(self, index: int) -> Raw:
        return self._base.raw(self._indices[index])


@final
class Files(Dataset):
    """One encoded image or WAV file per item, read at each call."""

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        items: Iterable[Item],
        paths: Sequence[Path],
        domain: Domain = "vision",
    ) -> None:
        super().__init__(name, classes, items, domain)
        self._paths = tuple(paths)
        if len(self._paths) != len(self.items):
            raise DataError(f"{name} has {len(self.items)} items and {len(self._paths)} files. Give one file per item.")

    @property
    def encoded(self) -> bool:
        return True

    def _raw(self, index: int) -> Raw:
        return self._paths[index].read_bytes()


@final
class Pixels(Dataset):
    """uint8 images in memory: an array (N, H, W[, C]), or one array per item."""

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        items: Iterable[Item],
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    ) -> None:
        super().__init__(name, classes, items)
        self._images = images
        if len(images) != len(self.items):
            raise DataError(f"{name} has {len(self.items)} items and {len(images)} images. Give one image per item.")

    @property
    def encoded(self) -> bool:
        return False

    def _raw(self, index: int) -> Raw:
        image: NDArray[np.uint8] = self._images[index].view()
        image.flags.writeable = False  # it is the data set itself, not a copy
        return image


@final
class InMemory(Dataset):
    """Raw forms that are not pixels, in memory: texts, episodes, or the bytes of files.

    Raises DataError as well where items and raw forms differ in number, or items that are not
    answered by a class have other classes than OUTCOMES.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        items: Iterable[Item],
        raws: Sequence[Text | Episode | bytes],
        domain: Domain,
        kind: AnswerKind = "classes",
    ) -> None:
        super().__init__(name, classes, items, domain, kind)
        self._raws = tuple(raws)
        if len(self._raws) != len(self.items):
            raise DataError(f"{name} has {len(self.items)} items and {len(self._raws)} raw forms. Give one per item.")
        if kind != "classes" and self.classes != OUTCOMES:
            raise DataError(f"{name} is answered by {kind} and has the classes {listed(classes)}; they are {OUTCOMES}.")

    @property
    def encoded(self) -> bool:
        return bool(isinstance(self._raws[0], bytes))

    def _raw(self, index: int) -> Raw:
        return self._raws[index]


def take(dataset: Dataset, split: str | None = None, limit_per_class: int | None = None, seed: int = 0) -> Dataset:
    """The items of one split, at most ``limit_per_class`` of each class, in their order.

    The choice is random, depends on ``seed`` alone, and a larger limit contains a
    smaller one. Raises DataError for a split that is not there.
    """
    indices = np.array(_of_split(dataset, split))
    if limit_per_class is not None:
        if limit_per_class < 1:
            raise DataError(f"limit_per_class is {limit_per_class}; it must be at least 1, or left out for no limit.")
        labels = np.array([dataset.items[index].label for index in indices])
        chosen = [
            np.random.default_rng([seed, int(label)]).permutation(indices[labels == label])[:limit_per_class]
            for label in np.unique(labels)
        ]
        indices = np.sort(np.concatenate(chosen))
    return dataset if len(indices) == len(dataset) else dataset.subset(indices)


def splits_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of the splits, sorted."""
    return tuple(sorted({item.split for item in dataset.items}))


def _of_split(dataset: Dataset, split: str | None) -> list[int]:
    if split is None:
        return list(range(len(dataset)))
    indices = [index for index, item in enumerate(dataset.items) if item.split == split]
    if not indices:
        raise DataError(f"{dataset.name} has no split {split!r}. Valid: {', '.join(splits_of(dataset))}.")
    return indices


def _check(name: str, classes: tuple[str, ...], items: tuple[Item, ...]) -> None:
    if not items:
        raise DataError(f"{name} holds no items. Give a source or a split with at least one labelled image.")
    if len(set(classes)) != len(classes):
        repeated = [label for label, count in Counter(classes).items() if count > 1]
        raise DataError(f"{name} names classes more than once: {listed(repeated)}. Class names must differ.")
    for item in items:
        if not 0 <= item.label < len(classes):
            raise DataError(f"Item {item.id!r} of {name} has label {item.label}. Valid: {listed_classes(classes)}.")
        if item.level is not None and item.level not in range(1, 6):
            raise DataError(f"Item {item.id!r} of {name} has level {item.level}. Valid: 1, 2, 3, 4, 5.")
    counts = Counter(item.id for item in items)
    if len(counts) != len(items):
        repeated = [item_id for item_id, count in counts.items() if count > 1]
        raise DataError(f"{name}: ids occur more than once: {listed(repeated)}. Every item needs its own.")


def listed(names: Sequence[object], most: int = 20) -> str:
    """Names for an error's text, the first ``most`` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def listed_classes(classes: Sequence[str]) -> str:
    """Valid classes for an error's text: their names and their indexes."""
    return f"{listed(classes)} (indexes 0 to {len(classes) - 1})"
