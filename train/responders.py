"""Responders: small networks whose answers rate the items.

Two-fold cross-fitting: a recipe trains one network per fold and lets it answer the
other fold, so no item is rated by a network that saw it; both together are one row.

A response is the *probability of the true class*, not right or wrong: it carries how
near an item is to being lost, which lifts the agreement of levels at a given number of
runs. Its chance level is 1/K, the same as the guessing parameter of right-or-wrong
answers, so ``guessing = 1/K`` holds for both.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gapshift.errors import CalibrationError, WorkspaceError
from gapshift.records import atomic_path
from gapshift.schema import Frozen, digest
from gapshift.train.data import array_digest, choose_device, id_order, two_folds
from gapshift.train.loop import fit
from gapshift.train.models import build
from gapshift.train.pool import default_workers, in_parallel
from gapshift.train.predict import probabilities, scores
from gapshift.train.regimes import sampler
from gapshift.train.settings import LadderSettings

VERSION = 3
"""Part of every cache key: raise it when the same recipe answers differently."""

LADDERS: dict[str, LadderSettings] = {
    "small": LadderSettings(checkpoints=(0.6, 1.0)),
    "standard": LadderSettings(checkpoints=(0.5, 1.0)),
}
"""Twelve runs each. Measured with the ``em`` engine: the card's split-half reliability (mean
over ladders of different seeds), Pearson's and Spearman's correlation of b between two
complete ladders of different seeds (mean over pairs), and CPU-seconds of one ladder:

=================================  ==========  =======  ========  =======
items                              split-half  Pearson  Spearman  seconds
=================================  ==========  =======  ========  =======
1,797 digits at 16x16, 3 ladders        0.930    0.935     0.896       18
3,000 CIFAR-10 images at 32x32, 3       0.957    0.962     0.965       30
10,000 CIFAR-10 images at 32x32, 2      0.975    0.975     0.975      105
=================================  ==========  =======  ========  =======

So the card says what a second ladder would confirm. When all recipes shared one partition
into folds, and those of a repeat their seed, the digits' card said 0.936 and ladders of
other seeds and folds correlated at 0.868. Earlier checkpoints than these answer near chance."""

_ASKED_AT_ONCE = 512


class Recipe(Frozen):
    """One run of the ladder. ``seed`` is the ladder's; ``repeat`` counts runs alike in width and fraction.

    Folds, initialisation, draws and training subset all follow from the whole recipe: were
    they shared, what is peculiar to them would be shared too, and halves of the ladder
    would agree better than two ladders do.
    """

    width: int
    data_fraction: float
    seed: int
    repeat: int

    @property
    def name(self) -> str:
        return f"w{self.width}-f{self.data_fraction:g}-s{self.seed}-r{self.repeat}"

    def stream(self, fold: int) -> int:
        """Seed of the network that answers ``fold``: 48 bits of a hash."""
        return int.from_bytes(hashlib.sha256(f"{self.name} fold {fold}".encode()).digest()[:6])


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
    """Every run of the ladder, repeats outermost so that a cut-short ladder stays balanced."""
    return tuple(
        Recipe(width=width, data_fraction=fraction, seed=seed, repeat=repeat)
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
    note: Callable[[str], None] | None = None,
    cache: Path | None = None,
    device: str = "auto",
) -> Responses:
    """Let every recipe of ``ladder`` answer every item, cross-fitted.

    ``images`` (N, C, H, W) float32 as the model would see them, ``labels`` (N,) below
    ``classes``. ``progress(done, total)`` is called after each recipe. With ``cache``,
    finished recipes are kept there by content, and a killed calibration goes on; a cache
    that cannot be written is said once through ``note``, and the calibration goes on without.
    Raises CalibrationError for inputs that cannot be cross-fitted, TrainingError for a
    run whose loss is not finite.
    """
    truth: NDArray[np.int64] = np.asarray(labels).astype(np.int64)
    _validate(images, truth, item_ids, classes)
    data = _Data(images, truth, tuple(item_ids), classes, choose_device(device).type)
    todo = recipes(ladder, seed)
    rows = _rows(data, ladder, todo, _Cache(cache, note), progress or (lambda _done, _total: None))
    return Responses(
        matrix=np.concatenate(rows).astype(np.float64),
        item_ids=tuple(item_ids),
        runs=tuple(recipe.name for recipe in todo for _ in ladder.checkpoints),
        names=tuple(f"{recipe.name}-c{point:g}" for recipe in todo for point in ladder.checkpoints),
    )


@dataclass(frozen=True, eq=False)
class _Data:
    """What is rated, and the kind of device that rates it."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    item_ids: tuple[str, ...]
    classes: int
    device: str

    def digest(self) -> str:
        return digest([array_digest(self.images, self.labels), list(self.item_ids), self.classes, self.device])


@dataclass(frozen=True, eq=False)
class _Fold:
    """One network's part of a recipe: the items that it trains on, and those that it answers."""

    recipe: Recipe
    stream: int
    known: NDArray[np.int64]
    asked: NDArray[np.int64]


def _rows(
    data: _Data,
    ladder: LadderSettings,
    todo: Sequence[Recipe],
    cache: _Cache,
    progress: Callable[[int, int], None],
) -> list[NDArray[np.float32]]:
    """Every recipe's rows, each of shape (checkpoints, N), from the cache or from new networks."""
    address, shape = data.digest(), (len(ladder.checkpoints), len(data.labels))
    keys = {recipe: _key(address, ladder, recipe) for recipe in todo}
    kept = {recipe: cache.read(keys[recipe], shape) for recipe in todo}
    new = {recipe: _folds(data, recipe) for recipe in todo if kept[recipe] is None}
    tasks = [partial(_answers, fold, data, ladder) for folds in new.values() for fold in folds]
    rows: list[NDArray[np.float32]] = []
    with contextlib.closing(in_parallel(tasks, default_workers(data.device))) as answers:
        for recipe in todo:
            answer = kept[recipe]
            if answer is None:
                answer = np.full(shape, np.nan, dtype=np.float32)
                for fold in new[recipe]:
                    answer[:, fold.asked] = next(answers)
                cache.keep(keys[recipe], answer)
            rows.append(answer)
            progress(len(rows), len(todo))
    return rows


def _folds(data: _Data, recipe: Recipe) -> tuple[_Fold, _Fold]:
    """Each fold is answered by a network that trains on (a share of) the other."""
    folds = two_folds(data.item_ids, data.labels, salt=f"{recipe.name} folds")
    order = id_order(data.item_ids, salt=f"{recipe.name} subset")

    def part(fold: int) -> _Fold:
        known = order[folds[order] != fold]
        known = known[: max(2, round(recipe.data_fraction * len(known)))]
        return _Fold(recipe, recipe.stream(fold), known, np.flatnonzero(folds == fold))

    return part(0), part(1)


def _answers(task: _Fold, data: _Data, ladder: LadderSettings) -> NDArray[np.float32]:
    """Train on one fold; the probability of the true class on the other, shape (checkpoints, asked)."""
    width, known, batch, images = task.recipe.width, len(task.known), ladder.batch_size, data.images
    _, channels, height, side = images.shape
    model = build(
        ladder.family, channels=channels, size=(height, side), classes=data.classes, width=width, seed=task.stream
    )
    steps = max(ladder.least_steps, round(ladder.epochs / task.recipe.data_fraction * known / batch))
    draws = sampler("iid", np.ones(known, dtype=np.int64), steps=steps, batch=batch, seed=task.stream)
    own = np.arange(len(task.asked)), data.labels[task.asked]
    # A few at a time, and one array of images for all networks: many of them train at once.
    batches = np.split(task.asked, range(_ASKED_AT_ONCE, len(task.asked), _ASKED_AT_ONCE))
    rows: list[NDArray[np.float32]] = []

    def answer(_fraction: float) -> None:
        given = [scores(model, images[part]) for part in batches]
        rows.append(probabilities(np.concatenate(given))[own].astype(np.float32))

    fit(
        model,
        torch.from_numpy(images),
        torch.from_numpy(data.labels),
        task.known[draws],
        ladder.training(width, steps),
        data.device,
        seed=task.stream,
        checkpoints=ladder.checkpoints,
        at_checkpoint=answer,
    )
    return np.stack(rows)


def _key(data: str, ladder: LadderSettings, recipe: Recipe) -> str:
    """Content address: everything that the recipe's answers depend on."""
    shared = ladder.model_dump(exclude={"capacities", "data_fractions", "seeds"})
    return digest([VERSION, data, shared, recipe.model_dump(), torch.__version__])


class _Cache:
    """Finished recipes in a folder. One that cannot be written is said once and left alone."""

    def __init__(self, folder: Path | None, note: Callable[[str], None] | None) -> None:
        self._folder = folder
        self._note = note or (lambda _text: None)

    def read(self, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """A finished recipe, or None: absent, unreadable and misshapen files are computed again."""
        if self._folder is None:
            return None
        try:
            answer: NDArray[np.float32] = np.load(self._folder / f"{key}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return answer if answer.shape == shape and bool(np.isfinite(answer).all()) else None

    def keep(self, key: str, answer: NDArray[np.float32]) -> None:
        if self._folder is None:
            return
        try:
            with atomic_path(self._folder / f"{key}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, answer)
        except WorkspaceError as error:
            reason = str(error.__cause__ or error)
            self._note(
                f"Responders are not kept for the next run: the cache {self._folder} cannot be written ({reason}). "
                "Set GAPSHIFT_CACHE to a folder that can be."
            )
            self._folder = None


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
