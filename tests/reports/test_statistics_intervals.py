"""Proportions, tilt, many tests, seeds, bootstrap: published values, coverage, fail-closed edges."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from gapshift.reports import statistics
from gapshift.reports.statistics import (
    Estimate,
    benjamini_hochberg,
    clopper_pearson,
    holm,
    mover_difference,
    mover_mean,
    over_seeds_and_items,
    paired_contrast,
    stratified_mean,
    tango_interval,
    wilson,
)


def test_the_package_exports_what_it_names() -> None:
    assert len(set(statistics.__all__)) == len(statistics.__all__)
    assert all(hasattr(statistics, name) for name in statistics.__all__)


# --------------------------------------------------------------------- proportions


def test_proportions_equal_published_values() -> None:
    # 13 of 16: Fagerland, Lydersen & Laake (2017); 81 of 263: Newcombe (1998), Stat. Med. 17:857, table I.
    exact = clopper_pearson(13, 16)
    assert (exact.low, exact.high) == pytest.approx((0.5435, 0.9595), abs=5e-5)
    score = wilson(81, 263)
    assert (score.low, score.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
def test_proportions_at_their_edges(method) -> None:
    assert method(0, 7).low == 0.0
    assert method(7, 7).high == 1.0
    assert math.isnan(method(0, 0).estimate)
    assert (method(0, 0).low, method(0, 0).high) == (0.0, 1.0)
    for k, n in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="k must lie between 0 and n"):
            method(k, n)
    with pytest.raises(ValueError, match="level is 1"):
        method(1, 5, level=1)


# Exact coverage, summed over all outcomes. Clopper-Pearson never falls under its level; Wilson swings around it.
@pytest.mark.parametrize(("method", "least"), [(wilson, 0.92), (clopper_pearson, 0.95)])
@pytest.mark.parametrize("n", [50, 200])
def test_proportions_cover(method, least: float, n: int) -> None:
    intervals = [method(k, n) for k in range(n + 1)]
    coverages = []
    for p in (0.02, 0.1, 0.31, 0.5, 0.9):
        chance = binom.pmf(np.arange(n + 1), n, p)
        coverages.append(sum(float(w) for w, i in zip(chance, intervals, strict=True) if i.low <= p <= i.high))
    assert min(coverages) >= least
    assert np.mean(coverages) >= 0.945


# ------------------------------------------------------------------------- MOVER


def test_mover_of_normal_intervals_is_the_usual_difference() -> None:
    difference = mover_difference(Estimate(5.0, 2.0, 8.0), Estimate(1.0, -3.0, 5.0))
    assert (difference.estimate, difference.low, difference.high) == (4.0, -1.0, 9.0)


def test_mover_keeps_what_is_unknown() -> None:
    assert mover_difference(tango_interval(0, 0, 0), tango_interval(1, 0, 50)).as_json() is None


def test_mover_on_tango_covers_the_tilt() -> None:
    # 4,000 replicates: standard error of a coverage of 0.95 is 0.0034; four of them are allowed.
    rng, interval = np.random.default_rng(3), functools.cache(tango_interval)
    hard = rng.multinomial(200, [0.05, 0.02, 0.93], size=4000)
    easy = rng.multinomial(200, [0.01, 0.005, 0.985], size=4000)
    tilt = (0.05 - 0.02) - (0.01 - 0.005)
    kept = 0
    for x, y in zip(hard.tolist(), easy.tolist(), strict=True):
        got = mover_difference(interval(x[0], x[1], 200), interval(y[0], y[1], 200))
        kept += got.low <= tilt <= got.high
    assert kept / 4000 > 0.95 - 4 * 0.0034
    assert kept / 4000 < 0.975


# -------------------------------------------------------------------------- many


def test_holm_equals_a_worked_example() -> None:
    assert holm([0.04, 0.001, 0.03, 0.9]).tolist() == pytest.approx([0.09, 0.004, 0.09, 0.9])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 20))
def test_missing_tests_count_as_ones(p: list[float], missing: int) -> None:
    padded = holm([*p, *[1.0] * missing])[: len(p)]
    assert holm(p, family=len(p) + missing).tolist() == pytest.approx(padded.tolist())


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusting_keeps_order_and_never_helps(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    for adjusted in (holm(p), benjamini_hochberg(p)):
        assert np.all(adjusted >= np.array(p) - 1e-15)
        assert np.all(adjusted <= 1)
        assert np.all(np.diff(adjusted[order]) >= -1e-15)
    assert np.all(benjamini_hochberg(p) <= holm(p) + 1e-12)


def test_holm_holds_the_family_wise_error() -> None:
    # 4,000 families of 20, 15 of them null and correlated; standard error at 0.05: 0.0034.
    rng = np.random.default_rng(11)
    noise = 0.5**0.5 * (rng.standard_normal((4000, 20)) + rng.standard_normal((4000, 1)))
    p = norm.sf(noise + np.repeat([0.0, 3.0], [15, 5]))
    wrong = np.mean([(holm(row)[:15] < 0.05).any() for row in p])
    assert wrong < 0.05 + 4 * 0.0034
    assert np.mean((p[:, :15] < 0.05).any(axis=1)) > 0.2  # unadjusted tests would not


def test_values_that_are_no_p_are_refused() -> None:
    for bad in ([0.1, math.nan], [1.2], [-0.1]):
        with pytest.raises(ValueError, match="NaN is not a p-value"):
            holm(bad)
    with pytest.raises(ValueError, match="family is 1, smaller than the 2"):
        holm([0.1, 0.2], family=1)
    assert holm([]).size == benjamini_hochberg([]).size == 0


# -------------------------------------------------------------------------- seeds


@pytest.mark.parametrize(("seed_sd", "item_sd"), [(1.0, 0.1), (1.0, 0.3), (1.0, 1.0), (0.3, 1.0)])
def test_three_seeds_and_items_cover(seed_sd: float, item_sd: float) -> None:
    # 4,000 replicates, standard error 0.0034: three are allowed below; at worst it covers 0.976.
    rng = np.random.default_rng(5)
    per_seed = rng.normal(0, seed_sd, (4000, 3)) + rng.normal(0, item_sd, (4000, 1))
    got = [over_seeds_and_items(row, item_sd**2) for row in per_seed]
    kept = np.mean([i.low <= 0 <= i.high for i in got])
    assert 0.95 - 3 * 0.0034 < kept < 0.976 + 3 * 0.0034


def test_one_seed_gives_the_items_interval_and_none_gives_nothing() -> None:
    assert over_seeds_and_items(np.array([2.0]), 0.25).high == pytest.approx(2 + 0.5 * norm.ppf(0.975))
    assert over_seeds_and_items(np.array([]), 0.25).as_json() is None
    assert over_seeds_and_items(np.array([1.0, math.nan]), 0.25).as_json() is None
    with pytest.raises(ValueError, match="item_variance is nan"):
        over_seeds_and_items(np.array([1.0]), math.nan)


def test_contrast_over_three_seeds_covers() -> None:
    # 4,000 replicates, standard error 0.0034; exact for normal values.
    rng = np.random.default_rng(6)
    shared = rng.normal(0, 5, (4000, 3))
    x, y = shared + rng.normal(1, 1, (4000, 3)), shared + rng.normal(0, 1, (4000, 3))
    got = [paired_contrast(a, b) for a, b in zip(x, y, strict=True)]
    assert abs(np.mean([i.low <= 1 <= i.high for i in got]) - 0.95) < 4 * 0.0034


def test_a_contrast_of_one_seed_supports_nothing() -> None:
    one = paired_contrast(np.array([3.0]), np.array([1.0]))
    assert (one.estimate, one.low, one.high) == (2.0, -math.inf, math.inf)
    assert one.as_json() is None
    with pytest.raises(ValueError, match="paired by seed"):
        paired_contrast(np.zeros(3), np.zeros(2))


# ---------------------------------------------------------------------- bootstrap


def test_stratified_mean_weighs_strata_equally() -> None:
    values, strata = np.array([1.0, 1, 1, 1, 0, 1]), np.array([1, 1, 1, 1, 2, 2])
    assert stratified_mean(values, strata).estimate == 0.75


def test_bootstrap_covers_and_is_seeded() -> None:
    # 1,000 replicates of 5 x 60 paired differences: standard error 0.0069, three are allowed.
    rng, strata, kept = np.random.default_rng(8), np.repeat(np.arange(5), 60), 0
    rates = np.linspace(0.02, 0.2, 5)
    for replicate in range(1000):
        lost = rng.random((5, 60)) < rates[:, None]
        got = stratified_mean(lost.ravel(), strata, resamples=400, seed=replicate)
        kept += got.low <= rates.mean() <= got.high
    assert kept / 1000 > 0.95 - 3 * 0.0069 - 0.005  # 400 resamples cost up to half a point
    again = [stratified_mean(lost.ravel(), strata, seed=1) for _ in range(2)]
    assert again[0] == again[1] != stratified_mean(lost.ravel(), strata, seed=2)


def test_a_mean_over_quiet_levels_is_bounded_by_their_own_intervals() -> None:
    # At 0.3% churn most levels of 200 show no change: the bootstrap covers 86%, MOVER over Tango's ends 99% and more.
    rng, strata, kept = np.random.default_rng(11), np.repeat(np.arange(5), 200), np.zeros(2)
    tango = functools.cache(tango_interval)
    for replicate in range(300):
        drawn = rng.multinomial(200, (0.002, 0.001, 0.997), size=5)
        lost = np.concatenate([np.repeat([1, -1, 0], level) for level in drawn])
        resampled = stratified_mean(lost, strata, resamples=300, seed=replicate)
        bounded = mover_mean([tango(int(b), int(c), 200) for b, c, _ in drawn])
        assert bounded.estimate == pytest.approx(resampled.estimate)
        kept += [each.low <= 0.001 <= each.high for each in (resampled, bounded)]
    assert kept[0] / 300 < 0.92
    assert kept[1] / 300 > 0.98


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="one estimate or more"):
        mover_mean([])


def test_bootstrap_spread_is_the_analytic_one() -> None:
    rng = np.random.default_rng(9)
    values, strata = rng.normal(size=300), np.repeat(np.arange(3), 100)
    got = stratified_mean(values, strata, resamples=20_000)
    error = math.sqrt(sum(values[strata == s].var(ddof=1) / 100 for s in range(3))) / 3
    assert (got.high - got.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.03)


def test_clusters_are_drawn_whole() -> None:
    # Ten copies of each of 50 items: with clusters as wide as the 50, without far too narrow.
    item = np.random.default_rng(10).normal(size=50)
    copies, clusters, strata = np.repeat(item, 10), np.repeat(np.arange(50), 10), np.ones(500)
    few = stratified_mean(item, np.ones(50), resamples=20_000)
    whole = stratified_mean(copies, strata, clusters=clusters, resamples=20_000)
    loose = stratified_mean(copies, strata, resamples=20_000)
    assert whole.high - whole.low == pytest.approx(few.high - few.low, rel=0.05)
    assert loose.high - loose.low < 0.4 * (few.high - few.low)


def test_unscored_items_leave_and_an_empty_stratum_leaves_nothing() -> None:
    values, strata = np.array([1.0, math.nan, 0.0, 1.0]), np.array([1, 1, 2, 2])
    lone = stratified_mean(values, strata)
    assert (lone.estimate, lone.low, lone.high) == (0.75, -math.inf, math.inf)
    assert stratified_mean(np.array([math.nan, 1.0, 1.0]), np.array([1, 2, 2])).as_json() is None
    assert stratified_mean(np.array([]), np.array([])).as_json() is None
    with pytest.raises(ValueError, match="one length"):
        stratified_mean(np.zeros(3), np.zeros(2))


@pytest.mark.parametrize("n", [1, 2, 7, 60, 1000])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_proportions_agree_with_scipys_own(n: int, level: float) -> None:
    """scipy's binomtest is the yardstick; ours exists because it is a hundred times as fast."""
    for k in sorted({0, 1, n // 3, n - 1, n}):
        ours = (wilson(k, n, level), clopper_pearson(k, n, level))
        for mine, method in zip(ours, ("wilson", "exact"), strict=True):
            theirs = binomtest(k, n).proportion_ci(confidence_level=level, method=method)
            assert mine.low == pytest.approx(theirs.low, abs=1e-9)
            assert mine.high == pytest.approx(theirs.high, abs=1e-9)
