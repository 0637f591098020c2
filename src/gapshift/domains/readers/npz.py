"""NumPy archives: ``images`` and ``labels``, or such a pair for each split.

Recognised pairs: images/labels, x/y, data/target, and for the splits train, val, valid
and test: x_test/y_test, images_test/labels_test, test_images/test_labels. Optional beside
a pair, with the same affix: ids, level, group, split; and one ``classes`` for all.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, Pixels
from gapshift.domains.readers.columns import Columns, built_items
from gapshift.domains.readers.reader import Reader
from gapshift.errors import DataError

_PAIRS = (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target"))
_SPLITS = ("train", "val", "valid", "test")
_EXTRAS = ("ids", "level", "group", "split")


@dataclass(frozen=True, slots=True)
class _Part:
    split: str | None
    images: NDArray[np.uint8]
    labels: list[Any]
    extras: dict[str, list[Any]]


def read_npz(path: Path, labels: Sequence[str] | None = None) -> Dataset:
    """Uint8 images (N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, H, W, 4) with a label each.

    Ids are ``test/00017`` where the arrays are named by split, else ``00017``, unless the
    file states them. Object arrays are refused: they could run code.
    """
    arrays = _load(path)
    parts = list(_parts(path, arrays))
    if not parts:
        raise DataError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}. Valid: images and labels, x and y, data and "
            "target, or pairs for each split such as x_test and y_test."
        )
    classes = labels if labels is not None else _names(arrays)
    columns = Columns(
        labels=[value for part in parts for value in _named(path, part.labels, _names(arrays))],
        ids=_joined(parts, "ids"),
        default_ids=[f"{_prefix(part)}{row:05d}" for part in parts for row in range(len(part.labels))],
        levels=_joined(parts, "level"),
        groups=_joined(parts, "group"),
        splits=_joined(parts, "split") or [part.split for part in parts for _ in part.labels],
    )
    found, items = built_items(columns, classes, lambda row, name: f"{path}, row {row + 1}, array {name}")
    images = [image for part in parts for image in part.images] if len(parts) > 1 else parts[0].images
    return Pixels(path.stem, found, items, images)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npz of plain arrays: {error}") from error


def _parts(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Iterator[_Part]:
    for split in (None, *_SPLITS):
        for images, labels in _PAIRS:
            for affix in _affixes(split):
                if affix(images) in arrays and affix(labels) in arrays:
                    extras = {name: arrays[affix(name)].tolist() for name in _EXTRAS if affix(name) in arrays}
                    yield _part(path, split, affix(images), arrays[affix(images)], arrays[affix(labels)], extras)


def _affixes(split: str | None) -> Sequence[Any]:
    if split is None:
        return (str,)
    return (lambda name: f"{name}_{split}", lambda name: f"{split}_{name}")


def _part(
    path: Path, split: str | None, name: str, images: NDArray[Any], labels: NDArray[Any], extras: dict[str, list[Any]]
) -> _Part:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (3, 4))):
        raise DataError(
            f"{path}: {name} has dtype {images.dtype} and shape {images.shape}. Valid: uint8 pixels 0-255 of shape "
            "(N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, H, W, 4). Convert it; scaling belongs in the contract."
        )
    sizes = {"labels": labels.size} | {key: len(values) for key, values in extras.items()}
    for key, size in sizes.items():
        if size != len(images):
            raise DataError(f"{path}: {name} holds {len(images)} images, its {key} {size}. Give one for each image.")
    return _Part(split, images, labels.reshape(-1).tolist(), extras)


def _names(arrays: Mapping[str, NDArray[Any]]) -> list[str] | None:
    return [str(name) for name in arrays["classes"].reshape(-1)] if "classes" in arrays else None


def _named(path: Path, values: list[Any], classes: list[str] | None) -> list[Any]:
    """Integer labels of a file that names its classes, as those names."""
    if classes is None or not all(isinstance(value, int) for value in values):
        return values
    for row, value in enumerate(values):
        if not 0 <= value < len(classes):
            raise DataError(f"{path}, row {row + 1} has label {value}. Valid: 0 to {len(classes) - 1}, as in classes.")
    return [classes[value] for value in values]


def _prefix(part: _Part) -> str:
    return f"{part.split}/" if part.split else ""


def _joined(parts: Sequence[_Part], name: str) -> list[Any] | None:
    stated = [part for part in parts if name in part.extras]
    if stated and len(stated) != len(parts):
        raise DataError(
            f"Array {name!r} stands beside some splits and not beside others. Give it for all, or for none."
        )
    return [value for part in parts for value in part.extras[name]] if stated else None


READER = Reader(
    name="npz",
    layout="a .npz file with images and labels",
    accepts=lambda source: Path(source).suffix.lower() == ".npz" and Path(source).is_file(),
    read=lambda source, labels: read_npz(Path(source), labels),
)
