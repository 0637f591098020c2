"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their original python and binary forms.

Both hold 32x32 RGB images as 3,072 bytes, one colour plane after the other; the
binary form puts one label byte (CIFAR-100: coarse, then fine) before each image.
CIFAR-100's classes are the 100 fine ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, Pixels
from gapshift.domains.readers.labels import resolve_labels
from gapshift.domains.readers.reader import Reader
from gapshift.domains.readers.unpickle import load_pickle
from gapshift.errors import DataError
from gapshift.schema import Item

IMAGE_BYTES = 3 * 32 * 32
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))

Batch = tuple[NDArray[np.uint8], list[int]]
"""Images (N, 3072) and labels (N)."""


@dataclass(frozen=True, slots=True)
class _Form:
    """The files of one original archive, and how one of them is read."""

    name: str
    names_file: str
    splits: dict[str, tuple[str, ...]]
    batch: Callable[[Path], Batch]
    class_names: Callable[[Path], list[str]]


def read_cifar(root: Path, labels: Sequence[str] | None = None) -> Dataset:
    """The splits that are there, test after train, as pixels (32, 32, 3); ids ``test/00017``.

    Raises DataError for a missing batch or names file and for a file cut short.
    """
    home, form = _located(root)
    names = form.class_names(_there(home / form.names_file))
    items: list[Item] = []
    batches: list[NDArray[np.uint8]] = []
    words: list[str] = []
    for split, files in form.splits.items():
        if not any((home / file).exists() for file in files):
            continue
        read = [_checked(home / file, form, len(names)) for file in files]
        numbers = [label for _, labels_of_file in read for label in labels_of_file]
        items += [Item(id=f"{split}/{row:05d}", label=number, split=split) for row, number in enumerate(numbers)]
        words += [names[number] for number in numbers]
        batches += [images for images, _ in read]
    classes, indexes = resolve_labels(words, labels or names, lambda row: f"Item {items[row].id!r} of {form.name}")
    placed = [Item(id=item.id, label=int(index), split=item.split) for item, index in zip(items, indexes, strict=True)]
    planes = np.concatenate(batches).reshape(-1, 3, 32, 32)
    return Pixels(form.name, classes, placed, planes.transpose(0, 2, 3, 1))


def _checked(path: Path, form: _Form, classes: int) -> Batch:
    images, labels = form.batch(_there(path))
    outside = [label for label in labels if not 0 <= label < classes]
    if outside:
        raise DataError(f"{path} holds label {outside[0]}. Valid: 0 to {classes - 1}, as in {form.names_file}.")
    return images, labels


def _pickled(label_key: str) -> Callable[[Path], Batch]:
    def batch(path: Path) -> Batch:
        content = _pickled_dict(path)
        images, labels = _entry(path, content, "data"), _entry(path, content, label_key)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or not isinstance(labels, list):
            raise DataError(f"{path}: 'data' must be a uint8 array and {label_key!r} a list.")
        if images.size != len(labels) * IMAGE_BYTES:
            expected = len(labels) * IMAGE_BYTES
            raise DataError(f"{path}: {len(labels)} labels need {expected} bytes of pixels; found {images.size}.")
        return images.reshape(-1, IMAGE_BYTES), [int(label) for label in labels]

    return batch


def _pickled_names(key: str) -> Callable[[Path], list[str]]:
    def names(path: Path) -> list[str]:
        found = _entry(path, _pickled_dict(path), key)
        return [name.decode() if isinstance(name, bytes) else str(name) for name in found]

    return names


def _pickled_dict(path: Path) -> dict[str, Any]:
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a pickled dict, found a {type(content).__name__}.")
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _entry(path: Path, content: dict[str, Any], key: str) -> Any:
    if key not in content:
        raise DataError(f"{path} has no entry {key!r}. It holds: {', '.join(sorted(content))}.")
    return content[key]


def _binary(label_bytes: int) -> Callable[[Path], Batch]:
    record = label_bytes + IMAGE_BYTES

    def batch(path: Path) -> Batch:
        content = np.fromfile(path, dtype=np.uint8)
        whole = -(-content.size // record) * record
        if content.size != whole or not content.size:
            raise DataError(
                f"{path} is cut short: expected {whole or record} bytes (records of {record}), found {content.size}."
            )
        records = content.reshape(-1, record)
        return records[:, label_bytes:], records[:, label_bytes - 1].tolist()

    return batch


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


_FORMS = (
    _Form(
        "CIFAR-10 (python)",
        "batches.meta",
        {"train": _TRAIN, "test": ("test_batch",)},
        _pickled("labels"),
        _pickled_names("label_names"),
    ),
    _Form(
        "CIFAR-10 (binary)",
        "batches.meta.txt",
        {"train": tuple(f"{name}.bin" for name in _TRAIN), "test": ("test_batch.bin",)},
        _binary(1),
        _lines,
    ),
    _Form(
        "CIFAR-100 (python)",
        "meta",
        {"train": ("train",), "test": ("test",)},
        _pickled("fine_labels"),
        _pickled_names("fine_label_names"),
    ),
    _Form(
        "CIFAR-100 (binary)",
        "fine_label_names.txt",
        {"train": ("train.bin",), "test": ("test.bin",)},
        _binary(2),
        _lines,
    ),
)
_USUAL_FOLDERS = (".", "cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary")


def _located(root: Path) -> tuple[Path, _Form]:
    found = _find(root)
    if found is None:
        raise DataError(f"{root} holds no CIFAR files, such as data_batch_1, test_batch.bin or fine_label_names.txt.")
    return found


def _find(root: Path) -> tuple[Path, _Form] | None:
    for home in (root / folder for folder in _USUAL_FOLDERS):
        for form in _FORMS:
            files = [file for names in form.splits.values() for file in names]
            if any((home / file).is_file() for file in files):
                return home, form
    return None


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is missing. Extract the whole original archive into {path.parent}.")
    return path


READER = Reader(
    name="CIFAR",
    layout="a folder with CIFAR-10's or CIFAR-100's original python or binary files",
    accepts=lambda source: _find(Path(source)) is not None,
    read=lambda source, labels: read_cifar(Path(source), labels),
)
