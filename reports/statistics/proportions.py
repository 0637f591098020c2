"""Intervals of one proportion."""

from __future__ import annotations

from typing import Literal

from scipy.stats import binomtest

from gapshift.reports.statistics.base import Estimate, checked_level, unknown


def wilson(k: int, n: int, level: float = 0.95) -> Estimate:
    """Wilson's score interval of ``k`` successes in ``n`` (Wilson 1927, JASA 22:209-212).

    ``n = 0`` gives NaN between 0 and 1. Raises ValueError unless 0 <= k <= n.

    >>> interval = wilson(0, 10)
    >>> interval.low, round(interval.high, 4)
    (0.0, 0.2775)
    """
    return _proportion(k, n, level, "wilson")


def clopper_pearson(k: int, n: int, level: float = 0.95) -> Estimate:
    """The exact interval of ``k`` successes in ``n`` (Clopper & Pearson 1934, Biometrika 26:404-413).

    ``n = 0`` gives NaN between 0 and 1. Raises ValueError unless 0 <= k <= n.

    >>> round(clopper_pearson(0, 10).high, 4)
    0.3085
    """
    return _proportion(k, n, level, "exact")


def _proportion(k: int, n: int, level: float, method: Literal["wilson", "exact"]) -> Estimate:
    checked_level(level)
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of n = {n}: k must lie between 0 and n")
    if n == 0:
        return unknown(0.0, 1.0)
    interval = binomtest(int(k), int(n)).proportion_ci(confidence_level=level, method=method)
    return Estimate(float(k / n), float(interval.low), float(interval.high))
