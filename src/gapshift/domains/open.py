"""Opens a data set by what it is: a built-in name, or a path whose layout is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gapshift.domains.base import Dataset, take
from gapshift.domains.readers import cifar, digits, folder, npz, table
from gapshift.errors import DataError

READERS = (
    digits.READER,
    npz.READER,
    table.READER,
    cifar.READER,
    folder.READER,
)
"""Asked in this order; the first that accepts a source reads it."""


def is_built_in(source: str) -> bool:
    """Whether ``source`` names data that comes with the installation, whatever files lie around."""
    return digits.READER.accepts(source)


def open_dataset(source: str | Path, *, labels: Sequence[str] | None = None, split: str | None = None) -> Dataset:
    """The labelled items of ``source``: 'digits' or a path.

    ``labels`` are a model's class names in the order of its scores: they become the
    classes, and an item outside them is an error. Without ``split`` all splits come,
    each item with its own. Raises DataError for a source that is not there, is of no
    known layout or is damaged, and for a split that it does not have.
    """
    text = str(source)
    for reader in READERS:
        if reader.accepts(text):
            return take(reader.read(text, labels), split=split)
    layouts = "; ".join(f"{reader.name} ({reader.layout})" for reader in READERS)
    what = "is of no known layout" if Path(text).exists() else "does not exist"
    raise DataError(f"Data set {text!r} {what}. Valid: {layouts}.")
