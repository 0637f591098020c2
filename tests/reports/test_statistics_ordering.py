"""The share of turned pairs: exact on small cases, its bound held to its level by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau

from gapshift.reports.statistics import swapped_share

SCORES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=30)


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(SCORES, st.sampled_from([0.0, 3.0, 7.0]))
def test_it_counts_what_counting_pair_by_pair_counts(scores: list[tuple[int, int]], apart: float) -> None:
    first, second = np.array(scores, dtype=np.float64).T
    clear = [(i, j) for i, j in itertools.permutations(range(len(first)), 2) if first[i] - first[j] > apart]
    turned = sum(1.0 if second[i] < second[j] else 0.5 if second[i] == second[j] else 0.0 for i, j in clear)
    found = swapped_share(first, second, apart)
    assert found.pairs == len(clear)
    if clear:
        assert found.share == pytest.approx(turned / len(clear))
        assert 0 <= found.low <= found.share + 1e-12
    strictly = [first[i] - first[j] for i, j in clear if second[i] < second[j]]
    assert (found.worst is None) == (not strictly)
    if found.worst is not None:
        one, other = found.worst
        assert first[one] - first[other] == max(strictly)
        assert second[one] < second[other]


def test_without_ties_and_distance_it_is_kendalls_tau() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=600)  # more than one block of rows
    second = first + rng.normal(0, 0.5, 600)
    assert 1 - 2 * swapped_share(first, second, 0.0).share == pytest.approx(kendalltau(first, second).statistic)


def test_a_constant_turns_half_of_all_pairs() -> None:
    found = swapped_share(np.linspace(0, 1, 50), np.full(50, 0.7), 0.1)
    assert (found.share, found.worst) == (0.5, None)
    assert found.low > 0.25


def test_without_a_clear_pair_nothing_is_known() -> None:
    found = swapped_share(np.array([0.91, 0.92]), np.array([0.2, 0.1]), 0.1)
    assert math.isnan(found.share)
    assert (found.low, found.pairs, found.worst) == (0.0, 0, None)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [([1.0], [1.0, 2.0], "two vectors of one length"), ([1.0, math.nan], [1.0, 2.0], "not finite")],
)
def test_impossible_scores_are_refused(first: list[float], second: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        swapped_share(np.array(first), np.array(second), 0.1)


def _confidences(rng: np.random.Generator, n: int, unsure: float, moved: float) -> tuple[NDArray, NDArray]:
    """Saturated confidences but for a share of unsure items; a share is moved anywhere by the conversion."""
    first = np.where(rng.random(n) < unsure, rng.uniform(0.3, 0.9, n), 1 - rng.exponential(0.01, n).clip(0, 0.6))
    second = np.where(rng.random(n) < moved, rng.uniform(0.3, 1, n), first + rng.normal(0, 0.02, n))
    return first, second


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("unsure", [0.1, 0.7])
def test_the_bound_lies_above_the_truth_as_seldom_as_promised(n: int, unsure: float) -> None:
    """Promised 2.5%; 400 draws have a Monte Carlo error of 0.8%, so three of them above are let pass."""
    rng = np.random.default_rng([n, int(10 * unsure)])
    truth = np.mean([swapped_share(*_confidences(rng, 1500, unsure, 0.05), 0.1).share for _ in range(6)])
    above = [swapped_share(*_confidences(rng, n, unsure, 0.05), 0.1).low > truth for _ in range(400)]
    assert np.mean(above) <= 0.025 + 3 * 0.008
