"""Smooth calibration error: the authors' own values, exact cases, bias and the paired difference by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gapshift.reports.statistics import smooth_ece, smooth_ece_difference


def sample(seed: int, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, overconfident by ``shift``, and answers."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(5, 1.5, n)
    return confidence, (rng.random(n) < np.clip(confidence - shift, 0, 1)).astype(float)


# relplot 1.0.3, smECE(confidence, correct), on the same samples; its bandwidth comes in steps of 0.001.
RELPLOT = [((1, 500, 0.0), 0.03140), ((2, 500, 0.1), 0.11409), ((3, 5000, 0.03), 0.03430), ((4, 50, 0.2), 0.25324)]


@pytest.mark.parametrize(("made", "expected"), RELPLOT)
def test_values_are_those_of_the_authors_package(made: tuple[int, int, float], expected: float) -> None:
    assert smooth_ece(*sample(*made)) == pytest.approx(expected, abs=5e-4)


def direct(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The definition, by quadrature over reflected normal densities and a search over bandwidths."""
    t = np.linspace(0, 1, 2001)
    images = [confidence + 2 * k for k in range(-3, 4)] + [2 * k - confidence for k in range(-3, 4)]

    def error(s: float) -> float:
        kernel = sum(np.exp(-((t[:, None] - image) ** 2) / (2 * s * s)) for image in images) / (
            s * math.sqrt(2 * math.pi)
        )
        return float(np.trapezoid(np.abs(kernel @ (confidence - correct)) / len(correct), t))

    low, high = 0.004, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > middle else (low, middle)
    return high


@pytest.mark.parametrize("made", [(5, 60, 0.0), (6, 60, 0.3), (7, 200, 0.1)])
def test_the_definition_by_quadrature_gives_the_same(made: tuple[int, int, float]) -> None:
    assert smooth_ece(*sample(*made)) == pytest.approx(direct(*sample(*made)), abs=2e-4)


def test_a_constant_confidence_is_off_by_its_gap() -> None:
    right = np.array([1] * 700 + [0] * 300)
    assert smooth_ece(np.full(1000, 0.8), right) == pytest.approx(0.1, abs=1e-4)
    assert smooth_ece(np.ones(100), np.zeros(100)) == pytest.approx(1, abs=1e-3)
    assert smooth_ece(np.full(1000, 1 + 1e-7), np.ones(1000)) < 1 / 256


def test_unscored_items_are_left_out() -> None:
    confidence, right = sample(8, 300, 0.1)
    holed = np.concatenate([confidence, [math.nan] * 20])
    assert smooth_ece(holed, np.concatenate([right, np.zeros(20)])) == smooth_ece(confidence, right)
    assert math.isnan(smooth_ece(np.array([math.nan]), np.array([1])))
    assert smooth_ece_difference(*[np.full(5, math.nan)] * 4).as_json() is None
    with pytest.raises(ValueError, match="one length"):
        smooth_ece(np.zeros(3), np.zeros(2))


def test_the_error_of_a_calibrated_model_is_bias_that_falls_with_n() -> None:
    """Truth 0; 100 replicates, standard error of each mean under 0.0008. Measured 0.032 and 0.013."""
    few, many = (np.mean([smooth_ece(*sample(100 + k, n, 0.0)) for k in range(100)]) for n in (500, 5000))
    assert 0.025 < few < 0.04
    assert many < 0.5 * few


def test_difference_of_two_that_are_off_covers_and_is_seeded() -> None:
    """150 replicates: standard error 0.018, three are allowed. Overconfident by 0.05, then by 0.12."""
    rng, kept = np.random.default_rng(9), 0
    for replicate in range(150):
        confidence, draw = rng.uniform(0.55, 0.95, 1000), rng.random(1000)
        before, after = draw < confidence - 0.05, draw < confidence - 0.12
        got = smooth_ece_difference(confidence, before, confidence, after, seed=replicate)
        kept += got.low <= 0.07 <= got.high
    assert kept / 150 > 0.95 - 3 * 0.018
    columns = (confidence, before, confidence, after)
    assert smooth_ece_difference(*columns, seed=1) == smooth_ece_difference(*columns, seed=1)
    assert smooth_ece_difference(*columns, seed=1) != smooth_ece_difference(*columns, seed=2)
