"""The test at the margin: its exact tail against brute force, its true level by enumeration, and its order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from gapshift.reports.statistics import (
    Clustering,
    clustered_margin_test,
    exact_tail,
    fail_probability,
    margin_test,
    score_test,
)
from gapshift.reports.statistics.margin import constrained
from gapshift.reports.statistics.paired import score_statistic


@pytest.mark.parametrize(
    ("b", "c", "n", "margin"), [(6, 0, 40, 0.02), (9, 3, 40, 0.05), (5, 5, 30, 0.1), (30, 0, 30, 0.2)]
)
def test_the_exact_tail_is_the_sum_over_all_tables_as_extreme(b: int, c: int, n: int, margin: float) -> None:
    score, q = (float(value) for value in constrained(np.array(b), np.array(c), n, margin))
    tables = [(x, y) for x in range(n + 1) for y in range(n + 1 - x)]
    extreme = [table for table in tables if score_statistic(*table, n, margin) >= score - 1e-9]
    shares = [q + margin, q, max(0.0, 1 - 2 * q - margin)]
    expected = sum(multinomial.pmf([x, y, n - x - y], n, shares) for x, y in extreme)
    assert exact_tail(b, c, n, margin) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


def test_the_nuisance_is_the_most_likely_one_at_the_margin() -> None:
    q = float(constrained(np.array(20), np.array(7), 300, 0.02)[1])

    def likelihood(gained: float) -> float:
        return 20 * np.log(gained + 0.02) + 7 * np.log(gained) + 273 * np.log(1 - 2 * gained - 0.02)

    assert likelihood(q) > max(likelihood(q - 1e-4), likelihood(q + 1e-4))


@pytest.mark.parametrize("n", [60, 189, 200, 600, 2000])
@pytest.mark.parametrize("family", [1, 5, 240])
def test_on_the_margin_it_rejects_as_seldom_as_it_says(n: int, family: int) -> None:
    """Exact, over 21 nuisances: at most 1.05 times alpha / family at a margin of 2 pp."""
    gained = [0.0, *np.geomspace(2e-4, 0.2, 20)]
    levels = [fail_probability(n, 2 * q + 0.02, 0.02, 0.02, 0.05, family) for q in gained]
    assert max(levels) * family / 0.05 < 1.05


def test_the_normal_tail_alone_rejects_up_to_three_times_as_often() -> None:
    """Exact at n = 600, nothing gained, 0.05 / 240: what the mend is for. (Lost are Bin(600, 0.02).)"""
    lost = np.arange(60)
    chance = multinomial.pmf(np.column_stack([lost, 600 - lost]), 600, [0.02, 0.98])
    alone = sum(p for b, p in zip(lost.tolist(), chance, strict=True) if score_test(b, 0, 600, 0.02) < 0.05 / 240)
    both = sum(p for b, p in zip(lost.tolist(), chance, strict=True) if margin_test(b, 0, 600, 0.02) < 0.05 / 240)
    assert 2.5 < alone * 240 / 0.05 < 3.5
    assert both * 240 / 0.05 < 1


@pytest.mark.parametrize(("n", "margin"), [(60, 0.05), (189, 0.02), (600, 0.02)])
def test_more_losses_never_raise_p_and_more_gains_never_lower_it(n: int, margin: float) -> None:
    p = np.array([[margin_test(b, c, n, margin) for c in range(25)] for b in range(35)])
    assert (np.diff(p, axis=0) <= 1e-12).all()
    assert (np.diff(p, axis=1) >= -1e-12).all()


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 3000), b=st.floats(0, 0.2), c=st.floats(0, 0.2), margin=st.floats(0.005, 0.2))
def test_it_is_never_below_the_score_test_and_equal_where_nothing_is_rejected(
    n: int, b: float, c: float, margin: float
) -> None:
    lost, gained = int(b * n), int(c * n)
    score, p = score_test(lost, gained, n, margin), margin_test(lost, gained, n, margin)
    assert score <= p <= 1
    assert p == score or score < 0.05 >= p


def test_items_in_clusters_get_the_exact_tail_of_their_effective_pairs() -> None:
    """With single items it is the test itself; 36 lost of 900 at a design effect of 1.5 say what 24 of 600 do."""
    assert clustered_margin_test(24, 0, 600, 1e9, 1.0, 0.02) == pytest.approx(margin_test(24, 0, 600, 0.02), rel=1e-6)
    assert clustered_margin_test(36, 0, 900, 1e9, 1.5, 0.02) == pytest.approx(margin_test(24, 0, 600, 0.02), rel=1e-6)
    assert clustered_margin_test(36, 0, 900, 12, 1.5, 0.02) > margin_test(24, 0, 600, 0.02)
    few = Clustering(clusters=30, drop=1.5, churn=1.5)
    assert fail_probability(900, 0.06, 0.02, 0.06, 0.05, 240, few) < fail_probability(600, 0.06, 0.02, 0.06, 0.05, 240)


def test_nothing_and_the_impossible() -> None:
    assert margin_test(0, 0, 0, 0.02) == 1.0
    for margin in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="valid: a share between 0 and 1"):
            margin_test(1, 0, 10, margin)
    with pytest.raises(ValueError, match="counts must not be negative"):
        margin_test(8, 3, 10, 0.02)
