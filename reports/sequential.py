"""Levels that are read item by item until they are decided: one rule for reading them and for judging what was read.

Each gated band of a cell is read in a seeded order (``reading_order``), and after every item three things may end it:

- an equivalent environment changed a prediction outside ties: FAIL;
- the drop is proven beyond the margin (``statistics.sequential``, at alpha over all planned gated tests): FAIL;
- the drop is certified within the margin, at the same one-sided error as the gate's interval: PASS. Where the items
  read so far look like a floor, that waits until they do not, or until churn itself is certified below the margin.

The flow that runs a cell stops by it, and the judge replays it from the records, so the first item that decided is the
same in both, whatever the size of the batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.counts import Counts, count
from gapshift.reports.floor import at_floor
from gapshift.reports.gate import Band, BandVerdict, Rule
from gapshift.reports.load import Bools, Indices, Pairs, RatedItems
from gapshift.reports.statistics import (
    Estimate,
    SequentialRule,
    confidence_sequence,
    items_until,
    log_e_values,
)
from gapshift.schema import rank

JUDGED = "test"
"""The role of items that are judged."""
Found = Literal["changed", "beyond", "within", "churn"]
"""What ended a reading; ``churn``: so few predictions change that a floor passes, too."""
_FLOOR_LOOKS = 10
"""A level that looked like a floor when its drop was certified is looked at again every so many items."""


def sequential_rule(rule: Rule, planned: int) -> SequentialRule:
    """The errors of a sequential run: PASS as the gate's interval allows, FAIL by Bonferroni over all planned tests."""
    return SequentialRule(rule.margin, (1 - rule.level) / 2, rule.alpha / max(1, planned))


def reading_order(ids: NDArray[np.str_], seed: int) -> Indices:
    """Places of ids in the order in which they are read: a seeded shuffle that depends on nothing but the ids.

    It is not the order that other draws by the same seed use (samples, a service's requests).
    """
    return np.argsort(np.array([rank(f"reading/{item_id}", seed) for item_id in ids.tolist()]), kind="stable")


@dataclass(frozen=True, eq=False)
class BandReading:
    """How far a band was read and what that found; ``counts`` and ``pairs`` are of the items up to the decision.

    ``read`` items of ``there`` were answered; ``found`` is None where they decide nothing. ``certified`` are the counts
    at which the drop was certified, which is earlier than the decision where the items looked like a floor.
    """

    band: Band
    read: int
    there: int
    found: Found | None
    counts: Counts
    pairs: Pairs
    certified: Counts | None = None

    def interval(self, level: float) -> Estimate:
        """The drop with an interval that holds at a stopping time, as fractions; needs items.

        A confidence sequence never takes back what it left out: it stays below the end that it had when the drop was
        certified.
        """
        found = level_interval(self.counts, level)
        high = found.high if self.certified is None else min(found.high, level_interval(self.certified, level).high)
        return replace(found, low=min(found.low, high), high=high)

    def e_values(self, margin: float) -> tuple[float, float]:
        """Evidence for "below the margin", at its certification where there was one, and for "above it"."""
        within, beyond = _e_values(self.counts, margin)
        return (within if self.certified is None else _e_values(self.certified, margin)[0]), beyond


def level_interval(counts: Counts, level: float) -> Estimate:
    """The drop of some items that were read, with an interval that holds at a stopping time; needs items."""
    return confidence_sequence(counts.lost, counts.gained, counts.n, level)


def _e_values(counts: Counts, margin: float) -> tuple[float, float]:
    """Both capitals, capped at the largest float."""
    within, beyond = log_e_values(counts.lost, counts.gained, counts.n, margin)
    return math.exp(min(float(within), 709.0)), math.exp(min(float(beyond), 709.0))


class BandWatch:
    """One band of one cell, fed in the order of reading, in batches of any size; it stops at the item that decides."""

    def __init__(self, equivalent: bool, rule: SequentialRule) -> None:
        self.found: Found | None = None
        self.pairs: Pairs | None = None
        self.certified: Counts | None = None
        self._equivalent = equivalent
        self._rule = rule
        self._by_churn = False

    def feed(self, pairs: Pairs) -> None:
        """Take the next pairs; what comes after the decision is counted and left unread."""
        if self.found is not None or not len(pairs):
            return
        before = 0 if self.pairs is None else len(self.pairs)
        read_on = pairs if self.pairs is None else joined([self.pairs, pairs])
        fails, certified, by_churn = self._evidence(read_on, before)
        now = certified & ~np.concatenate([[self.certified is not None], certified[:-1]])
        tenth = np.arange(before + 1, len(read_on) + 1) % _FLOOR_LOOKS == 0
        self.pairs = read_on
        for place in np.flatnonzero(fails | by_churn | now | (certified & tenth)).tolist():
            so_far = read_on.at(np.arange(before + place + 1))
            counts = count(so_far)
            self.certified = counts if now[place] else self.certified
            self.found = self._finding(counts, fails[place], by_churn[place])
            if self.found is not None:
                self.pairs = so_far
                return
        self._by_churn = bool(by_churn[-1])

    def _evidence(self, pairs: Pairs, before: int) -> tuple[Bools, Bools, Bools]:
        """After each new item: does it FAIL; was the drop, was churn certified at it or earlier."""
        lost, changed = pairs.lost, pairs.changed
        n = np.arange(before + 1, len(lost) + 1)
        b, c, k = (np.cumsum(each)[before:] for each in (lost > 0, lost < 0, changed))
        within, beyond = log_e_values(b, c, n, self._rule.margin)
        broken = np.cumsum(changed & ~pairs.tie)[before:] > 0
        enough = -math.log(self._rule.alpha_within)
        fails = (beyond >= -math.log(self._rule.alpha_beyond)) | (broken & self._equivalent)
        certified = np.logical_or.accumulate(within >= enough) | (self.certified is not None)
        # A changed answer counts for a lost one here, so this capital is never the larger: it cannot be there sooner.
        by_churn = log_e_values(k, 0, n, self._rule.margin)[0] >= enough if certified[-1] else certified
        return fails, certified, np.logical_or.accumulate(by_churn) | self._by_churn

    def _finding(self, so_far: Counts, fails: bool, by_churn: bool) -> Found | None:
        """What these items found; None where they look like a floor, which the drop alone cannot pass."""
        if fails:
            return "changed" if self._equivalent and so_far.changed_outside_ties else "beyond"
        if not at_floor(so_far, self._rule.margin):
            return "within"
        return "churn" if by_churn else None


def joined(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of several parts, in order."""
    names = Pairs.__dataclass_fields__
    return Pairs(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


# ------------------------------------------------------------------------------ replay


def orders_of(items: RatedItems, bands: Sequence[Band], seed: int, left_out: Indices) -> dict[Band, Indices]:
    """Each band's judged items in the order of reading (positions), without those at the positions ``left_out``."""
    order = reading_order(items.index.ids, seed)
    judged = items.split == JUDGED
    judged[left_out] = False
    return {band: order[judged[order] & np.isin(items.level[order], band)] for band in bands}


def replayed(
    pairs: Pairs, orders: Mapping[Band, Indices], equivalent: bool, rule: SequentialRule
) -> tuple[dict[Band, BandReading], str]:
    """Each band read again from its records, and why these cannot be the records of such a reading (empty: they can).

    Only a prefix of the seeded order proves anything: other items could have been chosen for their answers.
    """
    found, others = {}, []
    for band, order in orders.items():
        own = pairs.at(np.isin(pairs.level, band))
        if not np.array_equal(own.position, order[: len(own)]):
            others.append("-".join(map(str, band)))
        watch = BandWatch(equivalent, rule)
        watch.feed(own)
        until = own if watch.pairs is None else watch.pairs
        found[band] = BandReading(band, len(own), len(order), watch.found, count(until), until, watch.certified)
    problem = f"the records of level {', '.join(others)} are not the first items of the run's seeded order"
    return found, problem if others else ""


def in_reading_order(pairs: Pairs, items: RatedItems, orders: Mapping[Band, Indices]) -> Pairs:
    """Pairs of a cell that answered every item, in the order in which its reference was read."""
    place = np.full(len(items), -1)
    for order in orders.values():
        place[order] = np.arange(len(order))
    return pairs.at(np.argsort(place[pairs.position], kind="stable"))


# ------------------------------------------------------------------------------ verdict


def judge_reading(reading: BandReading, rule: Rule, errors: SequentialRule) -> BandVerdict:
    """The verdict of a band that was read until decided, with e-values and items in its reason."""
    counts = reading.counts
    if not reading.there:
        return BandVerdict("NO DATA", "no items")
    if not counts.n:
        return BandVerdict("INCONCLUSIVE", f"none of {reading.there} items was read", items_until(0, 0, 1, errors))
    if reading.found == "changed":
        return BandVerdict("FAIL", f"{_changed(counts)}; read {_of(reading)}")
    drop = describe_reading(reading, rule)
    within, beyond = reading.e_values(rule.margin)
    if reading.found == "beyond":
        needed = f"{1 / errors.alpha_beyond:,.0f} needed"
        return BandVerdict("FAIL", f"{drop}; proven beyond it after {_of(reading)} (e-value {_e(beyond)}, {needed})")
    if reading.found is not None:
        needed = f"{1 / errors.alpha_within:,.0f} needed"
        few = f"at the floor, but only {counts.changed} predictions change; " * (reading.found == "churn")
        return BandVerdict(
            "PASS", f"{few}{drop}; certified within it after {_of(reading)} (e-value {_e(within)}, {needed})"
        )
    return _undecided(reading, rule, errors, drop)


def _undecided(reading: BandReading, rule: Rule, errors: SequentialRule, drop: str) -> BandVerdict:
    counts = reading.counts
    least = items_until(0, 0, 1, errors) or 0
    if at_floor(counts, rule.margin) and counts.n >= least:
        near = f"reference accuracy {counts.right / counts.n:.1%}, chance {counts.by_chance / counts.n:.1%}"
        return BandVerdict("NO DATA", f"floor: {near}, so nothing is left to lose; read {_of(reading)}", floor=True)
    within, beyond = reading.e_values(rule.margin)
    evidence = (
        f"undecided after {_of(reading)} (e-value {_e(within)} of {1 / errors.alpha_within:,.0f} for within, "
        f"{_e(beyond)} of {1 / errors.alpha_beyond:,.0f} for beyond)"
    )
    needed = items_until(counts.lost, counts.gained, counts.n, errors)
    more = f"about {max(needed, least):,} such items would decide" if needed else "at this rate no number would decide"
    return BandVerdict("INCONCLUSIVE", f"{drop}; {evidence}; {more}", needed and max(needed, least))


def _of(reading: BandReading) -> str:
    return f"{reading.counts.n:,} of {reading.there:,} items"


def _changed(counts: Counts) -> str:
    ties = f" ({counts.tie_changes} more at ties)" if counts.tie_changes else ""
    return (
        f"{counts.changed_outside_ties} of {counts.n} predictions change outside ties{ties}, "
        f"{counts.lost} from right to wrong; an equivalent environment changes none"
    )


def describe_reading(reading: BandReading, rule: Rule) -> str:
    """A drop with its confidence sequence and the margin, in percentage points; needs items."""
    points = reading.interval(rule.level).scaled(100)
    return (
        f"accuracy drops by {points.estimate:.2f} pp ({rule.level:.0%} confidence sequence {points.low:.2f} to "
        f"{points.high:.2f}), margin {rule.margin * 100:g} pp"
    )


def churn_interval(counts: Counts, rule: Rule) -> Estimate:
    """The share of changed predictions, with an interval that holds at a stopping time; needs items."""
    found = confidence_sequence(counts.changed, 0, counts.n, rule.level)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _e(value: float) -> str:
    """An e-value in a few characters.

    >>> _e(0.0312), _e(40.37), _e(12345.6), _e(3e12)
    ('0.031', '40', '12,346', '3e+12')
    """
    return f"{value:.2g}" if value < 100 or value >= 1e6 else f"{value:,.0f}"
