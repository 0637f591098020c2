"""A ratio of two means with its interval."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import t as student

from gapshift.reports.statistics import Estimate, two_sided_z
from gapshift.reports.study.quantity import Quantity, shared_seeds

LEAST_DENOMINATOR = 0.05
"""A ratio is defined where the lower end of its denominator's interval lies above this."""


def fieller(numerator: Quantity, denominator: Quantity, level: float = 0.95) -> Estimate | None:
    """The ratio of two means over the same seeds and items; None where it is undefined.

    It is undefined unless the lower end of the denominator's own interval exceeds
    ``LEAST_DENOMINATOR``. The interval holds every ratio rho for which zero lies in the
    interval of numerator - rho * denominator (Fieller 1954, JRSS B 16:175-185), where that
    interval is the one of ``over_seeds_and_items``: its squared half-width is a quadratic in
    rho, so that the ends are the roots of one. Simulated with seeds and items that both vary, 3,000
    studies of 200 items (Monte Carlo error 0.4 pp), it covers 98 to 99% with three or five seeds;
    with one seed, whose interval leaves out the seeds, 91%.
    """
    seeds = shared_seeds(numerator, denominator)
    n, d = numerator.at(seeds), denominator.at(seeds)
    whole = d.estimate(level)
    if not (whole.finite and whole.low > LEAST_DENOMINATOR and math.isfinite(n.mean)):
        return None
    reach = _reach(n, d, level)
    return _roots(n.mean, d.mean, reach) if np.isfinite(reach).all() else None


def _reach(n: Quantity, d: Quantity, level: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Squared half-widths and their product part, (2, 2)."""
    z = two_sided_z(level)
    shared = np.stack([n.influence.mean(axis=0), d.influence.mean(axis=0)])
    items = shared @ shared.T
    # The variance of levels whose items all agree belongs to each side alone.
    items[0, 0], items[1, 1] = n.item_variance(level), d.item_variance(level)
    seeds = np.zeros((2, 2))
    size = len(n.seeds)
    if size > 1:
        seeds = np.cov(n.per_seed, d.per_seed) / size * float(student.isf((1 - level) / 2, size - 1)) ** 2
    return np.asarray(z**2 * items + seeds, dtype=np.float64)


def _roots(n: float, d: float, reach: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Estimate | None:
    a, b, c = d**2 - reach[1, 1], n * d - reach[0, 1], n**2 - reach[0, 0]
    if a <= 0:
        return None
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return Estimate(n / d, (b - root) / a, (b + root) / a)


def linearised(numerator: Quantity, denominator: Quantity) -> Quantity:
    """The ratio of two means as a quantity, by its first derivatives (delta method).

    Used where ratios are averaged or compared; only for denominators that ``fieller`` accepts.
    """
    seeds = shared_seeds(numerator, denominator)
    n, d = numerator.at(seeds), denominator.at(seeds)
    ratio = n.mean / d.mean
    return ((n - d * ratio) * (1 / d.mean)).shifted(ratio)
