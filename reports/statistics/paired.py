"""The same items answered twice: drops, tests at a margin, and tests of any change.

Counts: of ``n`` pairs, ``b`` went from right to wrong and ``c`` from wrong to right.
The drop is D = (b - c) / n, a share between -1 and 1; positive means worse.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import binom, norm

from gapshift.reports.statistics.base import Estimate, two_sided_z, unknown


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
