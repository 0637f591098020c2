"""A data set with some of its classes alone."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import final

from gapshift.domains.base import Dataset, Raw, listed
from gapshift.errors import DataError
from gapshift.schema import Item


def of_classes(dataset: Dataset, classes: Sequence[str], keep_labels: bool = False) -> Dataset:
    """The items of these classes. They become the data set's classes, in the order given.

    With ``keep_labels`` its classes stay as they are (they are a model's). Raises DataError for
    a class that it does not have, with the nearest names, for one named twice, and for data
    that is not answered by a class.
    """
    check_known(dataset.name, dataset.classes, classes)
    if dataset.kind != "classes":
        raise DataError(f"{dataset.name} is answered by {dataset.kind}, so it has no classes to choose from.")
    wanted = {dataset.classes.index(name): place for place, name in enumerate(classes)}
    indices = [index for index, item in enumerate(dataset.items) if item.label in wanted]
    kept = dataset.subset(indices)
    if keep_labels:
        return kept
    return _Relabelled(kept, classes, [replace(item, label=wanted[item.label]) for item in kept.items])


def check_known(name: str, known: Sequence[str], classes: Sequence[str]) -> None:
    """Raises DataError for a class that is not among the known ones, or is named twice."""
    for place, wanted in enumerate(classes):
        if wanted in classes[:place]:
            raise DataError(f"{name}: classes names {wanted!r} more than once. Name each class once.")
        if wanted not in known:
            near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
            hint = f" Did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
            raise DataError(f"{name} has no class {wanted!r}.{hint} Valid: {listed(known)}.")


@final
class _Relabelled(Dataset):
    """Another data set's items under other labels, read through it."""

    def __init__(self, base: Dataset, classes: Sequence[str], items: Sequence[Item]) -> None:
        self._base = base
        super().__init__(base.name, classes, items, base.domain, base.kind)

    @property
    def encoded(self) -> bool:
        return self._base.encoded

    def _raw(self, index: int) -> Raw:
        return self._base.raw(index)
