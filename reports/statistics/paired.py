"""The same items answered twice: drops, tests at a margin, and tests of any change.

Counts: of ``n`` pairs, ``b`` went from right to wrong and ``c`` from wrong to right.
The drop is D = (b - c) / n, a share between -1 and 1; positive means worse.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm
from scipy.stats import t as student

from gapshift.reports.statistics.base import Estimate, checked_level, two_sided_z, unknown


def tango_interval(b: float, c: float, n: float, level: float = 0.95) -> Estimate:
    """Score interval for the paired difference D = (b - c) / n.

    The ends are the differences that a two-sided score test just accepts, with the
    nuisance probability at its constrained maximum likelihood: Tango (1998),
    Statistics in Medicine 17:891-908, eq. 12-14. It keeps its coverage where Wald's
    and the bootstrap's collapse, also without a single discordant pair. Counts may be fractions
    (effective numbers of pairs). ``n = 0`` gives NaN between -1 and 1. Raises ValueError for impossible counts.

    >>> tango_interval(0, 0, 189).high < 0.02 < tango_interval(0, 0, 188).high
    True
    """
    _check_counts(b, c, n)
    z = two_sided_z(level)
    return unknown(-1.0, 1.0) if n == 0 else _tango(b, c, n, z)


def score_test(b: int, c: int, n: int, margin: float) -> float:
    """One-sided p of H0 "D <= margin" against D > margin: Tango's score statistic at the margin.

    It is below (1 - level) / 2 exactly where the lower end of ``tango_interval`` is
    above the margin. With few expected losses (n * margin under about 6) and no gains it
    exceeds its level: by exact enumeration at n = 189, 2 pp and 0.05 the true level is up to
    0.09, at n = 1,000 0.056. ``n = 0`` gives 1. Raises ValueError for impossible counts and
    for a margin outside (-1, 1).

    >>> score_test(0, 0, 200, 0.02) > 0.97, score_test(40, 0, 200, 0.02) < 1e-6
    (True, True)
    """
    _check_counts(b, c, n)
    _check_margin(margin)
    return 1.0 if n == 0 else float(norm.sf(score_statistic(b, c, n, margin)))


def score_statistic(b: float, c: float, n: float, difference: float) -> float:
    """Tango's standardised score at a hypothetical difference; about N(0, 1) if that is true.

    Counts may be fractions (effective numbers of pairs, or rates with ``n = 1``); the
    statistic grows with the square root of ``n`` at fixed rates.

    >>> round(score_statistic(0, 0, 98, 0.02), 6)
    -1.414214
    """
    excess = b - c - n * difference
    variance = n * _variance(b, c, n, difference)
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)


def mcnemar_midp(b: int, c: int, exact: bool = False) -> float:
    """Two-sided p of "no change in either direction prevails" from the discordant pairs.

    Mid-p version of McNemar's exact conditional test (Fagerland, Lydersen & Laake 2013,
    BMC Medical Research Methodology 13:91): the exact p less the probability of the
    observed table, or half of it where b = c. ``exact=True`` gives the exact conditional p.
    Without a discordant pair there is no evidence of change: 1.

    >>> round(mcnemar_midp(1, 7), 4), round(mcnemar_midp(1, 7, exact=True), 4)
    (0.0391, 0.0703)
    """
    _check_counts(b, c, b + c)
    if b == c == 0:
        return 1.0
    few, total = min(b, c), b + c
    observed = float(binom.pmf(few, total, 0.5))
    p = 1.0 if b == c else 2 * float(binom.cdf(few, total, 0.5))
    return p if exact else p - (observed / 2 if b == c else observed)


def cluster_interval(difference: NDArray[Any], clusters: NDArray[Any], level: float = 0.95) -> Estimate:
    """Interval of the mean paired difference where items come in clusters.

    ``difference`` (n,) holds 1 (right to wrong), -1 (wrong to right) or 0; ``clusters``
    (n,) holds labels. Cluster-robust CR1 variance with a t quantile on clusters - 1
    degrees of freedom (Cameron & Miller 2015, Journal of Human Resources 50:317-372),
    never narrower than Tango's interval, whose pairs are counted as clusters where the
    CR1 variance is zero: a variance that is not seen is not taken for none.
    Fewer than two clusters bound nothing: the ends are -1 and 1.

    >>> cluster_interval(np.array([1, 0, 0, 0]), np.array(["a", "a", "a", "a"]))
    Estimate(estimate=0.25, low=-1.0, high=1.0)
    """
    values, groups, error = _cluster_summary(difference, clusters)
    checked_level(level)
    if groups < 2:
        return Estimate(float(values.mean()), -1.0, 1.0) if len(values) else unknown(-1.0, 1.0)
    mean = float(values.mean())
    reach = float(student.isf((1 - level) / 2, groups - 1)) * error
    score = _tango(*_effective_counts(values, groups, error), two_sided_z(level))
    return Estimate(mean, max(-1.0, min(mean - reach, score.low)), min(1.0, max(mean + reach, score.high)))


def cluster_test(difference: NDArray[Any], clusters: NDArray[Any], margin: float) -> float:
    """One-sided p of H0 "D <= margin" where items come in clusters; dual to ``cluster_interval``.

    Fewer than two clusters give 1.

    >>> cluster_test(np.ones(4), np.array([1, 1, 2, 2]), 0.02) > 1e-9
    True
    """
    values, groups, error = _cluster_summary(difference, clusters)
    _check_margin(margin)
    if groups < 2:
        return 1.0
    p = float(norm.sf(score_statistic(*_effective_counts(values, groups, error), margin)))
    if error == 0:
        return p
    return max(p, float(student.sf((values.mean() - margin) / error, groups - 1)))


def _cluster_summary(difference: NDArray[Any], clusters: NDArray[Any]) -> tuple[NDArray[np.float64], int, float]:
    """Checked values, number of clusters, CR1 standard error of the mean."""
    values = np.asarray(difference, dtype=np.float64)
    labels = np.asarray(clusters)
    if values.ndim != 1 or values.shape != labels.shape:
        raise ValueError(f"difference {values.shape} and clusters {labels.shape} must be two vectors of one length")
    if not np.isin(values, (-1, 0, 1)).all():
        raise ValueError("difference holds values other than -1, 0 and 1; leave unscored pairs out")
    _, codes = np.unique(labels, return_inverse=True)
    groups = int(codes.max(initial=-1)) + 1
    if groups < 2:
        return values, groups, math.inf
    sums = np.bincount(codes, weights=values - values.mean())
    # Sums that are zero but for rounding are zero: the zero case has its own rule.
    squares = float(np.sum(np.where(np.abs(sums) < 1e-9, 0.0, sums) ** 2))
    return values, groups, math.sqrt(groups / (groups - 1) * squares) / len(values)


def _effective_counts(values: NDArray[np.float64], groups: int, error: float) -> tuple[float, float, float]:
    """b, c, n of the pairs, or of as many pairs as there are clusters where no variance was seen."""
    scale = 1.0 if error > 0 else groups / len(values)
    return float((values > 0).sum()) * scale, float((values < 0).sum()) * scale, len(values) * scale


def _tango(b: float, c: float, n: float, z: float) -> Estimate:
    return Estimate(float((b - c) / n), -_upper_end(c, b, n, z), _upper_end(b, c, n, z))


def _upper_end(b: float, c: float, n: float, z: float) -> float:
    """The difference above (b - c) / n at which the score statistic is -z."""
    # Without variance at the estimate the root is known, and a search would stop at the estimate.
    if b == 0 and c == 0:
        return z * z / (n + z * z)
    if b >= n:
        return 1.0
    if c >= n:
        return (z * z - n) / (n + z * z)

    def accepted(difference: float) -> float:
        return b - c - n * difference + z * math.sqrt(n * _variance(b, c, n, difference))

    return float(brentq(accepted, (b - c) / n, 1.0, xtol=1e-15, rtol=1e-14))


def _variance(b: float, c: float, n: float, difference: float) -> float:
    """n times the variance of the estimated difference, nuisance at its constrained maximum.

    With q = P(wrong to right): 2q + difference - difference^2, where q is the larger root of
    2n q^2 + linear q + constant = 0 (Tango 1998, eq. 13).
    """
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    # The two forms are equal; each is used where it does not cancel.
    q = -2 * constant / (linear + root) if linear > 0 else (root - linear) / (4 * n)
    return max(0.0, 2 * q + difference * (1 - difference))


def _check_counts(b: float, c: float, n: float) -> None:
    if b < 0 or c < 0 or b + c > n:
        raise ValueError(f"b = {b}, c = {c}, n = {n}: counts must not be negative, nor b + c above n")


def _check_margin(margin: float) -> None:
    if not -1 < margin < 1:
        raise ValueError(f"margin is {margin!r}; valid: a share between -1 and 1 (2 pp is 0.02)")
