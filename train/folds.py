"""Two folds that divide no group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import CalibrationError
from gapshift.schema import Item
from gapshift.train.data import id_order, two_folds


def grouped_folds(items: Sequence[Item], salt: str = "") -> NDArray[np.int64]:
    """Fold 0 or 1 per item, shape (n,); items of one group share it. Another ``salt`` is another partition.

    Items without a group alternate within their label, as in ``two_folds``. Groups come in the
    order of a hash, each to the fold that leaves the labels' counts most even (the sum of
    squared differences, as scikit-learn's StratifiedGroupKFold balances them, but for its
    order: by size, it would give every salt nearly the same folds).
    Raises CalibrationError where all items belong to one group.
    """
    folds = np.empty(len(items), dtype=np.int64)
    single = np.array([index for index, item in enumerate(items) if item.group is None], dtype=np.int64)
    if len(single):
        labels = np.array([items[index].label for index in single])
        folds[single] = two_folds([items[index].id for index in single], labels, salt)
    members = _members(items)
    if len(members) == 1 and not len(single):
        raise CalibrationError(
            f"All {len(items)} items belong to one group ({next(iter(members))}), which no fold may divide. "
            "Give items of at least 2 groups."
        )
    counts = _counts(items)
    surplus = counts[single][folds[single] == 0].sum(axis=0) - counts[single][folds[single] == 1].sum(axis=0)
    names = list(members)
    for position in id_order(names, salt):
        rows = members[names[position]]
        # The squared difference grows more in fold 0 where the group's own counts add to the surplus.
        fold = int(surplus @ counts[rows].sum(axis=0) > 0)
        surplus += (1 - 2 * fold) * counts[rows].sum(axis=0)
        folds[rows] = fold
    return folds


def _counts(items: Sequence[Item]) -> NDArray[np.int64]:
    """One column a label and one for the total, which keeps the folds' sizes even where a label has one group."""
    labels = np.array([item.label for item in items])
    return np.hstack([labels[:, None] == np.unique(labels), np.ones((len(items), 1), dtype=bool)]).astype(np.int64)


def _members(items: Sequence[Item]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.group is not None:
            members.setdefault(item.group, []).append(index)
    return members
