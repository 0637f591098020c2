"""Responders: small networks whose answers rate the items.

Two-fold cross-fitting: a recipe trains one network per fold and lets it answer the
other fold, so no item is rated by a network that saw it; both together are one row.
Items of one group (speaker, paragraph) lie in one fold.

A response is the *probability of the truth* (in control, the share of an episode that was
mastered), not right or wrong: it carries how near an item is to being lost, which lifts the
agreement of levels at a given number of runs. Its chance level is that of right-or-wrong
answers (1/K for classes), so ``guessing`` is the task's for both.

The same networks give two more measures of difficulty at no further training: the early
error norm of the items that they learn from (EL2N), and held-out consistency.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gapshift.errors import CalibrationError, WorkspaceError
from gapshift.records import atomic_path
from gapshift.schema import Domain, Frozen, digest
from gapshift.train.data import choose_device, id_order
from gapshift.train.folds import grouped_folds
from gapshift.train.models import DEFAULT_RESPONDER
from gapshift.train.pool import default_workers, in_parallel
from gapshift.train.regimes import sampler
from gapshift.train.settings import LadderSettings
from gapshift.train.tasks.base import Task

VERSION = 4
"""Part of every cache key: raise it when the same recipe answers differently."""

EARLY = 0.25
"""The share of a run's steps after which the error norm of its own items is taken: one pass over
the fold at four epochs, so that every item was learnt from once. On 900 digits its rank
correlation with b was 0.48 and 0.58 (two ladders; 0.38 and 0.44 at 0.15, 0.59 and 0.73 at 0.4),
and 0.73 with that of another ladder."""

LADDERS: dict[str, LadderSettings] = {
    "small": LadderSettings(checkpoints=(0.6, 1.0)),
    "standard": LadderSettings(checkpoints=(0.5, 1.0)),
    "common": LadderSettings(checkpoints=(0.5, 1.0), least_steps=200),
}
"""Twelve runs each. ``common`` is for texts, sounds and control, and for every task of a study of
several: text networks learn nothing in 60 steps. On 1,000 generated sentiments (one ladder) 60
steps gave mean responses from 0.58 at level 1 to 0.45 at level 5 and split-half 0.71; 200 steps
0.81 to 0.35 and 0.82, in 43 CPU-seconds (rank correlation of the early error norm with b: 0.39, then 0.62).

On images the other two are enough. Measured with the ``em`` engine: the card's split-half reliability (mean
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
        """The recipe's name, the same on every task and for every seed of the ladder."""
        return f"w{self.width}-f{self.data_fraction:g}-r{self.repeat}"

    @property
    def salt(self) -> str:
        """What sets its random choices apart from those of every other recipe."""
        return f"w{self.width}-f{self.data_fraction:g}-s{self.seed}-r{self.repeat}"

    def stream(self, fold: int) -> int:
        """Seed of the network that answers ``fold``: 48 bits of a hash."""
        return int.from_bytes(hashlib.sha256(f"{self.salt} fold {fold}".encode()).digest()[:6])


@dataclass(frozen=True, eq=False)
class Responses:
    """Soft responses of R responders to N items.

    ``matrix`` (R, N): in [0, 1], how far each item is mastered; the rows of a run lie together,
    its last checkpoint last. ``runs`` (R,): the name of the recipe that a row belongs to
    (checkpoints of one run are not independent); ``names`` (R,): recipe and checkpoint, the
    same on every task. ``early_error`` (N,): EL2N (Paul et al. 2021), the mean L2 norm of
    probabilities minus truth on items that the networks learn from, early in the training of
    the recipes with data fraction 1, two folds of which learn from every item; None where the
    task has no such norm, or the ladder no such recipe.
    """

    matrix: NDArray[np.float64]
    item_ids: tuple[str, ...]
    runs: tuple[str, ...]
    names: tuple[str, ...]
    early_error: NDArray[np.float64] | None = None

    @property
    def consistency(self) -> NDArray[np.float64]:
        """Held-out consistency, shape (N,): the mean response of fully trained networks that did
        not learn from the item (the C-score of Jiang et al. 2021, ICML, at half of the data)."""
        last = {run: row for row, run in enumerate(self.runs)}
        mean: NDArray[np.float64] = self.matrix[list(last.values())].mean(axis=0)
        return mean


def recipes(ladder: LadderSettings, seed: int) -> tuple[Recipe, ...]:
    """Every run of the ladder, repeats outermost so that a cut-short ladder stays balanced."""
    return tuple(
        Recipe(width=width, data_fraction=fraction, seed=seed, repeat=repeat)
        for repeat in range(ladder.seeds)
        for fraction in ladder.data_fractions
        for width in ladder.capacities
    )


def default_ladder(n_items: int, domain: Domain = "vision") -> LadderSettings:
    """For one data set: ``small`` for under 4,000 images, ``standard`` for more, ``common`` elsewhere.

    A study of several tasks takes ``common`` for all of them: only the same recipes share a scale.
    """
    if domain != "vision":
        return LADDERS["common"]
    return LADDERS["small" if n_items < 4000 else "standard"]


def respond(
    task: Task,
    ladder: LadderSettings,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] | None = None,
    cache: Path | None = None,
    device: str = "auto",
) -> Responses:
    """Let every recipe of ``ladder`` answer every item of ``task``, cross-fitted.

    ``progress(done, total)`` is called after each recipe. With ``cache``, finished recipes
    are kept there by content, and a killed calibration goes on; a cache that cannot be
    written is said once through ``note``, and the calibration goes on without.
    Raises CalibrationError for items that cannot be cross-fitted and for a ladder of a single
    run, TrainingError for a run whose loss is not finite.
    """
    _validate(task, ladder)
    asking = _asking(task, ladder, choose_device(device).type)
    ladder = asking.ladder
    todo = recipes(ladder, seed)
    rows = _rows(asking, todo, _Cache(cache, note), progress or (lambda _done, _total: None))
    return Responses(
        matrix=np.concatenate([row.answers for row in rows]).astype(np.float64),
        item_ids=tuple(item.id for item in task.items),
        runs=tuple(recipe.name for recipe in todo for _ in ladder.checkpoints),
        names=tuple(f"{recipe.name}-c{point:g}" for recipe in todo for point in ladder.checkpoints),
        early_error=_early_error(rows),
    )


@dataclass(frozen=True, eq=False)
class _Asking:
    """What is rated, by which family and ladder, and on what kind of device."""

    task: Task
    family: str
    ladder: LadderSettings
    device: str

    def digest(self) -> str:
        """Everything but the recipe that answers depend on."""
        groups = [item.group for item in self.task.items]
        shared = self.ladder.model_dump(exclude={"capacities", "data_fractions", "seeds"})
        return digest([VERSION, EARLY, self.task.digest(), groups, shared, self.device, torch.__version__])


def _asking(task: Task, ladder: LadderSettings, device: str) -> _Asking:
    """With the family named, and the checkpoints in the order in which they come."""
    family = ladder.family or DEFAULT_RESPONDER[task.domain]
    settled = ladder.model_copy(update={"family": family, "checkpoints": tuple(sorted(ladder.checkpoints))})
    return _Asking(task, family, settled, device)


@dataclass(frozen=True, eq=False)
class _Row:
    """What one recipe, or one of its networks, says: ``answers`` (checkpoints, items), and the early
    ``errors`` (items,) of items that it learns from; NaN where an item is not asked, or no error taken."""

    answers: NDArray[np.float32]
    errors: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Fold:
    """One network's part of a recipe: the items that it trains on, and those that it answers."""

    recipe: Recipe
    stream: int
    known: NDArray[np.int64]
    asked: NDArray[np.int64]


def _rows(asking: _Asking, todo: Sequence[Recipe], cache: _Cache, progress: Callable[[int, int], None]) -> list[_Row]:
    """Every recipe's row, from the cache or from new networks."""
    address, shape = asking.digest(), (len(asking.ladder.checkpoints), len(asking.task))
    keys = {recipe: _key(address, asking, recipe) for recipe in todo}
    kept = {recipe: cache.read(keys[recipe], shape) for recipe in todo}
    new = {recipe: _folds(asking.task, recipe) for recipe in todo if kept[recipe] is None}
    tasks = [partial(_answers, fold, asking) for folds in new.values() for fold in folds]
    rows: list[_Row] = []
    with contextlib.closing(in_parallel(tasks, default_workers(asking.device))) as answers:
        for recipe in todo:
            row = kept[recipe]
            if row is None:
                row = _Row(np.full(shape, np.nan, np.float32), np.full(shape[1], np.nan, np.float32))
                for fold in new[recipe]:
                    row.answers[:, fold.asked], row.errors[fold.known] = next(answers)
                cache.keep(keys[recipe], row)
            rows.append(row)
            progress(len(rows), len(todo))
    return rows


def _key(address: str, asking: _Asking, recipe: Recipe) -> str:
    """Content address of one recipe's row."""
    return digest([address, asking.task.spec(asking.family, recipe.width).model_dump(), recipe.model_dump()])


def _folds(task: Task, recipe: Recipe) -> tuple[_Fold, _Fold]:
    """Each fold is answered by a network that trains on (a share of) the other."""
    folds = grouped_folds(task.items, salt=f"{recipe.salt} folds")
    order = id_order([item.id for item in task.items], salt=f"{recipe.salt} subset")

    def part(fold: int) -> _Fold:
        known = order[folds[order] != fold]
        known = known[: max(2, round(recipe.data_fraction * len(known)))]
        return _Fold(recipe, recipe.stream(fold), known, np.flatnonzero(folds == fold))

    return part(0), part(1)


def _answers(fold: _Fold, asking: _Asking) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Train on one fold; the answers to the other, (checkpoints, asked), and the early errors, (known,)."""
    task, ladder, known = asking.task, asking.ladder, len(fold.known)
    model = task.build(asking.family, fold.recipe.width, fold.stream)
    steps = max(ladder.least_steps, round(ladder.epochs / fold.recipe.data_fraction * known / ladder.batch_size))
    draws = sampler("iid", np.ones(known, dtype=np.int64), steps=steps, batch=ladder.batch_size, seed=fold.stream)
    answers = np.full((len(ladder.checkpoints), len(fold.asked)), np.nan, np.float32)
    errors = np.full(known, np.nan, np.float32)

    def ask(fraction: float) -> None:
        if fraction in ladder.checkpoints:
            answers[ladder.checkpoints.index(fraction)] = _checked(task.truth(model, fold.asked), fold.recipe)
        norm = task.error_norm(model, fold.known) if fraction == EARLY and fold.recipe.data_fraction == 1 else None
        if norm is not None:
            errors[:] = norm

    task.fit(
        model,
        fold.known[draws],
        ladder.training(fold.recipe.width, steps),
        asking.device,
        seed=fold.stream,
        checkpoints=sorted({*ladder.checkpoints, EARLY}),
        at_checkpoint=ask,
    )
    return answers, errors


def _checked(answers: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """NaN would pass for a missing response."""
    if not ((answers >= 0) & (answers <= 1)).all():
        raise CalibrationError(
            f"Responder {recipe.name} gave an answer that is not a number from 0 to 1. "
            "Lower the ladder's `learning_rate`, or look for non-finite inputs."
        )
    return answers


def _early_error(rows: Sequence[_Row]) -> NDArray[np.float64] | None:
    """The mean over the recipes that scored every item."""
    whole = [row.errors for row in rows if np.isfinite(row.errors).all()]
    return np.mean(whole, axis=0, dtype=np.float64) if whole else None


class _Cache:
    """Finished recipes in a folder. One that cannot be written is said once and left alone.

    A file holds an array (checkpoints + 1, N): the answers, and below them the early errors.
    """

    def __init__(self, folder: Path | None, note: Callable[[str], None] | None) -> None:
        self._folder = folder
        self._note = note or (lambda _text: None)

    def read(self, key: str, shape: tuple[int, int]) -> _Row | None:
        """A finished recipe, or None: absent, unreadable and misshapen files are computed again."""
        if self._folder is None:
            return None
        try:
            kept: NDArray[np.float32] = np.load(self._folder / f"{key}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        whole = kept.shape == (shape[0] + 1, shape[1]) and bool(np.isfinite(kept[:-1]).all())
        return _Row(kept[:-1], kept[-1]) if whole else None

    def keep(self, key: str, row: _Row) -> None:
        if self._folder is None:
            return
        try:
            with atomic_path(self._folder / f"{key}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, np.vstack([row.answers, row.errors]))
        except WorkspaceError as error:
            reason = str(error.__cause__ or error)
            self._note(
                f"Responders are not kept for the next run: the cache {self._folder} cannot be written ({reason}). "
                "Set GAPSHIFT_CACHE to a folder that can be."
            )
            self._folder = None


def _validate(task: Task, ladder: LadderSettings) -> None:
    runs = len(recipes(ladder, 0))
    if runs < 2:
        raise CalibrationError(
            f"The ladder of responders has {runs} run; a calibration takes at least 2, 12 or more are advised. "
            "Add capacities or data_fractions, or raise seeds."
        )
    if len(task) < 4:
        raise CalibrationError(f"{len(task)} items cannot be cross-fitted; it takes at least 4. Give more items.")
    again = [name for name, count in Counter(item.id for item in task.items).items() if count > 1]
    if again:
        raise CalibrationError(f"Item ids repeat ({again[0]}); folds are drawn by id. Give every item its own id.")
