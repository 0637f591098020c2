"""What the verdict would have been of other answers that the same deployments could have given: a run's repeats.

Where arithmetic repeats to the bit all alternative runs (``alternatives``) are the run itself: they say nothing about
chance in the items, which ``false_alarms`` redraws. Nothing that is missing counts as agreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from gapshift.reports.alternatives import Alternative, Key, Repeat, alternatives, drops
from gapshift.reports.cells import LEVEL_KEYS, Json
from gapshift.reports.gate import Band
from gapshift.reports.load import Reference
from gapshift.reports.planned import MeasuredBundle, MeasuredRun
from gapshift.reports.verdicts import JudgedCell
from gapshift.schema import REFERENCE_ENVIRONMENT, TRAINING, Verdict
from gapshift.workspace import Workspace

Outcome = Literal["same", "other", "not repeated"]
_LISTED = 5
"""How many cells that decide, and that are missing, an alternative run lists."""


def self_test_json(
    workspace: Workspace, run: MeasuredRun, judged: Sequence[JudgedCell], verdict: Verdict
) -> Json | None:
    """``summary["self_test"]`` (see ``judge``); null where no gated cell of the run was repeated."""
    own = [cell for cell in judged if cell.measured.gated]
    found = list(alternatives(workspace, run, [cell.measured for cell in own]))
    if not any(repeat.repeated for each in found for repeat in each.repeats.values()):
        return None
    named = {cell.measured.bundle.name for cell in own}
    outcomes = Counter(outcome(alternative, verdict) for alternative in found)
    return {
        "verdict": verdict,
        "alternatives": [_alternative_json(alternative, own, verdict) for alternative in found],
        "same": outcomes["same"],
        "other": outcomes["other"],
        "not_repeated": outcomes["not repeated"],
        "references": [_reference_json(bundle, found) for bundle in run.bundles if bundle.bundle.name in named],
        "cells": [_cell_json(place, cell, found) for place, cell in enumerate(own)],
        "aside": list(_aside(own)),
    }


def outcome(alternative: Alternative, verdict: Verdict) -> Outcome:
    """``same`` or ``other``; where repeats are missing only a FAIL is certain, and nothing repeated is no test."""
    repeats = alternative.repeats.values()
    missing = any(each.missing for each in repeats)
    if (missing and alternative.verdict != "FAIL") or not any(each.repeated for each in repeats):
        return "not repeated"
    return "same" if alternative.verdict == verdict else "other"


def _alternative_json(alternative: Alternative, own: Sequence[JudgedCell], verdict: Verdict) -> Json:
    repeats = alternative.repeats
    missing = [(*where, each.missing) for where, each in repeats.items() if each.missing]
    changed = list(_changed(alternative, own, verdict)) if outcome(alternative, verdict) == "other" else []
    return {
        "setting": alternative.setting.name,
        "cause": alternative.setting.cause,
        "deviations": dict(alternative.setting.deviations),
        "verdict": alternative.verdict,
        "outcome": outcome(alternative, verdict),
        "repeated": sum(each.repeated for each in repeats.values()),
        "fixed": sum(not each.repeated and not each.missing for each in repeats.values()),
        "missing": len(missing),
        "missing_listed": [
            dict(zip(("bundle", "environment", "reason"), row, strict=True)) for row in missing[:_LISTED]
        ],
        "decides": changed[:_LISTED],
        "more": max(0, len(changed) - _LISTED),
    }


def _changed(alternative: Alternative, own: Sequence[JudgedCell], verdict: Verdict) -> Iterator[Json]:
    """The levels that make the verdict another: those with the new run's, or that no longer have the old one's."""
    for was, found in zip(own, alternative.cells, strict=True):
        for band, judged in found.bands.items():
            before = was.bands[band].verdict
            if before != judged.verdict and (judged.verdict == alternative.verdict or before == verdict):
                yield {**_where(found, band), "was": before, "verdict": judged.verdict, "reason": judged.reason}


def _where(cell: JudgedCell, band: Band) -> Json:
    measured = cell.measured
    return {"bundle": measured.bundle.name, "environment": measured.environment.name, "levels": list(band)}


def _cell_json(place: int, own: JudgedCell, found: Sequence[Alternative]) -> Json:
    """A gated cell over its repeats: predictions that change, verdicts, and the range of each level's drop."""
    measured = own.measured
    key = measured.bundle.name, measured.environment.name
    repeated = [each.cells[place].verdict for each in found if each.repeats[key].repeated]
    known = [drops(measured.pairs), *(repeat.drops for repeat in _repeats(found, key))]
    ends = {level: [each[level] for each in known if level in each] for level in LEVEL_KEYS}
    return {
        "bundle": key[0],
        "environment": key[1],
        "verdict": own.verdict,
        **_moved(found, key),
        "verdicts": dict(Counter(repeated)),
        "n": measured.measurement["n"],
        "drop_range_pp": {level: {"low": min(v), "high": max(v)} if v else None for level, v in ends.items()},
    }


def _reference_json(bundle: MeasuredBundle, found: Sequence[Alternative]) -> Json:
    """A model's reference over its repeats: predictions that change."""
    n = len(bundle.reference.records) if isinstance(bundle.reference, Reference) else 0
    name = bundle.bundle.name
    return {"bundle": name, **_moved(found, (name, REFERENCE_ENVIRONMENT.name)), "n": n}


def _moved(found: Sequence[Alternative], key: Key) -> Json:
    """How often a cell was repeated, and how many items some repeat predicts otherwise; null where none did."""
    repeats = _repeats(found, key)
    repeated = [repeat for repeat in repeats if repeat.repeated]
    return {
        "repeated": len(repeated),
        "missing": sum(bool(repeat.missing) for repeat in repeats),
        "flips": len(np.unique(np.concatenate([each.flipped for each in repeated]))) if repeated else None,
    }


def _repeats(found: Sequence[Alternative], key: Key) -> list[Repeat]:
    return [alternative.repeats[key] for alternative in found]


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
