"""The betting e-process: a supermartingale, what peeking at every item can do, how long it takes, and the order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapshift.domains.base import rank
from gapshift.reports.statistics import (
    SequentialRule,
    first_decision,
    log_e_values,
)

RULE = SequentialRule(0.02)


def drawn(rng: np.random.Generator, size: tuple[int, ...], losing: float, gaining: float) -> np.ndarray:
    """Independent differences."""
    u = rng.random(size)
    return (u < losing).astype(int) - (u > 1 - gaining)


@settings(deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(0, 1), st.integers(0, 40), st.integers(0, 40), st.integers(0, 200))
def test_the_next_item_is_expected_to_gain_nothing(margin: float, share: float, b: int, c: int, z: int) -> None:
    """Exact: at any state, under any law whose mean is the margin, both capitals stay as they are."""
    n = b + c + z
    fewest = max(margin, 0.0)
    losing = fewest + share * ((1 + margin) / 2 - fewest)
    chances = np.array([losing, losing - margin, 1 - 2 * losing + margin])
    now = log_e_values(b, c, n, margin)
    then = log_e_values([b + 1, b, b], [c, c + 1, c], n + 1, margin)
    for before, after in zip(now, then, strict=True):
        assert float(chances @ np.exp(after - before)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("losing", "gaining"), [(0.02, 0.0), (0.025, 0.005), (0.05, 0.03), (0.2, 0.18), (0.51, 0.49)])
def test_a_look_after_every_item_decides_wrongly_at_most_one_time_in_twenty(losing: float, gaining: float) -> None:
    """A drop on the margin itself, 3,000 looks: either finding is wrong, each at most 5%.

    1,000 runs: one standard error of 5% is 0.69 pp; three are allowed.
    """
    rng, runs = np.random.default_rng(5), 1000
    d = drawn(rng, (runs, 3000), losing, gaining)
    n = np.arange(1, 3001)
    ever = np.zeros((runs, 2), dtype=bool)
    for run in range(runs):
        capitals = log_e_values(np.cumsum(d[run] > 0), np.cumsum(d[run] < 0), n, 0.02)
        ever[run] = [capital.max() >= math.log(20) for capital in capitals]
    assert (ever.mean(axis=0) < 0.05 + 3 * 0.0069).all()


def test_a_fixed_test_that_is_looked_at_again_and_again_does_not_hold() -> None:
    """What the e-process is for: the score test at the margin, looked at every 20 items, is wrong in over 20%."""
    rng, runs = np.random.default_rng(6), 300
    d = drawn(rng, (runs, 3000), 0.05, 0.03)
    looks = np.arange(200, 3001, 20)
    z = (np.cumsum(d, axis=1)[:, looks - 1] - 0.02 * looks) / np.sqrt(looks * (0.08 - 0.02**2))
    assert (z > 1.645).any(axis=1).mean() > 0.2


@pytest.mark.parametrize(
    ("losing", "gaining", "finding", "most"),
    [(0.005, 0.005, "within", 1100), (0.035, 0.005, "beyond", 900), (0.105, 0.005, "beyond", 130)],
)
def test_time_to_a_decision(losing: float, gaining: float, finding: str, most: int) -> None:
    """Margin 1 pp, 1% churn beside the drop; 100 runs of 10,000 items, standard error about 6% of the mean."""
    rng, rule = np.random.default_rng(7), SequentialRule(0.01)
    found = [first_decision(drawn(rng, (10_000,), losing, gaining), rule) for _ in range(100)]
    assert all(found)
    assert sum(each.finding == finding for each in found) >= 95
    assert np.mean([each.items for each in found]) < most


# ------------------------------------------------------------------------------- the rule


def test_nothing_decides_nothing() -> None:
    assert first_decision(np.zeros(0), RULE) is None
    assert first_decision(np.zeros(150), RULE) is None


def test_a_share_of_alpha_for_each_of_a_family_takes_longer_to_prove_and_no_longer_to_certify() -> None:
    shared = SequentialRule(0.02, alpha_beyond=0.05 / 240)
    assert first_decision(np.ones(50), shared).items > first_decision(np.ones(50), RULE).items
    assert first_decision(np.zeros(500), shared) == first_decision(np.zeros(500), RULE)


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 pp is 0\.02"):
        SequentialRule(2.0)
    with pytest.raises(ValueError, match="alphas are 5 and"):
        SequentialRule(0.02, alpha_within=5)
    with pytest.raises(ValueError, match="b \\+ c above n"):
        log_e_values(3, 3, 5, 0.02)


# --------------------------------------------------------------------------------- order


def harmful(seed: int, per_level: int = 600) -> tuple[list[str], np.ndarray, np.ndarray]:
    """A run sorted easy to hard whose two hardest levels lose far more than the margin of 2 pp."""
    rng = np.random.default_rng(seed)
    level = np.repeat([1, 2, 3, 4, 5], per_level)
    d = (rng.random(len(level)) < np.array([0, 0, 0, 0, 0.06, 0.12])[level]).astype(int)
    return [f"{seed}-{k:05d}" for k in range(len(level))], level, d


def test_a_run_sorted_easy_to_hard_cannot_pass_by_its_order() -> None:
    """40 harmful runs (D(4) = 6 pp, D(5) = 12 pp). One sequence in the order of the file certifies all of them from
    level 1 alone; one process a level, each on its seeded shuffle, certifies none of them whole: P(a wrong
    ``within``) is at most 5% for each bad level, so at most 0.25% for both."""
    by_order, by_level = 0, 0
    for seed in range(40):
        ids, level, d = harmful(seed)
        by_order += first_decision(d, RULE).finding == "within"
        order = np.array(sorted(range(len(ids)), key=lambda k, ids=ids: rank(ids[k], 1)))
        findings = [first_decision(d[order[level[order] == each]], RULE) for each in range(1, 6)]
        assert [found.finding for found in findings[:3]] == ["within"] * 3
        by_level += all(found is not None and found.finding == "within" for found in findings)
    assert by_order == 40
    assert by_level == 0


def test_a_level_that_is_itself_sorted_is_shuffled_before_it_is_read() -> None:
    """Within a level too: losses at the end of the file, 100 levels of 600 items at D = 5 pp. Drawn without
    replacement, so a wrong ``within`` is at most as likely as from a stream: at most 5% and 3 x 2.2 pp."""
    d = np.repeat([0, 1], [570, 30])
    assert first_decision(d, RULE).finding == "within"
    rng = np.random.default_rng(8)
    wrong = sum(
        (found := first_decision(rng.permutation(d), RULE)) is not None and found.finding == "within"
        for _ in range(100)
    )
    assert wrong / 100 < 0.05 + 3 * 0.022
