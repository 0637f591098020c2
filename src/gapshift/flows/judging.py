"""The last steps of every flow: run the planned cells, judge the records, write the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gapshift.domains.base import Dataset
from gapshift.envs.runner import Matrix, evaluate
from gapshift.flows.levels import read_rated
from gapshift.flows.reporting import Reporter
from gapshift.reports.judge import judge
from gapshift.reports.renderers import render_all
from gapshift.reports.statistics import items_for_zero
from gapshift.reports.summary import write_summary
from gapshift.schema import RunPlan
from gapshift.workspace import Workspace

_SPARE = 1.05
"""A subsample holds this much more than the fewest items that could certify the margin."""


def run_cells(
    workspace: Workspace,
    plan: RunPlan,
    judged: Dataset,
    calibration: Dataset | None,
    reporter: Reporter,
    debug: bool = False,
) -> None:
    """Evaluate every planned cell that does not exist yet."""
    reporter.stage("evaluate")
    strata = read_rated(workspace.items_path).strata()
    matrix = Matrix(
        bundles=plan.bundles,
        environments=plan.environments,
        dataset=judged,
        calibration=calibration,
        strata=strata,
        subsample_per_level=max(200, int(_SPARE * items_for_zero(plan.margin_pp / 100))),
        seed=plan.seed,
    )
    evaluate(workspace, matrix, reporter.progress, debug)


def report(workspace: Workspace, reporter: Reporter) -> tuple[dict[str, Any], dict[str, Path]]:
    """Judge a run's records and write its reports; no model runs. The caller holds the folder's lock."""
    reporter.stage("judge")
    summary = judge(workspace)
    write_summary(workspace, summary)
    return summary, render_all(workspace.root, summary)
