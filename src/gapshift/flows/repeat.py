"""``gapshift repeat RUN``: what changes where nothing should, and which setting changes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapshift.errors import WorkspaceError
from gapshift.flows.again import (
    bring,
    derived_plan,
    moved_tasks,
    named_environments,
    only,
    refuse_other_runs,
    with_items,
)
from gapshift.flows.judging import Sets, run_cells
from gapshift.flows.reporting import Reporter, Silent
from gapshift.records import write_text
from gapshift.reports.renderers.repeats import render_repeats
from gapshift.reports.repeats import judge_repeats
from gapshift.reports.summary import summary_text
from gapshift.schema import REFERENCE, DataSource, Environment, RunPlan
from gapshift.schema.repeats import FOLDER, own_settings, repeats_of
from gapshift.settings import validate
from gapshift.workspace import Workspace

COMMAND = "repeat"


def repeat_run(
    run: Path,
    out: Path | None = None,
    *,
    environments: tuple[str, ...] = (),
    bundles: tuple[str, ...] = (),
    environment_file: Path | None = None,
    data: str | None = None,
    calibration_data: DataSource | None = None,
    reporter: Reporter | None = None,
    debug: bool = False,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Repeat a run's bundles over threads, batches, item orders and again, in a folder of its own, and report.

    ``environments``: which are repeated (``reference`` is one; none: the reference and the run's named
    deployments). ``bundles``: which models (none: all). Returns the summary (``judge_repeats``) and the files
    written, by name. A second call runs what is missing.
    Raises UnknownNameError for a name that does not exist, WorkspaceError for a folder that is no run or that holds
    something else, DataError where items are missing.
    """
    reporter = reporter or Silent()
    source = Workspace(run)
    target = Workspace(out or run / FOLDER)
    old = source.read_plan()
    if old.command == COMMAND:
        raise WorkspaceError(f"{source.root} holds repeats already; give the folder of the run that they are of.")
    plan = _plan(only(old, bundles), environments, environment_file)
    plan, sets = with_items(plan.model_copy(update={"tasks": moved_tasks(plan, data, calibration_data)}), source)
    refuse_other_runs(target, plan, COMMAND, "repeats")
    return repeat_into(source, target, plan, sets, reporter, debug)


def _plan(old: RunPlan, names: tuple[str, ...], file: Path | None) -> RunPlan:
    """Every environment and its repeats."""
    bases = named_environments(old, names or (REFERENCE, *old.deployments), file)
    repeats = tuple(repeat for base in bases for repeat in repeats_of(base))
    environments = (*(base for base in bases if base.name != REFERENCE), *repeats)
    notes = tuple(_left_out(base) for base in bases if own_settings(base))
    return validate(RunPlan, derived_plan(old, COMMAND, environments, notes).model_dump(), "the plan of the repeats")


def _left_out(base: Environment) -> str:
    said = ", ".join(setting.name for setting in own_settings(base))
    return f"{base.name} says itself what {said} would set; not repeated so."


def repeat_into(
    source: Workspace, target: Workspace, plan: RunPlan, sets: Mapping[str, Sets], reporter: Reporter, debug: bool
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Run a plan's repeats in ``target``; what they changed, as a summary, and the files that say so by name."""
    with target.lock():
        bring(source, target, plan)
        target.write_plan(plan)
        run_cells(target, plan, sets, reporter, debug, keep_outputs=True)
        reporter.stage("judge")
        summary = judge_repeats(target)
        texts = {"repeats.json": summary_text(summary), **render_repeats(summary)}
        for name, text in texts.items():
            write_text(target.root / name, text)
        return summary, {name: target.root / name for name in texts}
