"""``gapshift evaluate RUN``: the bundles of a run, again, in the same or other environments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from gapshift.domains.base import Dataset
from gapshift.domains.open import open_dataset
from gapshift.envs.catalog import choose
from gapshift.errors import DataError, WorkspaceError
from gapshift.flows.data import TEST, absolute, open_calibration, quantiser_set, with_role
from gapshift.flows.judging import report, run_cells
from gapshift.flows.reporting import Reporter, Silent
from gapshift.records import atomic_path, read_items
from gapshift.schema import DataSource, RunPlan
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
    judged, calibration = _sets(plan, table)
    plan = plan.model_copy(update={"items": judged.digest()})
    _refuse_overwriting(source, target, old, plan)
    with target.lock():
        if source.root.resolve() != target.root.resolve():
            _bring(source, target, plan)
        target.write_plan(plan)
        run_cells(target, plan, judged, calibration, reporter, debug)
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
        if (there.bundles, there.items) != (plan.bundles, plan.items):
            raise WorkspaceError(f"{target.root} holds another run (other models or items). Give another --out.")


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
    if calibration_data is not None:
        changes["calibration_data"] = absolute(calibration_data)
    if margin is not None:
        changes["margin_pp"] = margin
    if data is not None:
        changes["data"] = absolute(plan.data.model_copy(update={"source": data}))
    return validate(RunPlan, plan.model_copy(update=changes).model_dump(), "the new plan")


def _sets(plan: RunPlan, table: pa.Table) -> tuple[Dataset, Dataset | None]:
    """The judged items and the quantiser's, as items.parquet assigns them."""
    roles = dict(zip(table["id"].to_pylist(), table["split"].to_pylist(), strict=True))
    labels = plan.bundles[0].contract.model.labels
    dataset = _open(plan.data, labels, roles)
    judged = with_role(dataset, roles, TEST)
    if plan.calibration_data:
        return judged, open_calibration(plan.calibration_data, labels, judged)
    return judged, quantiser_set(dataset, roles, plan.seed)


def _open(source: DataSource, labels: tuple[str, ...], roles: dict[str, str]) -> Dataset:
    """The run's data; every item that the run rated must still be there."""
    dataset = open_dataset(source.source, labels=labels, split=source.split)
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
