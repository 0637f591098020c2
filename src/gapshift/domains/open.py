"""Opens a data set by what it is: a built-in or published name, or a path whose layout is recognised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gapshift.domains.base import Dataset, take
from gapshift.domains.chosen_classes import of_classes
from gapshift.domains.published import PUBLISHED, is_published, read_published
from gapshift.domains.readers import (
    audio_folder,
    cifar,
    control,
    digits,
    folder,
    glue,
    keywords,
    npz,
    passages,
    sentiment,
    speech,
    squad,
    table,
)
from gapshift.domains.readers.nearest import nearest
from gapshift.errors import DataError

BUILT_IN = (digits.READER, sentiment.READER, passages.READER, keywords.READER, *control.READERS)
"""Data that comes with the installation, by name."""
READERS = (
    *BUILT_IN,
    npz.READER,
    table.READER,
    squad.READER,
    cifar.READER,
    glue.READER,
    speech.READER,
    audio_folder.READER,
    folder.READER,
)
"""Asked in this order; the first that accepts a source reads it."""


def is_built_in(source: str) -> bool:
    """Whether ``source`` names data that comes with the installation, whatever files lie around."""
    return any(reader.accepts(source) for reader in BUILT_IN)


def open_dataset(
    source: str | Path,
    *,
    labels: Sequence[str] | None = None,
    split: str | None = None,
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """The labelled items of ``source``: a built-in name, a published one, or a path.

    Published data (``cifar-10``) is looked for below ``root``, else below GAPSHIFT_DATA_ROOT.
    ``labels`` are a model's class names in the order of its scores: they become the classes,
    and an item outside them is an error. ``classes`` keeps the items of these classes alone;
    without ``labels`` they become the classes. Without ``split`` all splits come, each item
    with its own. Raises DataError for a source that is not there, is of no known layout or is
    damaged, and for a split or class that it does not have.
    """
    dataset = _read(str(source), labels, root, classes)
    if classes is not None:
        dataset = of_classes(dataset, classes, keep_labels=labels is not None)
    return take(dataset, split=split)


def _read(text: str, labels: Sequence[str] | None, root: str | Path | None, classes: Sequence[str] | None) -> Dataset:
    if is_published(text):
        return read_published(text, labels, root, classes)
    for reader in READERS:
        if reader.accepts(text):
            if classes is not None and reader is folder.READER:
                return folder.read_folder(Path(text), labels, classes)
            return reader.read(text, labels)
    raise _unknown(Path(text))


def _unknown(path: Path) -> DataError:
    """What comes nearest to an existing path; every valid name for one that is not there."""
    built_in = {reader.name for reader in BUILT_IN}
    layouts = ", ".join(reader.name for reader in READERS if reader.name not in built_in)
    paths = f"{layouts}; docs/data.md describes them"
    if path.exists():
        return DataError(f"Data set {str(path)!r} is of no known layout. {nearest(path)} Layouts: {paths}.")
    names = ", ".join((*(reader.name for reader in BUILT_IN), *PUBLISHED))
    return DataError(f"Data set {str(path)!r} does not exist. Valid: a path ({paths}), or a name: {names}.")
