"""Intervals of quantities that are put together from others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gapshift.reports.statistics.base import Estimate


def mover_difference(x: Estimate, y: Estimate) -> Estimate:
    """x - y of two independent estimates, from their own intervals.

    MOVER, the method of variance estimates recovery: Zou & Donner (2008), Statistics
    in Medicine 27:1693-1702, eq. 2-3. Skewed intervals stay skewed; NaN stays NaN.

    >>> mover_difference(Estimate(0.5, 0.2, 0.6), Estimate(0.1, 0.0, 0.5)).estimate
    0.4
    >>> round(mover_difference(Estimate(0.5, 0.2, 0.6), Estimate(0.1, 0.0, 0.5)).low, 6)
    -0.1
    """
    difference = x.estimate - y.estimate
    below = math.hypot(x.estimate - x.low, y.high - y.estimate)
    above = math.hypot(x.high - x.estimate, y.estimate - y.low)
    return Estimate(difference, difference - below, difference + above)


def mover_mean(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates, from their own intervals: MOVER for a sum, divided by their number.

    Zou & Donner (2008), Statistics in Medicine 27:1693-1702, eq. 2-3. Raises ValueError
    without estimates; NaN stays NaN.

    >>> mean = mover_mean([Estimate(0.0, -0.3, 0.3), Estimate(0.2, -0.2, 0.7)])
    >>> mean.estimate, mean.low, round(mean.high, 4)
    (0.1, -0.15, 0.3915)
    """
    if not estimates:
        raise ValueError("a mean needs one estimate or more")
    size = len(estimates)
    mean = sum(each.estimate for each in estimates) / size
    below = math.hypot(*(each.estimate - each.low for each in estimates)) / size
    above = math.hypot(*(each.high - each.estimate for each in estimates)) / size
    return Estimate(mean, mean - below, mean + above)
