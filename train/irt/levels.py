"""Levels 1-5 from difficulties: quintiles within a task, and fixed cut-offs across tasks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapshift.errors import CalibrationError
from gapshift.schema import LEVEL_CUTS, LEVELS
from gapshift.train.irt.base import Floats, first_few

_TIE_DECIMALS = 9  # equal response patterns give b equal up to rounding in the sums


def levels(b: ArrayLike, ids: Sequence[str]) -> tuple[NDArray[np.int8], float]:
    """Quintile level of each item, (items,) int8, and the share of items settled by a hash.

    Items are ordered by b, equal ones by a hash of their id, so that the answer does not
    depend on their order. The share counts items whose b is also found at another level.
    Raises CalibrationError for a b that is not finite, duplicate ids or fewer than five items.
    """
    difficulty = _finite(b)
    _check_ids(ids, len(difficulty))
    if len(difficulty) < len(LEVELS):
        raise CalibrationError(f"Quintiles need at least {len(LEVELS)} items; got {len(difficulty)}. Rate more items.")
    rounded = np.round(difficulty, _TIE_DECIMALS)
    order = np.lexsort((_hashes(ids), rounded))
    edges = [round(k * len(order) / len(LEVELS)) for k in range(1, len(LEVELS))]
    level = np.empty(len(order), dtype=np.int8)
    level[order] = 1 + np.searchsorted(edges, np.arange(len(order)), side="right")
    return level, _tie_share(rounded, level)


def absolute_levels(b: ArrayLike) -> NDArray[np.int8]:
    """Level of each linked difficulty by the cut-offs -1.5, -0.5, 0.5, 1.5 (a cut belongs to the level above).

    >>> absolute_levels([-2.0, -1.5, 0.0, 0.5, 9.0]).tolist()
    [1, 2, 3, 4, 5]
    """
    return (1 + np.searchsorted(LEVEL_CUTS, _finite(b), side="right")).astype(np.int8)


def _finite(b: ArrayLike) -> Floats:
    difficulty = np.asarray(b, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(difficulty))
    if difficulty.ndim != 1 or len(bad):
        raise CalibrationError(
            f"Levels need one finite difficulty per item; shape {difficulty.shape}, not finite at "
            f"{first_few(bad.tolist()) or 'no item'}. Calibrate again, or leave those items out."
        )
    return difficulty


def _check_ids(ids: Sequence[str], items: int) -> None:
    if len(ids) != items:
        raise CalibrationError(f"{len(ids)} ids for {items} items; give one id per item.")
    again = [name for name, count in Counter(ids).items() if count > 1]
    if again:
        raise CalibrationError(f"Item ids are not unique: {first_few(again)} occur more than once. Make them unique.")


def _hashes(ids: Sequence[str]) -> NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _tie_share(rounded: Floats, level: NDArray[np.int8]) -> float:
    values, group = np.unique(rounded, return_inverse=True)
    lowest, highest = np.full(len(values), 9), np.zeros(len(values), dtype=np.int64)
    np.minimum.at(lowest, group, level)
    np.maximum.at(highest, group, level)
    return float((lowest != highest)[group].mean())
