"""Ability, loss slope and calibration error: independent fits, coverage, bias, fail-closed edges."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import expit

from gapshift.reports.statistics import (
    ability,
    ability_shift,
    debiased_ece,
    ece_difference,
    loss_slope,
    predicted_drop,
)

# ------------------------------------------------------------------------- ability


def items(rng: np.random.Generator, n: int, guessing: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.lognormal(0, 0.3, n), rng.normal(0, 1, n), np.full(n, guessing)


def answers(rng: np.random.Generator, theta: float, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return rng.random(len(a)) < c + (1 - c) * expit(a * (theta - b))


def test_ability_solves_the_rasch_equation() -> None:
    b, right = np.linspace(-2, 2, 9), np.array([1, 1, 1, 0, 1, 1, 0, 0, 0])
    root = brentq(lambda theta: expit(theta - b).sum() - right.sum(), -5, 5)
    assert ability(right, 1.0, b, 0.0) == pytest.approx(root, abs=1e-5)


def test_ability_is_recovered_with_guessing() -> None:
    rng = np.random.default_rng(1)
    parameters = items(rng, 20_000)
    for theta in (-1.5, 0.0, 2.0):
        # The standard error is about 0.02 to 0.03 here.
        assert ability(answers(rng, theta, *parameters), *parameters) == pytest.approx(theta, abs=0.1)


def test_all_right_or_wrong_is_bounded_and_no_shift_is_claimed() -> None:
    b = np.linspace(-2, 2, 50)
    right, mixed = np.ones(50), np.arange(50) % 2
    assert 7.9 < ability(right, 1.0, b, 0.1) <= 8.0
    assert -8.0 <= ability(1 - right, 1.0, b, 0.1) < -7.9
    assert ability_shift(right, mixed, 1.0, b, 0.1).as_json() is None
    assert ability_shift(mixed, 1 - right, 1.0, b, 0.1).as_json() is None


def test_unscored_answers_leave_both_sides() -> None:
    rng = np.random.default_rng(2)
    a, b, c = items(rng, 400)
    reference, environment = answers(rng, 1.0, a, b, c).astype(float), answers(rng, 0.5, a, b, c).astype(float)
    holed = reference.copy()
    holed[:50] = math.nan
    assert ability_shift(holed, environment, a, b, c) == ability_shift(
        reference[50:], environment[50:], a[50:], b[50:], c[50:]
    )
    assert math.isnan(ability(np.full(3, math.nan), 1.0, 0.0, 0.0))
    assert ability_shift(np.array([]), np.array([]), 1.0, 0.0, 0.0).as_json() is None


def test_item_parameters_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="item parameters must be finite"):
        ability(np.array([1, 0]), 1.0, np.array([0.0, math.nan]), 0.0)
    with pytest.raises(ValueError, match="one length"):
        ability_shift(np.zeros(3), np.zeros(2), 1.0, 0.0, 0.0)


def test_shift_of_ability_covers_although_the_answers_are_paired() -> None:
    # 300 replicates: standard error 0.0126, three are allowed. Both sides share one uniform draw on
    # four fifths of the items, so the two sides are strongly dependent.
    rng, kept, widths, loose = np.random.default_rng(3), 0, [], []
    for _ in range(300):
        a, b, c = items(rng, 500)
        first, second = rng.random(500), rng.random(500)
        second = np.where(rng.random(500) < 0.8, first, second)
        reference, environment = (
            u < c + (1 - c) * expit(a * (theta - b)) for u, theta in ((first, 1.0), (second, 0.7))
        )
        got = ability_shift(reference, environment, a, b, c)
        kept += got.low <= -0.3 <= got.high
        widths.append(got.high - got.low)
        loose.append(2 * 1.96 * math.sqrt(sum(1 / information(theta, a, b, c) for theta in (1.0, 0.7))))
    assert kept / 300 > 0.95 - 3 * 0.0126
    assert np.mean(widths) < 0.7 * np.mean(loose)


def information(theta: float, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Fisher information of the three-parameter model: P'^2 / (P (1 - P)), summed."""
    s = expit(a * (theta - b))
    p, slope = c + (1 - c) * s, (1 - c) * a * s * (1 - s)
    return float(np.sum(slope**2 / (p * (1 - p))))


def test_predicted_drop_is_the_mean_difference_of_probabilities() -> None:
    a, b, c = items(np.random.default_rng(4), 200)
    expected = np.mean((1 - c) * (expit(a * (1.0 - b)) - expit(a * (0.4 - b))))
    assert predicted_drop(1.0, 0.4, a, b, c) == pytest.approx(expected)
    assert predicted_drop(0.7, 0.7, a, b, c) == 0
    assert math.isnan(predicted_drop(math.nan, 0.7, a, b, c))
    assert math.isnan(predicted_drop(1.0, 0.7, np.array([]), np.array([]), np.array([])))


# ------------------------------------------------------------------------- slope


def test_slope_equals_a_direct_maximum_of_the_likelihood() -> None:
    lost, right, x = np.array([3, 12, 9, 30, 41]), np.array([480, 400, 333, 250, 90]), np.arange(5)

    def loss(beta: np.ndarray) -> float:
        eta = beta[0] + beta[1] * x
        return float(np.sum(right * np.logaddexp(0, eta) - lost * eta))

    fitted = minimize(loss, [-3.0, 0.5], method="BFGS", options={"gtol": 1e-8}).x
    got = loss_slope(lost.tolist(), right.tolist())
    assert got.estimate == pytest.approx(fitted[1], abs=1e-5)

    # A likelihood ratio drawn around the maximum has the Wald interval's curvature.
    def profile(slope: float) -> float:
        return minimize(lambda b0: loss(np.array([b0[0], slope])), [fitted[0]], method="BFGS").fun

    step = 0.02
    curvature = (profile(fitted[1] + step) - 2 * loss(fitted) + profile(fitted[1] - step)) / step**2
    assert (got.high - got.low) / (2 * 1.959964) == pytest.approx(1 / math.sqrt(curvature), rel=0.01)


def test_slope_covers() -> None:
    # 2,000 replicates: standard error 0.0049, three are allowed; Wald intervals are a little wide or narrow (0.01).
    rng, right, kept = np.random.default_rng(5), np.array([190, 180, 150, 120, 80]), 0
    lost = rng.binomial(right, expit(-3 + 0.4 * np.arange(5)), size=(2000, 5))
    for row in lost:
        got = loss_slope(row.tolist(), right.tolist())
        kept += got.low <= 0.4 <= got.high
    assert abs(kept / 2000 - 0.95) < 3 * 0.0049 + 0.01


@pytest.mark.parametrize(
    ("lost", "right"),
    [
        ([2, 2, 2, 2, 1], [100] * 5),
        ([0, 20, 0], [0, 100, 0]),
        ([50, 50], [50, 50]),
        ([0, 0, 20], [50, 50, 20]),
        ([], []),
    ],
)
def test_slope_is_null_where_nothing_fits_it(lost: list[int], right: list[int]) -> None:
    assert loss_slope(lost, right).as_json() is None


def test_slope_refuses_more_lost_than_right() -> None:
    with pytest.raises(ValueError, match="each level needs 0 <= lost <= right"):
        loss_slope([30, 5], [20, 50])


# ------------------------------------------------------------------- calibration


def calibrated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    confidence = rng.beta(4, 1, n)
    return confidence, rng.random(n) < confidence


def plain_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """The textbook ECE: bins of equal count, no debiasing."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return sum(len(part) * abs(right[part].mean() - confidence[part].mean()) for part in parts) / len(right)


def test_debiasing_takes_away_a_third_of_the_bias_at_least() -> None:
    # Truth 0; 200 replicates, standard error of each mean under 0.0007.
    rng = np.random.default_rng(6)
    samples = [calibrated(rng, 500) for _ in range(200)]
    plain = np.mean([plain_error(*s) for s in samples])
    debiased = np.mean([debiased_ece(*s) for s in samples])
    assert plain > 0.03
    assert debiased < 0.67 * plain


def test_debiased_error_finds_a_true_one() -> None:
    rng = np.random.default_rng(7)
    confidence = rng.uniform(0.6, 1.0, 20_000)
    right = rng.random(20_000) < confidence - 0.1
    assert debiased_ece(confidence, right) == pytest.approx(0.1, abs=0.01)


def test_unscored_items_are_left_out() -> None:
    confidence, right = calibrated(np.random.default_rng(8), 300)
    holed = np.concatenate([confidence, [math.nan] * 20])
    assert debiased_ece(holed, np.concatenate([right, np.zeros(20)])) == debiased_ece(confidence, right)
    assert math.isnan(debiased_ece(np.array([math.nan]), np.array([1])))
    assert math.isnan(debiased_ece(np.array([]), np.array([])))
    assert ece_difference(*[np.full(5, math.nan)] * 4).as_json() is None
    with pytest.raises(ValueError, match="one length"):
        debiased_ece(np.zeros(3), np.zeros(2))


def test_equal_confidences_share_a_bin() -> None:
    # In bins of a fifteenth each, sorted answers would be all right or all wrong: an error of 0.2 to 0.8.
    right = np.array([1] * 80 + [0] * 20)
    for order in (right, right[::-1]):
        assert debiased_ece(np.full(100, 0.8), order) == pytest.approx(0.0, abs=1e-12)


def test_difference_of_calibration_covers_and_is_seeded() -> None:
    # 200 replicates: standard error 0.0154, three are allowed. The environment is overconfident by 0.05 and more.
    rng, kept = np.random.default_rng(9), 0
    for replicate in range(200):
        confidence = rng.uniform(0.55, 0.95, 1000)
        draw = rng.random(1000)
        reference, environment = draw < confidence - 0.05, draw < confidence - 0.12
        got = ece_difference(confidence, reference, confidence, environment, seed=replicate, resamples=100)
        kept += got.low <= 0.07 <= got.high
    assert kept / 200 > 0.95 - 3 * 0.0154
    once = ece_difference(confidence, reference, confidence, environment, seed=1)
    assert once == ece_difference(confidence, reference, confidence, environment, seed=1)
    assert once != ece_difference(confidence, reference, confidence, environment, seed=2)
