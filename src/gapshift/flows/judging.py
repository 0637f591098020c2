"""The last steps of every flow: run the planned cells, judge the records, write the reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapshift.domains.base import Dataset
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.errors import UnknownNameError
from gapshift.flows.levels import read_rated
from gapshift.flows.reporting import Reporter
from gapshift.flows.sequential import SequentialReader
from gapshift.reports.groups import class_names
from gapshift.reports.judge import judge
from gapshift.reports.renderers import render_all
from gapshift.reports.statistics import items_for_zero
from gapshift.reports.summary import write_summary
from gapshift.reports.traffic import check_names
from gapshift.schema import RunPlan
from gapshift.settings import user_traffic
from gapshift.workspace import Workspace


@dataclass(frozen=True)
class Sets:
    """A task's judged items, and those of the static quantiser, which are never judged."""

    judged: Dataset
    calibration: Dataset | None = None


_SPARE = 1.05
"""A subsample holds this much more than the fewest items that could certify the margin."""


def run_cells(
    workspace: Workspace,
    plan: RunPlan,
    sets: Mapping[str, Sets],
    reporter: Reporter,
    debug: bool = False,
    keep_outputs: bool = False,
    known: Mapping[str, Path] | None = None,
) -> None:
    """Evaluate every planned cell that does not exist yet; ``sets`` by task. Of those in ``known`` (files by content
    address) the records are copied.

    Raises UnknownNameError, before any cell runs, for a traffic mix that weighs what no task has.
    """
    check_names(plan.traffic, *traffic_names(plan, sets))
    reporter.stage("evaluate")
    rated = {task.name: read_rated(workspace.items_path, task.name).strata() for task in plan.tasks}
    matrix = Matrix(
        bundles=plan.bundles,
        environments=plan.environments,
        tasks={name: TaskItems(each.judged, each.calibration, rated[name]) for name, each in sets.items()},
        subsample_per_level=max(200, int(_SPARE * items_for_zero(plan.margin_pp / 100))),
        seed=plan.seed,
        keep_outputs=keep_outputs,
        known=known or {},
        reader=SequentialReader(workspace, plan) if plan.sequential else None,
    )
    evaluate(workspace, matrix, reporter.progress, debug)


def traffic_names(plan: RunPlan, sets: Mapping[str, Sets]) -> tuple[dict[str, tuple[str, ...]], dict[str, set[str]]]:
    """What a traffic mix can weigh: the labels and the groups of each task."""
    labels = {bundle.task: class_names(bundle) for bundle in plan.bundles}
    groups = {task: {item.group for item in each.judged.items if item.group} for task, each in sets.items()}
    return labels, groups


def report(workspace: Workspace, reporter: Reporter) -> tuple[dict[str, Any], dict[str, Path]]:
    """Judge a run's records and write its reports; no model runs. The caller holds the folder's lock."""
    reporter.stage("judge")
    summary = judge(workspace)
    write_summary(workspace, summary)
    return summary, render_all(workspace.root, summary)


def report_again(workspace: Workspace, reporter: Reporter) -> tuple[dict[str, Any], dict[str, Path]]:
    """``report``, with the mixes of ``gapshift.toml`` in the plan's place, where there are some: they need no new cell.

    Raises UnknownNameError for a label or a group that no task of the run has; the plan is then left as it was.
    """
    old, own = workspace.read_plan(), user_traffic()
    if own and own != old.traffic:
        workspace.write_plan(old.model_copy(update={"traffic": own}))
    try:
        return report(workspace, reporter)
    except UnknownNameError:
        workspace.write_plan(old)
        raise
