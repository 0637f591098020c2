"""The stages of a study that make models: difficulty, training, export."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.domains.vision import prepare
from gapshift.errors import DataError, UnreadableItemError
from gapshift.export.bundle import Answers, Mix, Origin, export_bundle
from gapshift.flows.data import TEST, TRAIN, study_splits
from gapshift.flows.levels import Rated, rate, read_rated, write_rated
from gapshift.flows.reporting import Reporter
from gapshift.flows.study_settings import StudySettings
from gapshift.records import write_text
from gapshift.schema import Bundle, Contract, Item, ModelInterface, digest
from gapshift.settings import validate
from gapshift.train.checkpoint import load_checkpoint, save_checkpoint
from gapshift.train.data import choose_device
from gapshift.train.loop import Fit, fit
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.pool import in_parallel
from gapshift.train.predict import scores
from gapshift.train.regimes import mix, sampler
from gapshift.train.responders import VERSION as RESPONDERS_VERSION
from gapshift.train.settings import TrainingSettings
from gapshift.workspace import Workspace


@dataclass(frozen=True, eq=False)
class StudyData:
    """A study's items with their roles, and those that can be read as model inputs.

    ``items`` and ``images`` (n, C, H, W) float32 hold the readable ones; ``labels`` (n,).
    """

    dataset: Dataset
    roles: dict[str, str]
    items: tuple[Item, ...]
    images: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array([item.label for item in self.items], dtype=np.int64)

    def rows(self, role: str) -> NDArray[np.intp]:
        """Rows with this role."""
        return np.flatnonzero([self.roles[item.id] == role for item in self.items])


@dataclass(frozen=True)
class ModelRun:
    """One model to train."""

    family: str
    regime: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.family}-{self.regime}-s{self.seed}"


def read_data(settings: StudySettings) -> StudyData:
    """Open the study's data and prepare it as its contract says. Raises DataError."""
    dataset, roles = study_splits(settings.data, settings.seed)
    items, images = [], []
    for index, item in enumerate(dataset.items):
        try:
            images.append(prepare(dataset.raw(index), settings.preprocessing))
            items.append(item)
        except UnreadableItemError:
            continue  # it stays in the data set, and its record in the reference cell says so
    if not items:
        raise DataError(f"None of the {len(dataset)} items of {settings.data.source} can be decoded.")
    return StudyData(dataset, roles, tuple(items), np.stack(images).astype(np.float32, copy=False))


def calibrate_items(workspace: Workspace, settings: StudySettings, data: StudyData, reporter: Reporter) -> Rated:
    """Rate every item, training and held-out on the same level edges."""
    reporter.stage("calibrate")
    key = _calibration_key(settings, data)
    if not workspace.is_done("calibrate", key, workspace.items_path):
        rated = rate(
            data.dataset,
            settings.calibration,
            task=settings.name,
            seed=settings.seed,
            reporter=reporter,
        )
        write_rated(workspace.items_path, rated.with_roles(data.roles))
        workspace.mark_done("calibrate", key)
    return read_rated(workspace.items_path)


def train_runs(
    workspace: Workspace, settings: StudySettings, data: StudyData, rated: Rated, reporter: Reporter
) -> None:
    """Train every family × regime × seed that has no checkpoint yet, on the CPU as many at once as it has cores."""
    reporter.stage("train")
    runs = model_runs(settings)
    keys = {run: _training_key(settings, data, rated, run) for run in runs}
    todo = [run for run in runs if not workspace.is_done(f"train-{run.name}", keys[run], *_trained(workspace, run))]
    rows, levels = _training_rows(data, rated)
    images, labels = torch.from_numpy(data.images[rows]), torch.from_numpy(data.labels[rows])
    tasks = [_training_task(settings, data, run, images, labels, levels) for run in todo]
    reporter.progress("trained", len(runs) - len(todo), len(runs))
    with closing(in_parallel(tasks)) as results:
        for done, (run, trained) in enumerate(zip(todo, results, strict=True), start=len(runs) - len(todo) + 1):
            _keep(workspace, run, trained)
            workspace.mark_done(f"train-{run.name}", keys[run])
            reporter.progress(f"trained {run.name}", done, len(runs))


def export_runs(
    workspace: Workspace, settings: StudySettings, data: StudyData, rated: Rated, reporter: Reporter
) -> tuple[Bundle, ...]:
    """Export every trained run that has no bundle yet; all bundles, in order."""
    reporter.stage("export")
    runs, bundles = model_runs(settings), []
    for done, run in enumerate(runs):
        reporter.progress(f"exporting {run.name}", done, len(runs))
        key = digest(["export", _training_key(settings, data, rated, run)])
        card, model = (workspace.bundles / f"{run.name}{suffix}" for suffix in (".json", ".onnx"))
        outputs = (card, model, workspace.answers_path(run.name), workspace.mix_path(run.name))
        if not workspace.is_done(f"export-{run.name}", key, *outputs):
            write_text(card, _export(workspace, settings, data, rated, run).model_dump_json(indent=1) + "\n")
            workspace.mark_done(f"export-{run.name}", key)
        bundles.append(validate(Bundle, json.loads(card.read_text(encoding="utf-8")), str(card)))
    reporter.progress("exported", len(runs), len(runs))
    return tuple(bundles)


def model_runs(settings: StudySettings) -> list[ModelRun]:
    """Every model of the study."""
    grid = itertools.product(settings.families, settings.regimes, range(settings.seeds))
    return [ModelRun(family, regime, seed) for family, regime, seed in grid]


@dataclass(frozen=True, eq=False)
class _Trained:
    """A trained network, what builds it again, how it was trained and what that took."""

    model: torch.nn.Module
    spec: ModelSpec
    training: TrainingSettings
    fit: Fit


def _training_task(
    settings: StudySettings,
    data: StudyData,
    run: ModelRun,
    images: torch.Tensor,
    labels: torch.Tensor,
    levels: NDArray[np.int64],
) -> Callable[[], _Trained]:
    """One run, ready to train on any thread: its network is built here, since that borrows torch's global generator."""
    spec = _spec(settings, data, run)
    training = settings.training.model_copy(update={"family": run.family})
    model, draws = build_spec(spec, seed=run.seed), _draws(settings, levels, run)

    def train() -> _Trained:
        return _Trained(model, spec, training, fit(model, images, labels, draws, training, seed=run.seed))

    return train


def _keep(workspace: Workspace, run: ModelRun, trained: _Trained) -> None:
    weights, log = _trained(workspace, run)
    save_checkpoint(weights, trained.model, trained.spec, trained.training)
    fitted = trained.fit
    text = {"device": fitted.device, "dtype": fitted.dtype, "seconds": fitted.seconds, "losses": fitted.losses.tolist()}
    write_text(log, json.dumps(text))


def _export(workspace: Workspace, settings: StudySettings, data: StudyData, rated: Rated, run: ModelRun) -> Bundle:
    weights, log_file = _trained(workspace, run)
    model, _, training = load_checkpoint(weights)
    log = json.loads(log_file.read_text(encoding="utf-8"))
    train, levels = _training_rows(data, rated)
    test = data.rows(TEST)
    asked = np.concatenate([test, train])
    return export_bundle(
        model,
        workspace=workspace,
        name=run.name,
        contract=_contract(settings, data),
        images=data.images[test],
        answers=Answers([data.items[row] for row in asked], scores(model, data.images[asked])),
        mix=Mix([data.items[row].id for row in train], mix(_draws(settings, levels, run), len(train))),
        origin=Origin(
            regime=run.regime,
            seed=run.seed,
            family=run.family,
            task=settings.name,
            training={**training.model_dump(mode="json"), "study": settings.name, "study_seed": settings.seed},
            device=log["device"],
            dtype=log["dtype"],
            seconds=log["seconds"],
        ),
    )


def _trained(workspace: Workspace, run: ModelRun) -> tuple[Path, Path]:
    """Where a run's weights and its training log lie."""
    folder = workspace.root / "checkpoints"
    return folder / f"{run.name}.pt", folder / f"{run.name}.json"


def _spec(settings: StudySettings, data: StudyData, run: ModelRun) -> ModelSpec:
    _, channels, height, width = data.images.shape
    return ModelSpec(
        family=run.family,
        channels=channels,
        size=(height, width),
        classes=len(data.dataset.classes),
        width=settings.training.width,
    )


def _draws(settings: StudySettings, levels: NDArray[np.int64], run: ModelRun) -> NDArray[np.int64]:
    training = settings.training
    return sampler(
        run.regime,
        levels,
        steps=training.steps,
        batch=training.batch_size,
        seed=run.seed,
        open_by=training.curriculum_open_by,
    )


def _training_rows(data: StudyData, rated: Rated) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Rows of the training items that have a level, and their levels."""
    strata = rated.strata()
    rows = np.array([row for row in data.rows(TRAIN) if data.items[row].id in strata], dtype=np.intp)
    return rows, np.array([strata[data.items[row].id] for row in rows], dtype=np.int64)


def _contract(settings: StudySettings, data: StudyData) -> Contract:
    interface = ModelInterface(input="input", output="logits", labels=data.dataset.classes)
    return Contract(preprocessing=settings.preprocessing, model=interface)


def _calibration_key(settings: StudySettings, data: StudyData) -> str:
    shared = settings.model_dump(mode="json", include={"name", "seed", "data", "calibration"})
    device = choose_device("auto").type
    return digest([shared, data.dataset.digest(), sorted(data.roles.items()), RESPONDERS_VERSION, device])


def _training_key(settings: StudySettings, data: StudyData, rated: Rated, run: ModelRun) -> str:
    shared = settings.model_dump(mode="json", include={"data", "preprocessing", "training", "seed"})
    levels = sorted(rated.strata().items())
    return digest([shared, data.dataset.digest(), levels, run.name, torch.__version__, choose_device("auto").type])
