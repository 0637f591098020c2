"""Verdicts: of a level, of a cell, of a run.

A gated level passes when the upper end of its drop's Tango interval is below the
margin, and fails when the Holm-adjusted p of H0 "drop <= margin" is below alpha.
Neither is INCONCLUSIVE. Nothing that is missing, broken or unknown is a pass.
Where items come in enough groups, interval and p are the cluster-robust ones
(``statistics/clusters.py``), which are never narrower and never smaller.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from gapshift.reports.counts import Counts
from gapshift.reports.floor import at_floor, chance, safe_by_churn
from gapshift.reports.order import worst
from gapshift.reports.statistics import (
    Clustering,
    Estimate,
    SequentialRule,
    clustered_interval,
    clustered_margin_test,
    holm,
    items_for_zero,
    items_to_decide,
    margin_test,
    tango_interval,
)
from gapshift.schema import Verdict

EXIT_CODES: Mapping[str, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "ERROR": 4, "NO DATA": 4}

_FAR = 20
"""Asking for this many times the items is asking for another margin."""

Band = tuple[int, ...]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Rule:
    """The numbers of a gate; ``margin`` is a fraction, ``level`` the intervals' coverage. ``errors`` are those of a run
    that is read item by item until it is decided (None: it is not)."""

    margin: float
    alpha: float
    strict: bool = False
    level: float = 0.95
    errors: SequentialRule | None = None


@dataclass(frozen=True)
class BandVerdict:
    """What one band of levels got, and why.

    ``items_needed`` is set where more items could decide; ``floor`` marks a NO DATA
    that comes from a reference near chance.
    """

    verdict: Verdict
    reason: str
    items_needed: int | None = None
    floor: bool = False


def exit_code(verdict: str) -> int:
    """0 PASS, 1 FAIL, 3 INCONCLUSIVE, 4 ERROR or NO DATA; an unknown word is 4, never 0."""
    return EXIT_CODES.get(verdict, 4)


def holm_adjusted(p: Mapping[Key, float], family: int) -> dict[Key, float]:
    """Holm-adjusted p by key, over a family of at least as many planned tests.

    Planned tests that gave no p still count: they are in ``family``.
    """
    keys = list(p)
    return dict(zip(keys, holm([p[key] for key in keys], family).tolist(), strict=True))


def fail_p(counts: Counts, rule: Rule) -> float | None:
    """One-sided p of H0 "drop <= margin" (``margin_test``); None without items."""
    b, c, n, found = counts.lost, counts.gained, counts.n, counts.clustering
    if not n:
        return None
    if found is None:
        return margin_test(b, c, n, rule.margin, rule.alpha)
    return clustered_margin_test(b, c, n, found.clusters, found.drop, rule.margin, rule.alpha)


def items_needed(counts: Counts, rule: Rule, family: int) -> int | None:
    """Items that would decide this band, were its rates to stay as they are; None where none would.

    Where items come in groups: in more groups of the same sizes.
    """
    b, c, family = counts.lost, counts.gained, max(1, family)
    needed = items_to_decide(b, c, counts.n, rule.margin, rule.level, alpha=rule.alpha, family=family)
    tail = (1 - rule.level) / 2 if b - c < rule.margin * counts.n else rule.alpha / family
    return needed and _clustered(needed, counts.clustering, tail)


def least_items(clusters: Clustering | None, rule: Rule) -> int:
    """The least number of items, in groups like these, that passes when nothing changes."""
    return _clustered(items_for_zero(rule.margin, rule.level), clusters, (1 - rule.level) / 2)


def _clustered(items: int, clusters: Clustering | None, tail: float) -> int:
    return math.ceil(items * clusters.inflation(tail)) if clusters else items


def judge_band(counts: Counts, equivalent: bool, p_adjusted: float | None, rule: Rule, family: int) -> BandVerdict:
    """The verdict of one band, whose p was adjusted over a family of that many planned tests.

    ``equivalent`` also demands that no prediction changes outside ties. A level with too few
    items to certify the margin at all is INCONCLUSIVE, whether or not it looks like a floor.
    """
    if counts.n == 0:
        return BandVerdict("NO DATA", "no items")
    if equivalent and counts.changed_outside_ties:
        return BandVerdict("FAIL", _changed(counts))
    interval = drop_interval(counts, rule)
    drop = describe_drop(interval, rule, counts)
    if p_adjusted is not None and p_adjusted < rule.alpha:
        return BandVerdict("FAIL", f"{drop}; Holm-adjusted p = {p_adjusted:.2g}")
    too_few = counts.n < least_items(counts.clustering, rule) and interval.high >= rule.margin
    if at_floor(counts, rule.margin) and not too_few:
        return _judge_floor(counts, rule)
    if interval.high < rule.margin:
        return BandVerdict("PASS", drop)
    needed = items_needed(counts, rule, family)
    return BandVerdict("INCONCLUSIVE", f"{drop}; {_would_decide(counts, needed, rule)}", needed)


def _judge_floor(counts: Counts, rule: Rule) -> BandVerdict:
    if safe_by_churn(counts, rule.margin):
        return BandVerdict("PASS", f"at the floor, but only {counts.changed} of {counts.n} predictions change")
    near = f"reference accuracy {counts.right / counts.n:.1%}, chance {chance(counts):.1%}"
    return BandVerdict("NO DATA", f"floor: {near}, so nothing is left to lose", floor=True)


def _changed(counts: Counts) -> str:
    ties = f" ({counts.tie_changes} more at ties)" if counts.tie_changes else ""
    return (
        f"{counts.changed_outside_ties} of {counts.n} predictions change outside ties{ties}, "
        f"{counts.lost} from right to wrong; an equivalent environment changes none"
    )


def _would_decide(counts: Counts, needed: int | None, rule: Rule) -> str:
    n, such = counts.n, "such items in groups like these" if counts.clustering else "such items"
    if needed is None:
        return f"at this rate the drop lies on the margin itself, and no number of items decides ({n} here)"
    close = needed > _FAR * max(n, least_items(counts.clustering, rule))  # not where there are merely few items
    far = "; the drop lies so close to the margin that another margin may serve better" if close else ""
    return f"about {needed} {such} would decide ({n} here){far}"


@lru_cache(maxsize=8192)
def drop_interval(counts: Counts, rule: Rule) -> Estimate:
    """The paired drop with its Tango interval, cluster-robust where items come in groups, as fractions; needs n > 0."""
    b, c, n, found = counts.lost, counts.gained, counts.n, counts.clustering
    if found is None:
        return tango_interval(b, c, n, rule.level)
    return clustered_interval(b, c, n, found.clusters, found.drop, rule.level)


def describe_drop(drop: Estimate, rule: Rule, counts: Counts) -> str:
    """A drop (fractions) with its interval and the margin, in percentage points."""
    points = drop.scaled(100)
    over = f" over {counts.clustering.clusters:.0f} groups" if counts.clustering else ""
    return (
        f"accuracy drops by {points.estimate:.2f} pp ({rule.level:.0%} interval {points.low:.2f} to "
        f"{points.high:.2f}{over}), margin {rule.margin * 100:g} pp"
    )


def judge_cell(bands: Sequence[BandVerdict], strict: bool) -> Verdict:
    """The worst of a cell's bands. Floors decide only when ``strict`` or when nothing else is judged."""
    judged = [band.verdict for band in bands if strict or not band.floor]
    return worst(judged or [band.verdict for band in bands])
