"""A run judged again with the answers of its repeats, one *alternative run* for each setting.

RUN/repeats holds the reference and the gated environments once more, with other threads, item orders and batch sizes
(``gapshift.schema.repeats``). For each of these settings every gated cell, and the reference, is replaced by its
repeat, and the whole gate judges what comes of it. A cell that says itself what the setting would change, or has no
such setting, keeps its own answers (it is *fixed*); one whose repeat did not run, went wrong, or is of another plan,
processor or library is *missing*. Reads files alone, and holds the answers of one cell at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.cells import LEVEL_KEYS, count_strata
from gapshift.reports.load import Cell, Indices, Pairs, Reference, reference_of
from gapshift.reports.planned import (
    MeasuredBundle,
    MeasuredCell,
    MeasuredRun,
    counted_cell,
    planned_cell,
    training_answers,
)
from gapshift.reports.reasons import run_verdict
from gapshift.reports.verdicts import JudgedCell, judge_cells
from gapshift.schema import REFERENCE_ENVIRONMENT, TRAINING, Bundle, CellInfo, Environment, RunPlan, Verdict
from gapshift.schema.repeats import FOLDER, SETTINGS, Setting, fixed, repeat_of
from gapshift.workspace import Workspace

ELSEWHERE = "its repeat was made with other library versions or on another processor; repeat it again"
Key = tuple[str, str]
"""Bundle and environment."""
Drops = dict[str, float]
"""Drop in percentage points by level, of the levels that have pairs."""


@dataclass(frozen=True, eq=False)
class Repeat:
    """What stood for a cell in an alternative run: its repeat, its own answers (fixed), or nothing and why.

    ``flipped`` are the places of the items whose prediction another one is than in the run; ``drops`` are against
    that setting's reference, and empty of the reference itself.
    """

    repeated: bool
    missing: str
    flipped: Indices
    drops: Drops


@dataclass(frozen=True, eq=False)
class Alternative:
    """The run under one setting: its verdict, its gated cells in the run's order, and what stood for each."""

    setting: Setting
    verdict: Verdict
    cells: tuple[JudgedCell, ...]
    repeats: dict[Key, Repeat]


def alternatives(workspace: Workspace, run: MeasuredRun, gated: Sequence[MeasuredCell]) -> Iterator[Alternative]:
    """The alternative run of every setting; none where RUN/repeats does not exist, or where the run was read until it
    was decided."""
    folder = Workspace(workspace.root / FOLDER)
    if not run.plan.sequential and folder.records.is_dir():
        read = _Answers(workspace, folder, run.plan)
        yield from (_alternative(read, run, gated, setting) for setting in SETTINGS)


def _alternative(read: _Answers, run: MeasuredRun, gated: Sequence[MeasuredCell], setting: Setting) -> Alternative:
    repeats: dict[Key, Repeat] = {}
    cells: list[MeasuredCell] = []
    for bundle in run.bundles:
        mine = [cell for cell in gated if cell.bundle.name == bundle.bundle.name]
        if mine:
            for key, repeat, cell in _of_bundle(read, bundle, mine, setting):
                repeats[key] = repeat
                cells += [cell] if cell else []
    judged = judge_cells(tuple(cells), run.rule, sum(len(cell.bands) for cell in cells))
    return Alternative(setting, run_verdict(run.plan, judged), tuple(judged), repeats)


def _of_bundle(
    read: _Answers, bundle: MeasuredBundle, gated: Iterable[MeasuredCell], setting: Setting
) -> Iterator[tuple[Key, Repeat, MeasuredCell | None]]:
    """The reference's repeat, then each gated cell against it, without its pairs."""
    own = bundle.reference_cell.info
    before = read.under(bundle.bundle, REFERENCE_ENVIRONMENT, setting, own)
    reference = reference_of(before.cell, bundle.items)
    moved = _references_apart(bundle.reference, reference) if before.repeated else np.empty(0, dtype=np.intp)
    yield (bundle.bundle.name, REFERENCE_ENVIRONMENT.name), before.repeat(moved, {}), None
    for cell in gated:
        after = read.under(cell.bundle, cell.environment, setting, cell.info)
        counted = cell
        if _has_answers(cell.info):
            counted = counted_cell(
                cell.bundle, cell.environment, after.cell, before.cell, reference, cell.bands,
                named=cell.named, gated=cell.gated,
            )  # fmt: skip
        pairs = counted.pairs
        apart = _apart(cell.pairs, pairs) if after.repeated else np.empty(0, dtype=np.intp)
        key = cell.bundle.name, cell.environment.name
        yield key, after.repeat(apart, {} if after.missing else drops(pairs)), replace(counted, pairs=None)


@dataclass(frozen=True, eq=False)
class _Found:
    """The answers that stand for a cell under a setting."""

    cell: Cell
    repeated: bool = False
    missing: str = ""

    def repeat(self, flipped: Indices, moved: Drops) -> Repeat:
        """Without the answers."""
        return Repeat(self.repeated, self.missing, flipped, moved)


class _Answers:
    """Cells of the run and of its repeats."""

    def __init__(self, workspace: Workspace, folder: Workspace, plan: RunPlan) -> None:
        self._workspace, self._folder, self._plan = workspace, folder, plan

    def under(self, bundle: Bundle, environment: Environment, setting: Setting, own: CellInfo | None) -> _Found:
        """What stands for a cell, whose header in the run is ``own``, under a setting."""
        if not _has_answers(own) or environment.name == TRAINING or fixed(environment, setting):
            return _Found(self._own(bundle, environment))
        found = planned_cell(self._folder, self._plan, bundle, repeat_of(environment, setting))
        if found.info is not None and found.info.status == "not_applicable":
            return _Found(self._own(bundle, environment))
        missing = _missing(own, found)
        return _Found(found if not missing else Cell(None, None, missing), not missing, missing)

    def _own(self, bundle: Bundle, environment: Environment) -> Cell:
        if environment.name == TRAINING:
            return training_answers(self._workspace, bundle)
        return planned_cell(self._workspace, self._plan, bundle, environment)


def _has_answers(info: CellInfo | None) -> bool:
    return info is not None and info.status == "ok"


def _missing(own: CellInfo | None, found: Cell) -> str:
    """Why a repeat cannot stand for a cell; empty where it can."""
    if found.info is None:
        return found.problem
    if found.info.status != "ok":
        return f"{found.info.status}: {found.info.reason or 'no reason was recorded'}"
    mine, theirs = own.execution if own else None, found.info.execution
    if mine is None or theirs is None or (mine.versions, mine.cpu_flags) == (theirs.versions, theirs.cpu_flags):
        return ""
    return ELSEWHERE


def drops(pairs: Pairs | None) -> Drops:
    """The drop in percentage points at each level that has pairs."""
    counts = count_strata(pairs) if pairs is not None else {}
    return {key: 100 * counts[key].drop for key in LEVEL_KEYS if key in counts and counts[key].n}


def _apart(before: Pairs | None, after: Pairs | None) -> Indices:
    """Places of the items that two cells predict otherwise."""
    if before is None or after is None:
        return np.empty(0, dtype=np.intp)
    return _other_predictions(before.position, before.prediction, after.position, after.prediction)


def _references_apart(before: Reference | str, after: Reference | str) -> Indices:
    if isinstance(before, str) or isinstance(after, str):
        return np.empty(0, dtype=np.intp)
    return _other_predictions(before.position, before.records.prediction, after.position, after.records.prediction)


def _other_predictions(
    place: Indices, prediction: NDArray[np.int32], other_place: Indices, other: NDArray[np.int32]
) -> Indices:
    """The places that both know (from 0 on) and where their predictions differ."""
    order = np.argsort(place)
    known = np.isin(other_place, place) & (other_place >= 0)
    mine = prediction[order][np.searchsorted(place[order], other_place[known])]
    return np.asarray(other_place[known][mine != other[known]])
