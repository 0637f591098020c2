"""Stratified bootstrap of a mean over levels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.statistics.base import Estimate, checked_level, unknown

_Vector = NDArray[np.float64]


def stratified_mean(
    values: NDArray[Any],
    strata: NDArray[Any],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    clusters: NDArray[Any] | None = None,
) -> Estimate:
    """Mean over strata of the strata's means, with a percentile interval; all arguments (n,).

    Within each stratum items, or whole ``clusters`` of them, are drawn with replacement.
    Deviations are stretched by sqrt(m / (m - 1)) for m drawn units, which makes the
    bootstrap variance of the mean unbiased (Rao & Wu 1988, JASA 83:231-241). Paired data
    enter as one difference per item. NaN values are *unscored* and left out; a stratum
    that loses all its items makes the result NaN, and one of a single unit leaves the ends infinite.
    The interval collapses where all values are equal, so gates use Tango's instead.

    >>> values, strata = np.array([0, 1, 0, 1, 1, 1, 0, 1]), np.repeat([1, 2], 4)
    >>> stratified_mean(values, strata).estimate
    0.625
    """
    checked_level(level)
    values, strata, units = _columns(values, strata, clusters)
    rng = np.random.default_rng(seed)
    means, spread = [], np.zeros(resamples)
    for stratum in np.unique(strata):
        inside = (strata == stratum) & ~np.isnan(values)
        if not inside.any():
            return unknown()
        means.append(float(values[inside].mean()))
        spread += _deviations(values[inside], None if units is None else units[inside], resamples, rng)
    if not means:
        return unknown()
    estimate = float(np.mean(means))
    if np.isnan(spread).any():
        return Estimate(estimate, -math.inf, math.inf)
    tail = (1 - level) / 2
    low, high = estimate + np.quantile(spread / len(means), [tail, 1 - tail])
    return Estimate(estimate, float(low), float(high))


def _columns(
    values: NDArray[Any], strata: NDArray[Any], clusters: NDArray[Any] | None
) -> tuple[_Vector, NDArray[Any], NDArray[Any] | None]:
    columns = [np.asarray(values, dtype=np.float64), np.asarray(strata)]
    columns += [] if clusters is None else [np.asarray(clusters)]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        raise ValueError(f"values, strata and clusters must be vectors of one length, not {[c.shape for c in columns]}")
    return columns[0], columns[1], None if clusters is None else columns[2]


def _deviations(values: _Vector, clusters: NDArray[Any] | None, resamples: int, rng: np.random.Generator) -> _Vector:
    """Stretched deviations of resampled means from the mean (resamples,); NaN for a single unit."""
    if clusters is None:
        # Items of equal value are exchangeable: how often each value is drawn is multinomial.
        totals, counts = np.unique(values, return_counts=True)
        units, sizes, shares = len(values), np.ones(len(totals)), counts / len(values)
    else:
        _, codes = np.unique(clusters, return_inverse=True)
        totals = np.asarray(np.bincount(codes, weights=values), dtype=np.float64)
        sizes = np.bincount(codes).astype(np.float64)
        units, shares = len(sizes), np.full(len(sizes), 1 / len(sizes))
    if units < 2:
        return np.full(resamples, math.nan)
    drawn = rng.multinomial(units, shares, size=resamples)
    stretch = math.sqrt(units / (units - 1))
    return np.asarray(((drawn @ totals) / (drawn @ sizes) - values.mean()) * stretch, dtype=np.float64)
