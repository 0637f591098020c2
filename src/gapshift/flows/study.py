"""``gapshift study``: difficulty → regimes → training → bundles → environments → report.

Every stage leaves its result in the run folder under the digest of what it was made
from, so a stage that is done is not done again and a killed study goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from gapshift.envs.catalog import choose
from gapshift.errors import UnknownNameError, WorkspaceError
from gapshift.flows.data import absolute, quantiser_set
from gapshift.flows.judging import Sets, report, run_cells
from gapshift.flows.lock import Repetition, compare_locks, read_lock, write_lock
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.stages import Study, calibrate_items, export_runs, train_runs, trained_runs
from gapshift.flows.study_data import StudyTask, open_task, read_tasks
from gapshift.flows.study_settings import StudySettings
from gapshift.records import write_text
from gapshift.schema import Bundle, Environment, RunPlan, TaskPlan, takes
from gapshift.settings import validate
from gapshift.workspace import Workspace

Stage = Literal["calibrate", "train", "export", "evaluate", "report"]


def save_settings(workspace: Workspace, settings: StudySettings) -> None:
    """Keep the study's settings in its run folder, once its data and environments are known to exist.

    Raises WorkspaceError when the folder holds another run, DataError or UnknownNameError
    for settings that cannot work.
    """
    planned_environments(settings)
    for task in settings.tasks.values():
        open_task(task, settings.seed)
    tasks = {name: task.model_copy(update={"data": absolute(task.data)}) for name, task in settings.tasks.items()}
    settings = settings.model_copy(update={"tasks": tasks})
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
    tasks, notes = read_tasks(settings)
    for note in notes:
        reporter.note(note)
    study = Study(workspace, settings, {task.name: task for task in tasks}, reporter)
    with _timed(workspace, "calibrate"):
        rated = calibrate_items(study)
    if until == "calibrate":
        return None
    with _timed(workspace, "train"):
        train_runs(study, rated)
    if until == "train":
        return None
    with _timed(workspace, "export"):
        bundles = export_runs(study, rated)
    sets = {task.name: _sets(task, settings.seed) for task in tasks}
    plan = _plan(study, bundles, environments, sets, notes)
    workspace.write_plan(plan)
    write_lock(study, plan)
    if until == "export":
        return None
    with _timed(workspace, "evaluate"):
        run_cells(workspace, plan, sets, reporter, debug)
    if until == "evaluate":
        return None
    with _timed(workspace, "judge"):
        return report(workspace, reporter)


@contextmanager
def _timed(workspace: Workspace, stage: Stage | Literal["judge"]) -> Iterator[None]:
    """A stage that ends well leaves its wall time in the journal."""
    start = time.perf_counter()
    yield
    workspace.log("timing", stage=stage, seconds=round(time.perf_counter() - start, 3))


def reproduce(
    run: Path, out: Path, reporter: Reporter | None = None, debug: bool = False
) -> tuple[dict[str, Any], dict[str, Path], Repetition]:
    """Repeat the study of ``run`` in the folder ``out``: its summary, its reports, and what differs.

    Raises WorkspaceError where ``run`` has no lock, or ``out`` holds something else.
    """
    lock = read_lock(Workspace(run))
    target = Workspace(out)
    if target.root.resolve() == run.resolve():
        raise WorkspaceError(f"{out} is the run that would be repeated. Give another folder with --out.")
    save_settings(target, validate(StudySettings, lock["settings"], str(run / "lock.json")))
    result = study(target, reporter, "report", debug)
    assert result is not None  # the stage "report" was asked for
    return (*result, compare_locks(lock, read_lock(target)))


def _sets(task: StudyTask, seed: int) -> Sets:
    return Sets(task.judged(), quantiser_set(task.dataset, task.roles, seed))


def planned_environments(settings: StudySettings) -> tuple[Environment, ...]:
    """What the study evaluates: the named and grouped environments (all where none is), and its deployments.

    Those that fit none of its domains are left out unless they were named. Raises
    UnknownNameError for a name that does not exist.
    """
    wanted = settings.evaluation
    everything = {e.name: e for e in choose((), (), wanted.environment_file)}
    for name in wanted.deployments:
        if name not in everything:
            raise UnknownNameError("deployment", name, everything, "`gapshift envs list` describes them.")
    chosen = choose(wanted.environments, wanted.groups, wanted.environment_file)
    names = {environment.name for environment in chosen} | set(wanted.deployments)
    domains = {task.domain for task in settings.tasks.values()}
    named = {*wanted.environments, *wanted.deployments}
    return tuple(
        environment
        for name, environment in everything.items()
        if name in names and (name in named or any(takes(domain, environment) for domain in domains))
    )


def _plan(
    study: Study,
    bundles: tuple[Bundle, ...],
    environments: tuple[Environment, ...],
    sets: Mapping[str, Sets],
    notes: tuple[str, ...],
) -> RunPlan:
    settings, evaluation = study.settings, study.settings.evaluation
    return RunPlan(
        command="study",
        tasks=tuple(
            TaskPlan(name=name, data=task.settings.data, items=sets[name].judged.digest())
            for name, task in study.tasks.items()
        ),
        bundles=bundles,
        runs=trained_runs(study, bundles),
        environments=environments,
        deployments=evaluation.deployments,
        margin_pp=evaluation.margin_pp,
        alpha=evaluation.alpha,
        seed=settings.seed,
        strict=evaluation.strict,
        allow_unlevelled=evaluation.allow_unlevelled,
        notes=notes,
    )


def _changed_keys(old: StudySettings, new: StudySettings) -> list[str]:
    """Keys that differ, apart from what may change freely between two looks at the same models."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [key for key in before if key != "evaluation" and before[key] != after[key]]
