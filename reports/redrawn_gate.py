"""The gate's rule (``gate.py``, ``verdicts.py``) over a thousand redrawn runs at once.

Tests hold it to the rule itself, count by count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from gapshift.reports.counts import Counts
from gapshift.reports.floor import at_floor
from gapshift.reports.gate import Rule, least_items
from gapshift.reports.order import WORST_FIRST
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.redraw import Drawn, Together
from gapshift.reports.statistics import (
    Clustering,
    clopper_pearson,
    clustered_share,
    mended,
    score_statistics,
    two_sided_z,
)

Codes = NDArray[np.int8]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

WORDS = WORST_FIRST[::-1]
"""A verdict's code is its place here, so that the worst is the largest."""
PASS, NO_DATA, INCONCLUSIVE, FAIL = (WORDS.index(word) for word in ("PASS", "NO DATA", "INCONCLUSIVE", "FAIL"))
FLOOR = -1
"""NO DATA for want of something to lose: decides only where nothing else is judged."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Cell × band in columns: place of the cell, items, whether it is at the floor, an equivalent's.

    ``pairs`` are the independent pairs that the items say as much of the drop as; their score passes below
    ``-quantile``, and follows Student's distribution on ``freedom`` degrees of freedom (infinite where items are
    independent). ``least`` are the items that pass where nothing changes, ``safe`` the changes (of pairs as independent
    for churn) that the floor still passes, -1: none.
    """

    cell: NDArray[np.intp]
    n: NDArray[np.int64]
    floor: Bools
    equivalent: Bools
    pairs: Floats
    quantile: Floats
    freedom: Floats
    least: NDArray[np.int64]
    safe: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cell)


def columns_to_judge(
    cells: Sequence[MeasuredCell], groups: Sequence[Together], sizes: Sequence[int], rule: Rule
) -> Columns:
    """The columns of ``redraw`` as the gate sees them; whether a level is at the floor is taken from the records."""
    found = [
        column_of(cells[place].counts[group.band], cells[place].equivalent, n, rule, place)
        for group, n in zip(groups, sizes, strict=True)
        for place in group.cells
    ]
    return join(found)


def column_of(counts: Counts, equivalent: bool, n: int, rule: Rule, place: int = 0) -> Columns:
    """One cell × band with ``n`` items, in as many more or fewer groups of the same sizes as its own."""
    clusters = counts.clustering and counts.clustering.grown(n / counts.n)
    return Columns(
        cell=np.array([place], dtype=np.intp),
        n=np.array([n], dtype=np.int64),
        floor=np.array([at_floor(counts, rule.margin)]),
        equivalent=np.array([equivalent]),
        pairs=np.array([n / (clusters.drop if clusters else 1.0)]),
        quantile=np.array([clusters.quantile((1 - rule.level) / 2) if clusters else two_sided_z(rule.level)]),
        freedom=np.array([clusters.clusters - 1 if clusters else np.inf]),
        least=np.array([least_items(clusters, rule)], dtype=np.int64),
        safe=np.array([safe_churn(n, rule.margin, clusters)], dtype=np.int64),
    )


def join(columns: Sequence[Columns]) -> Columns:
    """Columns side by side."""
    return Columns(*(np.concatenate([getattr(each, field.name) for each in columns]) for field in fields(Columns)))


@lru_cache(maxsize=4096)
def safe_churn(n: int, margin: float, clusters: Clustering | None = None) -> int:
    """The most changes among ``n`` items whose Clopper-Pearson upper end stays below the margin; -1 where not even
    none does. Of items in clusters: among as many pairs as they say as much of churn as."""
    effect = clusters.churn if clusters else 1.0
    low, high = -1, int(n / effect)
    while low < high:
        middle = (low + high + 1) // 2
        found = (
            clustered_share(middle * effect, n, clusters.clusters, effect) if clusters else clopper_pearson(middle, n)
        )
        low, high = (middle, high) if n > 0 and found.high < margin else (low, middle - 1)
    return low


def band_codes(columns: Columns, drawn: Drawn, rule: Rule, family: int) -> Codes:
    """The verdict of every repeat × test, as ``judge_band`` gives it over a Holm family of so many planned columns."""
    pairs = np.maximum(1.0, columns.pairs)
    score = score_statistics(drawn.lost, drawn.gained, pairs, rule.margin)
    passes = score < -columns.quantile
    rejected = _rejected(columns, drawn, score, rule, family)
    fails = rejected | (columns.equivalent & (drawn.changed > drawn.tie_changes))
    too_few = (columns.n < columns.least) & ~passes
    floor = columns.floor & ~too_few
    codes = np.where(passes, PASS, INCONCLUSIVE)
    codes = np.where(floor, np.where(drawn.changed <= columns.safe, PASS, NO_DATA if rule.strict else FLOOR), codes)
    codes = np.where(fails, FAIL, codes)
    return np.asarray(np.where(columns.n > 0, codes, NO_DATA), dtype=np.int8)


def _rejected(columns: Columns, drawn: Drawn, score: Floats, rule: Rule, family: int) -> Bools:
    """Which tests Holm's procedure rejects by ``margin_test``.

    A larger p never makes it reject more, so the exact tail is summed only for what the score tests' p would reject.
    """
    p = np.where(columns.n > 0, stdtr(columns.freedom, -score), 1.0)
    rejected = holm_rejects(p, family, rule.alpha)
    for repeat, column in np.argwhere(rejected).tolist():
        lost, gained = float(drawn.lost[repeat, column]), float(drawn.gained[repeat, column])
        pairs = float(columns.pairs[column])
        p[repeat, column] = mended(p[repeat, column], lost, gained, pairs, rule.margin, rule.alpha)
    return holm_rejects(p, family, rule.alpha) if rejected.any() else rejected


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
