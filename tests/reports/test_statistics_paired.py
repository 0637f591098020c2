"""Paired differences: published values, an independent inversion, exact coverage, duality."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, multinomial, norm

from gapshift.reports.statistics import (
    Estimate,
    items_for_zero,
    items_to_decide,
    mcnemar_midp,
    score_test,
    tango_interval,
)

interval_of = functools.cache(tango_interval)
p_of = functools.cache(score_test)


@st.composite
def tables(draw: st.DrawFn, largest: int = 400) -> tuple[int, int, int]:
    n = draw(st.integers(1, largest))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


def outcomes(n: int, losing: float, gaining: float) -> list[tuple[float, int, int]]:
    """(probability, b, c) of every table that is not all but impossible."""
    top = min(n, 60)
    grid = np.array([(b, c) for b in range(top + 1) for c in range(min(n - b, top) + 1)])
    counts = np.column_stack([grid, n - grid.sum(axis=1)])
    chance = multinomial.pmf(counts, n, [losing, gaining, 1 - losing - gaining])
    return [(float(p), int(b), int(c)) for p, (b, c) in zip(chance, grid, strict=True) if p > 1e-9]


# ------------------------------------------------------------------- Tango's interval


def test_interval_equals_the_published_one() -> None:
    # Complete response before and after consolidation therapy (Cavo et al. 2012), 161 pairs, 6 and 16
    # discordant; values from Fagerland, Lydersen & Laake (2017), Statistical Analysis of Contingency
    # Tables, ch. 8, to the printed digits.
    interval = tango_interval(6, 16, 161)
    assert interval.estimate == pytest.approx(-0.0621, abs=5e-5)
    assert (interval.low, interval.high) == pytest.approx((-0.1240, -0.0054), abs=5e-5)


def score_by_search(b: int, c: int, n: int, difference: float) -> float:
    """The score statistic with its nuisance found by maximising the likelihood, no formula."""

    def loss(q: float) -> float:
        cells = ((b, q + difference), (c, q), (n - b - c, 1 - 2 * q - difference))
        return -sum(k * math.log(max(p, 1e-300)) for k, p in cells if k)

    ends = max(0.0, -difference), (1 - difference) / 2
    q = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * difference) / math.sqrt(n * (2 * q + difference - difference**2))


@pytest.mark.parametrize(
    ("b", "c", "n"), [(7, 1, 21), (40, 20, 160), (1, 0, 189), (3, 3, 600), (0, 5, 50), (30, 2, 40)]
)
def test_ends_are_where_a_searched_likelihood_puts_them(b: int, c: int, n: int) -> None:
    interval, z, middle = tango_interval(b, c, n), norm.ppf(0.975), (b - c) / n
    low = brentq(lambda d: score_by_search(b, c, n, d) - z, -1 + 1e-6, middle - 1e-6)
    high = brentq(lambda d: score_by_search(b, c, n, d) + z, middle + 1e-6, 1 - 1e-6)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-5)


def test_without_disagreement_the_plan_needs_189_items_for_2_pp_and_381_for_1_pp() -> None:
    for margin, needed in ((0.02, 189), (0.01, 381)):
        assert tango_interval(0, 0, needed).high < margin <= tango_interval(0, 0, needed - 1).high
        assert items_for_zero(margin) == items_to_decide(0, 0, 10, margin) == needed


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_edges_are_exact(n: int) -> None:
    z2 = norm.ppf(0.975) ** 2
    assert tango_interval(n, 0, n).high == 1.0
    assert tango_interval(n, 0, n).low == pytest.approx((n - z2) / (n + z2), abs=1e-14)
    assert tango_interval(0, n, n).low == -1.0
    assert tango_interval(0, 0, n).high == pytest.approx(z2 / (n + z2), abs=1e-14)


def test_no_pairs_say_nothing_and_never_pass() -> None:
    nothing = tango_interval(0, 0, 0)
    assert math.isnan(nothing.estimate)
    assert (nothing.low, nothing.high) == (-1.0, 1.0)
    assert score_test(0, 0, 0, 0.02) == 1.0


@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, -1, 5), (3, 3, 5)])
def test_impossible_counts_are_refused_with_their_values(counts: tuple[int, int, int]) -> None:
    for call in (
        lambda: tango_interval(*counts),
        lambda: score_test(*counts, 0.02),
        lambda: items_to_decide(*counts, 0.02),
    ):
        with pytest.raises(ValueError, match=f"b = {counts[0]}, c = {counts[1]}, n = {counts[2]}"):
            call()


def test_a_margin_in_percentage_points_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 pp is 0\.02"):
        score_test(1, 0, 100, 2.0)
    with pytest.raises(ValueError, match="level is 95"):
        tango_interval(1, 0, 100, 95)


@settings(deadline=None)
@given(tables())
def test_swapping_losses_and_gains_mirrors_the_interval(table: tuple[int, int, int]) -> None:
    b, c, n = table
    there, back = tango_interval(b, c, n), tango_interval(c, b, n)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert -1 <= there.low <= there.estimate <= there.high <= 1


@settings(deadline=None)
@given(tables(), st.integers(-900, 900).map(lambda k: k / 1000), st.floats(0.5, 0.99))
def test_test_and_interval_are_dual(table: tuple[int, int, int], margin: float, level: float) -> None:
    b, c, n = table
    interval, p, alpha = tango_interval(b, c, n, level), score_test(b, c, n, margin), (1 - level) / 2
    if min(abs(interval.low - margin), abs(interval.high - margin)) > 1e-9:
        assert (interval.low > margin) == (p < alpha)
        assert (interval.high < margin) == (p > 1 - alpha)


@settings(deadline=None)
@given(tables(200))
def test_one_more_loss_raises_the_interval_and_the_evidence(table: tuple[int, int, int]) -> None:
    b, c, n = table
    if b + c < n:
        before, after = tango_interval(b, c, n), tango_interval(b + 1, c, n)
        assert after.low >= before.low - 1e-12
        assert after.high >= before.high - 1e-12
        assert score_test(b + 1, c, n, 0.02) <= score_test(b, c, n, 0.02) + 1e-12


@settings(deadline=None)
@given(tables(), st.floats(0.6, 0.9))
def test_a_higher_level_is_wider(table: tuple[int, int, int], level: float) -> None:
    narrow, wide = tango_interval(*table, level), tango_interval(*table, 0.95)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


# Exact, by enumeration of all tables: no Monte Carlo error. The interval is asymptotic, so its
# coverage swings around 0.95; measured minimum over this list 0.9397.
@pytest.mark.parametrize(
    ("n", "losing", "gaining"),
    [
        (200, 0.005, 0.005),
        (200, 0.01, 0.0),
        (200, 0.03, 0.01),
        (50, 0.005, 0.005),
        (50, 0.05, 0.05),
        (50, 0.1, 0.02),
        (600, 0.025, 0.005),
    ],
)
def test_coverage_holds_at_small_churn(n: int, losing: float, gaining: float) -> None:
    covered, drop = 0.0, losing - gaining
    for p, b, c in outcomes(n, losing, gaining):
        interval = interval_of(b, c, n)
        covered += p * (interval.low <= drop <= interval.high)
    assert covered > 0.935


@pytest.mark.parametrize("n", [100, 189, 300, 600])
@pytest.mark.parametrize("gaining", [0.0, 0.002, 0.01, 0.03])
def test_a_drop_at_the_margin_passes_at_most_one_time_in_forty(n: int, gaining: float) -> None:
    passed = sum(p for p, b, c in outcomes(n, 0.02 + gaining, gaining) if interval_of(b, c, n).high < 0.02)
    assert passed <= 0.027  # exact; the largest measured is 0.026


@pytest.mark.parametrize(("n", "most"), [(50, 0.062), (189, 0.09), (300, 0.083), (600, 0.062), (1000, 0.058)])
def test_size_of_the_score_test_at_the_margin_is_as_documented(n: int, most: float) -> None:
    sizes = [
        sum(p for p, b, c in outcomes(n, 0.02 + gaining, gaining) if p_of(b, c, n, 0.02) < 0.05)
        for gaining in (0.0, 0.002, 0.005, 0.01)
    ]
    assert 0.01 < max(sizes) < most


# ------------------------------------------------------------------------- McNemar


def test_midp_equals_published_values() -> None:
    # Cavo et al. 2012 as above; Bentur et al. 2009 from Fagerland et al. (2013), table 1.
    assert mcnemar_midp(6, 16) == pytest.approx(0.034690, abs=5e-7)
    assert mcnemar_midp(16, 6, exact=True) == pytest.approx(0.052479, abs=5e-7)
    assert mcnemar_midp(1, 7) == pytest.approx(0.0391, abs=5e-5)


def test_midp_without_and_with_balanced_changes() -> None:
    assert mcnemar_midp(0, 0) == mcnemar_midp(0, 0, exact=True) == 1.0
    assert mcnemar_midp(3, 3) == pytest.approx(1 - binom.pmf(3, 6, 0.5) / 2)


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("churn", [0.01, 0.05, 0.2])
def test_midp_keeps_its_size(n: int, churn: float) -> None:
    # Exact: the discordant count is binomial, and its split fair, where nothing changed on average.
    size = 0.0
    for discordant in range(n + 1):
        weight = float(binom.pmf(discordant, n, churn))
        if weight > 1e-9:
            split = binom.pmf(np.arange(discordant + 1), discordant, 0.5)
            size += weight * sum(float(p) for b, p in enumerate(split) if mcnemar_midp(b, discordant - b) < 0.05)
    assert size <= 0.05


# ------------------------------------------------------------------------- planning


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 50), (2, 1, 100), (5, 1, 100), (1, 4, 100), (30, 20, 1000)])
def test_items_to_decide_is_the_least_that_decides(b: int, c: int, n: int) -> None:
    margin = 0.02
    needed = items_to_decide(b, c, n, margin)
    assert needed is not None
    # Rates hold at multiples of n, where counts are whole.
    above = -(-needed // n)
    assert decided(above * b, above * c, above * n, margin)
    if (needed - 1) // n:
        below = (needed - 1) // n
        assert not decided(below * b, below * c, below * n, margin)


def decided(b: int, c: int, n: int, margin: float) -> bool:
    return tango_interval(b, c, n).high < margin or score_test(b, c, n, margin) < 0.05


def test_no_number_decides_a_drop_that_equals_the_margin() -> None:
    assert items_to_decide(2, 0, 100, 0.02) is None
    assert items_to_decide(3, 1, 100, 0.02) is None
    assert items_to_decide(2001, 0, 100_000, 0.02, limit=1000) is None


def test_a_larger_family_needs_more_items_to_fail_and_no_more_to_pass() -> None:
    assert items_to_decide(5, 0, 100, 0.02, family=50) > items_to_decide(5, 0, 100, 0.02)
    assert items_to_decide(0, 0, 100, 0.02, family=50) == 189
    with pytest.raises(ValueError, match="family is 0"):
        items_to_decide(0, 0, 100, 0.02, family=0)


def test_alpha_rules_the_failing_side_alone() -> None:
    loose, strict = (items_to_decide(5, 0, 100, 0.02, alpha=alpha) for alpha in (0.05, 0.01))
    assert (loose, strict) == (102, 185)
    assert score_test(5 * 2, 0, 100 * 2, 0.02) < 0.01
    assert items_to_decide(5, 0, 100, 0.02, level=0.99) == loose
    assert items_to_decide(0, 0, 100, 0.02, alpha=0.01) == 189
    with pytest.raises(ValueError, match="alpha is 1"):
        items_to_decide(5, 0, 100, 0.02, alpha=1)


def test_without_pairs_the_plan_is_the_least_that_can_pass() -> None:
    assert items_to_decide(0, 0, 0, 0.02) == 189
    with pytest.raises(ValueError, match=r"2 pp is 0\.02"):
        items_for_zero(2.0)


# ------------------------------------------------------------------------- Estimate


def test_estimates_scale_and_serialise() -> None:
    assert Estimate(0.1, 0.0, 0.3).scaled(-100) == Estimate(-10.0, -30.0, -0.0)
    assert Estimate(0.1, 0.0, 0.3).as_json() == {"estimate": 0.1, "low": 0.0, "high": 0.3}
    assert Estimate(math.nan, 0.0, 0.3).as_json() is None
    assert Estimate(0.1, -math.inf, 0.3).as_json() is None
