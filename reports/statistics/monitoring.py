"""How much a monitor has to log until it notices a change: three tests, their sizes and their thresholds.

Each monitor compares what it logged with a baseline that is taken as known. ``requests_*`` give the number of logged
requests at which the test of size ``alpha`` notices with probability ``power``, and infinity where nothing changes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, chi2, ncx2, norm

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]
_NOTHING = 1e-12
"""A shift below this is the arithmetic's, not the stream's."""


def requests_by_labels(p0: float, p1: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """Labelled requests until the one-sided exact binomial test of H0 "accuracy >= p0" notices accuracy ``p1``.

    The normal approximation with continuity correction for one sample (Fleiss, Levin & Paik 2003, Statistical Methods
    for Rates and Proportions, ch. 2): n' = [(z_alpha sqrt(p0 q0) + z_beta sqrt(p1 q1)) / (p0 - p1)]^2, then
    n = n'/4 [1 + sqrt(1 + 2 / (n' (p0 - p1)))]^2. At p0 = 1, where one wrong answer is enough, the exact
    log(1 - power) / log(p1). Raises ValueError unless both lie between 0 and 1.

    >>> round(requests_by_labels(0.9, 0.85)), round(requests_by_labels(1.0, 0.95)), requests_by_labels(0.9, 0.9)
    (272, 31, inf)
    """
    _check_share(p0, p1)
    drop = p0 - p1
    if drop < _NOTHING:
        return math.inf
    if p0 == 1.0:
        return requests_until_first(drop, power)
    z_alpha, z_beta = _quantiles(alpha, power)
    plain = ((z_alpha * math.sqrt(p0 * (1 - p0)) + z_beta * math.sqrt(p1 * (1 - p1))) / drop) ** 2
    return plain / 4 * (1 + math.sqrt(1 + 2 / (plain * drop))) ** 2


def requests_by_mean(
    mean0: float, sd0: float, mean1: float, sd1: float, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Logged values until the two-sided z test of their mean notices ``mean1``.

    n = [(z_{alpha/2} sd0 + z_beta sd1) / (mean0 - mean1)]^2, the other tail left out (Chow, Shao & Wang 2008, Sample
    Size Calculations in Clinical Research, ch. 3, with a variance of its own under the alternative).

    >>> round(requests_by_mean(0.9, 0.1, 0.89, 0.1)), requests_by_mean(0.9, 0.1, 0.9, 0.2)
    (785, inf)
    """
    if abs(mean0 - mean1) < _NOTHING:
        return math.inf
    z_alpha, z_beta = _quantiles(alpha / 2, power)
    return ((z_alpha * sd0 + z_beta * sd1) / (mean0 - mean1)) ** 2


def requests_by_frequencies(p0: Floats, p1: Floats, alpha: float = 0.05, power: float = 0.8) -> float:
    """Logged answers until Pearson's chi-square test of fit notices that shares ``p0`` (K,) became ``p1``.

    n = noncentrality / w^2 with w^2 = sum (p1 - p0)^2 / p0 (Cohen 1988, Statistical Power Analysis, ch. 7), K - 1
    degrees of freedom. Only answers with a share in ``p0`` count; see ``requests_until_first`` for the others.

    >>> round(requests_by_frequencies(np.array([0.5, 0.5]), np.array([0.45, 0.55])))
    785
    """
    known = p0 > 0
    effect = float(((p1[known] - p0[known]) ** 2 / p0[known]).sum())
    freedom = int(known.sum()) - 1
    return math.inf if effect < _NOTHING or freedom < 1 else noncentrality(freedom, alpha, power) / effect


def noncentrality(freedom: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The noncentrality at which a chi-square test of that many degrees of freedom has this power.

    >>> round(noncentrality(1), 3), round(noncentrality(9), 3)
    (7.849, 15.65)
    """
    limit = float(chi2.isf(alpha, freedom))
    return float(brentq(lambda value: float(ncx2.sf(limit, freedom, value)) - power, 1e-6, 1e4))


def requests_until_first(share: float, power: float = 0.8) -> float:
    """Logged answers until one that the baseline never gives is seen at all: log(1 - power) / log(1 - share).

    >>> round(requests_until_first(0.01)), requests_until_first(0.0), requests_until_first(1.0)
    (160, inf, 1.0)
    """
    if share < _NOTHING:
        return math.inf
    return 1.0 if share >= 1 else max(1.0, math.log(1 - power) / math.log1p(-share))


# ----------------------------------------------------------------------------- tests


def labels_alarm(right: Integers, n: Integers, p0: float, alpha: float = 0.05) -> Bools:
    """Whether the exact one-sided binomial test rejects "accuracy >= p0" at each count of right answers in ``n``.

    >>> labels_alarm(np.array([84, 85]), np.array([100, 100]), 0.9).tolist()
    [True, False]
    """
    alarm: Bools = (n > 0) & (binom.cdf(right, n, p0) <= alpha)
    return alarm


def mean_alarm(total: Floats, n: Integers, mean0: float, sd0: float, alpha: float = 0.05) -> Bools:
    """Whether the two-sided z test rejects "mean = mean0" at each sum ``total`` of ``n`` values.

    >>> mean_alarm(np.array([88.0, 89.9]), np.array([100, 100]), 0.9, 0.1).tolist()
    [True, False]
    """
    reach = float(norm.isf(alpha / 2)) * sd0 * np.sqrt(n)
    alarm: Bools = (n > 0) & (np.abs(total - n * mean0) > reach + _NOTHING * np.maximum(n, 1))
    return alarm


def frequencies_alarm(counts: Integers, p0: Floats, alpha: float = 0.05) -> Bools:
    """Whether the chi-square test of fit rejects shares ``p0`` (K,) at each row of ``counts`` (m, K).

    An answer that the baseline never gives alarms by itself.

    >>> frequencies_alarm(np.array([[40, 60, 0], [48, 52, 0], [50, 49, 1]]), np.array([0.5, 0.5, 0.0])).tolist()
    [True, False, True]
    """
    known = p0 > 0
    unseen: Bools = counts[:, ~known].sum(axis=1) > 0
    freedom = int(known.sum()) - 1
    if freedom < 1:
        return unseen
    seen = counts[:, known]
    expected = np.maximum(seen.sum(axis=1, keepdims=True), 1) * p0[known]
    unlike = ((seen - expected) ** 2 / expected).sum(axis=1) > chi2.isf(alpha, freedom)
    alarm: Bools = (unseen | unlike) & (counts.sum(axis=1) > 0)
    return alarm


# ------------------------------------------------------- is the shift more than noise


def paired_mean_p(before: Floats, after: Floats) -> float:
    """Two-sided p of "the paired values have one mean", by the normal distribution; 1 under two pairs.

    >>> paired_mean_p(np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    1.0
    """
    if len(before) < 2:
        return 1.0
    return _normal_p(float((after - before).mean()), float((after - before).var()) / (len(before) - 1))


def mean_p(before: Floats, after: Floats) -> float:
    """Two-sided p of "two independent samples have one mean" (Welch 1938, normal distribution); 1 under two each.

    >>> mean_p(np.array([0.5, 0.7]), np.array([0.7, 0.5]))
    1.0
    """
    if min(len(before), len(after)) < 2:
        return 1.0
    variance = before.var() / (len(before) - 1) + after.var() / (len(after) - 1)
    return _normal_p(float(after.mean() - before.mean()), float(variance))


def paired_frequencies_p(before: Integers, after: Integers) -> float:
    """p of "the answers have the same frequencies before and after", items paired (Stuart 1955, Maxwell 1970).

    >>> paired_frequencies_p(np.array([0, 1, 0, 1]), np.array([1, 0, 0, 1]))
    1.0
    >>> round(paired_frequencies_p(np.zeros(20, int), np.ones(20, int)), 6)
    8e-06
    """
    classes, codes = np.unique(np.concatenate([before, after]), return_inverse=True)
    k = len(classes)
    joint = np.bincount(codes[: len(before)] * k + codes[len(before) :], minlength=k * k).reshape(k, k)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    spread = np.diag(rows + columns) - joint - joint.T
    difference = rows - columns
    freedom = int(np.linalg.matrix_rank(spread))
    if freedom == 0:
        return 1.0
    return float(chi2.sf(difference @ np.linalg.pinv(spread) @ difference, freedom))


def _normal_p(shift: float, variance: float) -> float:
    if abs(shift) < _NOTHING:
        return 1.0
    return 0.0 if variance <= 0 else float(2 * norm.sf(abs(shift) / math.sqrt(variance)))


def _quantiles(alpha: float, power: float) -> tuple[float, float]:
    if not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError(f"alpha = {alpha!r}, power = {power!r}; valid: numbers between 0 and 1, such as 0.05 and 0.8")
    return float(norm.isf(alpha)), float(norm.isf(1 - power))


def _check_share(*shares: float) -> None:
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"accuracies are {shares}; valid: shares between 0 and 1")
