"""What a study's regimes answered in each environment: one row of answers a seed, on the task's items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gapshift.reports.planned import MeasuredBundle, MeasuredCell, MeasuredRun
from gapshift.reports.study.members import Member, Study, TaskItems
from gapshift.reports.study.quantity import Floats
from gapshift.reports.study.resampling import Resampler
from gapshift.schema import TRAINING


@dataclass(frozen=True, eq=False)
class Deployed:
    """One regime's models in one environment, a row a seed (S, n): NaN where unpaired.

    ``right`` is the environment's answer, ``lost`` the reference's less the environment's,
    ``trained`` the training side's. ``missing`` counts seeds without usable records.
    """

    task: TaskItems
    family: str
    width: int
    regime: str
    environment: str
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    right: Floats
    lost: Floats
    trained: Floats
    missing: int

    def of(self, seeds: tuple[int, ...]) -> Deployed:
        """These seeds alone, in this order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        parts = {name: getattr(self, name)[rows] for name in ("right", "lost", "trained")}
        names = tuple(self.names[row] for row in rows)
        plain = (self.task, self.family, self.width, self.regime, self.environment)
        return Deployed(*plain, seeds, names, missing=self.missing, **parts)


def read_deployed(study: Study, run: MeasuredRun) -> list[Deployed]:
    """Every (task, family, width, regime, environment) with usable records of one seed or more."""
    members = {member.run.name: member for group in study.groups for member in group.members}
    bundles: dict[tuple[str, str, int, str, float], list[tuple[Member, MeasuredBundle]]] = {}
    for measured in run.bundles:
        member = members.get(measured.bundle.name)
        if member is not None:
            trained = member.run
            key = (trained.task, trained.family, trained.width, trained.regime, trained.shuffled)
            bundles.setdefault(key, []).append((member, measured))
    return [
        deployed
        for key, found in bundles.items()
        if not key[4]
        for environment in _environments(found)
        if (deployed := _deployed(study.task(key[0]), found, environment)) is not None
    ]


def _environments(found: list[tuple[Member, MeasuredBundle]]) -> list[str]:
    names = (cell.environment.name for _, measured in found for cell in measured.cells)
    return [name for name in dict.fromkeys(names) if name != TRAINING]


def _deployed(task: TaskItems, found: list[tuple[Member, MeasuredBundle]], environment: str) -> Deployed | None:
    rows = list(_usable(found, environment))
    if not rows:
        return None
    size = len(task.rated)
    answers = [_answers(cell, member, size) for member, cell in rows]
    run = rows[0][0].run
    right, lost, trained = (np.stack(columns) for columns in zip(*answers, strict=True))
    seeds = tuple(member.run.seed for member, _ in rows)
    names = tuple(member.run.name for member, _ in rows)
    plain = (task, run.family, run.width, run.regime, environment)
    return Deployed(*plain, seeds, names, right, lost, trained, len(found) - len(rows))


def _usable(found: list[tuple[Member, MeasuredBundle]], environment: str) -> Iterator[tuple[Member, MeasuredCell]]:
    """Cells whose numbers stand: nothing went wrong (another format than asked for leaves them)."""
    for member, measured in found:
        for cell in measured.cells:
            usable = cell.blocked is None or cell.blocked.verdict == "NO DATA"
            if cell.environment.name == environment and usable and cell.pairs is not None and len(cell.pairs):
                yield member, cell


def _answers(cell: MeasuredCell, member: Member, size: int) -> tuple[Floats, Floats, Floats]:
    right, lost, trained = (np.full(size, np.nan) for _ in range(3))
    if cell.pairs is not None:
        position = cell.pairs.position
        right[position], lost[position] = cell.pairs.still_right, cell.pairs.lost
        trained[position] = member.right[position]
    return right, lost, trained


def resamplers(study: Study) -> dict[str, Resampler]:
    """One resampler a task, seeded from the plan."""
    return {task.name: Resampler(task.name, task.level, study.seed) for task in study.tasks}
