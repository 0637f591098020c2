"""Cross-fitted responders: what they answer, what they may have seen, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gapshift.errors import CalibrationError
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
