"""``gapshift study``: difficulty → regimes → training → bundles → environments → report.

Every stage leaves its result in the run folder under the digest of what it was made
from, so a stage that is done is not done again and a killed study goes on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from gapshift.domains.base import Dataset
from gapshift.envs.catalog import choose
from gapshift.errors import UnknownNameError, WorkspaceError
from gapshift.flows.data import TEST, absolute, quantiser_set, study_splits, with_role
from gapshift.flows.judging import report, run_cells
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.stages import calibrate_items, export_runs, read_data, train_runs
from gapshift.flows.study_settings import StudySettings
from gapshift.records import write_text
from gapshift.schema import Bundle, Environment, RunPlan
from gapshift.settings import validate
from gapshift.workspace import Workspace

Stage = Literal["calibrate", "train", "export", "evaluate", "report"]


def save_settings(workspace: Workspace, settings: StudySettings) -> None:
    """Keep the study's settings in its run folder, once its data and environments are known to exist.

    Raises WorkspaceError when the folder holds another run, DataError or UnknownNameError
    for settings that cannot work.
    """
    study_splits(settings.data, settings.seed)
    planned_environments(settings)
    settings = settings.model_copy(update={"data": absolute(settings.data)})
    path = workspace.root / "study.json"
    with workspace.lock():
        workspace.refuse_other_command("study")
        if path.exists() and (changed := _changed_keys(read_settings(workspace), settings)):
            raise WorkspaceError(
                f"{workspace.root} holds a study with other settings ({', '.join(changed)}). "
                "Give another folder with --out, or delete this one."
            )
        write_text(path, settings.model_dump_json(indent=1) + "\n")


def read_settings(workspace: Workspace) -> StudySettings:
    """The settings that a run folder was made with. Raises WorkspaceError where there are none."""
    path = workspace.root / "study.json"
    if not path.exists():
        raise WorkspaceError(
            f"{workspace.root} is not a study's folder: it has no study.json. Make one with `gapshift study`."
        )
    return validate(StudySettings, json.loads(path.read_text(encoding="utf-8")), str(path))


def study(
    workspace: Workspace, reporter: Reporter | None = None, until: Stage = "report", debug: bool = False
) -> tuple[dict[str, Any], dict[str, Path]] | None:
    """Run the study whose settings lie in ``workspace``, up to and with the stage ``until``.

    Returns the summary and the reports' paths after the last stage, else None.
    """
    with workspace.lock():
        return _study(workspace, reporter or Silent(), until, debug)


def _study(
    workspace: Workspace, reporter: Reporter, until: Stage, debug: bool
) -> tuple[dict[str, Any], dict[str, Path]] | None:
    settings = read_settings(workspace)
    environments = planned_environments(settings)
    data = read_data(settings)
    rated = calibrate_items(workspace, settings, data, reporter)
    if until == "calibrate":
        return None
    train_runs(workspace, settings, data, rated, reporter)
    if until == "train":
        return None
    bundles = export_runs(workspace, settings, data, rated, reporter)
    judged = with_role(data.dataset, data.roles, TEST)
    plan = _plan(settings, bundles, environments, judged)
    workspace.write_plan(plan)
    if until == "export":
        return None
    run_cells(workspace, plan, judged, quantiser_set(data.dataset, data.roles, settings.seed), reporter, debug)
    return report(workspace, reporter) if until == "report" else None


def planned_environments(settings: StudySettings) -> tuple[Environment, ...]:
    """What the study evaluates: the named and grouped environments (all where none is), and its deployments.

    Raises UnknownNameError for a name that does not exist.
    """
    wanted = settings.evaluation
    everything = {e.name: e for e in choose((), (), wanted.environment_file)}
    for name in wanted.deployments:
        if name not in everything:
            raise UnknownNameError("deployment", name, everything, "`gapshift envs list` describes them.")
    chosen = choose(wanted.environments, wanted.groups, wanted.environment_file)
    names = {environment.name for environment in chosen} | set(wanted.deployments)
    return tuple(environment for name, environment in everything.items() if name in names)


def _plan(
    settings: StudySettings, bundles: tuple[Bundle, ...], environments: tuple[Environment, ...], judged: Dataset
) -> RunPlan:
    evaluation = settings.evaluation
    return RunPlan(
        command="study",
        data=settings.data,
        items=judged.digest(),
        bundles=bundles,
        environments=environments,
        deployments=evaluation.deployments,
        margin_pp=evaluation.margin_pp,
        alpha=evaluation.alpha,
        seed=settings.seed,
        strict=evaluation.strict,
        allow_unlevelled=evaluation.allow_unlevelled,
    )


def _changed_keys(old: StudySettings, new: StudySettings) -> list[str]:
    """Keys that differ, apart from what may change freely between two looks at the same models."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [key for key in before if key != "evaluation" and before[key] != after[key]]
