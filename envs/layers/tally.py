"""How far a tensor is from its counterpart over all items, in a few numbers however many items there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.schema import LEVELS

NOTICEABLE = 0.01
"""An item's tensor counts as changed from this normalised error on."""
_MASK = -5e3
_ABOUT = 0.01
_SUMS = 1 + len(LEVELS)


@dataclass(frozen=True)
class Difference:
    """``error`` is the normalised error ‖a − b‖ / ‖a‖ over all items, inf where one side alone is not finite;
    ``largest`` is max |a − b|, ``cosine`` a·b / (‖a‖ ‖b‖). ``changed``: the share of items whose own normalised error
    is at least ``NOTICEABLE`` (None where the tensor has no axis of items). ``levels``: the error at each level that
    has items. ``range``: the reference's least and highest value, ``other_range`` the other's. ``same_shape`` is False
    where the two have other shapes, so that nothing can be said but that; the error is inf then."""

    error: float
    largest: float
    cosine: float
    changed: float | None
    levels: dict[int, float]
    range: tuple[float, float]
    other_range: tuple[float, float]
    items: int
    same_shape: bool = True


class Tally:
    """Sums of one tensor's differences, batch by batch; as large after a million items as after one."""

    def __init__(self) -> None:
        self._squares = np.zeros((3, _SUMS))  # (a-b)², a², b² by level; 0: all
        self._dot = 0.0
        self._largest = 0.0
        self._broken = False
        self._same_shape = True
        self._items = self._changed = 0
        self._by_item = True
        self._ends = np.array([[np.inf, -np.inf], [np.inf, -np.inf]])

    def add(self, a: NDArray[Any], b: NDArray[Any], levels: NDArray[np.int64]) -> None:
        """A batch: the reference's tensor and the other's, and each item's level (n,), 0 where it has none.

        Tensors of other shapes cannot be compared: the error is inf then.
        """
        n = len(levels)
        self._items += n
        if a.shape != b.shape:
            self._broken, self._same_shape = True, False
            return
        one, other = np.asarray(a, np.float64).reshape(-1), np.asarray(b, np.float64).reshape(-1)
        one, other = self._finite(one, other)
        self._dot += float(one @ other)
        difference = one - other
        if difference.size:
            self._largest = max(self._largest, float(np.abs(difference).max()))
            for row, values in enumerate((one, other)):
                self._ends[row] = min(self._ends[row, 0], values.min()), max(self._ends[row, 1], values.max())
        per_item = bool(a.ndim) and a.shape[0] == n
        self._by_item = self._by_item and per_item
        parts = [values.reshape(n, -1) if per_item else values[np.newaxis] for values in (difference, one, other)]
        self._sum([np.einsum("ij,ij->i", part, part) for part in parts], levels if per_item else None)

    def _finite(self, a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both without masks and without what is not finite in either.

        Infinities that are equal, and NaN at the same place, are equal. So are two values about as far below
        ``_MASK``: they stand for minus infinity, and would outweigh all that is not masked.
        """
        fine = np.isfinite(a) & np.isfinite(b)
        if not fine.all():
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            self._broken = self._broken or not (fine | same).all()
            a, b = np.where(fine, a, 0.0), np.where(fine, b, 0.0)
        masked = (a <= _MASK) & (b <= _MASK)
        if not masked.any():
            return a, b
        masked &= np.abs(a - b) <= _ABOUT * np.abs(a)
        return np.where(masked, 0.0, a), np.where(masked, 0.0, b)

    def _sum(self, squares: list[NDArray[np.float64]], levels: NDArray[np.int64] | None) -> None:
        for row, values in enumerate(squares):
            self._squares[row, 0] += values.sum()
            if levels is not None:
                self._squares[row] += np.where(
                    np.arange(_SUMS) > 0, np.bincount(levels, weights=values, minlength=_SUMS)[:_SUMS], 0.0
                )
        if levels is not None:
            self._changed += int((squares[0] > NOTICEABLE**2 * np.maximum(squares[1], 1e-300)).sum())

    def difference(self) -> Difference:
        """What came together. Nothing added gives an error of 0."""
        apart, mine, theirs = self._squares
        by_level = {level: _ratio(apart[level], mine[level]) for level in LEVELS if mine[level] + apart[level] > 0}
        ends = np.where(np.isfinite(self._ends), self._ends, 0.0)
        scale = float(np.sqrt(mine[0] * theirs[0]))
        return Difference(
            error=float("inf") if self._broken else _ratio(apart[0], mine[0]),
            largest=float("inf") if self._broken else self._largest,
            cosine=self._dot / scale if scale > 0 else float(apart[0] == 0),
            changed=self._changed / self._items if self._by_item and self._items else None,
            levels=by_level,
            range=(float(ends[0, 0]), float(ends[0, 1])),
            other_range=(float(ends[1, 0]), float(ends[1, 1])),
            items=self._items,
            same_shape=self._same_shape,
        )


def _ratio(apart: float, mine: float) -> float:
    """The root of the ratio; a tensor of zeros that is left has no norm to be measured by: inf."""
    if apart == 0:
        return 0.0
    return float(np.sqrt(apart / mine)) if mine > 0 else float("inf")
