"""What the verdict would have been of other answers that the same deployments could have given: a run's repeats.

RUN/repeats holds the reference and the gated environments once more, with other threads, item orders and batch sizes
(``gapshift.schema.repeats``). For each of these settings every gated cell, and the reference, is replaced by its
repeat, and the whole gate judges the *alternative run* that this makes. A cell that says itself what the setting would
change, or has no such setting, keeps its own answers (it is *fixed*); one whose repeat is missing, broken or of another
plan, machine or library keeps an alternative run from agreeing. Reads files alone.

Where arithmetic repeats to the bit all alternative runs are the run itself: they say nothing about chance in the
items, which ``false_alarms`` redraws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gapshift.records import Records
from gapshift.reports.cells import LEVEL_KEYS, Json, count_strata
from gapshift.reports.gate import Band
from gapshift.reports.load import Cell, Pairs, reference_of
from gapshift.reports.planned import (
    REFERENCE_ENVIRONMENT,
    MeasuredBundle,
    MeasuredCell,
    MeasuredRun,
    counted_cell,
    planned_cell,
    training_answers,
)
from gapshift.reports.reasons import run_verdict
from gapshift.reports.verdicts import JudgedCell, judge_cells
from gapshift.schema import TRAINING, Bundle, CellInfo, Environment, Verdict
from gapshift.schema.repeats import FOLDER, SETTINGS, Setting, fixed, repeat_of
from gapshift.workspace import Workspace

Outcome = Literal["same", "other", "not repeated"]
ELSEWHERE = "its repeat was made with other library versions or on another processor; repeat it again"
_LISTED = 5
"""How many cells that decide, and that are missing, an alternative run lists."""


@dataclass(frozen=True, eq=False)
class _Answered:
    """What stands for a cell in an alternative run: its repeat, its own answers (fixed), or nothing and why."""

    cell: Cell
    repeated: bool
    missing: str = ""


@dataclass(frozen=True, eq=False)
class _Alternative:
    """The run once more under one setting."""

    setting: Setting
    verdict: Verdict
    cells: list[JudgedCell]
    answered: dict[tuple[str, str], _Answered]

    def outcome(self, verdict: Verdict) -> Outcome:
        """``same`` or ``other``; where repeats are missing only a FAIL is certain, and nothing repeated is no test."""
        missing = any(each.missing for each in self.answered.values())
        if (missing and self.verdict != "FAIL") or not any(each.repeated for each in self.answered.values()):
            return "not repeated"
        return "same" if self.verdict == verdict else "other"


def self_test_json(
    workspace: Workspace, run: MeasuredRun, judged: Sequence[JudgedCell], verdict: Verdict
) -> Json | None:
    """``summary["self_test"]`` (see ``judge``); null where no gated cell of the run was repeated, or where it was
    read until it was decided."""
    folder = Workspace(workspace.root / FOLDER)
    own = [cell for cell in judged if cell.measured.gated]
    if run.plan.sequential or not folder.records.is_dir() or not own:
        return None
    source = _Source(workspace, folder, run)
    alternatives = [_alternative(source, run, [cell.measured for cell in own], setting) for setting in SETTINGS]
    if not any(each.repeated for alternative in alternatives for each in alternative.answered.values()):
        return None
    bundles = {cell.measured.bundle.name: cell.measured.bundle for cell in own}
    outcomes = Counter(alternative.outcome(verdict) for alternative in alternatives)
    return {
        "verdict": verdict,
        "alternatives": [_alternative_json(alternative, own, verdict) for alternative in alternatives],
        "same": outcomes["same"],
        "other": outcomes["other"],
        "not_repeated": outcomes["not repeated"],
        "references": [_reference_json(source, bundle, alternatives) for bundle in bundles.values()],
        "cells": [_cell_json(source, cell, alternatives) for cell in own],
        "aside": list(_aside(own)),
    }


class _Source:
    """Cells of the run and of its repeats, each read once."""

    def __init__(self, workspace: Workspace, folder: Workspace, run: MeasuredRun) -> None:
        self._workspace, self._folder, self._run = workspace, folder, run
        self._own: dict[tuple[str, str], Cell] = {}

    def own(self, bundle: Bundle, environment: Environment) -> Cell:
        """The run's own cell."""
        key = bundle.name, environment.name
        if key not in self._own:
            plan = self._run.plan
            trained = environment.name == TRAINING
            self._own[key] = (
                training_answers(self._workspace, bundle)
                if trained
                else planned_cell(self._workspace, plan, bundle, environment)
            )
        return self._own[key]

    def answered(self, bundle: Bundle, environment: Environment, setting: Setting) -> _Answered:
        """The cell under a setting."""
        own = self.own(bundle, environment)
        unanswered = own.info is None or own.info.status != "ok"
        if unanswered or environment.name == TRAINING or fixed(environment, setting):
            return _Answered(own, repeated=False)
        found = planned_cell(self._folder, self._run.plan, bundle, repeat_of(environment, setting))
        if found.info is None:
            return _Answered(found, repeated=False, missing=found.problem)
        if found.info.status == "not_applicable":
            return _Answered(own, repeated=False)
        if found.info.status != "ok":
            said = f"{found.info.status}: {found.info.reason or 'no reason was recorded'}"
            return _Answered(found, repeated=False, missing=said)
        if not _same_place(own.info, found.info):
            return _Answered(Cell(None, None, ELSEWHERE), repeated=False, missing=ELSEWHERE)
        return _Answered(found, repeated=True)


def _same_place(own: CellInfo | None, repeat: CellInfo) -> bool:
    """Whether both ran with the same libraries on the same kind of processor, as far as they say."""
    if own is None or own.execution is None or repeat.execution is None:
        return True
    mine, theirs = own.execution, repeat.execution
    return (mine.versions, mine.cpu_flags) == (theirs.versions, theirs.cpu_flags)


def _alternative(source: _Source, run: MeasuredRun, gated: Sequence[MeasuredCell], setting: Setting) -> _Alternative:
    """Every gated cell and every reference replaced by its repeat, judged by the whole gate."""
    answered: dict[tuple[str, str], _Answered] = {}
    cells: list[MeasuredCell] = []
    for bundle in run.bundles:
        mine = [cell for cell in gated if cell.bundle.name == bundle.bundle.name]
        if not mine:
            continue
        before = source.answered(bundle.bundle, REFERENCE_ENVIRONMENT, setting)
        answered[bundle.bundle.name, REFERENCE_ENVIRONMENT.name] = before
        for cell in mine:
            after = source.answered(cell.bundle, cell.environment, setting)
            answered[cell.bundle.name, cell.environment.name] = after
            cells.append(_replaced(bundle, cell, before.cell, after.cell))
    judged = judge_cells(tuple(cells), run.rule, sum(len(cell.bands) for cell in cells))
    return _Alternative(setting, run_verdict(run.plan, judged), judged, answered)


def _replaced(bundle: MeasuredBundle, own: MeasuredCell, before: Cell, after: Cell) -> MeasuredCell:
    """A gated cell with other answers, against a reference with other answers; one that had none stays as it is."""
    if own.info is None or own.info.status != "ok":
        return own
    reference = reference_of(before, bundle.items)
    return counted_cell(
        own.bundle, own.environment, after, before, reference, own.bands, named=own.named, gated=own.gated
    )


# ------------------------------------------------------------------------------ JSON


def _alternative_json(alternative: _Alternative, own: Sequence[JudgedCell], verdict: Verdict) -> Json:
    missing = [(*where, each.missing) for where, each in alternative.answered.items() if each.missing]
    changed = list(_changed(alternative, own, verdict)) if alternative.outcome(verdict) == "other" else []
    return {
        "setting": alternative.setting.name,
        "cause": alternative.setting.cause,
        "deviations": dict(alternative.setting.deviations),
        "verdict": alternative.verdict,
        "outcome": alternative.outcome(verdict),
        "repeated": sum(each.repeated for each in alternative.answered.values()),
        "fixed": sum(not each.repeated and not each.missing for each in alternative.answered.values()),
        "missing": len(missing),
        "missing_listed": [
            dict(zip(("bundle", "environment", "reason"), row, strict=True)) for row in missing[:_LISTED]
        ],
        "decides": changed[:_LISTED],
        "more": max(0, len(changed) - _LISTED),
    }


def _changed(alternative: _Alternative, own: Sequence[JudgedCell], verdict: Verdict) -> Iterator[Json]:
    """The levels that make the verdict another: those with the new run's, or that no longer have the old one's."""
    for was, found in zip(own, alternative.cells, strict=True):
        for band, judged in found.bands.items():
            before = was.bands[band].verdict
            if before != judged.verdict and (judged.verdict == alternative.verdict or before == verdict):
                yield {**_where(found, band), "was": before, "verdict": judged.verdict, "reason": judged.reason}


def _where(cell: JudgedCell, band: Band) -> Json:
    measured = cell.measured
    return {"bundle": measured.bundle.name, "environment": measured.environment.name, "levels": list(band)}


def _cell_json(source: _Source, own: JudgedCell, alternatives: Iterable[_Alternative]) -> Json:
    """A gated cell over its repeats: predictions that change, verdicts, and the range of each level's drop."""
    measured = own.measured
    key = measured.bundle.name, measured.environment.name
    mine = source.own(measured.bundle, measured.environment).records
    runs = [(_judged(alternative, key), alternative.answered[key]) for alternative in alternatives]
    repeats = [answered.cell.records for _, answered in runs if answered.repeated]
    pairs = [measured.pairs, *(cell.measured.pairs for cell, answered in runs if not answered.missing)]
    return {
        "bundle": key[0],
        "environment": key[1],
        "verdict": own.verdict,
        "repeated": len(repeats),
        "missing": sum(bool(answered.missing) for _, answered in runs),
        "verdicts": dict(Counter(cell.verdict for cell, answered in runs if answered.repeated)),
        "flips": _flips(mine, [records for records in repeats if records is not None]),
        "n": measured.measurement["n"],
        "drop_range_pp": _range([each for each in pairs if each is not None]),
    }


def _reference_json(source: _Source, bundle: Bundle, alternatives: Iterable[_Alternative]) -> Json:
    """A model's reference over its repeats: predictions that change."""
    own = source.own(bundle, REFERENCE_ENVIRONMENT).records
    answered = [alternative.answered[bundle.name, REFERENCE_ENVIRONMENT.name] for alternative in alternatives]
    repeats = [each.cell.records for each in answered if each.repeated and each.cell.records is not None]
    return {
        "bundle": bundle.name,
        "repeated": len(repeats),
        "missing": sum(bool(each.missing) for each in answered),
        "flips": _flips(own, repeats),
        "n": len(own) if own is not None else 0,
    }


def _judged(alternative: _Alternative, key: tuple[str, str]) -> JudgedCell:
    return next(
        cell for cell in alternative.cells if (cell.measured.bundle.name, cell.measured.environment.name) == key
    )


def _flips(own: Records | None, repeats: Sequence[Records]) -> int | None:
    """Items whose prediction some repeat changed, each counted once; None where nothing was repeated."""
    if own is None or not repeats:
        return None
    order = np.argsort(own.item_id)
    flipped = np.zeros(len(own), dtype=np.bool_)
    for records in repeats:
        other = np.argsort(records.item_id)
        if np.array_equal(own.item_id[order], records.item_id[other]):
            flipped |= own.prediction[order] != records.prediction[other]
    return int(flipped.sum())


def _range(pairs: Sequence[Pairs]) -> Json:
    """The least and the largest drop at each level, the run's own among them; null where a level has no pairs."""
    counts = [count_strata(each) for each in pairs]
    drops = {key: [100 * each[key].drop for each in counts if each[key].n] for key in LEVEL_KEYS}
    return {key: {"low": min(found), "high": max(found)} if found else None for key, found in drops.items()}


def _aside(own: Sequence[JudgedCell]) -> Iterator[str]:
    unjudged = [cell for cell in own if cell.measured.info is None or cell.measured.info.status != "ok"]
    if unjudged:
        yield (
            f"{len(unjudged)} of {len(own)} gated cells have no answers in the run itself; there is nothing to repeat, "
            "and they are judged alike in every alternative run"
        )
    trained = [cell for cell in own if cell.measured.environment.name == TRAINING]
    if trained:
        yield "the training side's answers are not repeated; they are set against each repeat of the reference"
