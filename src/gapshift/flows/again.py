"""What it takes to run a finished run's bundles again: their items, and their files elsewhere.

``derive`` opens a run made of another's bundles and items, in a folder of its own, whose environments are chosen one
after the other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gapshift.domains.base import Dataset
from gapshift.domains.open import open_dataset
from gapshift.envs.catalog import load, own, select
from gapshift.errors import DataError, SettingsError, UnknownNameError, WorkspaceError
from gapshift.flows.budget import drawn_roles
from gapshift.flows.data import absolute, open_calibration, quantiser_set, with_role
from gapshift.flows.judging import Sets, run_cells
from gapshift.flows.reporting import Reporter
from gapshift.flows.splitting import TEST
from gapshift.records import atomic_path, read_items, write_items
from gapshift.schema import CLASS_OUTPUTS, REFERENCE, REFERENCE_ENVIRONMENT, DataSource, Environment, RunPlan, TaskPlan
from gapshift.workspace import Workspace


def only(plan: RunPlan, names: tuple[str, ...]) -> RunPlan:
    """The plan with these bundles alone, and the tasks and trained models that are theirs; all without names.

    Raises UnknownNameError for a bundle that there is not.
    """
    if not names:
        return plan
    known = [bundle.name for bundle in plan.bundles]
    for name in names:
        if name not in known:
            raise UnknownNameError("bundle", name, known)
    bundles = tuple(bundle for bundle in plan.bundles if bundle.name in names)
    tasks = {bundle.task for bundle in bundles}
    return plan.model_copy(
        update={
            "bundles": bundles,
            "tasks": tuple(task for task in plan.tasks if task.name in tasks),
            "runs": tuple(run for run in plan.runs if run.name in names),
        }
    )


def named_environments(plan: RunPlan, names: tuple[str, ...], file: Path | None = None) -> tuple[Environment, ...]:
    """Environments by name, each once: of a user's file, of the run's own, of ``gapshift.toml``, of the catalog.

    ``reference`` is one, too. Raises UnknownNameError, and SettingsError for a file that holds none.
    """
    planned = {environment.name: environment for environment in plan.environments}
    extra = {REFERENCE: REFERENCE_ENVIRONMENT} | own() | planned | (load(file) if file else {})
    found = {environment.name: environment for environment in select(names, (), extra)}
    return tuple(found[name] for name in dict.fromkeys(names))


def with_items(plan: RunPlan, source: Workspace) -> tuple[RunPlan, dict[str, Sets]]:
    """A plan with the digest of its judged items, and the items themselves, by task.

    Items that are there and not what ``source`` was made of (another picture, another label) are said in its notes.
    Raises DataError where items are missing, WorkspaceError where ``source`` has no ``items.parquet``.
    """
    table, _ = read_items(source.items_path)
    sets = {task.name: _sets(plan, task, table) for task in plan.tasks}
    tasks = (task.model_copy(update={"items": sets[task.name].judged.digest()}) for task in plan.tasks)
    notes = (_CHANGED.format(task.name) for task in plan.tasks if _changed(source, task, plan, sets[task.name], table))
    return plan.model_copy(update={"tasks": tuple(tasks), "notes": (*plan.notes, *notes)}), sets


_CHANGED = (
    "the items of {} are not those of the run, by content or label, though they are named alike: levels are of the "
    "items then, answers that are new of the items now"
)


def _changed(source: Workspace, task: TaskPlan, plan: RunPlan, sets: Sets, table: pa.Table) -> bool:
    """Whether the items that the run judged, whatever is drawn of them now, have another digest than then."""
    then = source.read_plan()
    if (plan.budget, plan.sequential) != (then.budget, then.sequential):
        drawn = plan.model_copy(update={"budget": then.budget, "sequential": then.sequential})
        sets = _sets(drawn, task, table)
    return sets.judged.digest() != then.task(task.name).items


def moved_tasks(plan: RunPlan, data: str | None, calibration_data: DataSource | None) -> tuple[TaskPlan, ...]:
    """The tasks with their data (``PATH``, or ``TASK=PATH`` where there are several) and calibration data replaced.

    Raises DataError where it is not clear whose data moved, UnknownNameError for a task that there is not.
    """
    if data is None and calibration_data is None:
        return plan.tasks
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
    """A task's judged items and its quantiser's, as items.parquet assigns them and the plan's budget draws them."""
    roles = _roles(plan, table.filter(pc.equal(table["task"], task.name)))
    bundle = next(bundle for bundle in plan.bundles if bundle.task == task.name)
    labels = bundle.contract.model.labels if bundle.contract.model.output_kind in CLASS_OUTPUTS else None
    dataset = _open(task.data, labels, roles)
    judged = with_role(dataset, roles, TEST)
    if task.calibration_data:
        return Sets(judged, open_calibration(task.calibration_data, labels, judged))
    return Sets(judged, quantiser_set(dataset, roles, plan.seed))


def _roles(plan: RunPlan, own: pa.Table) -> dict[str, str]:
    ids = own["id"].to_pylist()
    levels = {name: level for name, level in zip(ids, own["level"].to_pylist(), strict=True) if level is not None}
    return drawn_roles(dict(zip(ids, own["split"].to_pylist(), strict=True)), levels, plan)


def assign_roles(workspace: Workspace, plan: RunPlan) -> None:
    """Write the roles that a plan's budget gives its items into ``items.parquet``, where they are others."""
    table, cards = read_items(workspace.items_path)
    roles: dict[tuple[str, str], str] = {}
    for task in plan.tasks:
        own = _roles(plan, table.filter(pc.equal(table["task"], task.name)))
        roles |= {(task.name, name): role for name, role in own.items()}
    keys = zip(table["task"].to_pylist(), table["id"].to_pylist(), table["split"].to_pylist(), strict=True)
    split = [roles.get((task, name), role) for task, name, role in keys]
    if split != table["split"].to_pylist():
        place = table.column_names.index("split")
        write_items(workspace.items_path, table.set_column(place, "split", pa.array(split, pa.string())), cards)


def _open(source: DataSource, labels: tuple[str, ...] | None, roles: dict[str, str]) -> Dataset:
    """The run's data; every item that the run rated must still be there."""
    try:
        dataset = open_dataset(
            source.source, labels=labels, split=source.split, root=source.root, classes=source.classes
        )
    except DataError as error:
        raise DataError(f"{error} If the run's data moved, say where it lies now with --data.") from error
    missing = sorted(set(roles) - {item.id for item in dataset.items})
    if missing:
        raise DataError(
            f"{source.source} no longer holds {len(missing)} of the run's {len(roles)} items, {missing[0]!r} first. "
            "Say where the data lies now with --data."
        )
    return dataset


def bring(source: Workspace, target: Workspace, plan: RunPlan) -> None:
    """Copy what judging needs beside the new records; atomic, and left alone where it is already there.

    Raises WorkspaceError where a model is gone.
    """
    files = [source.items_path]
    files += [source.measures_path] if source.measures_path.exists() else []
    for run in plan.runs:  # what bundles are compared with
        files += [path for path in (source.answers_path(run.name), source.mix_path(run.name)) if path.exists()]
    for bundle in plan.bundles:
        files += sorted(source.bundles.glob(f"{bundle.name}.*"))
        files += sorted((source.root / "checkpoints").glob(f"{bundle.name}.pt"))  # what the torch runtime runs
        if not source.bundle_path(bundle.path).exists():
            raise WorkspaceError(
                f"The model {source.bundle_path(bundle.path)} is gone; put it back or check another one."
            )
    for file in files:
        copy = target.root / file.relative_to(source.root)
        if not copy.exists() or copy.read_bytes() != file.read_bytes():
            with atomic_path(copy) as temporary:
                shutil.copyfile(file, temporary)


def refuse_other_runs(target: Workspace, plan: RunPlan, command: str, what: str) -> None:
    """A derived folder may hold ``what`` of the same models on the same items; others would be mixed up with them.

    Raises WorkspaceError otherwise, or where another command made it.
    """
    target.refuse_other_command(command)
    if not target.plan_path.exists():
        return
    there = target.read_plan()
    models = {bundle.name: bundle for bundle in there.bundles}
    items = {task.name: task.items for task in there.tasks}
    others = [bundle.name for bundle in plan.bundles if models.get(bundle.name, bundle) != bundle]
    others += [task.name for task in plan.tasks if items.get(task.name, task.items) != task.items]
    if others:
        raise WorkspaceError(
            f"{target.root} holds {what} of other models or items ({', '.join(others)}). Give another --out, or "
            "remove the folder."
        )


class Derived:
    """A run of another run's bundles on its items, in ``target``, whose folder is locked. Made by ``derive``."""

    def __init__(self, target: Workspace, plan: RunPlan, sets: Mapping[str, Sets], known: Mapping[str, Path]) -> None:
        self.target = target
        self.plan = plan
        self._sets = sets
        self._known = known

    def evaluate(
        self,
        environments: tuple[Environment, ...],
        reporter: Reporter,
        debug: bool = False,
        bundles: tuple[str, ...] = (),
    ) -> None:
        """Plan these environments beside those that are planned, and run their cells that nobody has answered yet.

        ``bundles``: the models that answer (none: all). Cells of the same content in the run that this one is derived
        from, or in other runs derived from it, are copied. Raises SettingsError for a name that is planned with other
        deviations, UnknownNameError for a bundle that there is not.
        """
        planned = {environment.name: environment for environment in self.plan.environments}
        for environment in environments:
            there = planned.setdefault(environment.name, environment)
            if there.deviations != environment.deviations:
                raise SettingsError(
                    f"Two environments are called {environment.name}: one sets {there.deviations}, the other "
                    f"{environment.deviations}. Give one of them another name."
                )
        self.plan = self.plan.model_copy(update={"environments": tuple(planned.values())})
        self.target.write_plan(self.plan)
        now = only(self.plan, bundles).model_copy(update={"environments": environments})
        run_cells(self.target, now, self._sets, reporter, debug, known=self._known)


@contextmanager
def derive(
    source: Workspace,
    folder: Path,
    command: str,
    what: str,
    *,
    bundles: tuple[str, ...] = (),
    data: str | None = None,
    calibration_data: DataSource | None = None,
    notes: tuple[str, ...] = (),
) -> Iterator[Derived]:
    """A run in ``folder`` made of ``source``'s bundles (all without names) and items, with no environment yet.

    ``command`` is its plan's command, ``what`` says in an error what the folder holds. Raises WorkspaceError for a
    source that is no run or was derived itself, and for a folder that holds something else; DataError where items are
    missing; UnknownNameError for a bundle that there is not.
    """
    old = source.read_plan()
    if old.command == command:
        raise WorkspaceError(f"{source.root} holds {what} already; give the folder of the run that they are of.")
    chosen = only(old, bundles)
    tasks = moved_tasks(chosen, data, calibration_data)
    plan, sets = with_items(derived_plan(chosen, command, notes=notes).model_copy(update={"tasks": tasks}), source)
    target = Workspace(folder)
    refuse_other_runs(target, plan, command, what)
    with target.lock():
        bring(source, target, plan)
        yield Derived(target, plan, sets, _answered(source, target))


def derived_plan(
    plan: RunPlan, command: str, environments: tuple[Environment, ...] = (), notes: tuple[str, ...] = ()
) -> RunPlan:
    """The plan of a run of the same models on the same items, all of which answer, in other environments."""
    changes: dict[str, Any] = {
        "command": command,
        "runs": (),
        "environments": environments,
        "deployments": (),
        "traffic": (),
        "notes": notes,
    }
    whole = {"sequential": False, "budget": None} if plan.sequential else {}
    return plan.model_copy(update=changes | whole)


def _answered(source: Workspace, target: Workspace) -> dict[str, Path]:
    """The cells of a run, of what was derived from it inside its folder, and of the target, by content address."""
    folders = [path.parent for path in sorted(source.root.glob("*/run.json"))]
    found: dict[str, Path] = {}
    for workspace in (target, *map(Workspace, folders), source):
        found |= workspace.answered()
    return found
