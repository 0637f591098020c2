"""Cross-fitted responders: what they answer, what they may have seen, what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from gapshift.errors import CalibrationError
from gapshift.train import responders
from gapshift.train.loop import Fit, fit
from gapshift.train.predict import scores
from gapshift.train.responders import LADDERS, default_ladder, recipes, respond
from gapshift.train.settings import LadderSettings

LADDER = LadderSettings(
    capacities=(4,), data_fractions=(0.5, 1.0), seeds=2, checkpoints=(0.5, 1.0), epochs=1, least_steps=25, batch_size=16
)
N = 80
Data = tuple[np.ndarray, np.ndarray, list[str]]


@pytest.fixture(scope="module")
def data() -> Data:
    """Brighter left half: class 1. The last ten items carry the wrong label."""
    labels = np.arange(N) % 2
    images = np.random.default_rng(0).normal(size=(N, 1, 8, 8)).astype(np.float32)
    images[labels == 1, :, :, :4] += 3
    labels = labels.copy()
    labels[-10:] = 1 - labels[-10:]
    return images, labels, [f"i{k}" for k in range(N)]


def test_one_row_a_recipe_and_checkpoint_and_every_item_answered(data: Data) -> None:
    seen: list[tuple[int, int]] = []
    answers = respond(*data, LADDER, classes=2, progress=lambda done, total: seen.append((done, total)), device="cpu")
    assert answers.matrix.shape == (8, N)
    assert len(set(answers.names)) == 8
    assert len(set(answers.runs)) == 4
    assert answers.runs[0] == answers.runs[1] != answers.runs[2]
    assert answers.item_ids == tuple(data[2])
    assert ((answers.matrix >= 0) & (answers.matrix <= 1)).all()
    assert seen == [(k, 4) for k in range(1, 5)]
    final = answers.matrix[1::2].mean(axis=0)
    assert final[:-10].mean() > 0.7
    assert final[-10:].mean() < 0.4  # mislabelled items are the hardest: no network saw its own item


def test_follows_the_seed(data: Data) -> None:
    ladder = LADDER.model_copy(update={"seeds": 1, "data_fractions": (1.0,)})
    first, again, other = (respond(*data, ladder, classes=2, seed=s, device="cpu").matrix for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@dataclass(frozen=True)
class Seen:
    """One network as it was trained and asked: positions of items, and its first weights."""

    trained: frozenset[int]
    asked: frozenset[int]
    weights: bytes


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch, data: Data) -> list[Seen]:
    """Every network that ``respond`` trains, found out from the pixels that reach it."""
    position = {image.tobytes(): index for index, image in enumerate(data[0])}
    trained: dict[int, tuple[frozenset[int], bytes]] = {}
    seen: list[Seen] = []

    def positions(images: Iterable[np.ndarray]) -> frozenset[int]:
        return frozenset(position[np.asarray(image).tobytes()] for image in images)

    def watched_fit(
        model: nn.Module, images: torch.Tensor, labels: torch.Tensor, draws: Any, *rest: Any, **o: Any
    ) -> Fit:
        first = next(model.parameters()).detach().numpy().tobytes()
        trained[id(model)] = positions(images.numpy()[np.unique(draws)]), first
        return fit(model, images, labels, draws, *rest, **o)

    def watched_scores(model: nn.Module, images: np.ndarray) -> np.ndarray:
        seen.append(Seen(trained[id(model)][0], positions(images), trained[id(model)][1]))
        return scores(model, images)

    monkeypatch.setattr(responders, "fit", watched_fit)
    monkeypatch.setattr(responders, "scores", watched_scores)
    monkeypatch.setattr(responders, "default_workers", lambda _device: 1)
    return seen


def test_no_item_is_answered_by_a_network_that_saw_it(data: Data, networks: list[Seen]) -> None:
    respond(*data, LADDER, classes=2, device="cpu")
    assert len(networks) == 4 * 2 * 2  # recipes, folds, checkpoints
    assert not any(network.trained & network.asked for network in networks)
    for first, second in zip(networks[0::4], networks[2::4], strict=True):
        assert first.asked | second.asked == set(range(N))
        assert not first.asked & second.asked
    assert {len(network.trained) for network in networks} == {N // 4, N // 2}


def test_recipes_share_neither_folds_nor_weights_nor_subsets(data: Data, networks: list[Seen]) -> None:
    ladder = LADDER.model_copy(update={"capacities": (4, 5), "least_steps": 5, "checkpoints": (1.0,)})
    for seed in (0, 1):
        respond(*data, ladder, classes=2, seed=seed, device="cpu")
    assert len(networks) == 2 * 8 * 2
    assert len({network.weights for network in networks}) == len(networks)
    assert len({network.trained for network in networks}) == len(networks)
    folds = {
        frozenset((first.asked, second.asked)) for first, second in zip(networks[::2], networks[1::2], strict=True)
    }
    assert len(folds) == 2 * 8
    assert not any(one.trained < other.trained and len(one.trained) == N // 4 for one in networks for other in networks)


def test_the_number_of_workers_changes_nothing(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = []
    for workers in (1, 3):
        monkeypatch.setattr(responders, "default_workers", lambda _device, count=workers: count)
        matrices.append(respond(*data, LADDER, classes=2, device="cpu").matrix)
    assert np.array_equal(*matrices)


def test_more_checkpoints_than_steps_are_answered_all_the_same(data: Data) -> None:
    few = {"least_steps": 1, "epochs": 0.01, "checkpoints": (0.1, 0.5, 1.0), "seeds": 1, "data_fractions": (1.0,)}
    assert np.isfinite(respond(*data, LADDER.model_copy(update=few), classes=2, device="cpu").matrix).all()


def test_the_same_run_twice_is_not_two() -> None:
    with pytest.raises(ValidationError, match=r"capacities\n.*names a value twice.*Raise `seeds` instead"):
        LadderSettings(capacities=(8, 8))


def test_finished_recipes_are_kept_and_damaged_ones_made_again(data: Data, tmp_path: Path) -> None:
    first = respond(*data, LADDER, classes=2, cache=tmp_path, device="cpu")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    files[0].write_bytes(files[0].read_bytes()[:50])
    files[1].unlink()
    times = [file.stat().st_mtime_ns for file in files[2:]]
    again = respond(*data, LADDER, classes=2, cache=tmp_path, device="cpu")
    assert np.array_equal(first.matrix, again.matrix)
    assert [file.stat().st_mtime_ns for file in files[2:]] == times
    assert sorted(tmp_path.iterdir()) == files


def test_a_stopped_calibration_goes_on(data: Data, tmp_path: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        respond(*data, LADDER, classes=2, cache=tmp_path, device="cpu", progress=stop)
    assert len(list(tmp_path.iterdir())) == 2
    resumed = respond(*data, LADDER, classes=2, cache=tmp_path, device="cpu")
    assert np.array_equal(resumed.matrix, respond(*data, LADDER, classes=2, device="cpu").matrix)


def test_other_data_is_another_cache_entry(data: Data, tmp_path: Path) -> None:
    ladder = LADDER.model_copy(update={"seeds": 1, "data_fractions": (1.0,), "least_steps": 2})
    respond(*data, ladder, classes=2, cache=tmp_path, device="cpu")
    respond(data[0] + 1, *data[1:], ladder, classes=2, cache=tmp_path, device="cpu")
    assert len(list(tmp_path.iterdir())) == 2


def test_another_kind_of_device_is_another_cache_entry(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = LADDER.model_copy(update={"seeds": 1, "data_fractions": (1.0,), "least_steps": 2})
    respond(*data, ladder, classes=2, cache=tmp_path, device="cpu")
    monkeypatch.setattr(responders, "choose_device", lambda _name: torch.device("cuda"))
    monkeypatch.setattr(responders, "_answers", lambda fold, *_: np.full((2, len(fold.asked)), 0.5, np.float32))
    answers = respond(*data, ladder, classes=2, cache=tmp_path)  # it asks networks, not the other device's answers
    assert (answers.matrix == 0.5).all()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_said_once_and_stops_nothing(data: Data, tmp_path: Path) -> None:
    ladder = LADDER.model_copy(update={"least_steps": 2})
    folder, notes = tmp_path / "file" / "responders", list[str]()
    folder.parent.write_text("in the way of the folder")
    answers = respond(*data, ladder, classes=2, cache=folder, device="cpu", note=notes.append)
    assert np.isfinite(answers.matrix).all()
    assert len(notes) == 1
    assert notes[0].startswith(f"Responders are not kept for the next run: the cache {folder} cannot be written (")
    assert "Set GAPSHIFT_CACHE to a folder that can be." in notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, i: (x[:, 0], y, i), r"take \(N, C, H, W\)"),
        (lambda x, y, i: (x, y[:-1], i), "80 ids"),
        (lambda x, y, i: (x, y + 1, i), "Labels reach from 1 to 2; with 2 classes they are 0-1"),
        (lambda x, y, i: (x[:2], y[:2], i[:2]), "it takes at least 4"),
        (lambda x, y, i: (x, y, [i[0], *i[:-1]]), "ids repeat"),
        (lambda x, y, i: (x * np.nan, y, i), "non-finite"),
    ],
)
def test_refuses_what_cannot_be_cross_fitted(data: Data, change: Callable[..., Data], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        respond(*change(*data), LADDER, classes=2, device="cpu")


def test_ladders_hold_twelve_independent_runs() -> None:
    assert default_ladder(1000) is LADDERS["small"]
    assert default_ladder(10_000) is LADDERS["standard"]
    for ladder in LADDERS.values():
        assert len(set(recipes(ladder, 0))) == 12
    assert not set(recipes(LADDERS["small"], 0)) & set(recipes(LADDERS["small"], 1))
