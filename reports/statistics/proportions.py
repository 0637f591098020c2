"""Intervals of one proportion."""

from __future__ import annotations

import math

from scipy.special import betaincinv

from gapshift.reports.statistics.base import Estimate, checked_level, two_sided_z, unknown


def wilson(k: int, n: int, level: float = 0.95) -> Estimate:
    """Wilson's score interval of ``k`` successes in ``n`` (Wilson 1927, JASA 22:209-212).

    ``n = 0`` gives NaN between 0 and 1. Raises ValueError unless 0 <= k <= n.

    >>> interval = wilson(0, 10)
    >>> interval.low, round(interval.high, 4)
    (0.0, 0.2775)
    """
    _check(k, n, level)
    if n == 0:
        return unknown(0.0, 1.0)
    z2 = two_sided_z(level) ** 2
    centre, reach = k + z2 / 2, math.sqrt(z2) * math.sqrt(k * (n - k) / n + z2 / 4)
    low = 0.0 if k == 0 else (centre - reach) / (n + z2)
    high = 1.0 if k == n else (centre + reach) / (n + z2)
    return Estimate(k / n, low, high)


def clopper_pearson(k: float, n: float, level: float = 0.95) -> Estimate:
    """The exact interval of ``k`` successes in ``n`` (Clopper & Pearson 1934, Biometrika 26:404-413).

    Counts may be fractions (effective numbers). ``n = 0`` gives NaN between 0 and 1. Raises ValueError unless
    0 <= k <= n.

    >>> round(clopper_pearson(0, 10).high, 4)
    0.3085
    """
    _check(k, n, level)
    if n == 0:
        return unknown(0.0, 1.0)
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return Estimate(k / n, low, high)


def _check(k: float, n: float, level: float) -> None:
    checked_level(level)
    if not 0 <= k <= n:
        raise ValueError(f"k = {k} of n = {n}: k must lie between 0 and n")
