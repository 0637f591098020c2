"""Levels, linking and reliability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from gapshift.errors import CalibrationError
from gapshift.train.irt import ItemParameters, engine
from gapshift.train.irt.levels import absolute_levels, levels
from gapshift.train.irt.link import link_parameters
from gapshift.train.irt.reliability import gated_bands, spearman_brown, split_half


def names(count: int) -> list[str]:
    return [f"item-{index}" for index in range(count)]


# ------------------------------------------------------------------------------- levels


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=5, max_size=80), st.integers(0, 1000))
def test_levels_have_equal_counts_rise_with_b_and_ignore_order(b: list[int], seed: int) -> None:
    ids = names(len(b))
    level, tie_share = levels(b, ids)
    counts = np.bincount(level, minlength=6)[1:]
    assert counts.max() - counts.min() <= 1
    assert (np.diff(level[np.argsort(b, kind="stable")].reshape(-1)) >= 0).all() or tie_share > 0
    order = np.random.default_rng(seed).permutation(len(b))
    shuffled, again = levels(np.array(b)[order], [ids[index] for index in order])
    np.testing.assert_array_equal(shuffled, level[order])
    assert again == tie_share
    for low, high in ((1, 2), (2, 3), (3, 4), (4, 5)):
        assert np.array(b)[level == low].max() <= np.array(b)[level == high].min()


def test_the_tie_share_counts_items_that_a_hash_decided() -> None:
    assert levels(np.arange(10.0), names(10))[1] == 0.0
    assert levels(np.zeros(10), names(10))[1] == 1.0
    b = np.array([0, 0, 0, 1, 2, 3, 4, 5, 6, 7], dtype=float)  # the first edge cuts through three zeros
    assert levels(b, names(10))[1] == pytest.approx(0.3)
    assert levels(b + 1e-13 * np.arange(10), names(10))[1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("b", "ids", "text"),
    [
        ([0.0, np.nan, 1, 2, 3], names(5), "one finite difficulty per item.*not finite at 1"),
        (np.zeros((5, 2)), names(5), r"shape \(5, 2\)"),
        (np.arange(5.0), names(4), "4 ids for 5 items"),
        (np.arange(6.0), ["a", "b", "a", "c", "d", "b"], "Item ids are not unique: a, b occur more than once"),
        (np.arange(4.0), names(4), "Quintiles need at least 5 items; got 4"),
    ],
)
def test_what_cannot_be_levelled(b: NDArray[np.float64], ids: list[str], text: str) -> None:
    with pytest.raises(CalibrationError, match=text):
        levels(b, ids)


def test_absolute_levels() -> None:
    cuts = np.array([-1.5, -0.5, 0.5, 1.5])
    assert absolute_levels(cuts).tolist() == [2, 3, 4, 5]
    assert absolute_levels(cuts - 1e-9).tolist() == [1, 2, 3, 4]
    with pytest.raises(CalibrationError, match="not finite at 0"):
        absolute_levels([np.inf])


# ------------------------------------------------------------------------------ linking


def answers(theta: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return (random.random((len(theta), len(b))) < expit(theta[:, None] - b)).astype(float)


def test_linking_recovers_a_known_shift() -> None:
    """The same responders on two tasks, the second harder by 1.0: linked b differ by just that."""
    random = np.random.default_rng(1)
    recipes = random.normal(0, 1, 60)
    recipes = (recipes - recipes.mean()) / recipes.std()
    b = random.normal(0, 1, 1500)
    one, two = (link_parameters(engine("em").fit(answers(recipes, at, seed))) for at, seed in ((b, 2), (b + 1.0, 3)))
    assert abs((two.b - one.b).mean() - 1.0) < 0.1


def test_linked_parameters_are_the_same_model() -> None:
    fitted = engine("em").fit(answers(np.linspace(-2, 2, 20), np.linspace(-2, 2, 30), 4))
    moved = type(fitted)(
        b=fitted.b * 2 + 3, a=fitted.a / 2, c=fitted.c, se_b=fitted.se_b * 2, theta=fitted.theta * 2 + 3
    )
    back = link_parameters(moved)
    for name in ("a", "b", "se_b", "theta"):
        np.testing.assert_allclose(getattr(back, name), getattr(fitted, name), atol=1e-9)


@pytest.mark.parametrize(
    ("theta", "text"),
    [
        ([1.0], "at least 2 responders; got 1. Add responders to the ladder"),
        ([2.0, 2.0], "All 2 responders are equally able, so there is no scale to link. Add weaker or stronger"),
        ([0.0, np.nan, np.inf], r"2 of 3 abilities are not finite: responder 1, 2 \(counted from 0\)"),
    ],
)
def test_what_cannot_be_linked(theta: list[float], text: str) -> None:
    one = np.ones(3)
    parameters = ItemParameters(b=one, a=one, c=one, se_b=one, theta=np.array(theta))
    with pytest.raises(CalibrationError, match=text):
        link_parameters(parameters)


# -------------------------------------------------------------------------- reliability


@pytest.mark.parametrize(
    ("reliability", "bands"),
    [
        (1.0, ((1,), (2,), (3,), (4,), (5,))),
        (0.8, ((1,), (2,), (3,), (4,), (5,))),
        (0.7999, ((1, 2), (3,), (4, 5))),
        (0.5, ((1, 2), (3,), (4, 5))),
        (0.4999, ((1, 2, 3, 4, 5),)),
        (None, ((1, 2, 3, 4, 5),)),
        (float("nan"), ((1, 2, 3, 4, 5),)),
    ],
)
def test_gated_bands(reliability: float | None, bands: tuple[tuple[int, ...], ...]) -> None:
    assert gated_bands(reliability) == bands


def test_spearman_brown() -> None:
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    assert spearman_brown(1.0) == 1.0
    assert spearman_brown(-0.4) == 0.0
    assert np.isnan(spearman_brown(float("nan")))


@pytest.mark.parametrize("responders", [16, 80])
def test_split_half_predicts_the_agreement_of_two_whole_calibrations(responders: int) -> None:
    """Reliability is the correlation between two parallel forms of the whole length."""
    random = np.random.default_rng(5)
    b = random.normal(0, 1.2, 1200)
    first, second = (answers(random.normal(size=responders), b, seed) for seed in (6, 7))
    parallel = np.corrcoef(engine("em").fit(first).b, engine("em").fit(second).b)[0, 1]
    measured = split_half(first, engine("em"), seed=1)
    assert measured is not None
    assert abs(measured - parallel) < 0.04


def test_halves_are_split_by_run() -> None:
    """Six identical checkpoints a run: split by responder they would agree with themselves."""
    random = np.random.default_rng(8)
    b = random.normal(0, 1.2, 600)
    independent = answers(random.normal(size=8), b, 9)
    checkpoints, runs = np.repeat(independent, 6, axis=0), [f"run-{index // 6}" for index in range(48)]
    by_run = split_half(checkpoints, engine("em"), runs=runs)
    by_responder = split_half(checkpoints, engine("em"))
    assert by_run is not None
    assert by_responder is not None
    assert by_responder > by_run + 0.1


def test_a_sample_of_items_gives_the_same_reliability() -> None:
    random = np.random.default_rng(10)
    matrix = answers(random.normal(size=30), random.normal(0, 1.2, 3000), 11)
    whole = split_half(matrix, engine("em"))
    sample = split_half(matrix, engine("em"), most_items=800)
    assert whole == pytest.approx(sample, abs=0.04)
    assert sample == split_half(matrix, engine("em"), most_items=800)


def test_reliability_is_none_where_it_cannot_be_measured() -> None:
    matrix = answers(np.linspace(-2, 2, 6), np.linspace(-2, 2, 40), 12)
    assert split_half(matrix, engine("em"), runs=["one"] * 6) is None
    assert split_half(matrix[:3], engine("em")) is None
    lone = np.where(np.arange(6)[:, None] == np.arange(40) % 6, matrix, np.nan)  # no item answered twice
    assert split_half(lone, engine("em")) is None
    with pytest.raises(CalibrationError, match="2 run names for 6 responders"):
        split_half(matrix, engine("em"), runs=["a", "b"])
