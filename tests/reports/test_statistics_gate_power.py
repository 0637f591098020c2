"""Passing and failing by enumeration: against brute force, against simulation, and monotone where they must be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from gapshift.reports.statistics import (
    certifiable_margin,
    detectable_drop,
    discordance,
    fail_probability,
    items_for,
    items_for_zero,
    margin_for_zero,
    margin_test,
    pass_probability,
    score_statistics,
    tango_interval,
)
from gapshift.reports.statistics.paired import score_statistic

SMALL = [(40, 0.05, 0.1, 0.0), (40, 0.2, 0.1, 0.1), (25, 0.0, 0.2, 0.0), (30, 0.04, 0.05, 0.3)]


def brute(n: int, churn: float, drop: float, accepted: object) -> float:
    """The probability of all tables (b, c) of n pairs that are accepted, one by one."""
    lost, gained = discordance(churn, drop)
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b) if accepted(b, c)]  # type: ignore[operator]
    shares = [lost, gained, 1 - lost - gained]
    return float(sum(multinomial.pmf([b, c, n - b - c], n, shares) for b, c in tables))


@pytest.mark.parametrize(("n", "churn", "margin", "drop"), SMALL)
def test_passing_is_the_sum_over_all_tables_that_pass(n: int, churn: float, margin: float, drop: float) -> None:
    expected = brute(n, churn, drop, lambda b, c: tango_interval(b, c, n).high < margin)
    assert pass_probability(n, churn, margin, drop) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "churn", "margin", "drop"), SMALL)
def test_failing_is_the_sum_over_all_tables_that_fail(n: int, churn: float, margin: float, drop: float) -> None:
    expected = brute(n, churn, drop, lambda b, c: margin_test(b, c, n, margin) < 0.05 / 3)
    assert fail_probability(n, churn, margin, drop, 0.05, 3) == pytest.approx(expected, abs=1e-9)


def test_the_numbers_to_plan_with() -> None:
    """At n = 600, 3% churn and margin 2 pp a level passes 73% of the time and five levels 21%."""
    level = pass_probability(600, 0.03, 0.02)
    assert (round(level, 2), round(level**5, 2)) == (0.73, 0.21)
    assert (items_for_zero(0.02), items_for_zero(0.01)) == (189, 381)
    assert pass_probability(189, 0.0, 0.02) == pass_probability(381, 0.0, 0.01) == 1.0
    assert pass_probability(188, 0.0, 0.02) == pass_probability(380, 0.0, 0.01) == 0.0


def test_enumeration_agrees_with_simulation() -> None:
    """20,000 seeded tables: Monte Carlo error of 0.3% at most, four of them allowed."""
    rng, repeats = np.random.default_rng(5), 20_000
    for n, churn, drop in ((600, 0.03, 0.0), (300, 0.02, 0.02), (1000, 0.05, 0.06)):
        lost, gained = discordance(churn, drop)
        drawn = rng.multinomial(n, [lost, gained, 1 - lost - gained], size=repeats)
        score = score_statistics(drawn[:, 0], drawn[:, 1], float(n), 0.02)
        error = 4 * 0.5 / math.sqrt(repeats)
        assert abs((score < -1.959964).mean() - pass_probability(n, churn, 0.02, drop)) < error
        p = [margin_test(int(b), int(c), n, 0.02) for b, c, _ in drawn[:4000]]
        assert abs((np.array(p) < 0.05).mean() - fail_probability(n, churn, 0.02, drop)) < 4 * 0.5 / math.sqrt(4000)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 5000), b=st.floats(0, 1), c=st.floats(0, 1), margin=st.floats(0.002, 0.5))
def test_scores_of_many_tables_are_the_score_of_each(n: int, b: float, c: float, margin: float) -> None:
    lost = int(b * n)
    gained = int(c * (n - lost))
    found = score_statistics(np.array([lost]), np.array([gained]), float(n), margin)[0]
    assert found == pytest.approx(score_statistic(lost, gained, n, margin), rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(churn=st.floats(0, 0.2), margin=st.floats(0.01, 0.1), extra=st.floats(1, 4))
def test_twice_the_items_do_not_pass_less(churn: float, margin: float, extra: float) -> None:
    """Counts are whole, so single items may cost a tooth; doubling never does."""
    n = int(extra * items_for_zero(margin))
    assert pass_probability(2 * n, churn, margin) >= pass_probability(n, churn, margin) - 1e-9


@settings(max_examples=40, deadline=None)
@given(n=st.integers(200, 3000), churn=st.floats(0, 0.2), drop=st.floats(0, 0.1), more=st.floats(0, 0.05))
def test_a_larger_drop_fails_more_and_passes_less(n: int, churn: float, drop: float, more: float) -> None:
    assert fail_probability(n, churn, 0.02, drop + more) >= fail_probability(n, churn, 0.02, drop) - 1e-9
    assert pass_probability(n, churn, 0.02, drop + more) <= pass_probability(n, churn, 0.02, drop) + 1e-9


@pytest.mark.parametrize("churn", [0.0, 0.01, 0.03, 0.1])
def test_items_needed_are_the_least_that_stay_enough(churn: float) -> None:
    def passes(n: int) -> float:
        return pass_probability(n, churn, 0.02)

    needed = items_for(passes, 0.9, 0.02)
    assert needed is not None
    assert min(passes(n) for n in range(needed, needed + 200)) >= 0.9
    assert passes(needed - 1) < 0.9


def test_items_needed_grow_with_churn_and_none_is_said() -> None:
    needed = [items_for(lambda n, k=churn: pass_probability(n, k, 0.02), 0.9, 0.02) for churn in (0, 0.01, 0.03, 0.1)]
    assert needed == sorted(needed)
    assert items_for(lambda n: pass_probability(n, 0.1, 0.02, drop=0.02), 0.9, 0.02, limit=100_000) is None


def test_a_detectable_drop_is_the_least() -> None:
    found = detectable_drop(lambda drop: fail_probability(600, 0.03, 0.02, drop, 0.05, 20))
    assert found is not None
    assert fail_probability(600, 0.03, 0.02, found, 0.05, 20) >= 0.8
    assert fail_probability(600, 0.03, 0.02, found - 2e-4, 0.05, 20) < 0.8
    assert detectable_drop(lambda drop: 1 - pass_probability(100, 0.0, 0.02, drop)) == 0.0
    assert detectable_drop(lambda drop: fail_probability(2, 0.0, 0.02, drop, 0.05, 10**9)) is None


def test_margins_that_items_certify() -> None:
    assert certifiable_margin(lambda margin: pass_probability(381, 0.0, margin), 0.9) == pytest.approx(0.01)
    wide = certifiable_margin(lambda margin: pass_probability(600, 0.03, margin), 0.9)
    assert wide is not None
    assert wide > 0.02 > margin_for_zero(600)
    assert certifiable_margin(lambda _: 0.5, 0.9) is None
    assert margin_for_zero(0) == 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pass_probability(-1, 0.03, 0.02), "n is -1; valid: 0 or more items"),
        (lambda: pass_probability(10, 1.1, 0.02), "churn is 1.1; valid: a share from 0 to 1"),
        (lambda: pass_probability(10, math.nan, 0.02), "churn is nan"),
        (lambda: pass_probability(10, 0.1, 0.0), "margin is 0.0; valid: a share between 0 and 1"),
        (lambda: pass_probability(10, 0.1, 0.02, drop=1.0), "drop is 1.0"),
        (lambda: fail_probability(10, 0.1, 0.02, 0.0, family=0), "family 0"),
    ],
)
def test_impossible_arguments_are_refused(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()  # type: ignore[operator]


def test_all_answers_may_change() -> None:
    expected = brute(30, 1.0, 0.0, lambda b, c: tango_interval(b, c, 30).high < 0.3)
    assert pass_probability(30, 1.0, 0.3) == pytest.approx(expected, abs=1e-9)


def test_without_items_nothing_is_decided() -> None:
    assert pass_probability(0, 0.0, 0.5) == fail_probability(0, 0.0, 0.5, 0.9) == 0.0
