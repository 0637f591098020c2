"""The paired drop under fixed weights: exact cases, what it must not depend on, and coverage by simulation."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from gapshift.reports.statistics import (
    clustered_drop,
    even_groups_drop,
    mover_mean,
    stratified_drop,
    tango_interval,
)
from gapshift.reports.statistics import weighted as module

HARD = np.array([1, 2, 3, 4, 5]) / 15
EVEN = np.full(10, 0.1)


def counted(*estimates):
    return [pytest.approx((each.estimate, each.low, each.high)) for each in estimates]


def split(difference, strata, size=2):
    """Lost, gained and all pairs of each stratum."""
    return [np.bincount(strata[mask], minlength=size) for mask in (difference > 0, difference < 0, difference < 2)]


# ---------------------------------------------------------------- one stratum, no weight


def test_one_stratum_is_tangos_interval():
    assert stratified_drop([7], [2], [300], [0.3]) == tango_interval(7, 2, 300)


def test_strata_without_weight_play_no_part():
    assert stratified_drop([7, 90], [2, 0], [300, 100], [1, 0]) == tango_interval(7, 2, 300)
    assert stratified_drop([7, 0], [2, 0], [300, 0], [1, 0]) == tango_interval(7, 2, 300)


def test_the_estimate_is_the_weighted_mean_of_the_strata():
    found = stratified_drop([3, 0, 10], [1, 2, 0], [100, 50, 40], [2, 1, 1])
    assert found.estimate == pytest.approx((2 * 0.02 - 0.04 + 0.25) / 4)
    assert found.low < found.estimate < found.high


def test_nothing_that_changed_is_bounded_as_by_all_pairs_together():
    found, pooled = stratified_drop([0] * 10, [0] * 10, [50] * 10, EVEN), tango_interval(0, 0, 500)
    assert counted(found) == [(0, pooled.low, pooled.high)]
    separate = mover_mean([tango_interval(0, 0, 50)] * 10)
    assert found.high < separate.high / 2


def test_strata_that_show_no_change_are_not_taken_for_certain():
    """Without a variance of their own they would be bounded at the full quantile, and the sum far too widely."""
    found, separate = stratified_drop([0, 0, 0, 0, 3], [0] * 5, [100] * 5, [1] * 5), tango_interval(0, 0, 100)
    assert found.high < 0.8 * (4 * separate.high + tango_interval(3, 0, 100).high) / 5
    assert found.high > tango_interval(3, 0, 500).high


def test_a_stratum_with_weight_and_without_pairs_leaves_it_unknown():
    found = stratified_drop([1, 0], [0, 0], [50, 0], [1, 1])
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (-1, 1)
    assert math.isnan(stratified_drop([], [], [], []).estimate)


@pytest.mark.parametrize("weights", [[1, -1], [0, 0], [math.nan, 1], [math.inf, 1], [1]])
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="weights"):
        stratified_drop([1, 0], [0, 0], [50, 40], weights)


def test_impossible_counts_and_differences():
    with pytest.raises(ValueError, match="b \\+ c above n"):
        stratified_drop([30, 0], [30, 0], [50, 40], [1, 1])
    with pytest.raises(ValueError, match="-1, 0 and 1"):
        clustered_drop(np.array([0.0, math.nan]), np.array([0, 0]), [1], np.array([0, 1]))


counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n)))
strata = st.lists(counts.filter(lambda row: row[0] + row[1] <= row[2]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(strata, st.data())
def test_order_and_unit_of_the_weights_are_nothing_and_gains_mirror_losses(rows, data):
    weights = np.array(data.draw(st.lists(st.floats(0.1, 10), min_size=len(rows), max_size=len(rows))))
    b, c, n = np.array(rows).T
    found = stratified_drop(b, c, n, weights)
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    turned, scaled = stratified_drop(b[::-1], c[::-1], n[::-1], weights[::-1]), stratified_drop(b, c, n, 7 * weights)
    assert counted(turned, scaled) == [(found.estimate, found.low, found.high)] * 2
    mirrored = stratified_drop(c, b, n, weights)
    assert counted(mirrored) == [(-found.estimate, -found.high, -found.low)]


# ----------------------------------------------------------------------------- clusters


def made(groups=12, size=20, lost=0.05, seed=0):
    """Differences in groups of which every third loses more."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    rate = np.where(group % 3 == 0, 4 * lost, lost / 4)
    return (rng.random(len(group)) < rate).astype(int), group


def test_one_stratum_of_even_clusters_is_students_interval_of_their_means():
    difference, group = made()
    found = clustered_drop(difference, np.zeros(len(group), dtype=int), [1.0], group)
    means = difference.reshape(12, 20).mean(axis=1)
    reach = student.isf(0.025, 11) * means.std(ddof=1) / math.sqrt(12)
    assert counted(found) == [(difference.mean(), means.mean() - reach, means.mean() + reach)]


def test_clusters_widen_what_they_share_and_never_narrow():
    difference, group = made()
    strata = np.arange(len(group)) % 2
    plain = stratified_drop(*split(difference, strata), [1, 3])
    found = clustered_drop(difference, strata, [1, 3], group)
    assert found.estimate == pytest.approx(plain.estimate)
    assert found.low <= plain.low
    assert found.high > plain.high
    assert found.high - found.low > 1.3 * (plain.high - plain.low)


def test_without_variance_clusters_count_as_pairs():
    group = np.repeat(np.arange(10), 20)
    found = clustered_drop(np.zeros(200, dtype=int), np.arange(200) % 2, [1, 1], group)
    assert found.estimate == 0
    assert found.high == pytest.approx(tango_interval(0, 0, 10).high, rel=0.05)
    assert even_groups_drop(np.zeros(200, dtype=int), group).high == pytest.approx(found.high, rel=0.05)


def test_fewer_than_two_clusters_bound_nothing():
    difference = np.array([1, 0, 0, 0])
    for found in (clustered_drop(difference, np.zeros(4, dtype=int), [1], np.zeros(4)),
                  even_groups_drop(difference, np.zeros(4))):  # fmt: skip
        assert (found.estimate, found.low, found.high) == (0.25, -1, 1)
    assert math.isnan(even_groups_drop(np.zeros(0), np.zeros(0)).estimate)


def test_even_groups_take_each_group_alike():
    found = even_groups_drop(np.array([1, 1, 0, 0, 0, 0, 0, 0]), np.array(["a", "a", *"bbbbbb"]))
    assert found.estimate == 0.5
    assert (found.low, found.high) == (-1, 1)


# ------------------------------------------------------------------ coverage, simulated

RUNS = 800
"""Monte Carlo error of a coverage of 95%: 0.8 percentage points (one standard error)."""

CASES = {
    "levels of 40, 1% lost everywhere": (np.full(5, 40), np.full(5, 0.01), np.zeros(5), HARD),
    "levels of 40, harder ones lose more": (np.full(5, 40), [0, 0.005, 0.01, 0.03, 0.06], [0, 0, 0, 0.01, 0.02], HARD),
    "levels of 100, only level 5 loses": (np.full(5, 100), [0, 0, 0, 0, 0.03], np.zeros(5), HARD),
    "a tiny level that weighs most": ([400, 400, 400, 400, 10], [0, 0, 0, 0, 0.2], np.zeros(5), HARD),
    "ten labels of 20 to 29": (np.arange(20, 30), np.full(10, 0.02), np.full(10, 0.02), EVEN),
    "levels of 1,000": (np.full(5, 1000), [0, 0.005, 0.01, 0.03, 0.06], [0, 0, 0, 0.01, 0.02], HARD),
}


@pytest.mark.parametrize("case", CASES)
def test_coverage_at_small_n_and_small_churn(case, monkeypatch):
    remembered = lru_cache(maxsize=None)(tango_interval)
    monkeypatch.setattr(module, "tango_interval", remembered)  # the same counts come again and again
    n, lost, gained, weights = map(np.asarray, CASES[case])
    rng = np.random.default_rng(20_100)
    changes = [rng.multinomial(k, [p, q, 1 - p - q], size=RUNS) for k, p, q in zip(n, lost, gained, strict=True)]
    b, c = (np.stack([each[:, way] for each in changes], axis=1) for way in (0, 1))
    truth = float(weights @ (lost - gained))
    found = [stratified_drop(b[run], c[run], n, weights) for run in range(RUNS)]
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.935  # 95% less two standard errors


@pytest.mark.parametrize("groups", [8, 20])
def test_coverage_in_clusters(groups):
    """A group's own rate is drawn: intervals that took items as independent would cover about two thirds."""
    rng, runs, size = np.random.default_rng(7), 300, 25
    group, strata = np.repeat(np.arange(groups), size), np.tile(np.arange(size) % 2, groups)
    hits, plain, even = [], [], []
    for _ in range(runs):
        rate = rng.beta(0.5, 9.5, size=groups)  # mean 5%
        difference = (rng.random(len(group)) < rate[group]).astype(int)
        for kept, found in (
            (hits, clustered_drop(difference, strata, [1, 3], group)),
            (plain, stratified_drop(*split(difference, strata), [1, 3])),
            (even, even_groups_drop(difference, group)),
        ):
            kept.append(found.low <= 0.05 <= found.high)
    assert np.mean(hits) > 0.885
    assert np.mean(even) > 0.885
    assert np.mean(plain) < np.mean(hits) - 0.03
