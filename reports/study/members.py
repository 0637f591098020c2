"""Everything that a study trained, read: groups of seeds on one task, and transferred models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.gate import Rule
from gapshift.reports.load import ALL_LEVELS, RatedItems
from gapshift.reports.study.quantity import EVEN, Floats, Quantity, weighted_accuracy
from gapshift.schema import CalibrationCard, TrainedRun

SINGLE_LEVEL_REGIMES = ("easy-only", "level-2-only", "level-3-only", "level-4-only", "hard-only")
"""Regimes that train on one level alone, in the order of the levels."""


@dataclass(frozen=True, eq=False)
class TaskItems:
    """A task's items. ``level`` (n,) is that of held-out items, 0 elsewhere."""

    name: str
    domain: str
    rated: RatedItems
    label: NDArray[np.int64]
    level: NDArray[np.int64]

    @property
    def kind(self) -> str:
        """How its items are answered: classes, spans or episodes."""
        if self.domain == "control":
            return "episodes"
        known = self.rated.chance[self.level > 0]
        return "spans" if len(known) and bool(np.all(known == 0)) else "classes"

    def chance(self, levels: Iterable[int] = ALL_LEVELS) -> float:
        """What an answer without knowledge scores on held-out items of these levels.

        The mean of ``chance`` where it is known, else the commonest label's share; NaN
        without items.
        """
        inside = np.isin(self.level, list(levels))
        if not inside.any():
            return float("nan")
        known = self.rated.chance[inside]
        if not np.isnan(known).any():
            return float(known.mean())
        return float(np.unique(self.label[inside], return_counts=True)[1].max() / inside.sum())


@dataclass(frozen=True, eq=False)
class Member:
    """One trained model: ``right`` (1, 0, NaN) and ``confidence`` on all items of its task, (n,).

    ``weight`` (n,) is each training item's share of all draws; None for a transferred model
    or where it is unknown. ``problem`` says what is wrong with its files.
    """

    run: TrainedRun
    right: Floats
    confidence: Floats
    weight: Floats | None
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Group:
    """Models that differ in nothing but their seed."""

    task: TaskItems
    members: tuple[Member, ...]

    @property
    def run(self) -> TrainedRun:
        """The first one's description; name and seed aside it is everyone's."""
        return self.members[0].run

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(member.run.seed for member in self.members)

    @cached_property
    def right(self) -> Floats:
        """Answers (S, n)."""
        return np.stack([member.right for member in self.members])

    @cached_property
    def mean_accuracy(self) -> Quantity:
        """Mean over the five levels of held-out accuracy."""
        return self.held_out(EVEN)

    def held_out(self, weights: Floats, level: NDArray[np.int64] | None = None) -> Quantity:
        """Held-out accuracy at the given weights of the levels, (5,) or (S, 5).

        Other levels than the items' own, (n,), may be given.
        """
        return weighted_accuracy(self.seeds, self.right, self.task.level if level is None else level, weights)

    @cached_property
    def _at_levels(self) -> tuple[Quantity, ...]:
        return tuple(self.held_out(one) for one in np.eye(len(ALL_LEVELS)))

    def at(self, level: int) -> Quantity:
        """Held-out accuracy at one level."""
        return self._at_levels[level - 1]

    @cached_property
    def problems(self) -> tuple[str, ...]:
        twice = [str(seed) for seed, count in Counter(self.seeds).items() if count > 1]
        found = [f"more than one run has the seed {seed}" for seed in twice]
        return (*found, *(member.problem for member in self.members if member.problem))


@dataclass(frozen=True, eq=False)
class Study:
    """All models of a study, grouped over their seeds."""

    tasks: tuple[TaskItems, ...]
    groups: tuple[Group, ...]
    transferred: tuple[Member, ...]
    runs: dict[str, TrainedRun]
    cards: tuple[CalibrationCard, ...]
    rule: Rule
    seed: int

    def task(self, name: str) -> TaskItems:
        return next(task for task in self.tasks if task.name == name)

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every (task, family), in the plan's order."""
        return tuple(dict.fromkeys((group.run.task, group.run.family) for group in self.groups))

    @cached_property
    def own_pairs(self) -> tuple[tuple[str, str], ...]:
        """Every (task, family) that the study compares: the exported ones, all where a task has none.

        Not those that were trained only to lend their trunk to another task.
        """
        exported = {(group.run.task, group.run.family) for group in self.groups if group.run.exported}
        tasks = {task for task, _ in exported}
        return tuple(pair for pair in self.pairs if pair in exported or pair[0] not in tasks)

    def family_of(self, task: str) -> str | None:
        """The family with most runs on a task; the first planned of equals."""
        own = (group for group in self.groups if group.run.task == task)
        return _commonest((group.run.family, len(group.members)) for group in own)

    def width_of(self, task: str, family: str) -> int | None:
        """The width with most runs of a family on a task: where regimes are compared."""
        own = (group for group in self.groups if (group.run.task, group.run.family) == (task, family))
        return _commonest((group.run.width, len(group.members)) for group in own)

    def at_main_width(self, task: str, family: str) -> dict[str, Group]:
        """The regimes of a family on a task, at its main width, with true levels."""
        width = self.width_of(task, family)
        return {
            group.run.regime: group
            for group in self.groups
            if (group.run.task, group.run.family, group.run.width) == (task, family, width) and not group.run.shuffled
        }


Value = TypeVar("Value")


def _commonest(counted: Iterable[tuple[Value, int]]) -> Value | None:
    total: Counter[Value] = Counter()
    for value, count in counted:
        total[value] += count
    return max(total, key=lambda value: total[value]) if total else None
