"""``gapshift evaluate RUN``: the bundles of a run, again, in the same or other environments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gapshift.domains.base import Dataset
from gapshift.domains.open import open_dataset
from gapshift.envs.catalog import choose
from gapshift.errors import DataError, WorkspaceError
from gapshift.flows.data import absolute, open_calibration, quantiser_set, with_role
from gapshift.flows.judging import Sets, report, run_cells
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.splitting import TEST
from gapshift.records import atomic_path, read_items
from gapshift.schema import CLASS_OUTPUTS, DataSource, RunPlan, TaskPlan
from gapshift.settings import validate
from gapshift.workspace import Workspace


def evaluate_run(
    run: Path,
    out: Path,
    *,
    environments: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    environment_file: Path | None = None,
    margin_pp: float | None = None,
    data: str | None = None,
    calibration_data: DataSource | None = None,
    reporter: Reporter | None = None,
    debug: bool = False,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Evaluate a run's bundles into ``out`` (which may be ``run`` itself) and report.

    Without names or groups the run's own plan is repeated. Named environments become the
    deployments, which are gated; with groups alone the run's deployments stay gated.
    ``data`` says where the items lie now, if they moved; ``calibration_data`` is for the
    static quantiser.
    Raises WorkspaceError for a folder that is no run, or where another run (or another
    plan) would be overwritten; DataError where items are missing.
    """
    reporter = reporter or Silent()
    source, target = Workspace(run), Workspace(out)
    old = source.read_plan()
    plan = _new_plan(old, environments, groups, environment_file, margin_pp, data, calibration_data)
    table, _ = read_items(source.items_path)
    sets = {task.name: _sets(plan, task, table) for task in plan.tasks}
    tasks = (task.model_copy(update={"items": sets[task.name].judged.digest()}) for task in plan.tasks)
    plan = plan.model_copy(update={"tasks": tuple(tasks)})
    _refuse_overwriting(source, target, old, plan)
    with target.lock():
        if source.root.resolve() != target.root.resolve():
            _bring(source, target, plan)
        target.write_plan(plan)
        run_cells(target, plan, sets, reporter, debug)
        return report(target, reporter)


def _refuse_overwriting(source: Workspace, target: Workspace, old: RunPlan, plan: RunPlan) -> None:
    """A run's folder keeps its own bundles, items and plan; another evaluation goes elsewhere."""
    if source.root.resolve() == target.root.resolve():
        if plan != old:
            raise WorkspaceError(
                f"{source.root} was planned otherwise (environments, margin, data or items differ), and evaluating "
                "it so would replace its report. Give another folder with --out."
            )
    elif target.plan_path.exists():
        there = target.read_plan()
        if (there.bundles, _items(there)) != (plan.bundles, _items(plan)):
            raise WorkspaceError(f"{target.root} holds another run (other models or items). Give another --out.")


def _items(plan: RunPlan) -> dict[str, str]:
    return {task.name: task.items for task in plan.tasks}


def _new_plan(
    plan: RunPlan,
    names: tuple[str, ...],
    groups: tuple[str, ...],
    file: Path | None,
    margin: float | None,
    data: str | None,
    calibration_data: DataSource | None,
) -> RunPlan:
    changes: dict[str, Any] = {}
    if names or groups or file:
        environments = choose(names, groups, file)
        planned = {environment.name for environment in environments}
        kept = tuple(name for name in plan.deployments if name in planned)
        changes = {"environments": environments, "deployments": names or kept}
    if margin is not None:
        changes["margin_pp"] = margin
    if data is not None or calibration_data is not None:
        changes["tasks"] = _new_tasks(plan, data, calibration_data)
    return validate(RunPlan, plan.model_copy(update=changes).model_dump(), "the new plan")


def _new_tasks(plan: RunPlan, data: str | None, calibration_data: DataSource | None) -> tuple[TaskPlan, ...]:
    """The tasks with their data (``PATH``, or ``TASK=PATH`` where there are several) and calibration data replaced."""
    name, _, path = data.rpartition("=") if data is not None else ("", "", None)
    if name:
        plan.task(name)
    elif len(plan.tasks) > 1:
        raise DataError(
            f"The run has the tasks {', '.join(task.name for task in plan.tasks)}: say whose data moved with "
            "--data TASK=PATH; calibration data can be given to runs of one task alone."
        )
    changes: dict[str, Any] = {}
    if calibration_data is not None:
        changes["calibration_data"] = absolute(calibration_data)
    moved = []
    for task in plan.tasks:
        mine = dict(changes) if not name or task.name == name else {}
        if path is not None and name in ("", task.name):
            mine["data"] = absolute(task.data.model_copy(update={"source": path}))
        moved.append(task.model_copy(update=mine))
    return tuple(moved)


def _sets(plan: RunPlan, task: TaskPlan, table: pa.Table) -> Sets:
    """A task's judged items and its quantiser's, as items.parquet assigns them."""
    own = table.filter(pc.equal(table["task"], task.name))
    roles = dict(zip(own["id"].to_pylist(), own["split"].to_pylist(), strict=True))
    bundle = next(bundle for bundle in plan.bundles if bundle.task == task.name)
    labels = bundle.contract.model.labels if bundle.contract.model.output_kind in CLASS_OUTPUTS else None
    dataset = _open(task.data, labels, roles)
    judged = with_role(dataset, roles, TEST)
    if task.calibration_data:
        return Sets(judged, open_calibration(task.calibration_data, labels, judged))
    return Sets(judged, quantiser_set(dataset, roles, plan.seed))


def _open(source: DataSource, labels: tuple[str, ...] | None, roles: dict[str, str]) -> Dataset:
    """The run's data; every item that the run rated must still be there."""
    dataset = open_dataset(source.source, labels=labels, split=source.split, root=source.root, classes=source.classes)
    missing = sorted(set(roles) - {item.id for item in dataset.items})
    if missing:
        raise DataError(
            f"{source.source} no longer holds {len(missing)} of the run's {len(roles)} items, {missing[0]!r} first. "
            "Say where the data lies now with --data."
        )
    return dataset


def _bring(source: Workspace, target: Workspace, plan: RunPlan) -> None:
    """Copy what judging needs beside the new records; atomic, and left alone where it is already there."""
    files = [source.items_path]
    files += [source.measures_path] if source.measures_path.exists() else []
    for run in plan.runs:  # what bundles are compared with
        files += [path for path in (source.answers_path(run.name), source.mix_path(run.name)) if path.exists()]
    for bundle in plan.bundles:
        files += sorted(source.bundles.glob(f"{bundle.name}.*"))
        if not source.bundle_path(bundle.path).exists():
            raise WorkspaceError(
                f"The model {source.bundle_path(bundle.path)} is gone; put it back or check another one."
            )
    for file in files:
        copy = target.root / file.relative_to(source.root)
        if not copy.exists() or copy.read_bytes() != file.read_bytes():
            with atomic_path(copy) as temporary:
                shutil.copyfile(file, temporary)
