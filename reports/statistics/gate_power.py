"""How often a level passes or fails, exactly: by enumeration of the discordant pairs that the gate's rule accepts.

``n`` pairs, of which a share ``churn`` is answered right on one side and wrong on the other, at a true
paired drop: P(lost) = (churn + drop) / 2 and P(gained) = (churn - drop) / 2. A drop above the churn takes
as much churn as it needs. Shares are fractions; a churn of predictions that stay wrong decides nothing here.
Items in clusters count as n / design effect independent ones (``clusters``), held to Student's quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, bdtrc
from scipy.stats import norm

from gapshift.reports.statistics.base import two_sided_z
from gapshift.reports.statistics.clusters import Clustering
from gapshift.reports.statistics.margin import Floats, binomial, exact_tail, first_at_least, score_statistics

ITEM_LIMIT = 10_000_000
_STEPS = 40
_PRECISION = 1e-4
"""A drop or margin is found to a hundredth of a percentage point."""
_BLOCK = 64
_SINGLY = 256
"""From so many gained pairs on the exact tail moves the edge of a whole block alike."""


def discordance(churn: float, drop: float) -> tuple[float, float]:
    """P(lost) and P(gained) of a pair. Raises ValueError unless 0 <= churn <= 1 and -1 < drop < 1.

    >>> discordance(0.5, 0.25), discordance(0.0, 0.25)
    ((0.375, 0.125), (0.25, 0.0))
    """
    if not 0 <= churn <= 1:
        raise ValueError(f"churn is {churn!r}; valid: a share from 0 to 1 (3% is 0.03)")
    if not -1 < drop < 1:
        raise ValueError(f"drop is {drop!r}; valid: a share between -1 and 1 (2 pp is 0.02)")
    total = max(churn, abs(drop))
    return (total + drop) / 2, (total - drop) / 2


@lru_cache(maxsize=65536)
def pass_probability(
    n: int, churn: float, margin: float, drop: float = 0.0, level: float = 0.95, clusters: Clustering | None = None
) -> float:
    """P(the upper end of Tango's interval of coverage ``level`` is below the margin).

    Exact: the sum over the discordant pairs' two binomials. Raises ValueError for impossible arguments.

    >>> round(pass_probability(600, 0.03, 0.02), 2), pass_probability(188, 0.0, 0.02)
    (0.73, 0.0)
    """
    lost, gained = _checked(n, margin, churn, drop)
    if n == 0:
        return 0.0
    pairs = n / (clusters.drop if clusters else 1.0)
    threshold = clusters.quantile((1 - level) / 2) if clusters else two_sided_z(level)
    total = lost + gained
    d, weight = binomial(math.floor(pairs), total)
    edge = _largest_below(d, pairs, margin, -threshold)
    accepted = bdtr(np.maximum(edge, 0), d.astype(np.int64), lost / total if total else 0.5)
    return min(1.0, float(np.sum(weight * np.where(edge < 0, 0.0, accepted))))


@lru_cache(maxsize=65536)
def fail_probability(
    n: int,
    churn: float,
    margin: float,
    drop: float,
    alpha: float = 0.05,
    family: int = 1,
    clusters: Clustering | None = None,
) -> float:
    """P(``margin_test`` of "drop <= margin" gives p < alpha / family, the strictest step of Holm's).

    >>> fail_probability(600, 0.03, 0.02, 0.08) > 0.99, fail_probability(600, 0.03, 0.02, 0.0) < 1e-4
    (True, True)
    """
    lost, gained = _checked(n, margin, churn, drop)
    if not 0 < alpha < 1 or family < 1:
        raise ValueError(f"alpha is {alpha!r} and family {family}; valid: alpha between 0 and 1, 1 or more tests")
    if n == 0:
        return 0.0
    pairs = n / (clusters.drop if clusters else 1.0)
    won, weight = binomial(math.floor(pairs), gained)
    least = _failing(won, pairs, margin, alpha / family, clusters)
    rest = math.floor(pairs) - won
    beyond = bdtrc(np.maximum(least - 1, 0), rest.astype(np.int64), min(1.0, lost / (1 - gained)))
    return min(1.0, float(np.sum(weight * np.where(least > rest, 0.0, beyond))))


def _checked(n: int, margin: float, churn: float, drop: float) -> tuple[float, float]:
    """P(lost) and P(gained) of a pair."""
    if n < 0:
        raise ValueError(f"n is {n}; valid: 0 or more items")
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin!r}; valid: a share between 0 and 1 (2 pp is 0.02)")
    return discordance(churn, drop)


def _failing(gained: Floats, pairs: float, margin: float, tail: float, clusters: Clustering | None) -> Floats:
    """For each number of gained pairs (consecutive) the fewest lost ones that fail at ``tail``."""
    first, last = (int(edge) // _BLOCK for edge in (gained[0], gained[-1]))
    found = np.concatenate([_failing_block(k, pairs, margin, tail, clusters) for k in range(first, last + 1)])
    return found[int(gained[0]) - first * _BLOCK :][: len(gained)]


@lru_cache(maxsize=4096)
def _failing_block(block: int, pairs: float, margin: float, tail: float, clusters: Clustering | None) -> Floats:
    """By the score test, and as many more as the exact tail asks for."""
    gained = np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.float64)
    threshold = clusters.quantile(tail) if clusters else float(norm.isf(tail))
    least = first_at_least(threshold, gained, pairs, margin)
    asked = gained if gained[0] < _SINGLY else gained[:1]
    more = [_more(b, c, pairs, margin, tail) for b, c in zip(least.tolist(), asked.tolist(), strict=False)]
    return np.asarray(least + np.array(more), dtype=np.float64)


def _more(lost: float, gained: float, pairs: float, margin: float, tail: float) -> float:
    """How many more have to be lost until the exact tail is below ``tail`` as well."""
    more = 0.0
    while lost + more + gained <= pairs and exact_tail(lost + more, gained, pairs, margin) >= tail:
        more += 1
    return more


def _largest_below(d: Floats, n: float, margin: float, threshold: float) -> Floats:
    """For each number of discordant pairs the most losses whose score is below the threshold; -1 where none is."""
    low, high = np.full_like(d, -1.0), d.copy()
    while (low < high).any():
        middle = np.ceil((low + high) / 2)
        below = score_statistics(middle, d - middle, n, margin) < threshold
        low, high = np.where(below, middle, low), np.where(below, high, middle - 1)
    return low


def items_for(probability: Callable[[int], float], target: float, margin: float, limit: int = ITEM_LIMIT) -> int | None:
    """The least n from which on ``probability(n)`` stays at or above the target; None above ``limit``.

    Counts are whole, so a probability of passing rises in teeth of about 1 / margin items: it is looked at over two
    teeth beyond the answer.

    >>> items_for(lambda n: pass_probability(n, 0.0, 0.02), 0.9, 0.02)
    189
    """
    high = 1
    while probability(high) < target:
        high *= 2
        if high > limit:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if probability(middle) >= target else (middle, high)
    return _beyond_teeth(probability, target, high, math.ceil(2 / margin) + 1)


def _beyond_teeth(probability: Callable[[int], float], target: float, n: int, window: int) -> int:
    """``n``, moved on until none of a hundred numbers in a window beyond it falls under the target."""
    step = max(1, window // 100)
    while True:
        short = [k for k in range(n, n + window, step) if probability(k) < target]
        if not short:
            return n
        n = short[-1] + 1


def detectable_drop(probability: Callable[[float], float], power: float = 0.8) -> float | None:
    """The least drop (a share) at which ``probability(drop)`` reaches the power; None where no drop does, 0 where none
    is needed.

    >>> found = detectable_drop(lambda drop: fail_probability(600, 0.03, 0.02, drop))
    >>> 0.035 < found < 0.045
    True
    """
    return 0.0 if probability(0.0) >= power else _least(probability, power)


def certifiable_margin(probability: Callable[[float], float], target: float) -> float | None:
    """The least margin (a share) at which ``probability(margin)`` reaches the target; None where none does.

    >>> round(certifiable_margin(lambda margin: pass_probability(189, 0.0, margin), 0.9), 3)
    0.02
    """
    return _least(probability, target)


def _least(probability: Callable[[float], float], target: float) -> float | None:
    """By bisection over (0, 1), rounded up to a hundredth of a point; probabilities that rise."""
    low, high = 0.0, 1 - _PRECISION
    if probability(high) < target:
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if probability(middle) >= target else (middle, high)
        if high - low < _PRECISION / 10:
            break
    return min(1 - _PRECISION, math.ceil(high / _PRECISION - 1e-6) * _PRECISION)


def margin_for_zero(n: float, level: float = 0.95) -> float:
    """The margin (a share) that n pairs certify only above it: Tango's upper end without any disagreement.

    The dual of ``items_for_zero``; 1 without items.

    >>> margin_for_zero(189) < 0.02 < margin_for_zero(188)
    True
    """
    z2 = two_sided_z(level) ** 2
    return z2 / (n + z2)
