"""``gapshift evaluate RUN``: the bundles of a run, again, in the same or other environments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapshift.envs.catalog import choose
from gapshift.errors import SettingsError, WorkspaceError
from gapshift.flows.again import assign_roles, bring, moved_tasks, only, with_items
from gapshift.flows.budget import check_budget
from gapshift.flows.judging import Sets, report, run_cells, traffic_names
from gapshift.flows.levels import read_rated
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.self_test import refuse_sequential, repeat_gated
from gapshift.flows.sequential import check_readable, readable_environments
from gapshift.reports.traffic import unknown_name
from gapshift.schema import DataSource, Environment, RunPlan, takes
from gapshift.settings import user_traffic, validate
from gapshift.workspace import Workspace


def evaluate_run(
    run: Path,
    out: Path,
    *,
    bundles: tuple[str, ...] = (),
    environments: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    environment_file: Path | None = None,
    margin_pp: float | None = None,
    data: str | None = None,
    calibration_data: DataSource | None = None,
    self_test: bool = False,
    budget: int | None = None,
    sequential: bool | None = None,
    reporter: Reporter | None = None,
    debug: bool = False,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Evaluate a run's bundles into ``out`` (which may be ``run`` itself) and report.

    ``bundles`` names those that are evaluated (none: all), with their tasks; a part of a run needs an ``out`` of
    its own. Without names or groups the run's own plan is repeated. Named environments become the
    deployments, which are gated; with groups alone the run's deployments stay gated, and environments of
    domains that the run has not are left out. ``data`` says where the items lie now, if they moved;
    ``calibration_data`` is for the static quantiser. ``budget`` and ``sequential`` are of the new plan (None: the run's
    own), which needs an ``out`` of its own where they differ. ``self_test`` repeats what is gated, for the verdict to
    be asked of each repeat.
    Raises WorkspaceError for a folder that is no run, or where another run (or another plan) would be overwritten;
    DataError where items are missing; UnknownNameError for a bundle or an environment, or a label or group of a traffic
    mix, that there is not; SettingsError for a budget below 1 and for what cannot be read sequentially.
    """
    check_budget(budget)
    reporter = reporter or Silent()
    source, target = Workspace(run), Workspace(out)
    old = source.read_plan()
    plan = _new_plan(only(old, bundles), environments, groups, environment_file, margin_pp, data, calibration_data)
    plan = _read_so(plan, budget, sequential)
    if source.root.resolve() != target.root.resolve():
        plan = plan.model_copy(update={"traffic": user_traffic() or plan.traffic})
    plan, sets = with_items(plan, source)
    if len(plan.tasks) < len(old.tasks):
        plan = _without_foreign_mixes(plan, sets)
    _refuse_overwriting(source, target, old, plan)
    _check_reading(source, plan, sets, self_test)
    with target.lock():
        _bring(source, target, plan)
        target.write_plan(plan)
        run_cells(target, plan, sets, reporter, debug)
        if self_test:
            repeat_gated(target, plan, sets, reporter, debug)
        return report(target, reporter)


def _check_reading(source: Workspace, plan: RunPlan, sets: Mapping[str, Sets], self_test: bool) -> None:
    """Raise SettingsError where a sequential plan cannot be read, or not repeated."""
    refuse_sequential(self_test, plan.sequential)
    for task in plan.tasks:
        check_readable(plan, sets[task.name].judged, read_rated(source.items_path, task.name))


def _bring(source: Workspace, target: Workspace, plan: RunPlan) -> None:
    """What judging needs, in another folder than the run's own."""
    if source.root.resolve() != target.root.resolve():
        bring(source, target, plan)
        assign_roles(target, plan)


def _read_so(plan: RunPlan, budget: int | None, sequential: bool | None) -> RunPlan:
    """The plan with another budget, or another way of reading."""
    changes: dict[str, Any] = {} if budget is None else {"budget": budget}
    if sequential is not None and sequential != plan.sequential:
        changes = {"budget": None, "sequential": sequential} | changes
    plan = plan.model_copy(update=changes)
    if not plan.sequential:
        return plan
    environments, notes = readable_environments(plan.environments, plan.deployments)
    notes = tuple(note for note in notes if note not in plan.notes)
    return plan.model_copy(update={"environments": environments, "notes": (*plan.notes, *notes)})


def _without_foreign_mixes(plan: RunPlan, sets: Mapping[str, Sets]) -> RunPlan:
    """Without traffic mixes of labels or groups that only tasks left out have; said in the plan's notes."""
    names = traffic_names(plan, sets)
    kept = tuple(mix for mix in plan.traffic if unknown_name(mix, *names) is None)
    left = [mix.name for mix in plan.traffic if mix not in kept]
    note = f"Left out: the traffic mixes {', '.join(left)}, which weigh what the chosen models' tasks do not have."
    return plan.model_copy(update={"traffic": kept, "notes": (*plan.notes, *([note] if left else []))})


def _refuse_overwriting(source: Workspace, target: Workspace, old: RunPlan, plan: RunPlan) -> None:
    """A run's folder keeps its own bundles, items and plan; another evaluation goes elsewhere."""
    if source.root.resolve() == target.root.resolve():
        others = [name for name in RunPlan.model_fields if getattr(plan, name) != getattr(old, name)]
        if others:
            raise WorkspaceError(
                f"{source.root} was planned otherwise (its {', '.join(others)}), and evaluating it so would replace "
                "its report. Give another folder with --out."
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
        environments = environments_for_run(plan, names, groups, file)
        planned = {environment.name for environment in environments}
        kept = tuple(name for name in plan.deployments if name in planned)
        changes = {"environments": environments, "deployments": names or kept}
    if margin is not None:
        changes["margin_pp"] = margin
    if data is not None or calibration_data is not None:
        changes["tasks"] = moved_tasks(plan, data, calibration_data)
    return validate(RunPlan, plan.model_copy(update=changes).model_dump(), "the new plan")


def environments_for_run(
    plan: RunPlan, names: tuple[str, ...], groups: tuple[str, ...], file: Path | None
) -> tuple[Environment, ...]:
    """The chosen environments without those of domains that the run has not, but for what is named.

    Raises UnknownNameError for names and groups that there are not, SettingsError where nothing is left.
    """
    domains = {bundle.domain for bundle in plan.bundles}
    chosen = choose(names, groups, file)
    fitting = tuple(e for e in chosen if e.name in names or any(takes(domain, e) for domain in domains))
    if not fitting:
        raise SettingsError(
            f"No environment of the group {' or '.join(groups)} is for {' or '.join(sorted(domains))} models, which "
            "the run has. `gapshift envs list --group GROUP` lists a group."
        )
    return fitting
