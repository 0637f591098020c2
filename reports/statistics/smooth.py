"""Smooth calibration error: no bins, so no choice of bins.

smECE of Błasiok & Nakkiran (2023), "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing"
(arXiv 2309.12236; ICLR 2024). The residuals, confidence less right (1) or wrong (0), are smoothed over confidence by a
Gaussian kernel reflected at 0 and 1; the error at bandwidth s is the integral of the absolute smoothed residual, and
smECE is the one at the bandwidth that equals it. It bounds the distance to the nearest calibrated predictor from both
sides, up to constants. The authors' package relplot gives the same to 0.0005 (its bandwidth is searched in steps of
0.001); it is not used since it brings pandas and three plotting libraries.

Reflection makes the kernel diagonal in cosines: the k-th coefficient shrinks by exp(-(pi k s)^2 / 2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.sparse import csr_array

from gapshift.reports.statistics.base import Estimate, two_sided_z, unknown
from gapshift.reports.statistics.calibration import bootstrapped, scored

_Vector = NDArray[np.float64]
_GRID = 256
"""Steps of confidence: residuals are shared between the two nearest nodes."""
_NARROWEST = 1 / 256
"""The least bandwidth; errors below it are taken at it."""
_HALVINGS = 8


def smooth_ece(confidence: NDArray[Any], correct: NDArray[Any]) -> float:
    """smECE of confidences from 0 to 1 (a rounding beyond counts at the end) and right/wrong answers, both (n,).

    Biased upwards in small samples, as every such error is: a calibrated model scores about 0.03 at n = 500 and 0.012
    at n = 5,000, so compare at equal n. Unscored items (NaN) are left out; NaN without any other.

    >>> round(smooth_ece(np.full(1000, 0.8), np.array([1] * 700 + [0] * 300)), 4)
    0.1
    """
    confidence, correct = scored(confidence, correct)
    if not len(confidence):
        return math.nan
    return float(_smooth(_cosines(confidence, correct), np.ones((len(confidence), 1)))[0])


def smooth_ece_difference(
    conf_ref: NDArray[Any],
    correct_ref: NDArray[Any],
    conf_env: NDArray[Any],
    correct_env: NDArray[Any],
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 100,
) -> Estimate:
    """smECE of the environment less the reference's, on the same items (n,) scored in both.

    Standard error from a paired bootstrap (one draw of items for both sides), normal interval: as in
    ``ece_difference``, and for the same reason. It is the difference *at this n*: where one side is calibrated its own
    error is all bias, and the difference of many more items would be up to twice as large. Under two items scored in
    both the result is NaN.

    >>> confidence, right = np.full(50, 0.9), np.arange(50) % 10 > 0
    >>> smooth_ece_difference(confidence, right, confidence, right)
    Estimate(estimate=0.0, low=0.0, high=0.0)
    """
    z = two_sided_z(level)
    conf_ref, correct_ref, conf_env, correct_env = scored(conf_ref, correct_ref, conf_env, correct_env)
    n = len(conf_ref)
    if n < 2:
        return unknown()
    reference, environment = _cosines(conf_ref, correct_ref), _cosines(conf_env, correct_env)

    def difference(weights: _Vector) -> _Vector:
        return _smooth(environment, weights) - _smooth(reference, weights)

    return bootstrapped(difference, n, z, seed, resamples)


def _cosines(confidence: _Vector, correct: _Vector) -> csr_array:
    """A matrix (grid + 1, n): times item weights (n, R) it gives the residuals at the nodes."""
    place = np.clip(confidence, 0, 1) * _GRID
    left = np.minimum(place.astype(np.intp), _GRID - 1)
    share, residual, item = place - left, confidence - correct, np.arange(len(confidence))
    values = np.concatenate([(1 - share) * residual, share * residual])
    return csr_array((values, (np.concatenate([left, left + 1]), np.tile(item, 2))), shape=(_GRID + 1, len(item)))


def _smooth(nodes: csr_array, weights: _Vector) -> _Vector:
    """smECE of each column of weights, (R,)."""
    density = np.asarray(nodes @ weights, dtype=np.float64) / weights.sum(axis=0)
    density[1:-1] /= 2  # the transform counts inner nodes twice
    spectrum = dct(density, type=1, axis=0)
    low, high = np.full(weights.shape[1], _NARROWEST), np.ones(weights.shape[1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _error(spectrum, middle) > middle
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return _crossing(spectrum, low, high)


def _crossing(spectrum: _Vector, low: _Vector, high: _Vector) -> _Vector:
    """Where the error, which falls with the bandwidth, equals it: a secant in the last interval."""
    below, above = _error(spectrum, low) - low, _error(spectrum, high) - high
    share = np.clip(below / np.maximum(below - above, 1e-15), 0, 1)
    bandwidth = low + share * (high - low)
    return np.where(below <= 0, below + low, bandwidth)


def _error(spectrum: _Vector, bandwidth: _Vector) -> _Vector:
    """Integral of the absolute smoothed residual at each column's bandwidth (trapezoid rule)."""
    k = np.arange(_GRID + 1)[:, None]
    smoothed = np.abs(dct(spectrum * np.exp(-((math.pi * k * bandwidth) ** 2) / 2), type=1, axis=0))
    return np.asarray((smoothed.sum(axis=0) - (smoothed[0] + smoothed[-1]) / 2) / _GRID, dtype=np.float64)
