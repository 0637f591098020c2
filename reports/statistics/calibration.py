"""Expected calibration error, without most of the bias that small samples give it.

Items whose confidence is NaN are *unscored*: every function here leaves them out, so a
caller states beside the result how many were scored.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gapshift.reports.statistics.base import Estimate, two_sided_z, unknown

_Vector = NDArray[np.float64]


def plain_ece(confidence: NDArray[Any], correct: NDArray[Any], bins: int = 15) -> float:
    """Mean absolute gap between confidence and accuracy over bins of (nearly) equal count.

    Biased upwards: a perfectly calibrated model scores above zero, the more so the fewer
    items. Equal confidences share a bin. Both arguments are (n,); NaN without scored items.

    >>> round(plain_ece(np.full(10, 0.8), np.array([1] * 7 + [0] * 3)), 6)
    0.1
    """
    confidence, correct = _scored(confidence, correct)
    if not len(confidence):
        return math.nan
    gap, _, weight = _bin_gaps(confidence, correct, _bin_of(confidence, bins), None)
    return float(np.sum(weight * np.abs(gap)))


def debiased_ece(confidence: NDArray[Any], correct: NDArray[Any], bins: int = 15) -> float:
    """``plain_ece`` less its estimated bias, not below 0.

    The bias is what Kumar, Liang & Ma (2019), "Verified Uncertainty Calibration"
    (NeurIPS 32), estimate for the L1 error by resampling each bin's accuracy from a
    normal law around it; the mean of that law's absolute value (folded normal) is
    closed, so nothing is resampled here. A bin's variance takes Jeffreys' proportion,
    which is not zero where all its items are right. On a calibrated
    model 56 to 60% of the plain bias is left (2.6 of 4.7 pp at n = 500), at a true error of
    5 pp none; estimators without bias at zero underestimate there. NaN without scored items.

    >>> rng = np.random.default_rng(0)
    >>> confidence = rng.uniform(0.5, 1, 500)
    >>> correct = rng.random(500) < confidence
    >>> debiased_ece(confidence, correct) < plain_ece(confidence, correct)
    True
    """
    confidence, correct = _scored(confidence, correct)
    if not len(confidence):
        return math.nan
    return _debiased(confidence, correct, _bin_of(confidence, bins), None)


def ece_difference(
    conf_ref: NDArray[Any],
    correct_ref: NDArray[Any],
    conf_env: NDArray[Any],
    correct_env: NDArray[Any],
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 200,
    bins: int = 15,
) -> Estimate:
    """Debiased ECE of the environment less the reference's, on the same items (n,).

    Items scored in both count. The standard error comes from a paired bootstrap (one
    draw of items for both sides, Efron & Tibshirani 1993, ch. 6) over fixed bins; the
    interval is normal, since resampling adds a bias to each ECE that percentiles would
    keep. Under two items scored in both the result is NaN.

    >>> confidence, right = np.full(50, 0.9), np.arange(50) % 10 > 0
    >>> ece_difference(confidence, right, confidence, right)
    Estimate(estimate=0.0, low=0.0, high=0.0)
    """
    z = two_sided_z(level)
    conf_ref, correct_ref, conf_env, correct_env = _scored(conf_ref, correct_ref, conf_env, correct_env)
    n = len(conf_ref)
    if n < 2:
        return unknown()
    sides = [(p, y, _bin_of(p, bins)) for p, y in ((conf_ref, correct_ref), (conf_env, correct_env))]

    def difference(weights: _Vector | None) -> float:
        reference, environment = (_debiased(*side, weights) for side in sides)
        return environment - reference

    rng = np.random.default_rng(seed)
    draws = [difference(_bootstrap_weights(rng, n)) for _ in range(resamples)]
    estimate, reach = difference(None), z * float(np.std(draws, ddof=1))
    return Estimate(estimate, estimate - reach, estimate + reach)


def _bootstrap_weights(rng: np.random.Generator, n: int) -> _Vector:
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)


def _scored(*columns: NDArray[Any]) -> tuple[_Vector, ...]:
    """The columns as float vectors without the rows where any of them is NaN."""
    vectors = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(v.ndim != 1 or v.shape != vectors[0].shape for v in vectors):
        raise ValueError(f"confidences and answers must be vectors of one length, not {[v.shape for v in vectors]}")
    keep = ~np.isnan(np.stack(vectors)).any(axis=0)
    return tuple(vector[keep] for vector in vectors)


def _bin_of(confidence: _Vector, bins: int) -> NDArray[np.intp]:
    """Each item's bin: quantiles of confidence, so ties stay together and bins may be empty."""
    if bins < 1:
        raise ValueError(f"bins is {bins}; valid: 1 or more")
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    return np.searchsorted(edges, confidence, side="right")


def _bin_gaps(
    confidence: _Vector, correct: _Vector, bin_of: NDArray[np.intp], weights: _Vector | None
) -> tuple[_Vector, _Vector, _Vector]:
    """Per non-empty bin: accuracy - confidence, its standard error, share of items."""
    weights = np.ones_like(confidence) if weights is None else weights
    count = np.bincount(bin_of, weights)
    right = np.bincount(bin_of, weights * correct)
    believed = np.bincount(bin_of, weights * confidence)
    full = count > 0
    count, right, believed = count[full], right[full], believed[full]
    jeffreys = (right + 0.5) / (count + 1)
    return (right - believed) / count, np.sqrt(jeffreys * (1 - jeffreys) / count), count / count.sum()


def _debiased(confidence: _Vector, correct: _Vector, bin_of: NDArray[np.intp], weights: _Vector | None) -> float:
    gap, error, weight = _bin_gaps(confidence, correct, bin_of, weights)
    size = np.abs(gap)
    folded = error * math.sqrt(2 / math.pi) * np.exp(-((size / error) ** 2) / 2) + size * (1 - 2 * ndtr(-size / error))
    return max(0.0, float(np.sum(weight * (2 * size - folded))))
