"""Shapley values of single items, and the interval of a mean of fractions: exact cases, properties, coverage."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from gapshift.reports.statistics import mean_difference, shapley_values, tango_interval


def by_orders(worth):
    """What every player adds, averaged over all orders in which they can come."""
    players = int(worth.shape[1]).bit_length() - 1
    orders = list(permutations(range(players)))
    shares = np.zeros((len(worth), players))
    for order in orders:
        there = 0
        for player in order:
            shares[:, player] += worth[:, there | 1 << player] - worth[:, there]
            there |= 1 << player
    return shares / len(orders)


@st.composite
def games(draw, most=4):
    players = draw(st.integers(1, most))
    rows = draw(
        st.lists(st.lists(st.integers(-1, 1), min_size=2**players, max_size=2**players), min_size=1, max_size=6)
    )
    worth = np.array(rows)
    worth[:, 0] = 0
    return worth


@settings(max_examples=60, deadline=None)
@given(games())
def test_it_is_the_mean_over_all_orders(worth):
    assert shapley_values(worth) == pytest.approx(by_orders(worth))


@settings(max_examples=60, deadline=None)
@given(games(most=8))
def test_the_shares_of_an_item_sum_to_its_worth(worth):
    assert shapley_values(worth).sum(axis=1) == pytest.approx(worth[:, -1], abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(games())
def test_the_shares_of_means_are_the_means_of_shares(worth):
    assert shapley_values(worth.mean(axis=0)[None])[0] == pytest.approx(shapley_values(worth).mean(axis=0))


@settings(max_examples=40, deadline=None)
@given(games(most=3))
def test_who_adds_nothing_anywhere_has_no_share(worth):
    wider = np.concatenate([worth, worth], axis=1)  # the last player's bit is the highest
    shares = shapley_values(wider)
    assert shares[:, -1] == pytest.approx(np.zeros(len(worth)))
    assert shares[:, :-1] == pytest.approx(shapley_values(worth))


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (np.zeros((2, 3)), "valid: \\(items, 2\\^players\\)"),
        (np.zeros((2, 1)), "valid: \\(items, 2\\^players\\)"),
        (np.zeros(4), "valid: \\(items, 2\\^players\\)"),
        (np.array([[1, 0]]), "the empty one is worth 0"),
        (np.array([[0, math.nan]]), "finite worth"),
    ],
)
def test_games_that_are_none(worth, said):
    with pytest.raises(ValueError, match=said):
        shapley_values(worth)


# -------------------------------------------------------------------- the interval


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 300))
def test_whole_differences_give_tangos_interval(lost, gained, rest):
    values = np.repeat([1, -1, 0], [lost, gained, rest])
    found, expected = mean_difference(values), tango_interval(lost, gained, len(values))
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (expected.estimate, expected.low, expected.high), abs=1e-9
    )


def test_the_interval_is_in_the_unit_of_the_differences():
    values = np.repeat([1.0, -0.5, 0.25, 0], [5, 2, 7, 300])
    whole, half = mean_difference(values), mean_difference(values / 2, largest=0.5)
    assert (half.estimate, half.low, half.high) == pytest.approx((whole.estimate / 2, whole.low / 2, whole.high / 2))
    mirrored = mean_difference(-values)
    assert (mirrored.low, mirrored.high) == pytest.approx((-whole.high, -whole.low))


def test_without_a_difference_it_does_not_collapse():
    assert mean_difference(np.zeros(200)).high == pytest.approx(tango_interval(0, 0, 200).high)
    assert mean_difference(np.zeros(200), largest=2).high == pytest.approx(2 * tango_interval(0, 0, 200).high)


def test_without_items_nothing_is_known():
    found = mean_difference(np.array([]))
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (-1, 1)


def test_clusters_that_fail_together_say_less():
    clusters = np.repeat(np.arange(40), 15)
    values = np.where(clusters % 8 == 0, 0.5, 0.0)
    apart, together = mean_difference(values), mean_difference(values, clusters)
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert together.estimate == apart.estimate
    alone = mean_difference(values, np.arange(600))
    assert alone == apart


@pytest.mark.parametrize("values", [[0.5, 1.5], [math.nan], [[0.0, 1.0]]])
def test_values_that_no_item_can_have(values):
    with pytest.raises(ValueError, match="between -1 and 1"):
        mean_difference(np.array(values))


def deployed(n, rng, alone, pair, gains):
    """What n items lose in every combination: each deviation spoils or mends some by itself, each pair some more."""
    players = len(alone)
    there = (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1
    right = rng.random((n, 1)) < 0.8
    spoilt = (rng.random((n, players)) < alone) @ there.T
    for one, other in combinations(range(players), 2):
        spoilt = spoilt | ((rng.random((n, 1)) < pair) & (there[:, one] & there[:, other]))
    mended = (rng.random((n, players)) < gains) @ there.T
    return np.where(right, spoilt, 0).astype(np.int8) - np.where(~right, mended, 0).astype(np.int8)


CASES = {
    "two, much churn": ([0.03, 0.005], 0.005, [0.01, 0.01]),
    "three, one does nothing alone": ([0.04, 0.003, 0.0], 0.002, [0.01, 0.01, 0.0]),
    "four, little churn": ([0.002, 0.001, 0.0, 0.0], 0.001, [0.001, 0.002, 0.001, 0.0]),
    "three, in pairs alone": ([0.0, 0.0, 0.0], 0.004, [0.0, 0.0, 0.0]),
    "five, unlike": ([0.05, 0.01, 0.01, 0.002, 0.0], 0.001, [0.01] * 5),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [200, 600])
def test_coverage_of_shares(name, n):
    """800 draws, so one standard error of a coverage is 0.8 points; each share by itself."""
    rng = np.random.default_rng(5)
    truth = shapley_values(deployed(400_000, rng, *CASES[name])).mean(axis=0)
    covered = np.zeros(len(truth))
    for _ in range(800):
        shares = shapley_values(deployed(n, rng, *CASES[name]))
        found = [mean_difference(share) for share in shares.T]
        covered += [one.low <= true <= one.high for one, true in zip(found, truth, strict=True)]
    assert (covered / 800).min() > 0.925


# Shares of items that differ by so much, and by how much: small ones that are seen, large ones that may not be.
UNEQUAL = {
    "quarters against ones": ([0.25, -1], [0.02, 0.005]),
    "eighths against ones": ([0.125, -1], [0.08, 0.01]),
    "eighths beside ones": ([0.125, 1], [0.04, 0.003]),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_what_was_not_seen_may_be_larger_than_what_was(name):
    """800 draws of 200 items, so one standard error is 0.8 points; 79 to 88% before unseen items counted."""
    sizes, shares = UNEQUAL[name]
    rng, truth = np.random.default_rng(6), float(np.dot(sizes, shares))
    samples = rng.choice([*sizes, 0.0], size=(800, 200), p=[*shares, 1 - sum(shares)])
    found = [mean_difference(sample) for sample in samples]
    assert np.mean([one.low <= truth + 1e-9 and truth - 1e-9 <= one.high for one in found]) > 0.92


def test_one_small_difference_does_not_narrow_it_to_its_size():
    nothing, small = mean_difference(np.zeros(200)), mean_difference(np.repeat([0.125, 0], [1, 199]))
    assert small.high > 0.8 * nothing.high


def test_students_t_would_not_cover_at_small_churn():
    """Why it is not Student's: rare pairs leave many samples without a single difference."""
    rng = np.random.default_rng(5)
    case = CASES["three, in pairs alone"]
    truth = shapley_values(deployed(400_000, rng, *case)).mean(axis=0)[0]
    covered = 0
    for _ in range(400):
        share = shapley_values(deployed(200, rng, *case))[:, 0]
        reach = student.isf(0.025, 199) * share.std(ddof=1) / math.sqrt(200)
        covered += abs(share.mean() - truth) <= reach
    assert covered / 400 < 0.85
