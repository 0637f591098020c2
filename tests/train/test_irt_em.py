"""The EM engine against simulations with known parameters."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from scipy.stats import spearmanr

from gapshift.errors import CalibrationError
from gapshift.train.irt import engine
from gapshift.train.irt.base import ItemParameters
from gapshift.train.irt.levels import levels

EM = engine("em")


def simulate(
    responders: int, items: int, seed: int, c: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities and answers (responders, items), true b (items,) and theta (responders,)."""
    random = np.random.default_rng(seed)
    theta = random.normal(size=responders)
    theta = (theta - theta.mean()) / theta.std()
    b, a = random.normal(0, 1.3, items), np.exp(random.normal(0, 0.3, items))
    probability = c + (1 - c) * expit(a * (theta[:, None] - b))
    answers = (random.random(probability.shape) < probability).astype(np.float64)
    return probability, answers, b, theta


def oracle(answers: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posterior mean of b under the engine's priors when the abilities are known (brute force)."""
    b, log_a = np.meshgrid(np.linspace(-6, 6, 81), np.linspace(-1.5, 1.5, 21), indexing="ij")
    b, log_a = b.ravel(), log_a.ravel()
    logit = np.exp(log_a) * (theta[:, None] - b)
    log_posterior = answers.T @ log_expit(logit) + (1 - answers.T) @ log_expit(-logit) - b**2 / 8 - 2 * log_a**2
    weights = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    mean: NDArray[np.float64] = weights @ b / weights.sum(axis=1)
    return mean


def ranks(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(spearmanr(one, other).statistic)


def level_agreement(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    ids = [str(index) for index in range(len(one))]
    return float((levels(one, ids)[0] == levels(other, ids)[0]).mean())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_recovers_a_2pl_as_well_as_known_abilities_would(seed: int) -> None:
    _, answers, b, theta = simulate(60, 2000, seed)
    fitted, known = EM.fit(answers), oracle(answers, theta)
    assert abs(ranks(fitted.b, b) - ranks(known, b)) < 0.01
    assert abs(level_agreement(fitted.b, b) - level_agreement(known, b)) < 0.02
    assert np.corrcoef(fitted.theta, theta)[0, 1] > 0.99
    assert ranks(fitted.b, b) > 0.94


def test_b_and_a_are_on_the_scale_of_standardised_abilities() -> None:
    _, answers, b, _ = simulate(300, 500, seed=4)
    fitted = EM.fit(answers)
    assert abs(fitted.theta.mean()) < 1e-9
    assert abs(fitted.theta.std() - 1) < 1e-9
    assert np.polyfit(b, fitted.b, 1) == pytest.approx([1.0, 0.0], abs=0.06)
    assert np.median(fitted.a) == pytest.approx(1.0, abs=0.08)


def test_a_grid_fine_enough_for_many_responders() -> None:
    """With 700 responders b's posterior is narrow: on a coarse grid b would snap to its points."""
    _, answers, b, _ = simulate(700, 40, seed=5)
    fitted = EM.fit(answers)
    assert np.abs(fitted.b - b).max() < 6 * fitted.se_b.max()
    assert len(np.unique(np.round(fitted.b, 3))) > 35


def test_fixed_guessing_beats_none_on_a_binary_task() -> None:
    _, answers, b, _ = simulate(200, 1500, seed=6, c=0.5)
    with_guessing, without = EM.fit(answers, 0.5), EM.fit(answers, 0.0)
    assert level_agreement(with_guessing.b, b) > level_agreement(without.b, b) + 0.03
    assert (with_guessing.c == 0.5).all()


def test_guessing_may_differ_per_item() -> None:
    _, half, b, theta = simulate(200, 300, seed=7, c=0.5)
    random = np.random.default_rng(8)
    none = (random.random(half.shape) < expit(theta[:, None] - b)).astype(float)
    fitted = EM.fit(np.hstack([half, none]), np.repeat([0.5, 0.0], 300))
    gap = fitted.b[:300] - fitted.b[300:]
    assert abs(gap.mean()) < 0.12
    assert fitted.c.tolist() == [0.5] * 300 + [0.0] * 300


def test_missing_at_random_costs_little_and_biases_nothing() -> None:
    _, answers, b, _ = simulate(80, 1000, seed=9)
    holes = np.where(np.random.default_rng(10).random(answers.shape) < 0.3, np.nan, answers)
    fitted = EM.fit(holes)
    assert ranks(fitted.b, b) > 0.93
    assert abs((fitted.b - EM.fit(answers).b).mean()) < 0.05
    assert (fitted.se_b > 0).all()
    assert fitted.se_b.mean() > EM.fit(answers).se_b.mean()


def test_soft_responses_beat_hard_ones() -> None:
    probability, answers, b, _ = simulate(12, 1000, seed=11)
    assert level_agreement(EM.fit(probability).b, b) > level_agreement(EM.fit(answers).b, b) + 0.1


@pytest.mark.parametrize(("sd_theta", "sd_b", "mean_b"), [(0.2, 2.0, 0.0), (0.5, 2.0, -3.0), (2.0, 1.0, 0.0)])
def test_responders_more_or_less_alike_than_items(sd_theta: float, sd_b: float, mean_b: float) -> None:
    """With one discrimination for all, the share of right answers orders items best; em keeps up on any scale."""
    random = np.random.default_rng(18)
    theta, b = random.normal(0, sd_theta, 60), random.normal(mean_b, sd_b, 1500)
    answers = (random.random((60, 1500)) < expit(theta[:, None] - b)).astype(float)
    fitted = EM.fit(answers)
    assert ranks(fitted.b, b) > ranks(-answers.mean(axis=0), b) - 0.005
    assert np.corrcoef(fitted.theta, theta)[0, 1] > 0.9


def test_it_beats_the_share_of_right_answers_where_discriminations_differ() -> None:
    random = np.random.default_rng(19)
    theta, b, a = random.normal(size=60), random.normal(0, 1.3, 2000), np.exp(random.normal(0, 0.6, 2000))
    answers = (random.random((60, 2000)) < expit(a * (theta[:, None] - b))).astype(float)
    fitted = EM.fit(answers)
    assert ranks(fitted.b, b) > ranks(-answers.mean(axis=0), b) + 0.004
    assert ranks(fitted.a, a) > 0.6


@settings(max_examples=40, deadline=None)
@given(responders=st.integers(2, 6), items=st.integers(2, 8), soft=st.booleans(), seed=st.integers(0, 10_000))
def test_tiny_matrices_give_finite_parameters_or_a_clear_error(
    responders: int, items: int, soft: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    matrix = random.random((responders, items))
    matrix = np.where(random.random(matrix.shape) < 0.2, np.nan, matrix if soft else matrix.round())
    fitted = None
    with contextlib.suppress(CalibrationError):
        fitted = EM.fit(matrix, 0.25)
    if fitted is None:  # too little in it: said, not guessed
        return
    for value in (fitted.b, fitted.a, fitted.se_b, fitted.theta):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("responders", [30, 120])
def test_standard_errors_cover(responders: int) -> None:
    random = np.random.default_rng(12)
    theta = random.normal(size=responders)
    theta = (theta - theta.mean()) / theta.std()
    b, a = random.normal(0, 2, 3000).clip(-6, 6), np.exp(random.normal(0, 0.5, 3000))
    answers = (random.random((responders, 3000)) < expit(a * (theta[:, None] - b))).astype(float)
    fitted = EM.fit(answers)
    covered = (np.abs(fitted.b - b) < 1.96 * fitted.se_b).mean()
    assert 0.92 < covered < 0.98


def test_all_right_and_all_wrong_items_and_responders_stay_finite() -> None:
    _, answers, _, _ = simulate(20, 50, seed=13)
    answers[:, 0], answers[:, 1], answers[0], answers[1] = 1, 0, 1, 0
    fitted = EM.fit(answers)
    for value in (fitted.b, fitted.a, fitted.se_b, fitted.theta):
        assert np.isfinite(value).all()
    assert fitted.b[0] == fitted.b.min()
    assert fitted.b[1] == fitted.b.max()


def test_equal_response_patterns_get_equal_difficulties() -> None:
    _, answers, _, _ = simulate(10, 700, seed=14)
    fitted = EM.fit(answers)
    _, pattern = np.unique(answers, axis=1, return_inverse=True)
    for group in range(pattern.max() + 1):
        assert np.ptp(fitted.b[pattern == group]) < 1e-9


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_permuting_items_and_responders_permutes_the_result(seed: int) -> None:
    _, answers, _, _ = simulate(12, 60, seed)
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(12), random.permutation(60)
    plain, shuffled = EM.fit(answers), EM.fit(answers[rows][:, columns])
    np.testing.assert_allclose(shuffled.b, plain.b[columns], atol=5e-3)
    np.testing.assert_allclose(shuffled.theta, plain.theta[rows], atol=5e-3)


def test_60_by_20000_takes_about_a_cpu_second() -> None:
    """Measured: 0.41 CPU-seconds. The bound leaves room for a loaded machine."""
    _, answers, _, _ = simulate(60, 20_000, seed=15)
    start = time.process_time()
    EM.fit(answers)
    assert time.process_time() - start < 2.0


def test_the_same_input_gives_the_same_output_whatever_the_seed() -> None:
    _, answers, _, _ = simulate(20, 100, seed=16)
    one: ItemParameters = EM.fit(answers, seed=1)
    np.testing.assert_array_equal(one.b, EM.fit(answers, seed=2).b)


GOOD = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("responses", "guessing", "text"),
    [
        (np.ones(4), 0.0, r"Responses have 1 dimension\(s\); give a matrix of shape \(responders, items\)"),
        (GOOD[:1], 0.0, r"at least 2 responders and 2 items; got 1 responder\(s\) and 3 item\(s\)"),
        (GOOD[:, :1], 0.0, r"got 3 responder\(s\) and 1 item\(s\).*orientation"),
        (GOOD * 2, 0.0, r"Response 2 of responder 0 to item 0 lies outside \[0, 1\] \(5 such\)"),
        (np.where(GOOD == 0, -np.inf, GOOD), 0.0, r"Response -inf .* outside \[0, 1\]"),
        (np.ones((3, 3)), 0.0, "Every response is 1: without right and wrong answers"),
        (
            np.where([True, False, True], GOOD, np.nan),
            0.0,
            r"1 item\(s\) have no response at all: 1 \(counted from 0\)",
        ),
        (np.vstack([GOOD, [np.nan] * 3]), 0.0, r"1 responder\(s\) have no response at all: 3"),
        (np.hstack([GOOD] + [GOOD * np.nan] * 3), 0.0, r"9 item\(s\) have no response at all: 3, 4, 5, 6, 7, …"),
        (GOOD, 1.0, r"Guessing lies outside \[0, 1\). Valid: 1/K"),
        (GOOD, np.nan, r"Guessing lies outside"),
        (GOOD, [0.1, 0.2], r"Guessing has shape \(2,\); give one number or one per item: \(3,\)"),
        (np.array([[1.0, 0.0], [0.0, 1.0]]), 0.0, "All 2 responders are equally able"),
    ],
)
def test_errors_say_what_and_where(responses: NDArray[np.float64], guessing: float, text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        EM.fit(responses, guessing)


def test_too_many_guessing_values() -> None:
    _, answers, _, _ = simulate(10, 70, seed=17)
    with pytest.raises(CalibrationError, match=r"70 different values .* up to 64\. Round them"):
        EM.fit(answers, np.linspace(0, 0.5, 70))


def test_calibrating_imports_no_torch() -> None:
    code = (
        "import sys, gapshift.train.irt.calibrate as c; "
        "import numpy as np; r = (np.random.default_rng(0).random((9, 30)) < .5) * 1.; "
        "c.calibrate(r, [str(i) for i in range(30)], task='t', guessing=0.0, cross_check=False); "
        "print('torch' in sys.modules or 'py_irt' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
