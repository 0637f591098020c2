"""Expected calibration error, without most of the bias that small samples give it.

Items whose confidence is NaN are *unscored*: every function here leaves them out, so a
caller states beside the result how many were scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr

from gapshift.reports.statistics.base import Estimate, two_sided_z, unknown

_Vector = NDArray[np.float64]
_BLOCK = 100_000
"""Item weights that are drawn at once: few enough for the processor's cache."""


def debiased_ece(confidence: NDArray[Any], correct: NDArray[Any], bins: int = 15) -> float:
    """Mean absolute gap between confidence and accuracy over bins of (nearly) equal count, less its bias.

    Equal confidences share a bin. Never below 0. The plain mean is biased upwards: a perfectly
    calibrated model scores above zero, the more so the fewer items. The bias is what
    Kumar, Liang & Ma (2019), "Verified Uncertainty Calibration" (NeurIPS 32), estimate
    for the L1 error by resampling each bin's accuracy from a normal law around it; the
    mean of that law's absolute value (folded normal) is closed, so nothing is resampled
    here. A bin's variance takes Jeffreys' proportion, which is not zero where all its
    items are right. On a calibrated model 56 to 60% of the plain bias is left (2.6 of
    4.7 pp at n = 500), at a true error of 5 pp none; estimators without bias at zero
    underestimate there. NaN without scored items.

    >>> round(debiased_ece(np.full(1000, 0.8), np.array([1] * 700 + [0] * 300)), 6)
    0.1
    """
    confidence, correct = scored(confidence, correct)
    if not len(confidence):
        return math.nan
    return float(_debiased(_bin_sums(confidence, correct, bins) @ np.ones((len(confidence), 1)))[0])


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
    conf_ref, correct_ref, conf_env, correct_env = scored(conf_ref, correct_ref, conf_env, correct_env)
    n = len(conf_ref)
    if n < 2:
        return unknown()
    reference, environment = _bin_sums(conf_ref, correct_ref, bins), _bin_sums(conf_env, correct_env, bins)

    def difference(weights: _Vector) -> _Vector:
        return _debiased(environment @ weights) - _debiased(reference @ weights)

    return bootstrapped(difference, n, z, seed, resamples)


def bootstrapped(difference: Callable[[_Vector], _Vector], n: int, z: float, seed: int, resamples: int) -> Estimate:
    """A difference over ``n`` items with a normal interval of ``z`` bootstrap standard errors.

    ``difference`` takes item weights (n, R) to values (R,).
    """
    draws = np.concatenate([difference(weights) for weights in _bootstrap_weights(seed, n, resamples)])
    estimate, reach = float(difference(np.ones((n, 1)))[0]), z * float(np.std(draws, ddof=1))
    return Estimate(estimate, estimate - reach, estimate + reach)


def _bootstrap_weights(seed: int, n: int, resamples: int) -> Iterator[_Vector]:
    """How often each resample draws each item, (n, resamples) in blocks that stay small in memory."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // n)
    for start in range(0, resamples, block):
        width = min(block, resamples - start)
        places = rng.integers(0, n, (n, width)) * width + np.arange(width)
        yield np.bincount(places.ravel(), minlength=n * width).reshape(n, width).astype(np.float64)


def scored(*columns: NDArray[Any]) -> tuple[_Vector, ...]:
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


def _bin_sums(confidence: _Vector, correct: _Vector, bins: int) -> csr_array:
    """A matrix (3 * bins, n): times item weights (n, R) it gives each bin's count, right answers and confidence."""
    item, bin_of = np.arange(len(confidence)), _bin_of(confidence, bins)
    rows = np.concatenate([bin_of, bin_of + bins, bin_of + 2 * bins])
    values = np.concatenate([np.ones_like(confidence), correct, confidence])
    return csr_array((values, (rows, np.tile(item, 3))), shape=(3 * bins, len(confidence)))


def _debiased(sums: _Vector) -> _Vector:
    """Debiased errors (R,) from the bins' sums (3 * bins, R); empty bins weigh nothing."""
    count, right, believed = np.split(sums, 3)
    filled = np.maximum(count, 1.0)
    jeffreys = (right + 0.5) / (count + 1)
    size, error = np.abs(right - believed) / filled, np.sqrt(jeffreys * (1 - jeffreys) / filled)
    folded = error * math.sqrt(2 / math.pi) * np.exp(-((size / error) ** 2) / 2) + size * (1 - 2 * ndtr(-size / error))
    total = np.sum(count * (2 * size - folded), axis=0) / np.sum(count, axis=0)
    return np.asarray(np.maximum(0.0, total), dtype=np.float64)
