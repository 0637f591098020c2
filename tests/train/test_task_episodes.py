"""Controllers learnt by imitation: what they master, what they are taught on, going on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gapshift.domains.base import Pixels
from gapshift.domains.control.controllers import reference
from gapshift.domains.control.items import episode_data
from gapshift.errors import DataError, TrainingError
from gapshift.schema import ControlPreprocessing, Item
from gapshift.train import loop
from gapshift.train.settings import TrainingSettings
from gapshift.train.tasks.episodes import EpisodeTask, Imitation, learn

CAR = episode_data("mountaincar", count=120)
SCALED = learn(ControlPreprocessing(), CAR)
CONFIG = TrainingSettings(family="controller", width=8, steps=60, batch_size=32)


def _draws(steps: int = 60, items: int = 120) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, items, (steps, 32))


def test_scaling_is_learnt_from_the_reference_and_what_is_settled_stays() -> None:
    assert len(SCALED.offset) == len(SCALED.scale) == 2
    assert -0.7 < SCALED.offset[0] < -0.2
    assert learn(SCALED, CAR) is SCALED
    half = learn(ControlPreprocessing(offset=(0.0,), delay=1), CAR)
    assert (half.offset, half.delay) == ((0.0,), 1)
    assert half.scale == SCALED.scale


@pytest.mark.parametrize("name", ["mountaincar", "cartpole"])
def test_a_small_transformer_clears_chance_by_far(name: str) -> None:
    data = episode_data(name, count=150)
    task = EpisodeTask.of(data, learn(ControlPreprocessing(), data))
    model = task.build("controller", 8, seed=0)
    rows = np.arange(40)
    before = task.truth(model, rows)
    task.fit(model, _draws(120, 150), CONFIG, "cpu", seed=1)
    records = task.records(model, rows)
    assert records.correct.mean() > 0.4
    np.testing.assert_array_equal(records.score == 1, records.correct == 1)
    after = task.truth(model, rows)
    assert after[records.correct == 1].mean() > after[records.correct == 0].mean() + 0.2
    assert after.mean() > before.mean() + 0.1
    assert task.error_norm(model, rows) is None
    assert task.examples(model, 20).shape == (20, *task.shape)


def test_the_same_training_gives_the_same_weights_and_calls_every_checkpoint() -> None:
    task, reached = EpisodeTask.of(CAR, SCALED), list[float]()
    first, second = task.build("controller", 8, seed=0), task.build("controller", 8, seed=0)
    one = task.fit(first, _draws(), CONFIG, "cpu", seed=3, checkpoints=(0.5, 1 / 3, 1.0), at_checkpoint=reached.append)
    other = task.fit(second, _draws(), CONFIG, "cpu", seed=3)
    assert reached == [1 / 3, 0.5, 1.0]
    np.testing.assert_array_equal(one.losses, other.losses)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECK_EVERY", 10)
    monkeypatch.setattr(loop.fit, "__kwdefaults__", {**loop.fit.__kwdefaults__, "keep_seconds": 0.0})
    task = EpisodeTask.of(CAR, SCALED)
    whole, cut = task.build("controller", 8, seed=0), task.build("controller", 8, seed=0)
    task.fit(whole, _draws(), CONFIG, "cpu", seed=3)

    def kill(fraction: float) -> None:
        raise KeyboardInterrupt(fraction)

    with pytest.raises(KeyboardInterrupt):
        task.fit(cut, _draws(), CONFIG, "cpu", seed=3, checkpoints=(0.9,), at_checkpoint=kill, keep=tmp_path / "k")
    assert (tmp_path / "k").exists()
    again = task.build("controller", 8, seed=0)
    task.fit(again, _draws(), CONFIG, "cpu", seed=3, checkpoints=(0.9,), keep=tmp_path / "k")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert not (tmp_path / "k").exists()


def test_only_drawn_episodes_are_learnt_from() -> None:
    """The inputs of a batch are those of its episodes, whatever others there are."""
    episodes = [raw for row in range(6) if not isinstance(raw := CAR.raw(row), (bytes, np.ndarray))]
    alone = Imitation(episodes, np.array([2]), SCALED)
    among = Imitation(episodes, np.arange(6), SCALED)
    rows = torch.full((8,), 2)
    for one, other in zip(*(s.batch(rows, torch.Generator().manual_seed(1)) for s in (alone, among)), strict=True):
        assert torch.equal(one, other)
    assert (alone.state(), len(alone)) == ({}, 6)


def test_the_teacher_sees_the_true_state_and_the_learner_its_sensors() -> None:
    episodes = [raw for row in range(6) if not isinstance(raw := CAR.raw(row), (bytes, np.ndarray))]
    quiet = [replace(e, physics=(*e.physics[:-1], ("sensor_noise", 0.0))) for e in episodes]
    teacher, rows = reference("mountaincar"), torch.arange(6).repeat(50)
    clear = ControlPreprocessing(window=1, offset=(0.0,), scale=(1.0,))
    for some, agrees in ((quiet, True), (episodes, False)):
        inputs, targets = Imitation(some, np.arange(6), clear).batch(rows, torch.Generator().manual_seed(1))
        assert targets.shape == (300, 3)
        np.testing.assert_allclose(targets.sum(dim=1), 1, rtol=1e-6)
        seen = teacher.advice(inputs[:, -1].numpy())
        np.testing.assert_equal(np.allclose(targets.numpy(), seen, atol=1e-6), agrees)


def test_the_state_of_a_source_brings_back_what_the_learner_met() -> None:
    episodes = [raw for row in range(4) if not isinstance(raw := CAR.raw(row), (bytes, np.ndarray))]
    source, copy = (Imitation(episodes, np.arange(4), SCALED) for _ in range(2))
    rows, generator = torch.arange(4).repeat(8), torch.Generator
    before = source.batch(rows, generator().manual_seed(1))[0]
    source.collect(lambda inputs: np.tile([0.0, 1.0, 0.0], (len(inputs), 1)))
    after = source.batch(rows, generator().manual_seed(1))[0]
    assert not torch.equal(before, after)
    copy.restore(source.state())
    assert torch.equal(copy.batch(rows, generator().manual_seed(1))[0], after)


def test_draws_that_fit_no_item_are_named() -> None:
    task = EpisodeTask.of(CAR, SCALED)
    cases = ((np.full((2, 4), 500), "draws reach from 500 to 500; there are 120"), (np.zeros((0, 4), int), "of them 0"))
    for draws, says in cases:
        with pytest.raises(TrainingError, match=says):
            task.fit(task.build("controller", 8, seed=0), draws, CONFIG, "cpu")


def test_data_of_another_domain_are_refused() -> None:
    images = Pixels("pictures", ["a", "b"], [Item(id="x", label=0)], np.zeros((1, 4, 4), np.uint8))
    for attempt in (lambda: EpisodeTask.of(images, SCALED), lambda: learn(ControlPreprocessing(), images)):
        with pytest.raises(DataError, match="Item 'x' of pictures is no episode; give control data"):
            attempt()
