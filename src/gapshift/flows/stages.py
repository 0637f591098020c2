"""The stages of a study that make models: difficulty, training, transfer, export."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gapshift.export.bundle import (
    Mix,
    Origin,
    answers_header,
    export_bundle,
    read_mix,
    weights_digest,
    write_mix,
)
from gapshift.flows.levels import CalibrationSettings, Rated, Rating, rate_and_measure, read_rated, write_rated
from gapshift.flows.reporting import Reporter
from gapshift.flows.splitting import TEST
from gapshift.flows.study_data import StudyTask
from gapshift.flows.study_runs import UNTRAINED, ModelRun, model_runs
from gapshift.flows.study_settings import StudySettings
from gapshift.records import Records, read_cell, write_cell, write_text
from gapshift.schema import Bundle, TrainedRun, digest
from gapshift.settings import validate
from gapshift.train.checkpoint import load_checkpoint, save_checkpoint
from gapshift.train.data import choose_device
from gapshift.train.loop import Fit
from gapshift.train.measures import write_measures
from gapshift.train.models import FAMILIES
from gapshift.train.pool import in_parallel
from gapshift.train.regimes import mix, sampler, shuffle_levels
from gapshift.train.responders import LADDERS, default_ladder, recipes
from gapshift.train.responders import VERSION as RESPONDERS_VERSION
from gapshift.train.settings import TrainingSettings
from gapshift.train.transfer import graft
from gapshift.workspace import Workspace

PARITY_ITEMS = 256
"""Inputs on which an exported file is compared with its network."""
LENGTH_AXIS = {"text": 1, "audio": 2, "control": 1}
"""The axis of a model's input, counted with the batch, that may have any length."""


@dataclass(frozen=True, eq=False)
class Study:
    """What every stage needs."""

    workspace: Workspace
    settings: StudySettings
    tasks: Mapping[str, StudyTask]
    reporter: Reporter


def calibrate_items(study: Study) -> dict[str, Rated]:
    """Rate every task's items, training and held-out on the same level edges, by one ladder of recipes."""
    study.reporter.stage("calibrate")
    workspace = study.workspace
    key = digest([_calibration_key(study, task) for task in study.tasks.values()])
    if not workspace.is_done("calibrate", key, workspace.items_path, workspace.measures_path):
        settings = _calibration(study)
        found: dict[str, Rating] = {
            name: rate_and_measure(task.dataset, settings, task=name, seed=study.settings.seed, reporter=study.reporter)
            for name, task in study.tasks.items()
        }
        write_rated(
            workspace.items_path,
            *(rating.rated.with_roles(study.tasks[name].roles) for name, rating in found.items()),
        )
        workspace.measures_path.unlink(missing_ok=True)
        for name, rating in found.items():
            write_measures(workspace.measures_path, name, rating.ids, rating.measures)
        workspace.mark_done("calibrate", key)
    return {name: read_rated(workspace.items_path, name) for name in study.tasks}


def responder_networks(study: Study, task: str) -> int:
    """How many networks rate a task's items: two folds of every recipe."""
    given = study.tasks[task]
    ladder = _calibration(study).ladder or default_ladder(len(given.task.items), given.dataset.domain)
    return 2 * len(recipes(ladder, study.settings.seed))


def _calibration(study: Study) -> CalibrationSettings:
    settings = study.settings.calibration
    if len(study.tasks) > 1 and settings.ladder is None:  # one scale needs the same recipes on every task
        return settings.model_copy(update={"ladder": LADDERS["common"]})
    return settings


def train_runs(study: Study, rated: Mapping[str, Rated]) -> None:
    """Train every model that has no checkpoint yet, on the CPU as many at once as it has cores.

    Models that borrow a trunk wait for those that lend it.
    """
    study.reporter.stage("train")
    runs = model_runs(study.settings)
    by_name = {run.name: run for run in runs}
    taught = _taught(study, rated)
    keys = {run: _training_key(study, taught, run, by_name) for run in runs}
    for wave in ([run for run in runs if run.trunk_from is None], [run for run in runs if run.trunk_from is not None]):
        _train_wave(study, rated, wave, keys, len(runs) - len(wave) if wave and wave[0].trunk_from else 0, len(runs))


def _train_wave(
    study: Study,
    rated: Mapping[str, Rated],
    runs: Sequence[ModelRun],
    keys: Mapping[ModelRun, str],
    before: int,
    total: int,
) -> None:
    workspace = study.workspace
    todo = [run for run in runs if not workspace.is_done(f"train-{run.name}", keys[run], *_outputs(workspace, run))]
    there = before + len(runs) - len(todo)
    study.reporter.progress("trained", there, total)
    with closing(in_parallel([_training_task(study, rated, run) for run in todo])) as results:
        for done, (run, trained) in enumerate(zip(todo, results, strict=True), start=there + 1):
            _keep(study, run, trained)
            workspace.mark_done(f"train-{run.name}", keys[run])
            study.reporter.progress(f"trained {run.name}", done, total)


def export_runs(study: Study, rated: Mapping[str, Rated]) -> tuple[Bundle, ...]:
    """Export every model that meets the environments and has no bundle yet; all bundles, in order."""
    study.reporter.stage("export")
    workspace, bundles = study.workspace, []
    runs, taught = [run for run in model_runs(study.settings) if run.exported], _taught(study, rated)
    for done, run in enumerate(runs):
        study.reporter.progress(f"exporting {run.name}", done, len(runs))
        key = digest(["export", _training_key(study, taught, run, {})])
        card, model = (workspace.bundles / f"{run.name}{suffix}" for suffix in (".json", ".onnx"))
        outputs = (card, model, workspace.answers_path(run.name), workspace.mix_path(run.name))
        if not workspace.is_done(f"export-{run.name}", key, *outputs):
            write_text(card, _export(study, run).model_dump_json(indent=1) + "\n")
            workspace.mark_done(f"export-{run.name}", key)
        bundles.append(validate(Bundle, json.loads(card.read_text(encoding="utf-8")), str(card)))
    study.reporter.progress("exported", len(runs), len(runs))
    return tuple(bundles)


def trained_runs(study: Study, bundles: Sequence[Bundle]) -> tuple[TrainedRun, ...]:
    """What the plan says of every trained model."""
    files = {bundle.name: bundle.sha256 for bundle in bundles}
    found = []
    for run in model_runs(study.settings):
        log = _read_log(study.workspace, run)
        found.append(
            TrainedRun(
                name=run.name,
                task=run.task,
                domain=study.tasks[run.task].dataset.domain,
                family=run.family,
                width=log["width"],
                regime=run.regime,
                seed=run.seed,
                sha256=files.get(run.name, log["weights"]),
                parameters=log["parameters"],
                exported=run.exported,
                shuffled=run.shuffled,
                trunk_from=run.trunk_from,
            )
        )
    return tuple(found)


# ------------------------------------------------------------------------- one training


@dataclass(frozen=True, eq=False)
class _Trained:
    """A trained network, how it was trained, what that took, and what it answers."""

    model: nn.Module
    training: TrainingSettings
    fit: Fit
    records: Records
    mix: Mix


def _training_task(study: Study, rated: Mapping[str, Rated], run: ModelRun) -> Callable[[], _Trained]:
    """One run, ready to train on any thread."""

    def train() -> _Trained:
        task, training = study.tasks[run.task], training_of(study.settings, run)
        rows, levels = task.training_rows(rated[run.task])
        draws = _draws(training, levels, run)
        model = task.task.build(run.family, training.width, run.seed)
        if run.trunk_from is not None:
            model = graft(model, _lender(study, run))
        resume = study.workspace.root / "checkpoints" / f"{run.name}.part"
        fit = task.task.fit(model, rows[draws], training, seed=run.seed, keep=resume)
        asked = task.rows(TEST) if run.trunk_from else np.concatenate([task.rows(TEST), rows])
        weights = Mix([task.task.items[row].id for row in rows], mix(draws, len(rows)))
        return _Trained(model, training, fit, task.task.records(model, asked), weights)

    return train


def training_of(settings: StudySettings, run: ModelRun) -> TrainingSettings:
    """The settings that one run trains by."""
    training = settings.training_of(run.task).model_copy(update={"family": run.family})
    changes: dict[str, int] = {} if run.width is None else {"width": run.width}
    if run.trunk_from is not None and settings.comparisons.transfer is not None:
        changes["steps"] = settings.comparisons.transfer.steps
    return training.model_copy(update=changes)


def _draws(training: TrainingSettings, levels: NDArray[np.int64], run: ModelRun) -> NDArray[np.int64]:
    told = shuffle_levels(levels, run.shuffled, run.seed) if run.shuffled else levels
    return sampler(
        run.regime,
        told,
        steps=training.steps,
        batch=training.batch_size,
        seed=run.seed,
        open_by=training.curriculum_open_by,
    )


def _lender(study: Study, run: ModelRun) -> nn.Module | None:
    if run.trunk_from in (None, UNTRAINED):
        return None
    return load_checkpoint(study.workspace.root / "checkpoints" / f"{run.trunk_from}.pt")[0]


def _keep(study: Study, run: ModelRun, trained: _Trained) -> None:
    """Weights, log, mix and answers; an exported model's answers wait for its file's digest."""
    workspace, fitted = study.workspace, trained.fit
    weights, log, answers = _outputs(workspace, run)
    spec = study.tasks[run.task].task.spec(run.family, trained.training.width)
    sha256 = weights_digest(trained.model)
    header = answers_header(run.name, sha256, trained.model, fitted.device, fitted.dtype, fitted.seconds)
    save_checkpoint(weights, trained.model, spec, trained.training)
    write_cell(answers, header, trained.records)
    write_mix(workspace.mix_path(run.name), trained.mix)
    text = {
        "device": fitted.device,
        "dtype": fitted.dtype,
        "seconds": fitted.seconds,
        "losses": fitted.losses.tolist(),
        "weights": sha256,
        "width": trained.training.width,
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
    }
    write_text(log, json.dumps(text))


def _outputs(workspace: Workspace, run: ModelRun) -> tuple[Path, Path, Path]:
    """Where a run's weights, its training log and its answers lie."""
    folder = workspace.root / "checkpoints"
    answers = folder / f"{run.name}.answers.parquet" if run.exported else workspace.answers_path(run.name)
    return folder / f"{run.name}.pt", folder / f"{run.name}.json", answers


def _read_log(workspace: Workspace, run: ModelRun) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_outputs(workspace, run)[1].read_text(encoding="utf-8"))
    return found


# --------------------------------------------------------------------------- one export


def _export(study: Study, run: ModelRun) -> Bundle:
    workspace, task = study.workspace, study.tasks[run.task]
    weights, _, answers = _outputs(workspace, run)
    model, _, training = load_checkpoint(weights)
    log, family, domain = _read_log(workspace, run), FAMILIES[run.family], task.dataset.domain
    return export_bundle(
        model,
        workspace=workspace,
        name=run.name,
        contract=task.contract(),
        inputs=task.task.examples(model, PARITY_ITEMS),
        answers=read_cell(answers)[1],
        mix=read_mix(workspace.mix_path(run.name)),
        origin=Origin(
            regime=run.regime,
            seed=run.seed,
            family=run.family,
            width=training.width,
            task=run.task,
            domain=domain,
            training={
                **training.model_dump(mode="json"),
                "study": study.settings.name,
                "study_seed": study.settings.seed,
            },
            device=log["device"],
            dtype=log["dtype"],
            seconds=log["seconds"],
        ),
        length_axis=LENGTH_AXIS.get(domain) if family.sequence else None,
        recurrent=family.recurrent,
        architecture=task.task.spec(run.family, training.width).model_dump_json(),
    )


# --------------------------------------------------------------------------------- keys


def _calibration_key(study: Study, task: StudyTask) -> str:
    shared = study.settings.model_dump(mode="json", include={"seed", "calibration"})
    device = choose_device("auto").type
    content = [task.name, task.dataset.digest(), sorted(task.roles.items())]
    return digest([shared, content, RESPONDERS_VERSION, device])


def _taught(study: Study, rated: Mapping[str, Rated]) -> dict[str, str]:
    """The digest of what each task can teach: contents, roles and levels; once for all its models."""
    return {
        name: digest([task.task.digest(), sorted(task.roles.items()), sorted(rated[name].strata().items())])
        for name, task in study.tasks.items()
    }


def _training_key(study: Study, taught: Mapping[str, str], run: ModelRun, by_name: Mapping[str, ModelRun]) -> str:
    """Everything that a trained model depends on; with its lender's key where its trunk is borrowed."""
    training = training_of(study.settings, run).model_dump(mode="json")
    lender = by_name.get(run.trunk_from or "")
    borrowed = _training_key(study, taught, lender, by_name) if lender else run.trunk_from
    plain = replace(run, exported=False).name
    return digest([training, taught[run.task], plain, borrowed, torch.__version__, choose_device("auto").type])
