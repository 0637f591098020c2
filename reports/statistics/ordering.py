"""Whether two sets of scores put the same items in the same order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.statistics.proportions import clopper_pearson

_ROWS = 256
"""Items whose pairs are looked at in one go: few enough for flat memory."""


@dataclass(frozen=True)
class Swapped:
    """How many clear pairs are turned, as a ``share``, ``low`` what that share is at least, how many ``pairs`` are
    clear, and the clearest turned one: the positions of the item that was higher and of the one that was lower, None
    where none is turned."""

    share: float
    low: float
    pairs: int
    worst: tuple[int, int] | None


def swapped_share(
    first: NDArray[np.float64], second: NDArray[np.float64], apart: float, level: float = 0.95
) -> Swapped:
    """The share of pairs whose scores lie more than ``apart`` apart in ``first``, (n,), and come in the other order in
    ``second``, (n,); pairs that are equal there count half.

    A ratio of two U-statistics (one minus Kendall's concordance, over the clear pairs alone), its variance by the
    items' influence on it (Hoeffding 1948, Annals of Mathematical Statistics 19:293-325). ``low`` is the lower end of
    Clopper and Pearson's interval at the number of independent pairs that has this variance (Korn & Graubard 1998,
    Survey Methodology 24:193-201); of an upper end nothing is promised, since where hardly a pair is turned the
    variance hardly shows. Without a clear pair share NaN and low 0. Raises ValueError for other than two finite
    vectors of one length.

    >>> found = swapped_share(np.array([0.5, 0.8, 0.99]), np.array([0.6, 0.5, 0.98]), apart=0.1)
    >>> found.pairs, round(found.share, 3), found.worst
    (3, 0.333, (1, 0))
    """
    _check(first, second)
    clear, turned, worst = _counts(first, second, apart)
    pairs = int(clear.sum()) // 2
    if not pairs:
        return Swapped(math.nan, 0.0, 0, None)
    share = float(turned.sum() / clear.sum())
    # Two items make a pair, so each one's influence counts twice.
    variance = float(np.sum((2 * (turned - share * clear) / clear.sum()) ** 2))
    independent = share * (1 - share) / variance if variance > 0 else int((clear > 0).sum()) / 2
    return Swapped(share, clopper_pearson(share * independent, independent, level).low, pairs, worst)


def _counts(
    first: NDArray[np.float64], second: NDArray[np.float64], apart: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int] | None]:
    """Per item, of its pairs, how many are clear and how many of these are turned; the clearest turned pair."""
    clear, turned = np.zeros(len(first)), np.zeros(len(first))
    most, worst = 0.0, None
    for start in range(0, len(first), _ROWS):
        rows = slice(start, start + _ROWS)
        above, beside = first[rows, None] - first, second[rows, None] - second
        higher = above > apart
        wrong = higher * (0.5 - 0.5 * np.sign(beside))
        clear[rows] += higher.sum(axis=1)
        clear += higher.sum(axis=0)
        turned[rows] += wrong.sum(axis=1)
        turned += wrong.sum(axis=0)
        distance = np.where(wrong == 1, above, 0.0)
        row, column = np.unravel_index(int(distance.argmax()), distance.shape)
        if distance[row, column] > most:
            most, worst = float(distance[row, column]), (start + int(row), int(column))
    return clear, turned, worst


def _check(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"scores of shapes {first.shape} and {second.shape}; they must be two vectors of one length")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a score is not finite; leave such items out")
