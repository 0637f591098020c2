"""Responders: small networks whose answers rate the items.

Two-fold cross-fitting: a recipe trains one network per fold and lets it answer the
other fold, so no item is rated by a network that saw it; both together are one row.

A response is the *probability of the true class*, not right or wrong: it carries how
near an item is to being lost, which lifts the agreement of levels at a given number of
runs. Its chance level is 1/K, the same as the guessing parameter of right-or-wrong
answers, so ``guessing = 1/K`` holds for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gapshift.errors import CalibrationError
from gapshift.records import atomic_path
from gapshift.schema import Frozen, digest
from gapshift.train.data import array_digest, choose_device, id_order, intra_op_threads, two_folds
from gapshift.train.loop import fit
from gapshift.train.models import build
from gapshift.train.predict import probabilities, scores
from gapshift.train.regimes import sampler
from gapshift.train.settings import LadderSettings

VERSION = 2
"""Part of every cache key: raise it when the same recipe answers differently."""

LADDERS: dict[str, LadderSettings] = {
    "small": LadderSettings(checkpoints=(0.6, 1.0)),
    "standard": LadderSettings(checkpoints=(0.5, 1.0)),
}
"""Twelve runs each. Measured with the ``em`` engine on two cores (split-half reliability;
CPU-seconds): 1,797 digits at 16x16 0.93, 20; 3,000 CIFAR-10 images at 32x32 0.97, 31;
10,000 of them 0.98, 105. Right-or-wrong answers of such networks reached 0.89 on the
digits and 0.96 on the 10,000. Earlier checkpoints than these answer near chance."""


class Recipe(Frozen):
    """One run of the ladder."""

    width: int
    data_fraction: float
    seed: int

    @property
    def name(self) -> str:
        return f"w{self.width}-f{self.data_fraction:g}-s{self.seed}"


@dataclass(frozen=True, eq=False)
class Responses:
    """Soft responses of R responders to N items.

    ``matrix`` (R, N): probability of the true class in [0, 1]. ``runs`` (R,): the name of
    the recipe that a row belongs to (checkpoints of one run are not independent);
    ``names`` (R,): recipe and checkpoint.
    """

    matrix: NDArray[np.float64]
    item_ids: tuple[str, ...]
    runs: tuple[str, ...]
    names: tuple[str, ...]


def recipes(ladder: LadderSettings, seed: int) -> tuple[Recipe, ...]:
    """Every run of the ladder, seeds outermost so that a cut-short ladder stays balanced."""
    return tuple(
        Recipe(width=width, data_fraction=fraction, seed=1000 * seed + repeat)
        for repeat in range(ladder.seeds)
        for fraction in ladder.data_fractions
        for width in ladder.capacities
    )


def default_ladder(n_items: int) -> LadderSettings:
    """``small`` under 4,000 items, else ``standard``."""
    return LADDERS["small" if n_items < 4000 else "standard"]


def respond(
    images: NDArray[np.float32],
    labels: NDArray[np.integer],
    item_ids: Sequence[str],
    ladder: LadderSettings,
    *,
    classes: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
    device: str = "auto",
) -> Responses:
    """Let every recipe of ``ladder`` answer every item, cross-fitted.

    ``images`` (N, C, H, W) float32 as the model would see them, ``labels`` (N,) below
    ``classes``. ``progress(done, total)`` is called after each recipe. With ``cache``,
    finished recipes are kept there by content, and a killed calibration goes on.
    Raises CalibrationError for inputs that cannot be cross-fitted, TrainingError for a
    run whose loss is not finite.
    """
    truth: NDArray[np.int64] = np.asarray(labels).astype(np.int64)
    _validate(images, truth, item_ids, classes)
    data = digest([array_digest(images, truth), list(item_ids), classes])
    todo = recipes(ladder, seed)
    rows: list[NDArray[np.float32]] = []
    for done, recipe in enumerate(todo, start=1):
        path = None if cache is None else cache / f"{_key(data, ladder, recipe)}.npy"
        answer = _cached(path, (len(ladder.checkpoints), len(truth)))
        if answer is None:
            answer = _cross_fit(images, truth, item_ids, ladder, recipe, classes, device)
            _keep(path, answer)
        rows.append(answer)
        if progress is not None:
            progress(done, len(todo))
    return Responses(
        matrix=np.concatenate(rows).astype(np.float64),
        item_ids=tuple(item_ids),
        runs=tuple(recipe.name for recipe in todo for _ in ladder.checkpoints),
        names=tuple(f"{recipe.name}-c{point:g}" for recipe in todo for point in ladder.checkpoints),
    )


def _cross_fit(
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    item_ids: Sequence[str],
    ladder: LadderSettings,
    recipe: Recipe,
    classes: int,
    device: str,
) -> NDArray[np.float32]:
    """One recipe's rows, shape (checkpoints, N): each fold answered by the other's network.

    On the CPU both folds train at once, one thread each: batches are too small to share.
    """
    folds = two_folds(item_ids, labels)
    order = id_order(item_ids, salt=str(recipe.seed))
    shape = (images.shape[2], images.shape[3])
    tasks = []
    for fold in (0, 1):
        known = order[folds[order] != fold]
        known = known[: max(2, round(recipe.data_fraction * len(known)))]
        seed = 2 * recipe.seed + fold
        # Built here, not in the threads: initialisation borrows torch's global generator.
        model = build(
            ladder.family, channels=images.shape[1], size=shape, classes=classes, width=recipe.width, seed=seed
        )
        tasks.append(_Fold(model, seed, known, np.flatnonzero(folds == fold)))
    rows = np.full((len(ladder.checkpoints), len(labels)), np.nan, dtype=np.float32)
    workers = 2 if choose_device(device).type == "cpu" else 1
    with intra_op_threads(1), ThreadPoolExecutor(workers) as pool:
        answers = pool.map(lambda task: _answers(task, images, labels, ladder, recipe, device), tasks)
        for task, answer in zip(tasks, answers, strict=True):
            rows[:, task.asked] = answer
    return rows


@dataclass(frozen=True, eq=False)
class _Fold:
    """A fresh network, its seed, the items that it trains on and those that it answers."""

    model: nn.Module
    seed: int
    known: NDArray[np.int64]
    asked: NDArray[np.int64]


def _answers(
    task: _Fold,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    ladder: LadderSettings,
    recipe: Recipe,
    device: str,
) -> NDArray[np.float32]:
    """Train on one fold; the probability of the true class on the other, per checkpoint."""
    known, batch = len(task.known), ladder.batch_size
    steps = max(ladder.least_steps, round(ladder.epochs / recipe.data_fraction * known / batch))
    draws = sampler("iid", np.ones(known, dtype=np.int64), steps=steps, batch=batch, seed=task.seed)
    asked, truth = images[task.asked], labels[task.asked]
    rows: list[NDArray[np.float32]] = []

    def answer(_fraction: float) -> None:
        rows.append(probabilities(scores(task.model, asked))[np.arange(len(truth)), truth].astype(np.float32))

    fit(
        task.model,
        torch.from_numpy(images[task.known]),
        torch.from_numpy(labels[task.known]),
        draws,
        ladder.training(recipe.width, steps),
        device,
        seed=task.seed,
        checkpoints=ladder.checkpoints,
        at_checkpoint=answer,
    )
    return np.stack(rows)


def _key(data: str, ladder: LadderSettings, recipe: Recipe) -> str:
    """Content address: everything that the recipe's answers depend on."""
    shared = ladder.model_dump(exclude={"capacities", "data_fractions", "seeds"})
    return digest([VERSION, data, shared, recipe.model_dump(), torch.__version__])


def _cached(path: Path | None, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """A finished recipe, or None: absent, unreadable and misshapen files are computed again."""
    if path is None or not path.exists():
        return None
    try:
        answer: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return answer if answer.shape == shape and bool(np.isfinite(answer).all()) else None


def _keep(path: Path | None, answer: NDArray[np.float32]) -> None:
    if path is not None:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, answer)


def _validate(images: NDArray[np.float32], labels: NDArray[np.int64], item_ids: Sequence[str], classes: int) -> None:
    if images.ndim != 4 or not len(images) == len(labels) == len(item_ids):
        raise CalibrationError(
            f"images have shape {images.shape}, labels {labels.shape}, and there are {len(item_ids)} ids; "
            "responders take (N, C, H, W), (N,) and N ids."
        )
    if len(labels) < 4:
        raise CalibrationError(f"{len(labels)} items cannot be cross-fitted; it takes at least 4. Give more items.")
    if labels.min() < 0 or labels.max() >= classes:
        raise CalibrationError(
            f"Labels reach from {labels.min()} to {labels.max()}; with {classes} classes they are 0-{classes - 1}. "
            "Check the labels against the class names."
        )
    if len(set(item_ids)) != len(item_ids):
        raise CalibrationError("Item ids repeat; folds are drawn by id. Give every item its own id.")
    if not np.isfinite(images).all():
        raise CalibrationError("Images hold non-finite values. Leave out unreadable items, or look at mean and std.")
