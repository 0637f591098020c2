"""The stages of a study that make models: difficulty, training, export."""

from __future__ import annotations

import itertools
import json
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
from gapshift.flows.judging import read_rated, write_rated
from gapshift.flows.levels import Rated, rate
from gapshift.flows.reporting import Reporter
from gapshift.flows.study_settings import StudySettings
from gapshift.records import write_text
from gapshift.schema import Bundle, Contract, Item, ModelInterface, digest
from gapshift.settings import validate
from gapshift.train.checkpoint import load_checkpoint, save_checkpoint
from gapshift.train.loop import fit
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.predict import scores
from gapshift.train.regimes import mix, sampler
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
    if not workspace.is_done("calibrate", key):
        rated = rate(
            data.dataset,
            settings.preprocessing,
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
    """Train every family × regime × seed that has no checkpoint yet."""
    reporter.stage("train")
    runs = model_runs(settings)
    for done, run in enumerate(runs):
        reporter.progress(f"training {run.name}", done, len(runs))
        key = _training_key(settings, data, run)
        if not workspace.is_done(f"train-{run.name}", key):
            _train(workspace, settings, data, rated, run)
            workspace.mark_done(f"train-{run.name}", key)
    reporter.progress("trained", len(runs), len(runs))


def export_runs(
    workspace: Workspace, settings: StudySettings, data: StudyData, rated: Rated, reporter: Reporter
) -> tuple[Bundle, ...]:
    """Export every trained run that has no bundle yet; all bundles, in order."""
    reporter.stage("export")
    runs, bundles = model_runs(settings), []
    for done, run in enumerate(runs):
        reporter.progress(f"exporting {run.name}", done, len(runs))
        key = digest(["export", _training_key(settings, data, run), settings.preprocessing.model_dump(mode="json")])
        card = workspace.bundles / f"{run.name}.json"
        if not workspace.is_done(f"export-{run.name}", key):
            write_text(card, _export(workspace, settings, data, rated, run).model_dump_json(indent=1) + "\n")
            workspace.mark_done(f"export-{run.name}", key)
        bundles.append(validate(Bundle, json.loads(card.read_text(encoding="utf-8")), str(card)))
    reporter.progress("exported", len(runs), len(runs))
    return tuple(bundles)


def model_runs(settings: StudySettings) -> list[ModelRun]:
    """Every model of the study."""
    grid = itertools.product(settings.families, settings.regimes, range(settings.seeds))
    return [ModelRun(family, regime, seed) for family, regime, seed in grid]


def _train(workspace: Workspace, settings: StudySettings, data: StudyData, rated: Rated, run: ModelRun) -> None:
    rows, levels = _training_rows(data, rated)
    spec = _spec(settings, data, run)
    training = settings.training.model_copy(update={"family": run.family})
    model = build_spec(spec, seed=run.seed)
    fitted = fit(
        model,
        torch.from_numpy(data.images[rows]),
        torch.from_numpy(data.labels[rows]),
        _draws(settings, levels, run),
        training,
        seed=run.seed,
    )
    save_checkpoint(_checkpoint(workspace, run), model, spec, training)
    log = {"device": fitted.device, "dtype": fitted.dtype, "seconds": fitted.seconds, "losses": fitted.losses.tolist()}
    write_text(_checkpoint(workspace, run).with_suffix(".json"), json.dumps(log))


def _export(workspace: Workspace, settings: StudySettings, data: StudyData, rated: Rated, run: ModelRun) -> Bundle:
    model, _, training = load_checkpoint(_checkpoint(workspace, run))
    log = json.loads(_checkpoint(workspace, run).with_suffix(".json").read_text(encoding="utf-8"))
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


def _checkpoint(workspace: Workspace, run: ModelRun) -> Path:
    return workspace.root / "checkpoints" / f"{run.name}.pt"


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
    shared = settings.model_dump(mode="json", include={"name", "seed", "data", "preprocessing", "calibration"})
    return digest([shared, data.dataset.digest(), sorted(data.roles.items())])


def _training_key(settings: StudySettings, data: StudyData, run: ModelRun) -> str:
    return digest(
        [_calibration_key(settings, data), settings.training.model_dump(mode="json"), run.name, torch.__version__]
    )
