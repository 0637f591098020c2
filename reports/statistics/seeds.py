"""Intervals over training seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from gapshift.reports.statistics.base import Estimate, checked_level, two_sided_z, unknown


def over_seeds_and_items(per_seed: NDArray[Any], item_variance: float, level: float = 0.95) -> Estimate:
    """Mean of one value per seed (S,) where both the seeds and the items are samples.

    The half-widths of the two parts are added in quadrature (MOVER for a sum: Zou &
    Donner 2008, Statistics in Medicine 27:1693-1702): Student's t with S - 1 degrees of
    freedom for the seeds' s / sqrt(S), normal for the items, whose ``item_variance`` is
    the variance that the choice of items gives the mean and that all seeds share. With
    three seeds it covers 95.1 to 97.6% where one t with Satterthwaite's degrees of freedom
    falls to 92.5%. One seed says nothing about seeds: its interval covers the items alone,
    and the page that shows it must say so. NaN without seeds or with a NaN one; ValueError
    for a negative or NaN ``item_variance``.

    >>> round(over_seeds_and_items(np.array([1.0, 2.0, 3.0]), 0.0).high, 3)
    4.484
    """
    values = _vector(per_seed)
    checked_level(level)
    if not item_variance >= 0:
        raise ValueError(f"item_variance is {item_variance!r}; valid: 0 or more")
    if not len(values) or np.isnan(values).any():
        return unknown()
    mean, reach = float(values.mean()), two_sided_z(level) * math.sqrt(item_variance)
    if len(values) > 1:
        reach = math.hypot(reach, _student_reach(values, level))
    return Estimate(mean, mean - reach, mean + reach)


def paired_contrast(x: NDArray[Any], y: NDArray[Any], level: float = 0.95) -> Estimate:
    """Mean of x - y over seeds (S,) that both share: Student's t with S - 1 degrees of freedom.

    Under two seeds the ends are infinite; NaN without seeds or with a NaN value.

    >>> round(paired_contrast(np.array([3.0, 4, 6]), np.array([1.0, 1, 2])).low, 3)
    0.516
    """
    first, second = _vector(x), _vector(y)
    if first.shape != second.shape:
        raise ValueError(f"x has {len(first)} seeds and y {len(second)}; the contrast is paired by seed")
    checked_level(level)
    difference = first - second
    if not len(difference) or np.isnan(difference).any():
        return unknown()
    mean = float(difference.mean())
    if len(difference) < 2:
        return Estimate(mean, -math.inf, math.inf)
    reach = _student_reach(difference, level)
    return Estimate(mean, mean - reach, mean + reach)


def _vector(values: NDArray[Any]) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"one value per seed is needed, not shape {vector.shape}")
    return vector


def _student_reach(values: NDArray[np.float64], level: float) -> float:
    """Half-width of Student's interval of the mean of two values or more."""
    size = len(values)
    return float(student.isf((1 - level) / 2, size - 1)) * math.sqrt(float(values.var(ddof=1)) / size)
