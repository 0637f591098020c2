"""How the loss grows from level to level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gapshift.reports.statistics.base import Estimate, two_sided_z, unknown

_Vector = NDArray[np.float64]

LEAST_LOSSES = 10
"""Fewer lost items than this give no slope."""


def loss_slope(lost_by_level: Sequence[int], right_by_level: Sequence[int], level: float = 0.95) -> Estimate:
    """Change in the log-odds of being lost per level, levels in order from the easiest.

    Of ``right_by_level[i]`` items that were right in the reference, ``lost_by_level[i]``
    are wrong in the environment. Binomial logistic regression by iteratively reweighted
    least squares with a Wald interval (McCullagh & Nelder 1989, ch. 4). Descriptive: it
    decides nothing. NaN under 10 losses, where fewer than two levels hold items, and
    where the fit has no finite maximum. Raises ValueError for impossible counts.

    >>> round(loss_slope([5, 10, 20, 40, 80], [500] * 5).estimate, 2)
    0.75
    """
    z = two_sided_z(level)
    lost, right = (np.asarray(counts, dtype=np.float64) for counts in (lost_by_level, right_by_level))
    if lost.shape != right.shape or lost.ndim != 1 or not np.all((lost >= 0) & (lost <= right)):
        raise ValueError(f"lost {lost.tolist()} of right {right.tolist()}: each level needs 0 <= lost <= right")
    if lost.sum() < LEAST_LOSSES or np.count_nonzero(right) < 2 or lost.sum() == right.sum():
        return unknown()
    levels = np.arange(len(lost), dtype=np.float64)
    slope, error = _fit(levels - np.average(levels, weights=right), lost, right)
    return Estimate(slope, slope - z * error, slope + z * error) if math.isfinite(error) else unknown()


def _fit(x: _Vector, lost: _Vector, right: _Vector) -> tuple[float, float]:
    """Slope and its standard error by iteratively reweighted least squares; NaN where it diverges."""
    design = np.stack([np.ones_like(x), x], axis=1)
    beta = np.array([math.log(lost.sum() / (right.sum() - lost.sum())), 0.0])
    for _ in range(50):
        p = expit(design @ beta)
        information = (design.T * (right * p * (1 - p))) @ design
        if np.linalg.cond(information) > 1e12:
            break
        step = np.linalg.solve(information, design.T @ (lost - right * p))
        # Bounded steps keep a fit from overshooting; without a finite maximum it runs away and ends above.
        beta = beta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            return float(beta[1]), math.sqrt(np.linalg.inv(information)[1, 1])
    return math.nan, math.nan
