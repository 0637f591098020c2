"""Readings replayed: errors under a look after every item, floors, batches, and what makes records unfit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapshift.reports.counts import count
from gapshift.reports.gate import Rule
from gapshift.reports.load import IdIndex, Pairs, RatedItems
from gapshift.reports.sequential import (
    BandReading,
    BandWatch,
    in_reading_order,
    judge_reading,
    orders_of,
    reading_order,
    replayed,
    sequential_rule,
)
from gapshift.reports.statistics import confidence_sequence, log_e_values

GATE = Rule(margin=0.02, alpha=0.05)
FAMILY = 5
ERRORS = sequential_rule(GATE, FAMILY)
BANDS = ((1,), (2,), (3,), (4,), (5,))


def pairs(right: NDArray[Any], still: NDArray[Any], position: NDArray[Any] | None = None, level: Any = 1) -> Pairs:
    """Pairs of ten even labels; an answer that is wrong twice is the same one."""
    n = len(right)
    label = (np.arange(n) % 10).astype(np.int32)
    numbers, none = np.full(n, np.nan), np.zeros(n, dtype=bool)
    first = np.where(right, label, (label + 1) % 10).astype(np.int32)
    second = np.where(still, label, (label + 1) % 10).astype(np.int32)
    return Pairs(
        position=np.arange(n, dtype=np.intp) if position is None else position,
        level=np.broadcast_to(np.asarray(level, dtype=np.int64), (n,)).copy(),
        label=label,
        reference_prediction=first,
        prediction=second,
        right=np.asarray(right, dtype=bool),
        still_right=np.asarray(still, dtype=bool),
        changed=first != second,
        tie=none,
        reference_confidence=numbers,
        confidence=numbers,
        chance=numbers,
        reference_score=numbers,
        score=numbers,
        fallback=none,
        no_answer=none,
        group=np.full(n, -1, dtype=np.intp),
    )


def drawn(rng: np.random.Generator, n: int, accuracy: float, losing: float, gaining: float) -> Pairs:
    """Independent items, of which these shares of all are lost and gained."""
    right = rng.random(n) < accuracy
    u = rng.random(n)
    lost, gained = right & (u < losing / accuracy), ~right & (u < gaining / (1 - accuracy))
    return pairs(right, (right & ~lost) | gained)


def rated(n: int, level: Any = 1) -> RatedItems:
    ids, numbers = np.array([f"i{row:05d}" for row in range(n)]), np.full(n, np.nan)
    levels = np.broadcast_to(np.asarray(level, dtype=np.int64), (n,)).copy()
    return RatedItems(
        index=IdIndex(ids),
        level=levels,
        split=np.full(n, "test"),
        group=np.full(n, ""),
        b=numbers,
        a=numbers,
        c=numbers,
        chance=numbers,
        level_abs=levels,
    )


def reading(own: Pairs, there: int | None = None, equivalent: bool = False) -> BandReading:
    watch = BandWatch(equivalent, ERRORS)
    watch.feed(own)
    until = own if watch.pairs is None else watch.pairs
    there = len(own) if there is None else there
    return BandReading((1,), len(own), there, watch.found, count(until), until, watch.certified)


# -------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("losing", "gaining"), [(0.02, 0.0), (0.03, 0.01), (0.07, 0.05)])
def test_at_the_margin_either_finding_is_as_rare_as_promised(losing: float, gaining: float) -> None:
    """A drop of exactly the margin, looked at after each of 1,500 items, by the judge's own replay, floor rule and all.

    ``within`` at most 2.5% and ``beyond`` at most 5% / 5; 1,000 runs, standard errors 0.49 and 0.31 pp, three allowed.
    """
    rng, runs = np.random.default_rng(11), 1000
    found = [reading(drawn(rng, 1500, 0.9, losing, gaining)).found for _ in range(runs)]
    assert found.count("within") / runs < 0.025 + 3 * 0.0049
    assert found.count("beyond") / runs < 0.01 + 3 * 0.0031


def test_of_a_family_none_is_proven_beyond_more_often_than_alpha() -> None:
    """240 planned tests at the margin, the same data rule: Bonferroni over the family. 20 runs of 240 x 400 items; a
    single false ``beyond`` in a run is expected in at most one of them (5%)."""
    rng, errors, wrong = np.random.default_rng(12), sequential_rule(GATE, 240), 0
    for _ in range(20):
        watches = [BandWatch(False, errors) for _ in range(60)]  # a quarter of the family, for time
        for watch in watches:
            watch.feed(drawn(rng, 400, 0.9, 0.02, 0.0))
        wrong += any(watch.found == "beyond" for watch in watches)
    assert wrong <= 2


def test_the_sequence_of_intervals_covers_at_every_item_at_once() -> None:
    """An interval leaves a drop out where one of the two capitals at that drop has reached 40. At all of 1,000 items at
    once: 95%, over 400 runs with a standard error of 1.1 pp."""
    rng, runs, n = np.random.default_rng(13), 400, np.arange(1, 1001)
    missed = 0
    for _ in range(runs):
        d = drawn(rng, 1000, 0.9, 0.035, 0.015).lost
        b, c = np.cumsum(d > 0), np.cumsum(d < 0)
        out = np.maximum(*log_e_values(b, c, n, 0.02)) >= np.log(40)
        missed += out.any()
        place = int(rng.integers(1000))
        interval = confidence_sequence(int(b[place]), int(c[place]), place + 1)
        assert out[place] == (not interval.low < 0.02 < interval.high)
    assert missed / runs < 0.05 + 3 * 0.011


def test_no_drop_and_large_drops_are_decided_soon() -> None:
    """1% churn, family 5, margin 2 pp: every one of 60 levels of 3,000 items rightly."""
    rng = np.random.default_rng(14)
    for losing, finding, most in ((0.005, "within", 600), (0.055, "beyond", 900), (0.105, "beyond", 250)):
        found = [reading(drawn(rng, 3000, 0.9, losing, 0.005)) for _ in range(60)]
        assert {each.found for each in found} == {finding}
        assert np.mean([each.counts.n for each in found]) < most


# ---------------------------------------------------------------------- batches and order


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 120), min_size=1, max_size=8), st.booleans())
def test_batches_change_nothing(seed: int, sizes: list[int], equivalent: bool) -> None:
    """The flow feeds batches, the judge everything at once: near the floor as elsewhere."""
    rng = np.random.default_rng(seed)
    own = drawn(rng, sum(sizes), float(rng.choice([0.12, 0.3, 0.9])), 0.01, 0.0)
    watch = BandWatch(equivalent, ERRORS)
    for batch in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        watch.feed(own.at(batch))
    whole = reading(own, equivalent=equivalent)
    assert watch.found == whole.found
    assert (0 if watch.pairs is None else len(watch.pairs)) == whole.counts.n


def test_the_order_is_drawn_by_seed_and_id_alone() -> None:
    ids = np.array([f"i{row}" for row in range(50)])
    order = ids[reading_order(ids, 3)].tolist()
    assert order != sorted(order)
    assert ids[reading_order(ids, 4)].tolist() != order
    some = ids[::-3]
    assert some[reading_order(some, 3)].tolist() == [name for name in order if name in set(some)]


def test_only_a_prefix_of_the_order_is_accepted() -> None:
    items = rated(100, np.arange(100) % 5 + 1)
    orders = orders_of(items, BANDS, 7, np.array([], dtype=np.intp))
    read = np.concatenate([orders[band][:12] for band in BANDS])
    good = pairs(np.ones(60), np.ones(60), read, items.level[read])
    assert replayed(good, orders, False, ERRORS)[1] == ""
    late = np.where(np.isin(read, orders[(2,)][11]), orders[(2,)][15], read)
    chosen = pairs(np.ones(60), np.ones(60), late, items.level[late])
    assert replayed(chosen, orders, False, ERRORS)[1] == (
        "the records of level 2 are not the first items of the run's seeded order"
    )
    sorted_again = in_reading_order(good.at(np.argsort(good.position)), items, orders)
    assert replayed(sorted_again, orders, False, ERRORS)[1] == ""


def test_what_is_not_judged_is_in_no_order() -> None:
    items = rated(20)
    items = replace(items, split=np.where(np.arange(20) < 5, "calibration", "test"))
    (order,) = orders_of(items, ((1,),), 0, np.array([7, 8])).values()
    assert sorted(order.tolist()) == [5, 6, *range(9, 20)]


# -------------------------------------------------------------------------------- verdicts


def test_a_floor_passes_by_churn_alone() -> None:
    """Reference accuracy 10% of ten even labels: nothing is left to lose, and certifying the drop says nothing."""
    quiet = pairs(np.arange(400) % 10 == 0, np.arange(400) % 10 == 0)
    found = reading(quiet)
    assert (found.found, found.counts.n) == ("churn", 229)
    assert judge_reading(found, GATE, ERRORS).verdict == "PASS"
    restless = replace(quiet, changed=np.arange(400) % 12 == 0)  # from one wrong answer to another
    undecided = reading(restless)
    judged = judge_reading(undecided, GATE, ERRORS)
    assert (undecided.found, judged.verdict, judged.floor) == (None, "NO DATA", True)
    assert judged.reason.startswith(
        "floor: reference accuracy 10.0%, chance 10.0%, so nothing is left to lose; read 400"
    )
    losing = pairs(np.arange(400) % 10 == 0, np.zeros(400))
    assert judge_reading(reading(losing), GATE, ERRORS).verdict == "FAIL"


def test_a_level_that_only_looked_like_a_floor_at_first_passes_when_it_does_not() -> None:
    right = np.concatenate([np.arange(240) % 8 == 0, np.ones(300, dtype=bool)])
    own = pairs(right, right)
    restless = replace(own, changed=~right & (np.arange(540) % 7 == 0))
    found = reading(restless)
    assert found.found == "within"
    assert 240 < found.counts.n < 300
    assert (found.certified.n, found.counts.n % 10) == (229, 0)


def test_what_was_certified_stays_so_while_a_floor_is_waited_for() -> None:
    """Losses after the certification cannot take it back, and the numbers beside the verdict do not contradict it."""
    right = np.concatenate([np.arange(240) % 8 == 0, np.ones(300, dtype=bool)])
    still = right.copy()
    still[236:242] = False
    restless = (right != still) | (~right & (np.arange(540) % 7 == 0))
    found = reading(replace(pairs(right, still), changed=restless))
    judged = judge_reading(found, GATE, ERRORS)
    assert (found.found, found.certified.n, judged.verdict) == ("within", 229, "PASS")
    assert found.interval(0.95).high < 0.02
    assert found.e_values(0.02)[0] > 40 > np.exp(log_e_values(found.counts.lost, 0, found.counts.n, 0.02)[0])
    assert "(e-value 40, 40 needed)" in judged.reason


def test_a_floor_of_too_few_items_is_inconclusive() -> None:
    few = reading(pairs(np.arange(100) % 10 == 0, np.arange(100) % 10 == 0), there=400)
    judged = judge_reading(few, GATE, ERRORS)
    assert (judged.verdict, judged.items_needed) == ("INCONCLUSIVE", 229)


def test_nothing_there_and_nothing_read_are_told_apart() -> None:
    nothing = pairs(np.ones(0), np.ones(0))
    assert judge_reading(reading(nothing), GATE, ERRORS).verdict == "NO DATA"
    unread = judge_reading(reading(nothing, there=50), GATE, ERRORS)
    assert (unread.verdict, unread.reason, unread.items_needed) == ("INCONCLUSIVE", "none of 50 items was read", 229)


def test_an_equivalent_fails_at_the_first_change_outside_ties_and_forgives_ties() -> None:
    still = np.ones(400, dtype=bool)
    still[30] = False
    own = pairs(np.ones(400), still)
    changed = reading(own, equivalent=True)
    assert (changed.found, changed.counts.n) == ("changed", 31)
    assert "1 of 31 predictions change outside ties" in judge_reading(changed, GATE, ERRORS).reason
    tied = reading(replace(own, tie=~still), equivalent=True)
    assert (tied.found, tied.counts.n) == (None, 400)  # one loss is forgiven as a change, and not as a loss


def test_reasons_name_e_value_and_items() -> None:
    passed = judge_reading(reading(pairs(np.ones(600), np.ones(600))), GATE, ERRORS).reason
    assert passed == (
        "accuracy drops by 0.00 pp (95% confidence sequence -2.00 to 2.00), margin 2 pp; certified within it after 229 "
        "of 600 items (e-value 40, 40 needed)"
    )
    failed = judge_reading(reading(pairs(np.ones(600), np.zeros(600))), GATE, ERRORS).reason
    assert failed.endswith("proven beyond it after 9 of 600 items (e-value 166, 100 needed)")
    still = np.arange(200) % 50 > 0
    open_ = judge_reading(reading(pairs(np.ones(200), still), there=600), GATE, ERRORS)
    assert "undecided after 200 of 600 items (e-value" in open_.reason
    assert open_.reason.endswith("at this rate no number would decide")
    assert open_.items_needed is None
