"""Quantities over seeds and items, and ratios of them: algebra, and coverage at known truth."""

import math

import numpy as np
import pytest

from gapshift.reports.study.quantity import EVEN, LEVELS, Quantity, independent_sum, weighted_accuracy
from gapshift.reports.study.ratio import fieller, linearised

LEVEL = np.repeat(np.arange(1, 6), 60)


def answers(rng, seeds, p, level=LEVEL, item_sd=1.0, seed_sd=0.1):
    """Right or wrong (S, n): items differ, seeds differ, as in a logistic model around p."""
    centre = math.log(p / (1 - p))
    logit = centre + item_sd * rng.standard_normal(len(level)) + seed_sd * rng.standard_normal((seeds, 1))
    return (rng.random((seeds, len(level))) < 1 / (1 + np.exp(-logit))).astype(float)


def mean_of(right, level=LEVEL):
    return weighted_accuracy(range(len(right)), right, level, EVEN)


def test_a_mean_over_levels_with_unanswered_items_left_out():
    right = np.ones((2, 300))
    right[:, :30] = 0
    right[0, 30:40] = np.nan
    found = mean_of(right)
    assert found.per_seed == pytest.approx([(20 / 50 + 4) / 5, (0.5 + 4) / 5])


def test_the_item_variance_is_that_of_stratified_means():
    right = answers(np.random.default_rng(0), 1, 0.6)
    expected = sum(right[0, k == LEVEL].var(ddof=1) / 60 for k in range(1, 6)) / 25
    assert mean_of(right).item_variance(0.95) == pytest.approx(expected)


def test_a_variance_that_is_not_seen_is_not_taken_for_none():
    same = mean_of(np.ones((3, 300)))
    reach = same.estimate(0.95).high - 1
    assert reach == pytest.approx(1.96**2 / (60 + 1.96**2) / math.sqrt(5), rel=1e-3)
    difference = mean_of(np.ones((3, 300))) - mean_of(np.zeros((3, 300)))
    assert difference.estimate(0.95).low < 1


def test_a_difference_is_paired_by_seed_and_item():
    rng = np.random.default_rng(1)
    right = answers(rng, 4, 0.6)
    other = right.copy()
    other[:, ::50] = 1 - other[:, ::50]
    paired = (mean_of(right) - mean_of(other)).estimate(0.95)
    assert paired.high - paired.low < 0.5 * (mean_of(right).estimate(0.95).high - mean_of(right).estimate(0.95).low)


def test_only_shared_seeds_enter_a_difference():
    right = answers(np.random.default_rng(2), 3, 0.6)
    a = weighted_accuracy((0, 1, 2), right, LEVEL, EVEN)
    b = weighted_accuracy((2, 5), right[[2, 0]], LEVEL, EVEN)
    difference = a - b
    assert difference.seeds == (2,)
    assert difference.mean == pytest.approx(0)
    assert not (a - weighted_accuracy((7,), right[:1], LEVEL, EVEN)).estimate(0.95).finite


def test_a_level_without_items_or_with_one_gives_no_interval():
    right = np.ones((2, 6))
    assert not mean_of(right, np.array([1, 1, 2, 2, 3, 3])).estimate(0.95).finite
    level = np.array([1, 1, 1, 1, 1, 2])
    assert not weighted_accuracy((0, 1), right, level, np.eye(LEVELS)[1]).estimate(0.95).finite


def test_independent_tasks_add_their_item_variances_and_pair_their_seeds():
    rng = np.random.default_rng(3)
    a, b = mean_of(answers(rng, 3, 0.6)), mean_of(answers(rng, 3, 0.7))
    total = independent_sum([a, b], 0.95)
    assert total.estimate == pytest.approx(a.mean + b.mean)
    alone = [each.estimate(0.95) for each in (a, b)]
    assert total.high - total.low < sum(each.high - each.low for each in alone)


# ------------------------------------------------------------------------------- ratios


def exact(per_seed, influence):
    size = len(influence)
    return Quantity(
        tuple(range(len(per_seed))), np.array(per_seed), np.tile(influence, (len(per_seed), 1)),
        np.zeros(size, dtype=np.int64), np.zeros(LEVELS),
    )  # fmt: skip


def test_fieller_by_hand():
    # One seed: only items count. Independent parts of standard errors 0.02 and 0.05 around 0.2 / 0.5.
    numerator, denominator = exact([0.2], np.array([0.02, 0.0])), exact([0.5], np.array([0.0, 0.05]))
    found = fieller(numerator, denominator)
    z2 = 1.959964**2
    a, b, c = 0.25 - z2 * 0.0025, 0.1, 0.04 - z2 * 0.0004
    root = math.sqrt(b * b - a * c)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.4, (b - root) / a, (b + root) / a))


def test_a_ratio_is_undefined_where_its_denominator_may_be_five_points_or_less():
    numerator = exact([0.02], np.array([0.001, 0.0]))
    assert fieller(numerator, exact([0.09], np.array([0.0, 0.02]))) is not None
    assert fieller(numerator, exact([0.089], np.array([0.0, 0.02]))) is None
    assert fieller(numerator, exact([-0.5], np.array([0.0, 0.02]))) is None
    assert fieller(numerator, exact([float("nan")], np.array([0.0, 0.02]))) is None


def test_the_linearised_ratio_has_the_ratio_as_its_mean_and_nearly_its_interval():
    rng = np.random.default_rng(4)
    low, mid, high = (mean_of(answers(rng, 5, p)) for p in (0.3, 0.5, 0.8))
    ratio, line = fieller(mid - low, high - low), linearised(mid - low, high - low).estimate(0.95)
    assert line.estimate == pytest.approx(ratio.estimate)
    assert line.high - line.low == pytest.approx(ratio.high - ratio.low, rel=0.1)


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.93), (5, 0.93)])
def test_the_ratio_interval_covers_the_truth(seeds, least):
    """400 studies; Monte Carlo standard error 1.1 pp at 95%. The truth is the ratio over all items and seeds."""
    rng = np.random.default_rng(5)
    level = np.repeat(np.arange(1, 6), 40)

    def expected(p):
        big = answers(rng, 400, p, np.ones(2000, dtype=np.int64))
        return big.mean()

    base, moved, own = (expected(p) for p in (0.3, 0.45, 0.7))
    truth, hits = (moved - base) / (own - base), 0
    for _ in range(400):
        random, transferred, same = (mean_of(answers(rng, seeds, p, level), level) for p in (0.3, 0.45, 0.7))
        found = fieller(transferred - random, same - random)
        hits += found is not None and found.low <= truth <= found.high
    assert hits / 400 > least
