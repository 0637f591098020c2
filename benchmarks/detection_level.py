"""A regression in one level alone: predicted and measured verdicts. Run by ``detection.py``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detection_sets import Answers, Key, Rows, Size, Task, judged, rate, swapped, write_run, wrong

from gapshift.envs.catalog import choose
from gapshift.records import Records
from gapshift.reports.counts import Counts
from gapshift.reports.floor import at_floor
from gapshift.reports.gate import Rule
from gapshift.reports.judge import judge
from gapshift.reports.planned import MeasuredRun, read_run
from gapshift.reports.planning import plan_json
from gapshift.reports.statistics import fail_probability, pass_probability
from gapshift.reports.verdicts import JudgedCell, cell_reason
from gapshift.schema import REFERENCE, Bundle
from gapshift.workspace import Workspace

CHURN = "int8-dynamic"
"""The conversion whose churn the regression sits on."""
EXCESS = (0.0, 1.0, 2.0, 3.0, 5.0)
"""Percentage points beyond the margin that level 5 loses."""
HARDEST = 5


def one_level(task: Task, size: Size, folder: Path) -> list[dict[str, Any]]:
    """Predicted and measured verdicts of a regression at level 5, and of none, as plain data: one row."""
    answers = task.answers(folder / "answers", task.bundles, choose((CHURN,)))
    sets = _Sets(task, answers, folder)
    everything = np.arange(len(task.level), dtype=np.intp)
    as_is = read_run(sets.written(folder / "as-is", everything, answers.records))
    lose = _losable(as_is)
    chosen = [bundle for bundle in task.bundles if bundle.name in lose]
    about = {"task": task.name, "models": len(task.bundles), "planted_in": [bundle.name for bundle in chosen]}
    if not chosen:
        return [about | {"left_out": "no model has enough right answers above the floor at a level 5 judged by itself"}]
    planting = _Planting(sets, as_is.rule, lose, chosen, sum(len(cell.bands) for cell in as_is.cells))
    stated = plan_json(as_is, as_is.rule)["false_alarms"]
    found = {
        "margin_pp": 100 * as_is.rule.margin,
        "items": lose[chosen[0].name].n,
        "family": planting.family,
        "curve": [planting.curve(excess, size.seeds) for excess in EXCESS],
        "whole": [planting.whole(EXCESS[-1], size.whole), planting.whole(None, size.seeds)],
        "stated": {name: stated[name] for name in ("repeats", "false_fail", "not_pass")},
    }
    return [about | found]


def _losable(run: MeasuredRun) -> dict[str, Counts]:
    """Level 5 of the models that have the most that is planted to lose there and are not at the floor, by name."""
    most = run.rule.margin + max(EXCESS) / 100
    counts = {cell.bundle.name: cell.counts[HARDEST,] for cell in run.cells if (HARDEST,) in cell.counts}
    return {name: c for name, c in counts.items() if _kept(c) > most and not at_floor(c, run.rule.margin)}


def _kept(counts: Counts) -> float:
    """Share of the items that are right in both."""
    return (counts.right - counts.lost) / counts.n if counts.n else 0.0


@dataclass(frozen=True, eq=False)
class _Sets:
    """Drawn sets of one task, with the churn of a conversion and no drop but the one that is planted."""

    task: Task
    answers: Answers
    folder: Path

    def written(self, folder: Path, rows: Rows, cells: Mapping[Key, Records]) -> Workspace:
        """A run folder in which the conversion is a named deployment."""
        return write_run(folder, self.task, rows, cells, choose((CHURN,)), (CHURN,))

    def cells(self, bundle: Bundle, rows: Rows, chance: float, rng: np.random.Generator) -> dict[Key, Records]:
        """Reference and conversion of one model; each answer at level 5 that both have right goes wrong by chance."""
        before, after = (self.answers.take(bundle.name, name, rows) for name in (REFERENCE, CHURN))
        before, after = swapped(before, after, rng.random(len(rows)) < 0.5)
        both = (self.task.level[rows] == HARDEST) & (before.correct == 1) & (after.correct == 1)
        struck = both & (rng.random(len(rows)) < chance)
        after = wrong(after, struck, len(bundle.contract.model.labels), rng)
        return {(bundle.name, REFERENCE): before, (bundle.name, CHURN): after}


@dataclass(frozen=True, eq=False)
class _Planting:
    """Regressions at level 5 of models that can have them, in turn; ``family`` is that of all models' cells."""

    sets: _Sets
    rule: Rule
    lose: Mapping[str, Counts]
    chosen: Sequence[Bundle]
    family: int

    def curve(self, excess: float, seeds: int) -> dict[str, Any]:
        """One model a seed, judged as one of the whole run's cells."""
        seen, predicted, drop = [], [], self._drop(excess)
        for seed in range(seeds):
            bundle, rng = self.chosen[seed % len(self.chosen)], np.random.default_rng([seed, round(1000 * drop), 1])
            rows = self.sets.task.draw(None, rng)
            cells = self.sets.cells(bundle, rows, self._chance(bundle, drop), rng)
            with tempfile.TemporaryDirectory(dir=self.sets.folder) as place:
                run = read_run(self.sets.written(Path(place), rows, cells))
            seen += judged(run, self.family - len(run.cells[0].bands))
            predicted.append(self._predicted(bundle, drop))
        return {"excess_pp": excess, "seeds": seeds, **_said(seen, predicted)}

    def whole(self, excess: float | None, seeds: int) -> dict[str, Any]:
        """Every model a seed, one of them with the drop (None: none has), judged as ``gapshift report`` does it."""
        verdicts, named, predicted, drop = [], [], [], self._drop(excess)
        for seed in range(seeds):
            rng, bad = np.random.default_rng([seed, 2]), self.chosen[seed % len(self.chosen)]
            rows = self.sets.task.draw(None, rng)
            cells: dict[Key, Records] = {}
            for bundle in self.sets.task.bundles:
                cells |= self.sets.cells(bundle, rows, self._chance(bad, drop) if bundle is bad else 0.0, rng)
            with tempfile.TemporaryDirectory(dir=self.sets.folder) as place:
                summary = judge(self.sets.written(Path(place), rows, cells))
            verdicts.append(summary["verdict"])
            named.append(_names(summary, bad.name))
            predicted.append(self._predicted(bad, drop)[0])
        return {
            "excess_pp": excess,
            "seeds": seeds,
            "predicted_fail": None if excess is None else float(np.mean(predicted)),
            "fail": rate(verdict == "FAIL" for verdict in verdicts),
            "not_pass": rate(verdict != "PASS" for verdict in verdicts),
            "level_5_named": sum(named),
        }

    def _drop(self, excess: float | None) -> float:
        return 0.0 if excess is None else self.rule.margin + excess / 100

    def _chance(self, bundle: Bundle, drop: float) -> float:
        return drop / _kept(self.lose[bundle.name])

    def _predicted(self, bundle: Bundle, drop: float) -> tuple[float, float]:
        """P(FAIL) and P(not PASS) of level 5, exactly."""
        counts, rule = self.lose[bundle.name], self.rule
        churn = (counts.lost + counts.gained) / counts.n + drop
        fails = fail_probability(counts.n, churn, rule.margin, drop, rule.alpha, self.family, counts.clustering)
        return fails, 1 - pass_probability(counts.n, churn, rule.margin, drop, rule.level, counts.clustering)


def _said(seen: Sequence[JudgedCell], predicted: Iterable[tuple[float, float]]) -> dict[str, Any]:
    fails = [{level for level in range(1, 6) if cell.at(level).verdict == "FAIL"} for cell in seen]
    fail, not_pass = np.mean(list(predicted), axis=0).tolist()
    named = [cell.verdict == "FAIL" and cell_reason(cell).startswith(f"level {HARDEST}: ") for cell in seen]
    return {
        "predicted_fail": fail,
        "fail": rate(HARDEST in levels for levels in fails),
        "predicted_not_pass": not_pass,
        "not_pass": rate(cell.at(HARDEST).verdict != "PASS" for cell in seen),
        "level_5_named": sum(named),
        "another_level_fails": sum(bool(levels - {HARDEST}) for levels in fails),
    }


def _names(summary: Mapping[str, Any], bundle: str) -> bool:
    """Whether the first reason is that this model FAILs at level 5, and no other level or model does."""
    failed = [
        (cell["bundle"], level) for cell in summary["cells"] for level, v in cell["levels"].items() if v == "FAIL"
    ]
    first = summary["reasons"][0]
    return failed == [(bundle, str(HARDEST))] and first.startswith("FAIL: ") and bundle in first and "level 5" in first
