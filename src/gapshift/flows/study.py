"""``gapshift study``: difficulty → regimes → training → bundles → environments → report.

Every stage leaves its result in the run folder under the digest of what it was made
from, so a stage that is done is not done again and a killed study goes on.
"""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from gapshift.envs.catalog import choose
from gapshift.errors import UnknownNameError, WorkspaceError
from gapshift.flows.data import absolute, quantiser_set
from gapshift.flows.judging import Sets, report, run_cells
from gapshift.flows.lock import Repetition, compare_locks, read_lock, write_lock
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.stages import (
    Study,
    calibrate_items,
    export_runs,
    responder_networks,
    train_runs,
    trained_runs,
)
from gapshift.flows.study_data import StudyTask, open_task, read_tasks
from gapshift.flows.study_runs import model_runs
from gapshift.flows.study_settings import StudySettings
from gapshift.records import write_text
from gapshift.schema import Bundle, Domain, Environment, RunPlan, TaskPlan, takes
from gapshift.settings import user_traffic, validate
from gapshift.workspace import Workspace

Stage = Literal["calibrate", "train", "export", "evaluate", "report"]


_MOST_CHANGES = 3
"""So many changed settings are named; the others are counted."""
_ABSENT = object()


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
                f"{workspace.root} holds a study with other settings ({_told(changed)}). "
                "Give another folder with --out; responders that are finished are taken from the cache."
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
    reporter.note(_extent(study, environments))
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


def _extent(study: Study, environments: Sequence[Environment]) -> str:
    """How much there is to do, whatever of it is done already."""
    runs = model_runs(study.settings)
    exported = [run for run in runs if run.exported]
    domains = {run.task: study.tasks[run.task].dataset.domain for run in exported}
    fitting = {task: _fitting(domain, domains.values(), environments) for task, domain in domains.items()}
    cells = sum(1 + fitting[run.task] for run in exported)  # 1: the reference
    networks = sorted({responder_networks(study, name) for name in study.tasks})
    return (
        f"{len(runs)} models ({len(exported)} exported), "
        f"{' or '.join(map(str, networks))} responder networks a task, {cells} cells"
    )


def _fitting(domain: Domain, domains: Collection[Domain], environments: Iterable[Environment]) -> int:
    """How many environments models of ``domain`` meet, as ``schema.environments_for`` plans them for bundles."""
    return sum(takes(domain, e) or not any(takes(other, e) for other in domains) for e in environments)


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
        traffic=user_traffic(),
        notes=notes,
    )


def _changed_keys(old: StudySettings, new: StudySettings) -> list[str]:
    """Keys that differ, each with both values, apart from what may change between two looks at the same models."""
    before, after = (each.model_dump(mode="json", exclude={"evaluation"}) for each in (old, new))
    return list(_changes(before, after, ()))


def _changes(there: Any, here: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            yield from _changes(there.get(key, _ABSENT), here.get(key, _ABSENT), (*path, key))
    elif there != here:
        yield f"{'.'.join(path)}: {_value(there)} there, {_value(here)} here"


def _value(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    return textwrap.shorten(json.dumps(value, ensure_ascii=False), 60, placeholder=" ...")


def _told(changed: list[str]) -> str:
    more = len(changed) - _MOST_CHANGES
    return "; ".join(changed[:_MOST_CHANGES]) + (f"; and {more} more" if more > 0 else "")
