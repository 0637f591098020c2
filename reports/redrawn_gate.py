"""The gate's rule (``gate.py``, ``verdicts.py``) over a thousand redrawn runs at once.

Tests hold it to the rule itself, count by count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from gapshift.reports.floor import at_floor
from gapshift.reports.gate import Rule
from gapshift.reports.order import WORST_FIRST
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.redraw import Drawn, Together
from gapshift.reports.statistics import clopper_pearson, items_for_zero, score_statistics, two_sided_z

Codes = NDArray[np.int8]
Bools = NDArray[np.bool_]

WORDS = WORST_FIRST[::-1]
"""A verdict's code is its place here, so that the worst is the largest."""
PASS, NO_DATA, INCONCLUSIVE, FAIL = (WORDS.index(word) for word in ("PASS", "NO DATA", "INCONCLUSIVE", "FAIL"))
FLOOR = -1
"""NO DATA for want of something to lose: decides only where nothing else is judged."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Cell × band in columns: place of the cell, items, whether it is at the floor, an equivalent's; ``safe`` is the
    churn (a count) that the floor still passes, -1 where none is."""

    cell: NDArray[np.intp]
    n: NDArray[np.int64]
    floor: Bools
    equivalent: Bools
    safe: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cell)


def columns_to_judge(
    cells: Sequence[MeasuredCell], groups: Sequence[Together], sizes: Sequence[int], margin: float
) -> Columns:
    """The columns of ``redraw`` as the gate sees them; whether a level is at the floor is taken from the records."""
    found = [(place, group.band, n) for group, n in zip(groups, sizes, strict=True) for place in group.cells]
    return Columns(
        cell=np.array([place for place, _, _ in found], dtype=np.intp),
        n=np.array([n for *_, n in found], dtype=np.int64),
        floor=np.array([at_floor(cells[place].counts[band], margin) for place, band, _ in found], dtype=bool),
        equivalent=np.array([cells[place].equivalent for place, *_ in found], dtype=bool),
        safe=np.array([safe_churn(n, margin) for *_, n in found], dtype=np.int64),
    )


@lru_cache(maxsize=4096)
def safe_churn(n: int, margin: float) -> int:
    """The most changes of n whose Clopper-Pearson upper end stays below the margin; -1 where not even none does."""
    low, high = -1, n
    while low < high:
        middle = (low + high + 1) // 2
        below = n > 0 and clopper_pearson(middle, n).high < margin
        low, high = (middle, high) if below else (low, middle - 1)
    return low


def band_codes(columns: Columns, drawn: Drawn, rule: Rule, family: int) -> Codes:
    """The verdict of every repeat × test, as ``judge_band`` gives it over a Holm family of so many planned columns."""
    n = np.maximum(1, columns.n).astype(np.float64)
    score = score_statistics(drawn.lost, drawn.gained, n, rule.margin)
    passes = score < -two_sided_z(rule.level)
    p = np.where(columns.n > 0, norm.sf(score), 1.0)
    fails = holm_rejects(p, family, rule.alpha) | (columns.equivalent & (drawn.changed > drawn.tie_changes))
    too_few = (columns.n < items_for_zero(rule.margin, rule.level)) & ~passes
    floor = columns.floor & ~too_few
    codes = np.where(passes, PASS, INCONCLUSIVE)
    codes = np.where(floor, np.where(drawn.changed <= columns.safe, PASS, NO_DATA if rule.strict else FLOOR), codes)
    codes = np.where(fails, FAIL, codes)
    return np.asarray(np.where(columns.n > 0, codes, NO_DATA), dtype=np.int8)


def holm_rejects(p: NDArray[np.float64], family: int, alpha: float) -> Bools:
    """Which p of each row Holm's procedure rejects; planned tests without a p count, as in ``holm``."""
    order = np.argsort(p, axis=1, kind="stable")
    stepped = np.take_along_axis(p, order, axis=1) * (family - np.arange(p.shape[1]))
    rejected = np.maximum.accumulate(np.minimum(1.0, stepped), axis=1) < alpha
    found = np.empty_like(rejected)
    np.put_along_axis(found, order, rejected, axis=1)
    return found


def cell_codes(columns: Columns, codes: Codes) -> Codes:
    """The verdict of every repeat × cell that has tests, in the order of their places: the worst of its bands."""
    places = np.unique(columns.cell)
    worst = np.stack([codes[:, columns.cell == place].max(axis=1) for place in places], axis=1)
    return np.asarray(np.where(worst == FLOOR, NO_DATA, worst), dtype=np.int8)
