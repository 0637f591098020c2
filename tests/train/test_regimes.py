"""What each regime draws, and when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapshift.errors import TrainingError, UnknownNameError
from gapshift.train.regimes import REGIMES, mix, sampler, shuffle_levels

LEVELS = np.repeat([1, 2, 3, 4, 5], [40, 10, 20, 5, 25])
N = len(LEVELS)


def drawn_levels(regime: str, steps: int = 200, batch: int = 20, **options: float) -> np.ndarray:
    return LEVELS[sampler(regime, LEVELS, steps=steps, batch=batch, seed=3, **options)]


@pytest.mark.parametrize("regime", REGIMES)
def test_same_shape_and_reproducible_for_every_regime(regime: str) -> None:
    draws = sampler(regime, LEVELS, steps=11, batch=7, seed=5)
    assert draws.shape == (11, 7)
    assert draws.min() >= 0
    assert draws.max() < N
    assert np.array_equal(draws, sampler(regime, LEVELS, steps=11, batch=7, seed=5))
    assert not np.array_equal(draws, sampler(regime, LEVELS, steps=11, batch=7, seed=6))


@pytest.mark.parametrize(
    ("regime", "level"),
    [("easy-only", 1), ("level-2-only", 2), ("level-3-only", 3), ("level-4-only", 4), ("hard-only", 5)],
)
def test_single_level_regimes_stay_in_it(regime: str, level: int) -> None:
    assert set(drawn_levels(regime).ravel()) == {level}


@pytest.mark.parametrize(("regime", "order"), [("curriculum", [1, 2, 3, 4, 5]), ("anti-curriculum", [5, 4, 3, 2, 1])])
@pytest.mark.parametrize("open_by", [0.4, 0.45, 0.5])
def test_curricula_open_level_by_level_and_all_by_the_set_share(regime: str, order: list[int], open_by: float) -> None:
    levels = drawn_levels(regime, open_by=open_by)
    first_step = [int(np.argwhere((levels == level).any(axis=1))[0, 0]) for level in order]
    assert first_step == sorted(first_step)
    assert first_step == pytest.approx([200 * open_by * stage / 4 for stage in range(5)], abs=2)
    assert set(levels[0]) == {order[0]}
    assert set(levels[round(200 * open_by) :].ravel()) == {1, 2, 3, 4, 5}


def test_random_is_uniform_over_levels_then_over_items() -> None:
    draws = sampler("random", LEVELS, steps=2000, batch=20, seed=0)
    weights = mix(draws, N)
    per_level = np.bincount(LEVELS, weights)[1:]
    assert per_level == pytest.approx([0.2] * 5, abs=0.01)
    for level in range(1, 6):
        counts = np.bincount(draws.ravel(), minlength=N)[level == LEVELS]
        assert counts.max() - counts.min() <= 1


def test_iid_visits_every_item_once_an_epoch() -> None:
    draws = sampler("iid", LEVELS, steps=10, batch=N // 5, seed=0)
    assert np.bincount(draws.ravel(), minlength=N).tolist() == [2] * N
    assert sorted(draws[:5].ravel()) == list(range(N))


def test_size_control_trains_on_a_seeded_random_fifth() -> None:
    pools = [set(sampler("size-control", LEVELS, steps=50, batch=10, seed=seed).ravel()) for seed in (0, 1)]
    assert [len(pool) for pool in pools] == [N // 5, N // 5]
    assert pools[0] != pools[1]


@given(st.sampled_from(REGIMES), st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_mix_is_the_exact_share_of_draws(regime: str, steps: int, batch: int, seed: int) -> None:
    draws = sampler(regime, LEVELS, steps=steps, batch=batch, seed=seed)
    weights = mix(draws, N)
    assert weights.shape == (N,)
    assert weights.sum() == pytest.approx(1)
    assert weights[draws[0, 0]] == pytest.approx((draws == draws[0, 0]).mean())


def test_missing_level_is_named_with_its_regime() -> None:
    without = np.array([1, 1, 2, 4, 5])
    with pytest.raises(TrainingError, match="Level 3 has no training items, and regime 'random' trains on it"):
        sampler("random", without, steps=5, batch=2, seed=0)
    assert sampler("iid", without, steps=5, batch=2, seed=0).shape == (5, 2)


def test_refusals_name_what_is_valid() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown regime 'curriculm'. Did you mean 'curriculum'"):
        sampler("curriculm", LEVELS, steps=1, batch=1, seed=0)
    with pytest.raises(TrainingError, match=r"open_by is 0.9; .* within 0.4-0.5"):
        sampler("curriculum", LEVELS, steps=1, batch=1, seed=0, open_by=0.9)
    with pytest.raises(TrainingError, match="'iid' has no items"):
        sampler("iid", np.array([], dtype=int), steps=1, batch=1, seed=0)


@given(st.lists(st.integers(1, 5), max_size=60), st.floats(0, 1), st.integers(0, 99))
def test_shuffled_levels_keep_their_numbers_and_most_others_their_place(
    given_levels: list[int], share: float, seed: int
) -> None:
    levels = np.array(given_levels, dtype=np.int64)
    shuffled = shuffle_levels(levels, share, seed)
    assert sorted(shuffled) == sorted(levels)
    assert (shuffled != levels).sum() <= round(share * len(levels))
    assert np.array_equal(shuffled, shuffle_levels(levels, share, seed))


def test_a_full_shuffle_leaves_only_what_chance_leaves() -> None:
    levels = np.repeat(np.arange(1, 6), 2000)
    assert (shuffle_levels(levels, 1.0, 0) == levels).mean() == pytest.approx(0.2, abs=0.02)
    assert (shuffle_levels(levels, 0.3, 0) == levels).mean() == pytest.approx(0.76, abs=0.02)
    assert not np.array_equal(shuffle_levels(levels, 0.3, 0), shuffle_levels(levels, 0.3, 1))
    with pytest.raises(TrainingError, match="share of levels to shuffle is 30; it lies in 0-1"):
        shuffle_levels(levels, 30, 0)
