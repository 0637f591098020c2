"""Simulated 2PL data: em against an oracle that knows the true abilities; linking against a known shift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from scipy.stats import spearmanr

from gapshift.train.irt import engine
from gapshift.train.irt.calibrate import Calibration, calibrate
from gapshift.train.irt.levels import absolute_levels, levels
from gapshift.train.irt.link import LINKING_ASSUMPTION

Floats = NDArray[np.float64]
LESS_RANK, LESS_AGREEMENT = 0.01, 0.02
ITEMS = 2000
IDS = [f"item {number}" for number in range(ITEMS)]


@dataclass(frozen=True)
class Truth:
    """theta (responders,) and b (items,) standard normal, log a normal with sd 0.3; guessing c."""

    theta: Floats
    b: Floats
    probability: Floats
    c: float

    def answers(self, seed: int) -> Floats:
        random = np.random.default_rng([seed, 1])
        return (random.random(self.probability.shape) < self.probability).astype(np.float64)


def simulate(responders: int, seed: int, c: float = 0.0) -> Truth:
    random = np.random.default_rng(seed)
    theta, b, a = random.normal(size=responders), random.normal(size=ITEMS), np.exp(random.normal(0, 0.3, ITEMS))
    return Truth(theta, b, c + (1 - c) * expit(a * (theta[:, None] - b)), c)


def oracle(responses: Floats, truth: Truth) -> Floats:
    """Posterior mean of b with abilities, guessing and priors known; NaN is missing."""
    b, log_a = (axis.ravel() for axis in np.meshgrid(np.linspace(-4.5, 4.5, 61), np.linspace(-0.9, 0.9, 13)))
    logit = np.exp(log_a) * (truth.theta[:, None] - b)
    log_right = np.log(truth.c + (1 - truth.c) * expit(logit))
    log_wrong = np.log1p(-truth.c) + log_expit(-logit)
    right, wrong = np.nan_to_num(responses), np.nan_to_num(1 - responses)
    log_posterior = right.T @ log_right + wrong.T @ log_wrong - b**2 / 2 - log_a**2 / (2 * 0.3**2)
    weights = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    mean: Floats = weights @ b / weights.sum(axis=1)
    return mean


def scores(estimate: Floats, b: Floats) -> Floats:
    """Rank correlation and exact level agreement with the truth."""
    agreement = (levels(estimate, IDS)[0] == levels(b, IDS)[0]).mean()
    return np.array([spearmanr(estimate, b).statistic, agreement])


def assert_as_good_as_the_oracle(responses: Floats, truth: Truth) -> None:
    behind = scores(oracle(responses, truth), truth.b) - scores(engine("em").fit(responses, truth.c).b, truth.b)
    assert behind[0] < LESS_RANK
    assert behind[1] < LESS_AGREEMENT


@pytest.mark.parametrize("seed", range(20))
def test_a_2pl(seed: int) -> None:
    truth = simulate(60, seed)
    assert_as_good_as_the_oracle(truth.answers(seed), truth)


@pytest.mark.parametrize("seed", range(3))
def test_fixed_guessing(seed: int) -> None:
    truth = simulate(200, seed, c=0.5)
    answers = truth.answers(seed)
    assert_as_good_as_the_oracle(answers, truth)
    without = scores(engine("em").fit(answers, 0.0).b, truth.b)
    assert scores(engine("em").fit(answers, 0.5).b, truth.b)[1] > without[1]


@pytest.mark.parametrize("seed", range(3))
def test_missing_responses(seed: int) -> None:
    truth = simulate(60, seed)
    holes = np.random.default_rng([seed, 2]).random(truth.probability.shape) < 0.3
    assert_as_good_as_the_oracle(np.where(holes, np.nan, truth.answers(seed)), truth)


@pytest.mark.parametrize("seed", range(3))
def test_soft_responses(seed: int) -> None:
    """A share of 20 right answers: what a soft response is, an estimate of the probability of being right."""
    truth = simulate(24, seed)
    soft = np.random.default_rng([seed, 3]).binomial(20, truth.probability) / 20
    assert_as_good_as_the_oracle(soft, truth)
    assert scores(engine("em").fit(soft).b, truth.b)[1] > scores(engine("em").fit(truth.answers(seed)).b, truth.b)[1]


# ------------------------------------------------------------------------------- linking


def standardised(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std(), dtype=np.float64)


def task(name: str, theta: Floats, hardness: float, seed: int) -> tuple[Calibration, Floats]:
    """A task that responders of these abilities answered, and its items' true b."""
    random = np.random.default_rng([seed, 4])
    b, a = random.normal(hardness, 1, ITEMS), np.exp(random.normal(0, 0.3, ITEMS))
    answers = (random.random((len(theta), ITEMS)) < expit(a * (theta[:, None] - b))).astype(np.float64)
    recipes = [f"w8-f1-r{number}-c1" for number in range(len(theta))]
    return calibrate(answers, IDS, task=name, guessing=0.0, names=recipes, cross_check=False), b


@pytest.mark.parametrize("seed", range(4))
def test_linking_recovers_a_known_shift(seed: int) -> None:
    """Two tasks, one harder by 1.0, answered by the same recipes: alike in distribution, not the same abilities."""
    random = np.random.default_rng([seed, 5])
    first = standardised(random.normal(size=60))
    second = standardised(0.8 * first + 0.6 * random.normal(size=60))
    easy, easy_b = task("easy", first, 0.0, 2 * seed)
    hard, hard_b = task("hard", second, 1.0, 2 * seed + 1)
    true_shift = hard_b.mean() - easy_b.mean()
    found = hard.parameters.b.mean() - easy.parameters.b.mean()
    assert abs(found - true_shift) < 0.1
    assert abs(found - 1.0) < 0.1
    # Quintiles are within a task and know nothing of it; absolute levels follow.
    assert np.bincount(easy.level).tolist() == np.bincount(hard.level).tolist()
    for rated, b in ((easy, easy_b), (hard, hard_b)):
        assert abs(rated.level_abs.mean() - absolute_levels(b).mean()) < 0.12
    assert hard.level_abs.mean() - easy.level_abs.mean() > 0.7


def test_the_card_tells_the_recipes_abilities_and_what_linking_assumes() -> None:
    theta = standardised(np.random.default_rng(6).normal(size=60))
    card = task("one", theta, 0.5, 7)[0].card
    assert list(card.abilities) == [f"w8-f1-r{number}-c1" for number in range(60)]
    found = np.array(list(card.abilities.values()))
    assert np.corrcoef(found, theta)[0, 1] > 0.99
    assert abs(found.mean()) < 1e-9
    assert found.std() == pytest.approx(1.0)
    assert LINKING_ASSUMPTION in card.notes
