"""What a run can decide, before or after it is spent: how often it passes with nothing wrong, and what would make it.

``assumed_power`` needs no run: churn, margin, items and environments are given and everything is exact.
``run_power`` takes the churn of each gated cell and level from a run's records; the run's probability of passing is
simulated through the whole gate (``false_alarms``), the rest is exact (``statistics.gate_power``).

Levels count as independent. Items needed and margins are reckoned as if environments changed unrelated items, so they
suffice also where they do not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gapshift.reports.cells import Json
from gapshift.reports.counts import Counts
from gapshift.reports.false_alarms import Redrawn, of_band, rate
from gapshift.reports.floor import at_floor
from gapshift.reports.gate import Band, Rule
from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.planned import MeasuredCell, MeasuredRun
from gapshift.reports.redrawn_gate import PASS
from gapshift.reports.statistics import (
    Clustering,
    certifiable_margin,
    detectable_drop,
    fail_probability,
    items_for,
    items_for_zero,
    margin_for_zero,
    pass_probability,
)
from gapshift.reports.verdicts import level_words

TARGET = 0.9
"""The probability of passing that the items needed give the whole run."""
DETECTION = 0.8
"""The probability with which a detectable drop is detected."""
ITEM_LIMIT = 1_000_000
"""More items a level than this are as good as none."""


@dataclass(frozen=True)
class Question:
    """The gate that is planned for, over a Holm family of so many planned tests."""

    rule: Rule
    family: int
    target: float = TARGET
    detection: float = DETECTION


@dataclass(frozen=True)
class GatedLevel:
    """One gated cell at one level or band: pairs, and the share of them that goes from right to wrong or back.

    ``clusters`` is the clustering of ``of`` pairs, where they come in groups; more of them come in more such groups.
    """

    name: str
    n: int
    churn: float
    equivalent: bool = False
    clusters: Clustering | None = None
    of: int = 1

    def clustering(self, n: int) -> Clustering | None:
        """That of ``n`` pairs."""
        return self.clusters and self.clusters.grown(n / self.of)

    def least(self, rule: Rule) -> int:
        """The fewest pairs, in groups like these and as many more of them, that pass where nothing changes."""
        if self.clusters is None:
            return items_for_zero(rule.margin, rule.level)
        found = items_for(lambda n: self.unchanged_passes(n, rule), 0.5, rule.margin, ITEM_LIMIT)
        return ITEM_LIMIT if found is None else found

    def unchanged_passes(self, n: int, rule: Rule) -> float:
        """Whether n pairs pass where nothing changes: 1 or 0."""
        return pass_probability(n, 0.0, rule.margin, 0.0, rule.level, self.clustering(n))

    def least_margin(self, level: float) -> float:
        """The margin (a share) up to which these pairs certify nothing."""
        found = self.clustering(self.n)
        return margin_for_zero(self.n / found.inflation((1 - level) / 2) if found else self.n, level)

    def changes(self, drop: float) -> float:
        """P(some prediction changes) at a drop, which alone fails an equivalent; 0 of a cell that may change."""
        return 1 - (1 - drop) ** self.n if self.equivalent else 0.0


@dataclass(frozen=True)
class Level:
    """One level or band of a task over all gated cells.

    ``left_out`` says why some or all of them are not planned for; ``hopeless`` that more items would not help those.
    """

    task: str
    band: Band
    cells: tuple[GatedLevel, ...]
    left_out: str = ""
    hopeless: bool = False

    def needed(self, question: Question, share: float) -> int | None:
        """The pairs at which all cells pass with this probability; None where no number is enough."""
        rule = question.rule
        if self.hopeless:
            return None
        return items_for(lambda n: self.passes(rule.margin, rule.level, n), share, rule.margin, ITEM_LIMIT)

    @property
    def n(self) -> int | None:
        """The fewest pairs of a cell."""
        return min((cell.n for cell in self.cells), default=None)

    @property
    def most(self) -> GatedLevel:
        """The cell that changes most, rather one that may change; needs one."""
        return max(self.cells, key=lambda cell: (cell.churn, not cell.equivalent))

    def shortest(self, rule: Rule) -> GatedLevel | None:
        """The cell that lacks most of the pairs which it takes to pass where nothing changes; None where none does."""
        short = [cell for cell in self.cells if cell.n < cell.least(rule)]
        return max(short, key=lambda cell: cell.least(rule) - cell.n, default=None)

    def passes(self, margin: float, level: float, n: int | None = None) -> float:
        """P(all cells pass) with nothing wrong, changes in one cell being unrelated to those in another."""
        alike = Counter((n or cell.n, cell.churn, cell.clustering(n or cell.n)) for cell in self.cells)
        return math.prod(
            pass_probability(size, churn, margin, 0.0, level, clusters) ** count
            for (size, churn, clusters), count in alike.items()
        )


def level_json(level: Level, question: Question, share: float) -> Json:
    """A level's row (see ``judge``); ``share`` is the probability of passing that it is to have."""
    row: Json = {"task": level.task, "levels": list(level.band), "n": level.n, "left_out": level.left_out}
    if not level.cells:
        names = (
            "churn",
            "most",
            "pass",
            "detectable_drop_pp",
            "margin_pp",
            "least_margin_pp",
            "items_needed",
            "weight",
        )
        return row | dict.fromkeys(names)
    rule, most = question.rule, level.most
    return row | {
        "churn": most.churn,
        "most": most.name if most.churn else "",
        "weight": 1 / most.clusters.drop if most.clusters else None,
        "pass": _certain(level.passes(rule.margin, rule.level)),
        "detectable_drop_pp": _detectable(most, question),
        "margin_pp": _points(certifiable_margin(lambda margin: level.passes(margin, rule.level), share)),
        "least_margin_pp": 100 * max(cell.least_margin(rule.level) for cell in level.cells),
        "items_needed": level.needed(question, share),
    }


def _detectable(cell: GatedLevel, question: Question) -> Json:
    rule, n, clusters = question.rule, cell.n, cell.clustering(cell.n)

    def fails(drop: float) -> float:
        by_drop = fail_probability(n, cell.churn, rule.margin, drop, rule.alpha, question.family, clusters)
        return max(cell.changes(drop), by_drop)

    def not_passes(drop: float) -> float:
        return max(cell.changes(drop), 1 - pass_probability(n, cell.churn, rule.margin, drop, rule.level, clusters))

    return {
        "fail": _points(detectable_drop(fails, question.detection)),
        "not_pass": _points(detectable_drop(not_passes, question.detection)),
    }


def _points(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _plan(levels: Sequence[Level], question: Question, passes: Mapping[str, float] | None) -> Json:
    """What all plans hold; ``passes`` is the whole run's probability of passing with nothing wrong."""
    planned = [level for level in levels if level.cells]
    share = question.target ** (1 / max(1, len(planned)))
    rows = [level_json(level, question, share) for level in levels]
    needed = [row["items_needed"] for level, row in zip(levels, rows, strict=True) if level.cells or level.hopeless]
    return {
        "margin_pp": 100 * question.rule.margin,
        "alpha": question.rule.alpha,
        "interval_level": question.rule.level,
        "family": question.family,
        "target": question.target,
        "detection": question.detection,
        "pass": passes,
        "items_needed": max(needed) if needed and None not in needed else None,
        "refused": refusal(planned, question.rule),
        "levels": rows,
    }


def refusal(levels: Iterable[Level], rule: Rule) -> str:
    """Why these items cannot certify the margin even where no answer changes, and what can; empty where they can."""
    planned = list(levels)
    short = [(level, cell) for level in planned if (cell := level.shortest(rule)) is not None]
    if not short:
        return ""
    alike = len({(cell.n, cell.least(rule)) for _, cell in short}) == 1 and len(short) == len(planned)
    _, first = short[0]
    takes = f"{first.least(rule)}{_grouped(first)}, and there are {first.n} a level" if alike else _named(short, rule)
    wider = max(cell.least_margin(rule.level) for _, cell in short)
    return (
        f"A margin of {100 * rule.margin:g} pp cannot be certified with so few items: even where no answer changes it "
        f"takes {takes}. Plan {f'{first.least(rule)} or more' if alike else 'so many'}, or a margin above "
        f"{math.ceil(1e4 * wider) / 100:g} pp."
    )


def _grouped(cell: GatedLevel) -> str:
    return " in groups like these" if cell.clusters else ""


def _named(short: Sequence[tuple[Level, GatedLevel]], rule: Rule) -> str:
    """The levels that lack most items by name, such as ``189 at level 1 of digits (there are 57)``."""
    order = sorted(short, key=lambda each: each[1].n - each[1].least(rule))
    words = [
        f"{cell.least(rule)}{_grouped(cell)} at {level_words(level.band)}"
        f"{f' of {level.task}' * bool(level.task)} (there are {cell.n})"
        for level, cell in order
    ]
    return ", ".join(words[:3]) + (f", and there are too few at {len(words) - 3} more" * (len(words) > 3))


# ------------------------------------------------------------------------- without a run


def assumed_power(
    items: Mapping[int, int],
    churn: Mapping[int, float],
    rule: Rule,
    environments: int,
    target: float = TARGET,
    speed: float | None = None,
) -> Json:
    """A plan for one model from what is assumed of each level: items, and the share that goes right to wrong or back.

    ``pass`` is the probability that every level of every environment passes, were changes in one environment unrelated
    to those in another; ``pass_same_items`` that where all change the same items. ``speed``: items a second, of
    inference in the reference and in each environment; without it ``seconds`` is null.
    """
    levels = [
        Level("", (k,), tuple(GatedLevel("", items[k], churn[k]) for _ in range(environments))) for k in ALL_LEVELS
    ]
    question = Question(rule, environments * len(levels), target)
    exact = math.prod(level.passes(rule.margin, rule.level) for level in levels)
    same = math.prod(pass_probability(items[k], churn[k], rule.margin, 0.0, rule.level) for k in ALL_LEVELS)
    plan = _plan(levels, question, _certain(exact))
    wanted = [row["items_needed"] for row in plan["levels"]]
    seconds = None if speed is None else (1 + environments) * sum(items.values()) / speed
    needed = None if speed is None or None in wanted else (1 + environments) * sum(wanted) / speed
    return plan | {
        "pass_same_items": same,
        "environments": environments,
        "seconds": seconds,
        "seconds_needed": needed,
    }


def _certain(share: float) -> dict[str, float]:
    """A probability without Monte Carlo error."""
    return {"estimate": share, "low": share, "high": share}


# ------------------------------------------------------------------------------- a run


def run_power(
    run: MeasuredRun,
    cells: Sequence[MeasuredCell],
    question: Question,
    redrawn: Redrawn | None,
    items: Sequence[int] | None = None,
    churn: Sequence[float] | None = None,
) -> Json:
    """A plan at the churn of a run's gated ``cells``, with its own items or ``items`` of levels 1 to 5.

    ``pass`` is the share of the redrawn runs that pass with nothing wrong, and that of each level the share in which
    all its cells hold, both with Monte Carlo error; ``pass`` is null where nothing gated could be judged. ``churn``:
    shares of levels 1 to 5, assumed of every cell that may change in place of its own; then nothing is redrawn and
    ``pass`` is exact, as that of ``assumed_power``.
    """
    levels = _levels(cells, question.rule, items, churn)
    plan = _plan(levels, question, None)
    if churn is not None and any(level.cells for level in levels):
        plan["pass"] = _certain(math.prod(row["pass"]["estimate"] for row in plan["levels"] if row["pass"]))
        plan["levels"] = [row | {"most": ""} for row in plan["levels"]]
    if redrawn is not None:
        plan["pass"] = rate(redrawn.runs(redrawn.no_drop) == PASS)
        for row in plan["levels"]:
            chosen = [
                cells[place].bundle.task == row["task"] and list(band) == row["levels"]
                for place, band in zip(redrawn.columns.cell.tolist(), redrawn.bands, strict=True)
            ]
            row["pass"] = rate(redrawn.holds(np.array(chosen, dtype=bool))) if any(chosen) else None
    return plan | {
        "environments": len({cell.environment.name for cell in cells}),
        **_seconds(run, plan["levels"], items),
    }


def _levels(
    cells: Sequence[MeasuredCell], rule: Rule, items: Sequence[int] | None, churn: Sequence[float] | None
) -> list[Level]:
    """The judged levels of each task, in order."""
    found: dict[tuple[str, Band], list[tuple[MeasuredCell, Counts]]] = {}
    for cell in cells:
        if cell.blocked is None:
            for band, counts in cell.counts.items():
                found.setdefault((cell.bundle.task, band), []).append((cell, counts))
    return [_level(task, band, each, rule, items, churn) for (task, band), each in found.items()]


def _level(
    task: str,
    band: Band,
    each: Sequence[tuple[MeasuredCell, Counts]],
    rule: Rule,
    items: Sequence[int] | None,
    churn: Sequence[float] | None,
) -> Level:
    """What can be planned for: not what is at the floor, nor an equivalent that changes predictions."""
    floor = [at_floor(counts, rule.margin) for _, counts in each]
    unsteady = [cell.equivalent and counts.changed_outside_ties > 0 for cell, counts in each]
    planned = tuple(
        GatedLevel(
            f"{cell.bundle.name} in {cell.environment.name}",
            of_band(items, band) or counts.n,
            _churn(cell, counts, band, churn),
            cell.equivalent,
            counts.clustering,
            counts.n,
        )
        for (cell, counts), skip in zip(each, np.logical_or(floor, unsteady), strict=True)
        if not skip
    )
    said = (
        (sum(floor), "at the floor of chance"),
        (sum(u and not f for u, f in zip(unsteady, floor, strict=True)), "equivalent and yet changing predictions"),
    )
    left = ", ".join(f"{count} of {len(each)} cells {words}" for count, words in said if count)
    return Level(task, band, planned, left, any(unsteady))


def _churn(cell: MeasuredCell, counts: Counts, band: Band, assumed: Sequence[float] | None) -> float:
    """A cell's own churn, or the one that is assumed of the band's levels; an equivalent's is its own."""
    if assumed is not None and not cell.equivalent:
        return sum(assumed[level - 1] for level in band) / len(band)
    return (counts.lost + counts.gained) / counts.n if counts.n else 0.0


def _seconds(run: MeasuredRun, rows: Sequence[Json], items: Sequence[int] | None) -> Json:
    """Inference time of all the run's cells at the planned items, and at those needed; null where these are unknown."""
    now, needed = 0.0, 0.0
    for bundle in run.bundles:
        infos = [bundle.reference_cell.info, *(cell.info for cell in bundle.cells)]
        seconds = sum(info.seconds for info in infos if info is not None)
        sizes: dict[Band, int] = {}
        for cell in bundle.cells:
            sizes |= {band: max(counts.n, sizes.get(band, 0)) for band, counts in cell.counts.items()}
        an_item = seconds / max(1, sum(sizes.values()))
        wanted = {tuple(row["levels"]): row["items_needed"] for row in rows if row["task"] == bundle.bundle.task}
        now += an_item * sum(of_band(items, band) or n for band, n in sizes.items())
        needed += an_item * sum(wanted.get(band) or n for band, n in sizes.items())
    known = all(row["items_needed"] is not None for row in rows if row["n"] is not None)
    return {"seconds": now, "seconds_needed": needed if known else None}
