"""Cross-fitted responders: what they answer, what they may have seen, what is kept."""

# ruff: noqa: ARG002  # tasks made up here take what the interface gives and use a part of it

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import spearmanr
from torch import nn

from gapshift.errors import CalibrationError
from gapshift.records import Records, unanswered
from gapshift.schema import OUTCOMES, Item
from gapshift.train import responders
from gapshift.train.data import array_digest
from gapshift.train.loop import Fit, fit
from gapshift.train.predict import probabilities, scores
from gapshift.train.responders import EARLY, LADDERS, Responses, default_ladder, recipes, respond
from gapshift.train.settings import LadderSettings, TrainingSettings
from gapshift.train.sources import Tensors
from gapshift.train.tasks.base import Rows, Task

LADDER = LadderSettings(
    capacities=(4,), data_fractions=(0.5, 1.0), seeds=2, checkpoints=(0.5, 1.0), epochs=1, least_steps=25, batch_size=16
)
SHORT = LADDER.model_copy(update={"least_steps": 2, "data_fractions": (1.0,)})
N, WRONG = 80, 10


class Network:
    """One network as a task saw it: the rows that it learnt from and was asked, and its first weights."""

    def __init__(self, model: nn.Module, rows: NDArray[np.int64]) -> None:
        self.weights = next(model.parameters()).detach().numpy().tobytes()
        self.trained = frozenset(np.unique(rows).tolist())
        self.asked: list[frozenset[int]] = []
        self.errors: list[frozenset[int]] = []


class Images(Task):
    """Tiny images; keeps account of its networks."""

    def __init__(
        self, images: NDArray[np.float32], labels: NDArray[np.int64], groups: Sequence[str | None] | None = None
    ) -> None:
        groups = groups if groups is not None else [None] * len(images)
        items = [Item(id=f"i{k}", label=int(labels[k]), group=groups[k]) for k in range(len(images))]
        shape, content = images.shape[1:], array_digest(images)
        super().__init__(items, domain="vision", kind="classes", shape=shape, outputs=2, guessing=0.5, content=content)
        self.images = images
        self.networks: dict[int, Network] = {}
        self._alive: list[nn.Module] = []

    def fit(
        self,
        model: nn.Module,
        draws: NDArray[np.int64],
        config: TrainingSettings,
        device: str = "auto",
        *,
        seed: int = 0,
        checkpoints: Sequence[float] = (),
        at_checkpoint: Callable[[float], None] | None = None,
        keep: Path | None = None,
    ) -> Fit:
        self._alive.append(model)  # or its id could be given to another
        self.networks[id(model)] = Network(model, draws)
        source = Tensors(torch.from_numpy(self.images), torch.from_numpy(self.labels))
        return fit(
            model, source, draws, config, device, seed=seed, checkpoints=checkpoints, at_checkpoint=at_checkpoint
        )

    def truth(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        self.networks[id(model)].asked.append(frozenset(rows.tolist()))
        own: NDArray[np.float32] = self._probabilities(model, rows)[np.arange(len(rows)), self.labels[rows]]
        return own

    def error_norm(self, model: nn.Module, rows: Rows) -> NDArray[np.float32] | None:
        self.networks[id(model)].errors.append(frozenset(rows.tolist()))
        off: NDArray[np.float32] = self._probabilities(model, rows) - np.eye(2, dtype=np.float32)[self.labels[rows]]
        return np.asarray(np.linalg.norm(off, axis=1), dtype=np.float32)

    def _probabilities(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        return probabilities(scores(model, self.images[rows])).astype(np.float32)

    def records(self, model: nn.Module, rows: Rows) -> Records:
        return unanswered([self.items[row] for row in rows], "ok")

    def examples(self, model: nn.Module, count: int) -> NDArray[Any]:
        return self.images[:count]


def images(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Brighter left half: class 1. The last ten items carry the wrong label."""
    labels = np.arange(N) % 2
    pixels = np.random.default_rng(seed).normal(size=(N, 1, 8, 8)).astype(np.float32)
    pixels[labels == 1, :, :, :4] += 3
    labels = labels.copy()
    labels[-WRONG:] = 1 - labels[-WRONG:]
    return pixels, labels


@pytest.fixture
def task() -> Images:
    return Images(*images())


class Episodes(Task):
    """Episodes without a network worth the name: mastered by their number, and no error norm."""

    def __init__(self, mastered: NDArray[np.float32]) -> None:
        items = [Item(id=f"e{k}", label=1) for k in range(len(mastered))]
        super().__init__(
            items, domain="control", kind="episodes", shape=(2, 4), outputs=2, guessing=0.0, content=OUTCOMES[1]
        )
        self.mastered = mastered

    def fit(
        self,
        model: nn.Module,
        draws: NDArray[np.int64],
        config: TrainingSettings,
        device: str = "auto",
        *,
        seed: int = 0,
        checkpoints: Sequence[float] = (),
        at_checkpoint: Callable[[float], None] | None = None,
        keep: Path | None = None,
    ) -> Fit:
        for fraction in checkpoints:
            if at_checkpoint is not None:
                at_checkpoint(fraction)
        return Fit(np.zeros(len(draws), dtype=np.float32), 0.0, "cpu", "float32")

    def truth(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        return self.mastered[rows]

    def error_norm(self, model: nn.Module, rows: Rows) -> NDArray[np.float32] | None:
        return None

    def records(self, model: nn.Module, rows: Rows) -> Records:
        return unanswered([self.items[row] for row in rows], "ok")

    def examples(self, model: nn.Module, count: int) -> NDArray[Any]:
        return np.zeros((count, 2, 4), dtype=np.float32)


# ------------------------------------------------------------------------------- answers


def test_one_row_a_recipe_and_checkpoint_and_every_item_answered(task: Images) -> None:
    seen: list[tuple[int, int]] = []
    answers = respond(task, LADDER, progress=lambda done, total: seen.append((done, total)), device="cpu")
    assert answers.matrix.shape == (8, N)
    assert answers.names[:3] == ("w4-f0.5-r0-c0.5", "w4-f0.5-r0-c1", "w4-f1-r0-c0.5")
    assert len(set(answers.names)) == 8
    assert len(set(answers.runs)) == 4
    assert answers.runs[0] == answers.runs[1] != answers.runs[2]
    assert answers.item_ids == tuple(f"i{k}" for k in range(N))
    assert ((answers.matrix >= 0) & (answers.matrix <= 1)).all()
    assert seen == [(k, 4) for k in range(1, 5)]
    final = answers.matrix[1::2].mean(axis=0)
    assert final[:-WRONG].mean() > 0.7
    assert final[-WRONG:].mean() < 0.4  # mislabelled items are the hardest: no network saw its own item


def test_other_measures_come_from_the_same_networks(task: Images) -> None:
    answers = respond(task, LADDER.model_copy(update={"least_steps": 60}), device="cpu")
    assert answers.early_error is not None
    assert answers.early_error[-WRONG:].mean() > answers.early_error[:-WRONG].mean() + 0.2
    np.testing.assert_allclose(answers.consistency, answers.matrix[1::2].mean(axis=0))
    assert spearmanr(answers.early_error, answers.consistency).statistic < -0.3
    for network in task.networks.values():  # asked early about all that it may learn from, or never
        assert network.errors in ([], [frozenset(range(N)) - network.asked[0]])
    assert sum(len(network.errors) for network in task.networks.values()) == 2 * 2


def test_without_an_error_norm_or_a_recipe_that_scores_every_item_there_is_none() -> None:
    assert respond(Images(*images()), SHORT.model_copy(update={"data_fractions": (0.5,)})).early_error is None
    mastered = np.linspace(0, 1, 9, dtype=np.float32)
    answers = respond(Episodes(mastered), SHORT, device="cpu")
    assert answers.early_error is None
    np.testing.assert_allclose(answers.matrix, np.tile(mastered, (4, 1)))


def test_recipes_have_the_same_names_whatever_the_seed_and_the_task() -> None:
    first, other = respond(Images(*images()), SHORT, seed=0), respond(Episodes(np.ones(6, np.float32)), SHORT, seed=1)
    assert first.names == other.names
    assert first.runs == other.runs


def test_checkpoints_may_stand_in_any_order(task: Images) -> None:
    backwards = SHORT.model_copy(update={"checkpoints": (1.0, EARLY, 0.5)})
    answers = respond(task, backwards, device="cpu")
    ordered = respond(task, backwards.model_copy(update={"checkpoints": (EARLY, 0.5, 1.0)}), device="cpu")
    assert answers.names == ordered.names
    assert np.array_equal(answers.matrix, ordered.matrix)


def test_more_checkpoints_than_steps_are_answered_all_the_same(task: Images) -> None:
    few = {"least_steps": 1, "epochs": 0.01, "checkpoints": (0.1, 0.5, 1.0)}
    assert np.isfinite(respond(task, SHORT.model_copy(update=few), device="cpu").matrix).all()


def test_follows_the_seed(task: Images) -> None:
    first, again, other = (respond(task, SHORT, seed=s, device="cpu").matrix for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_number_of_workers_changes_nothing(task: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Responses] = []
    for workers in (1, 3):
        monkeypatch.setattr(responders, "default_workers", lambda _device, count=workers: count)
        found.append(respond(task, LADDER, device="cpu"))
    assert np.array_equal(found[0].matrix, found[1].matrix)


# --------------------------------------------------------------------------------- folds


def test_no_item_is_answered_by_a_network_that_saw_it(task: Images) -> None:
    respond(task, LADDER, device="cpu")
    networks = list(task.networks.values())
    assert len(networks) == 4 * 2  # recipes, folds
    for network in networks:
        assert len(network.asked) == 2  # checkpoints
        assert not network.trained & network.asked[0]
    folds = {network.asked[0] for network in networks}
    assert all(frozenset(range(N)) - fold in folds for fold in folds)
    assert {len(network.trained) for network in networks} == {N // 4, N // 2}


def test_recipes_share_neither_folds_nor_weights_nor_subsets(task: Images) -> None:
    ladder = LADDER.model_copy(update={"capacities": (4, 5), "least_steps": 5, "checkpoints": (1.0,)})
    for seed in (0, 1):
        respond(task, ladder, seed=seed, device="cpu")
    networks = list(task.networks.values())
    assert len(networks) == 2 * 8 * 2
    assert len({network.weights for network in networks}) == len(networks)
    assert len({network.trained for network in networks}) == len(networks)
    assert len({network.asked[0] for network in networks}) == len(networks)
    assert not any(one.trained < other.trained and len(one.trained) == N // 4 for one in networks for other in networks)


def test_a_group_is_never_on_both_sides() -> None:
    speakers = [f"speaker {k % 7}" for k in range(N)]
    task = Images(*images(), groups=speakers)
    respond(task, LADDER, device="cpu")
    for network in task.networks.values():
        assert not {speakers[row] for row in network.trained} & {speakers[row] for row in network.asked[0]}


# --------------------------------------------------------------------------------- cache


def test_finished_recipes_are_kept_and_damaged_ones_made_again(task: Images, tmp_path: Path) -> None:
    first = respond(task, LADDER, cache=tmp_path, device="cpu")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:50])
    files[1].unlink()
    times = [file.stat().st_mtime_ns for file in files[2:]]
    again = respond(task, LADDER, cache=tmp_path, device="cpu")
    assert np.array_equal(first.matrix, again.matrix)
    assert first.early_error is not None
    assert again.early_error is not None
    assert np.array_equal(first.early_error, again.early_error)
    assert [file.stat().st_mtime_ns for file in files[2:]] == times
    assert sorted(tmp_path.iterdir()) == files


def test_a_stopped_calibration_goes_on(task: Images, tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        respond(task, LADDER, cache=tmp_path, device="cpu", progress=stop)
    assert len(list(tmp_path.iterdir())) == 2
    resumed = respond(task, LADDER, cache=tmp_path, device="cpu")
    assert np.array_equal(resumed.matrix, respond(task, LADDER, device="cpu").matrix)


def test_what_answers_depend_on_is_part_of_the_cache_key(task: Images, tmp_path: Path) -> None:
    pixels, labels = images()
    relabelled = labels.copy()
    relabelled[0] = 1 - relabelled[0]
    variants = [
        Images(pixels + 1, labels),
        Images(pixels, relabelled),
        Images(pixels, labels, [f"g{k}" for k in range(N)]),
    ]
    for count, variant in enumerate([task, *variants], start=1):
        respond(variant, SHORT, cache=tmp_path, device="cpu")
        assert len(list(tmp_path.iterdir())) == 2 * count
    respond(task, SHORT.model_copy(update={"learning_rate": 1e-3}), cache=tmp_path, device="cpu")
    assert len(list(tmp_path.iterdir())) == 2 * 5
    wider = SHORT.model_copy(update={"seeds": 3})  # more repeats: those that are there stand
    respond(task, wider, cache=tmp_path, device="cpu")
    assert len(list(tmp_path.iterdir())) == 2 * 5 + 1


def test_another_kind_of_device_is_another_cache_entry(
    task: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond(task, SHORT, cache=tmp_path, device="cpu")
    monkeypatch.setattr(responders, "choose_device", lambda _name: torch.device("cuda"))
    monkeypatch.setattr(
        responders,
        "_answers",
        lambda fold, *_: (np.full((2, len(fold.asked)), 0.5, np.float32), np.ones(len(fold.known), np.float32)),
    )
    answers = respond(task, SHORT, cache=tmp_path)  # it asks networks, not the other device's answers
    assert (answers.matrix == 0.5).all()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_cache_that_cannot_be_written_is_said_once_and_stops_nothing(task: Images, tmp_path: Path) -> None:
    folder, notes = tmp_path / "file" / "responders", list[str]()
    folder.parent.write_text("in the way of the folder")
    answers = respond(task, SHORT, cache=folder, device="cpu", note=notes.append)
    assert np.isfinite(answers.matrix).all()
    assert len(notes) == 1
    assert notes[0].startswith(f"Responders are not kept for the next run: the cache {folder} cannot be written (")
    assert "Set GAPSHIFT_CACHE to a folder that can be." in notes[0]


# -------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("count", "groups", "message"),
    [
        (2, None, "2 items cannot be cross-fitted; it takes at least 4. Give more items"),
        (
            8,
            ["one"] * 8,
            r"All 8 items belong to one group \(one\), which no fold may divide. Give items of at least 2",
        ),
    ],
)
def test_refuses_what_cannot_be_cross_fitted(count: int, groups: list[str] | None, message: str) -> None:
    pixels, labels = images()
    with pytest.raises(CalibrationError, match=message):
        respond(Images(pixels[:count], labels[:count], groups), SHORT, device="cpu")


def test_refuses_repeated_ids(task: Images) -> None:
    task.items = (*task.items[:-1], task.items[0])
    with pytest.raises(CalibrationError, match=r"Item ids repeat \(i0\); folds are drawn by id"):
        respond(task, SHORT, device="cpu")


def test_refuses_a_ladder_of_one_run(task: Images) -> None:
    with pytest.raises(CalibrationError, match=r"has 1 run; a calibration takes at least 2, 12 or more.*raise seeds"):
        respond(task, SHORT.model_copy(update={"seeds": 1}), device="cpu")


@pytest.mark.parametrize("value", [np.nan, 1.5])
def test_refuses_answers_that_are_no_share(value: float) -> None:
    with pytest.raises(CalibrationError, match=r"w4-f1-r0 gave an answer that is not a number from 0 to 1"):
        respond(Episodes(np.full(6, value, np.float32)), SHORT, device="cpu")


def test_the_same_run_twice_is_not_two() -> None:
    with pytest.raises(ValidationError, match=r"capacities\n.*names a value twice.*Raise `seeds` instead"):
        LadderSettings(capacities=(8, 8))


def test_ladders_hold_twelve_independent_runs() -> None:
    assert default_ladder(1000) is LADDERS["small"]
    assert default_ladder(10_000) is LADDERS["standard"]
    for ladder in LADDERS.values():
        assert len(set(recipes(ladder, 0))) == 12
    assert default_ladder(1000, "text") is default_ladder(10_000, "control") is LADDERS["common"]
    assert not set(recipes(LADDERS["small"], 0)) & set(recipes(LADDERS["small"], 1))
