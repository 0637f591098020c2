"""The judgement of a run, from its files alone: ``judge(workspace)`` gives the summary.

Nothing here runs a model, and the same files always give the same summary.

Beside the keys that others build on, the summary holds:

top level
    ``headline`` (one sentence), ``next_steps`` [{question, command}], ``command``, ``deployments``, ``strict``,
    ``notes``, ``data``, ``interval_level``, ``environments`` [{name, kind, summary, deviations, groups}],
    ``items`` {judged, by_level, unreadable, withheld for a static quantiser},
    ``traffic`` [{name, by, summary, weights}]: the mixes that drops are re-weighted to,
    ``contrasts`` (regimes against each other),
    ``observability`` {alpha, power, drops_pp, policies, cells [{bundle, environment, headline, lines [{policy,
    drop_pp, level, shape, overall, at_level}]}]}: requests until the named deployments' monitoring notices a drop,
    ``power`` {``pass``: the probability that the run passes with nothing wrong, ``target``, ``items_needed`` at the
    level that needs most of them to reach the target, ``refused``: why these items cannot certify the margin even where
    no answer changes (empty where they can), ``detection``, ``family``, ``environments``, ``seconds`` and
    ``seconds_needed`` of inference, levels [{task, levels, n, churn of the cell that changes most, its name ``most``,
    pass, detectable_drop_pp {fail, not_pass} at ``detection``, margin_pp at which n reaches the target,
    least_margin_pp below which n certifies nothing, items_needed, left_out, ``weight`` of that cell's items where they
    come in groups: how many independent ones each says as much as}]}: shares with Monte Carlo error,
    ``false_alarms`` {repeats, seed, cells, aside, ``no_drop`` and ``at_margin`` {verdict: share of the redrawn runs},
    ``false_fail`` and ``not_pass`` without a drop, ``false_pass`` with the margin lost everywhere and
    ``false_pass_one_level`` with it lost at one level of one cell, the worst {bundle, environment, levels}, ``least``
    [{bundle, environment, levels, holds}]}: null where nothing gated could be judged,
    ``self_test`` {``verdict`` of the run, alternatives [{setting, cause, deviations, verdict, ``outcome``: same,
    other or not repeated, how many cells were ``repeated``, ``fixed`` and ``missing``, missing_listed [{bundle,
    environment, reason}], ``decides`` [{bundle, environment, levels, was, verdict, reason}] and how many
    ``more``}], ``same``, ``other``, ``not_repeated``, references [{bundle, ``repeated``, ``missing``, ``flips`` of
    ``n``}], cells [{bundle, environment, verdict, ``repeated``, ``missing``, ``verdicts`` of its repeats, ``flips``
    of ``n`` predictions, drop_range_pp}], aside}: the run judged again with the answers of its repeats; null where
    no gated cell was repeated;
    ``reading`` {mode: sequential or budget, budget, ``read`` answers (or items) of ``full`` ones, ``saved``: a share,
    of a sequential run ``errors`` {within, beyond}: the probability of either wrong finding at a level}: null where
    every item was judged. Of a sequential run ``power``, ``false_alarms``, ``self_test``, ``observability`` and
    ``study`` are null, ``traffic``, ``regimes`` and ``contrasts`` empty;
per calibration
    ``guessing``, ``tie_share``, ``source``, ``circular``, ``notes``;
per bundle
    ``reference`` {status, reason, accuracy, ece, execution, seconds, items_per_second} and
    ``export_drop_pp`` (training minus reference; null without training-side answers);
per cell
    ``named``, ``subsampled``, ``n``, ``mean_drop_pp``, ``tie_changes``, ``q_change``
    (Benjamini-Hochberg over all cells: exploration), ``bands``, ``level_reasons``,
    ``items_needed`` by level, ``undecided_floor`` (the levels whose NO DATA says no more than
    that the reference is near chance there; ``floor`` lists all levels near chance, decided
    or not), ``clustering`` by level {groups: effective number, design_effect}: null where items are taken as
    independent, ``remarks``; ``p_fail_holm`` in each level's ``drop_pp``;
    ``traffic`` {mix: {reference_accuracy, accuracy, drop_pp, ``which`` label or group is the worst, ``reason``
    where it has no value}} and ``groups`` {count, small, listed [{group, n, reference_accuracy,
    drop_pp, loss, q}], left_out}; both null where the cell has no pairs, ``groups`` where items come in none;
    ``smece``, ``reference_smece`` and ``smece_difference`` {estimate, low, high}: smooth calibration error beside the
    debiased ``ece``, fractions, over the items with both confidences; null under 30 of them;
    ``reading`` {read, full, levels {level: {band, ``read`` items of those ``there``, ``decided_after`` so many,
    finding: changed, beyond, within, churn or null, ``e_within``, ``e_beyond``}}}: null but in sequential runs, where
    all other numbers are of the items up to each decision and intervals of drop and churn are confidence sequences;
    ``service`` (``ServiceTally``), ``fallback_share`` and ``no_answer_share`` by level: all null where no
    simulated service stands before the model.

A cell that is not gated carries the verdict that it would get if it were gated as well:
its levels join the family for its own sake only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gapshift.reports.cells import LEVEL_KEYS, Json, ece
from gapshift.reports.gate import Band
from gapshift.reports.load import ALL_LEVELS, Reference, json_dict, strata
from gapshift.reports.members import read_regimes
from gapshift.reports.next_steps import next_steps
from gapshift.reports.observability import observability_json
from gapshift.reports.order import worst
from gapshift.reports.planned import MeasuredBundle, MeasuredRun, read_run
from gapshift.reports.planning import plan_json
from gapshift.reports.reading import cell_reading, reading_json, reading_notes
from gapshift.reports.reasons import explain_run, headline, run_verdict, unlevelled
from gapshift.reports.regimes import contrast_rows, regime_rows
from gapshift.reports.self_test import self_test_json
from gapshift.reports.services import service_json
from gapshift.reports.statistics import benjamini_hochberg, clusters_of, effective_clusters
from gapshift.reports.statistics.clusters import LEAST_CLUSTERS
from gapshift.reports.study import study_json
from gapshift.reports.traffic import Key, cells_traffic, traffic_json
from gapshift.reports.verdicts import JudgedCell, cell_reason, judge_cells, level_words
from gapshift.schema import SCHEMA_VERSION, TRAINING, Execution, Verdict
from gapshift.workspace import Workspace

_TOO_FEW = f"too few to speak for others (effectively under {LEAST_CLUSTERS})"


def judge(workspace: Workspace) -> Json:
    """The summary of a run (see the module docstring), strict JSON types throughout.

    Raises WorkspaceError when the plan or the items cannot be read, UnknownNameError for
    a deployment that was not planned. A broken or missing cell is judged ERROR instead.
    """
    run = read_run(workspace)
    mixes = traffic_json(run)
    family = sum(len(cell.bands) for cell in run.cells if cell.gated)
    cells = judge_cells(run.cells, run.rule, family)
    verdict, reasons = decide(run, cells)
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict,
        "headline": headline(run, verdict, cells),
        "reasons": reasons,
        "next_steps": next_steps(cells),
        "margin_pp": run.plan.margin_pp,
        "alpha": run.plan.alpha,
        "interval_level": run.rule.level,
        "holm_family": family,
        **_plan_json(run),
        "calibration": [json_dict(card) for card in run.cards],
        "items": _items_json(run),
        "bundles": [_bundle_json(bundle, run.plan.sequential) for bundle in run.bundles],
        "traffic": [] if run.plan.sequential else mixes,
        "cells": _cells_json(cells, {} if run.plan.sequential else cells_traffic(run), run.rule.margin),
        "reading": reading_json(run),
        **(_NOT_OF_READINGS if run.plan.sequential else _of_all_items(workspace, run, cells, verdict)),
    }


_NOT_OF_READINGS: Json = {
    "regimes": [],
    "study": None,
    "contrasts": [],
    "observability": None,
    "power": None,
    "false_alarms": None,
    "self_test": None,
}
"""What needs every item, and is left out where each level was read until it was decided."""


def _of_all_items(workspace: Workspace, run: MeasuredRun, cells: list[JudgedCell], verdict: Verdict) -> Json:
    regimes = read_regimes(workspace, run)
    return {
        "regimes": regime_rows(regimes, run.rule),
        "study": study_json(workspace, run),
        "contrasts": contrast_rows(regimes, run.rule),
        "observability": observability_json(run),
        **plan_json(run, run.rule),
        "self_test": self_test_json(workspace, run, cells, verdict),
    }


# ------------------------------------------------------------------------- verdicts


def decide(run: MeasuredRun, cells: list[JudgedCell]) -> tuple[Verdict, list[str]]:
    """The run's verdict over what is gated, and its reasons, worst first."""
    gated = [cell for cell in cells if cell.measured.gated]
    verdict, reasons, tasks = run_verdict(run.plan, cells), explain_run(cells), unlevelled(gated)
    if verdict == "INCONCLUSIVE" and worst(cell.verdict for cell in gated) == "PASS":
        return verdict, [
            f"INCONCLUSIVE: the levels of {', '.join(tasks)} are too unreliable to be judged apart. All items "
            "together pass; accept that with --allow-unlevelled, or calibrate with more responders",
            *reasons,
        ]
    return verdict, reasons


# ------------------------------------------------------------------------------ JSON


def _plan_json(run: MeasuredRun) -> Json:
    plan = run.plan
    return {
        "command": plan.command,
        "deployments": list(plan.deployments),
        "strict": plan.strict,
        "allow_unlevelled": plan.allow_unlevelled,
        "notes": [*reading_notes(run), *plan.notes, *_group_notes(run)],
        "tasks": [json_dict(task) for task in plan.tasks],
        "environments": [
            {name: dumped[name] for name in ("name", "kind", "summary", "deviations", "groups")}
            for dumped in map(json_dict, plan.environments)
        ],
    }


def _group_notes(run: MeasuredRun) -> list[str]:
    """For whom the verdicts hold where items come in groups: for others like them, or for them alone."""
    notes = {}
    for bundle in run.bundles:
        if isinstance(bundle.reference, Reference) and bundle.bundle.task not in notes:
            notes[bundle.bundle.task] = _group_note(bundle, bundle.reference)
    return [note for note in notes.values() if note]


def _group_note(bundle: MeasuredBundle, reference: Reference) -> str:
    known = reference.position >= 0
    group, level = bundle.items.group_code[reference.position[known]], reference.level[known]
    count = len(np.unique(group[group >= 0]))
    if not count:
        return ""
    said = f"The items of {bundle.bundle.task} come in {count:,} group{'s' * (count != 1)}"
    bands = bundle.cells[0].bands if bundle.cells else (ALL_LEVELS,)
    members = {band: group[np.isin(level, band)] for band in bands}
    clusters = {band: clusters_of(own) for band, own in members.items() if len(own)}
    if all(len(np.unique(own)) == len(own) for own in clusters.values()):
        return f"{said}, with at most one item of each at a level: they are judged as independent."
    few = [level_words(band) for band, own in clusters.items() if effective_clusters(own) < LEAST_CLUSTERS]
    if not few:
        return f"{said}; intervals and p are cluster-robust, so the verdicts hold for other groups like these."
    where = "" if len(few) == len(clusters) else f" at {', '.join(few)}"
    return f"{said}, {_TOO_FEW}{where}: verdicts hold for these groups, not for others."


def _items_json(run: MeasuredRun) -> Json:
    """Judged items: each counted once, however many bundles answered it."""
    levels: dict[str, dict[str, int]] = {}
    unreadable: dict[str, int] = {}
    withheld: dict[str, int] = {}
    for bundle in run.bundles:
        if isinstance(bundle.reference, Reference):
            ids, level = bundle.reference.records.item_id, bundle.reference.level
            levels.setdefault(bundle.bundle.task, {}).update(zip(ids.tolist(), level.tolist(), strict=True))
            most = max(unreadable.get(bundle.bundle.task, 0), bundle.reference.unreadable)
            unreadable[bundle.bundle.task] = most
            withheld[bundle.bundle.task] = int((bundle.items.split == "calibration").sum())
    flat = np.array([level for of_task in levels.values() for level in of_task.values()], dtype=np.int64)
    return {
        "judged": len(flat),
        "by_level": {key: int(mask.sum()) for key, mask in strata(flat).items()},
        "unreadable": sum(unreadable.values()),
        "withheld": sum(withheld.values()),
    }


def _bundle_json(measured: MeasuredBundle, sequential: bool) -> Json:
    bundle = measured.bundle
    names = ("name", "domain", "task", "regime", "seed", "family", "sha256")
    return {
        **{name: getattr(bundle, name) for name in names},
        "reference": _reference_json(measured, sequential),
        "export_drop_pp": _export_drop(measured),
    }


def _reference_json(measured: MeasuredBundle, sequential: bool) -> Json:
    info, reference = measured.reference_cell.info, measured.reference
    values: Json = {
        "status": info.status if info else "error",
        "reason": reference if isinstance(reference, str) else "; ".join(reference.problems),
        "accuracy": dict.fromkeys(LEVEL_KEYS),
        "ece": None,
        "execution": _execution_json(info.execution if info else None),
        "seconds": info.seconds if info else None,
        "items_per_second": info.items_per_second if info else None,
    }
    if isinstance(reference, str):
        return values
    correct, answered = reference.records.correct, reference.answered
    masks = {key: mask & answered for key, mask in strata(reference.level).items()}
    accuracy = {key: float(correct[mask].mean()) if mask.any() else None for key, mask in masks.items()}
    if sequential:  # levels were read unequally far
        return values | {"accuracy": {**accuracy, "all": None}}
    return values | {"accuracy": accuracy, "ece": ece(reference.records.confidence[answered], correct[answered])}


def _export_drop(measured: MeasuredBundle) -> Json | None:
    """Training minus reference on the same pairs: what the export itself cost."""
    cell = next((cell for cell in measured.cells if cell.environment.name == TRAINING), None)
    if cell is None or cell.pairs is None:
        return None
    drop = cell.measurement["drop_pp"]
    return {key: drop[key] and _negated(drop[key]) for key in LEVEL_KEYS}


def _negated(interval: Json) -> Json:
    return {"estimate": -interval["estimate"], "low": -interval["high"], "high": -interval["low"]}


def _execution_json(execution: Execution | None) -> Json | None:
    return json_dict(execution) if execution else None


def _cells_json(cells: list[JudgedCell], traffic: Mapping[Key, Json], margin: float) -> list[Json]:
    tests = {k: (cell.measured.measurement["drop_pp"]["all"] or {}).get("p_change") for k, cell in enumerate(cells)}
    changes = {k: p for k, p in tests.items() if p is not None}
    q = dict(zip(changes, benjamini_hochberg(list(changes.values())).tolist(), strict=True))
    return [
        _cell_json(cell, q.get(k), traffic) | {"reading": cell_reading(cell.measured, margin)}
        for k, cell in enumerate(cells)
    ]


def _cell_json(cell: JudgedCell, q_change: float | None, traffic: Mapping[Key, Json]) -> Json:
    measured, info, environment = cell.measured, cell.measured.info, cell.measured.environment
    levels = {str(level): cell.at(level) for level in ALL_LEVELS}
    return {
        "bundle": measured.bundle.name,
        "environment": environment.name,
        "kind": environment.kind,
        "gated": measured.gated,
        "named": measured.named,
        "deviations": dict(environment.deviations),
        "status": info.status if info else "error",
        "reason": cell_reason(cell),
        **measured.measurement,
        "drop_pp": _with_holm(measured.measurement["drop_pp"], cell.p_fail_holm),
        "execution": _execution_json(info.execution if info else None),
        "verdict": cell.verdict,
        "levels": {key: band.verdict for key, band in levels.items()},
        "level_reasons": {key: band.reason for key, band in levels.items()},
        "items_needed": {key: band.items_needed for key, band in levels.items()},
        "undecided_floor": [level for level in ALL_LEVELS if cell.at(level).floor],
        "bands": [list(band) for band in measured.bands],
        "remarks": list(measured.remarks),
        "subsampled": measured.subsampled,
        "q_change": q_change,
        **traffic.get((measured.bundle.name, environment.name), {"traffic": None, "groups": None}),
        **service_json(info, measured.pairs, fixed=measured.readings is None),
        "open_loop": info.open_loop if info else None,
        "seconds": info.seconds if info else None,
        "items_per_second": info.items_per_second if info else None,
    }


def _with_holm(drop: Mapping[str, Any], adjusted: Mapping[Band, float]) -> Json:
    """Each level's drop with the adjusted p of the band that it is judged in."""
    p = {str(level): value for band, value in adjusted.items() for level in band}
    if ALL_LEVELS in adjusted:
        p["all"] = adjusted[ALL_LEVELS]
    return {key: value and {**value, "p_fail_holm": p.get(key)} for key, value in drop.items()}
