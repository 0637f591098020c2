"""Items, sensors, rollouts and reference controllers of control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapshift.domains.base import Episode
from gapshift.domains.control.controllers import Reference, reference
from gapshift.domains.control.episodes import (
    action_disagreement,
    answer_episodes,
    chance,
    rollout,
    windows,
)
from gapshift.domains.control.items import SPREADS, draw_episodes, episode_data
from gapshift.domains.control.physics import TASKS, control_task
from gapshift.domains.control.sensors import Sensors
from gapshift.domains.readers.control import READERS
from gapshift.errors import DataError, EvaluationError, SettingsError
from gapshift.schema import OUTCOMES, ControlPreprocessing, Item

PLAIN = ControlPreprocessing(window=3, offset=(0.0,), scale=(1.0,))
EPISODES = draw_episodes("cartpole", 24, seed=11)
tasks = pytest.mark.parametrize("task", TASKS)


def _by(weights: tuple[float, ...]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A linear controller of the newest reading, whose answer depends on the row alone."""

    def predict(inputs: NDArray[Any]) -> NDArray[Any]:
        right = (inputs[:, -1].astype(np.float64) * weights).sum(axis=1)
        return np.stack([-right, right], axis=1)

    return predict


POLE = _by((0.3, 0.3, 12.0, 1.8))


def _with(**changes: Any) -> ControlPreprocessing:
    return ControlPreprocessing.model_validate(PLAIN.model_dump() | changes)


def _items(count: int) -> list[Item]:
    return [Item(id=f"i{place}", label=1) for place in range(count)]


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(8)), st.integers(1, 9), st.sampled_from([0.0, 0.3]), st.integers(1, 3))
def test_an_episode_depends_on_no_other(order: list[int], batch: int, drop_rate: float, repeat: int) -> None:
    preprocessing = _with(drop_rate=drop_rate, action_repeat=repeat)
    whole = rollout(EPISODES[:8], POLE, preprocessing, 64)
    mixed = rollout([EPISODES[row] for row in order], POLE, preprocessing, batch)
    np.testing.assert_array_equal(whole.score[order], mixed.score)
    np.testing.assert_array_equal(whole.observations[order], mixed.observations)


def test_reference_and_environment_share_the_noise() -> None:
    """Two controllers that act alike for a while observe the same until they first differ."""
    late = rollout(EPISODES, POLE, _with(delay=1))
    first = rollout(EPISODES, POLE, PLAIN)
    np.testing.assert_array_equal(first.observations[:, 0], late.observations[:, 0])
    right = _by((0.0, 0.0, 0.0, 0.0))  # a tie: the first action, whatever is read
    np.testing.assert_array_equal(
        rollout(EPISODES, right, PLAIN).observations, rollout(EPISODES, right, _with(drop_rate=0.5)).observations
    )


@pytest.mark.parametrize(
    "same", [{"delay": 0}, {"sensor_gain": 1.0}, {"sensor_bias": 0.0}, {"drop_rate": 0.0}, {"action_repeat": 1}]
)
def test_settings_that_change_nothing_are_identities(same: dict[str, Any]) -> None:
    assert action_disagreement(EPISODES, POLE, PLAIN, POLE, _with(**same)) == 0
    np.testing.assert_array_equal(
        rollout(EPISODES, POLE, PLAIN).observations, rollout(EPISODES, POLE, _with(**same)).observations
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(0, 4), st.floats(0, 0.9), st.integers(0, 29))
def test_a_window_is_what_the_docstring_says(window: int, delay: int, drop_rate: float, time: int) -> None:
    seen = np.arange(30 * 2, dtype=np.float32).reshape(30, 2, 1)
    preprocessing = _with(window=window, delay=delay, drop_rate=drop_rate)
    given_ = Sensors(EPISODES[:2], seen, preprocessing).window(np.array([0, 1]), time)[..., 0] // 2
    wanted = np.maximum(np.arange(time - delay - window + 1, time - delay + 1), 0)
    assert given_.shape == (2, window)
    assert (given_ <= wanted).all()
    assert (np.diff(given_, axis=1) >= 0).all()
    if drop_rate == 0:
        np.testing.assert_array_equal(given_, np.tile(wanted, (2, 1)))


def test_readings_are_scaled_then_faulty() -> None:
    seen = np.array([[[1.0, 2.0]]], dtype=np.float32)
    preprocessing = _with(window=1, offset=(0.5, 0.0), scale=(2.0,), sensor_gain=3.0, sensor_bias=0.3, quantization=0.5)
    given_ = Sensors(EPISODES[:1], seen, preprocessing).window(np.array([0]), 0)
    np.testing.assert_array_equal(given_, [[[3.5, 12.5]]])  # 3.3 and 12.3 to halves
    assert given_.dtype == np.float32


def test_drops_hold_the_last_reading_at_their_rate() -> None:
    seen = np.arange(500, dtype=np.float32).reshape(500, 1, 1)
    newest = Sensors(EPISODES[:1], seen, _with(window=1, drop_rate=0.2)).window(np.zeros(500, int), np.arange(500))
    stale = newest[:, 0, 0] != np.arange(500)
    assert 0.12 < stale.mean() < 0.28
    assert not stale[0]


def test_scaling_that_is_not_settled_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"preprocessing.offset has 0 values; observations have 4: give 1 or 4"):
        rollout(EPISODES, POLE, ControlPreprocessing())


def test_a_batch_is_never_exceeded_and_an_action_is_held() -> None:
    sizes: list[int] = []

    def watched(inputs: NDArray[Any]) -> NDArray[Any]:
        sizes.append(len(inputs))
        return POLE(inputs)

    rollout(EPISODES[:10], watched, PLAIN, 4)
    assert max(sizes) == 4
    one = len(sizes)
    sizes.clear()
    rollout(EPISODES[:10], watched, _with(action_repeat=2), 4)
    assert len(sizes) < 0.7 * one


def test_records_of_episodes() -> None:
    def broken(inputs: NDArray[Any]) -> NDArray[Any]:
        logits = POLE(inputs)
        logits[np.abs(inputs[:, -1, 2]) > 0.25] = np.nan
        return logits

    records = answer_episodes(_items(24), EPISODES, broken, PLAIN)
    bad = records.status == "nan_output"
    assert 0 < bad.sum() < 24
    assert (records.prediction[bad] == -1).all()
    assert (records.correct[bad] == 0).all()
    assert np.isnan(records.gap[bad]).all()
    assert ((records.gap[~bad] > 0) & (records.gap[~bad] <= 1)).all()
    assert np.isnan(records.confidence).all()
    np.testing.assert_array_equal(records.prediction[~bad], records.correct[~bad])
    np.testing.assert_array_equal(records.score == 1, records.correct == 1)
    assert len(answer_episodes([], [], POLE, PLAIN)) == 0


def test_outputs_of_another_shape_are_named() -> None:
    with pytest.raises(EvaluationError, match=r"shape \(24, 4\) for 24 inputs of cartpole; expected \(24, 2\)"):
        rollout(EPISODES, lambda inputs: inputs[:, -1], PLAIN)


def test_disagreement_counts_steps_along_the_references_way() -> None:
    def opposite(inputs: NDArray[Any]) -> NDArray[Any]:
        return -POLE(inputs)

    def silent(inputs: NDArray[Any]) -> NDArray[Any]:
        return np.full((len(inputs), 2), np.nan)

    assert action_disagreement(EPISODES, POLE, PLAIN, opposite, PLAIN) == 1
    assert action_disagreement(EPISODES, POLE, PLAIN, silent, PLAIN) == 1
    assert np.isnan(action_disagreement(EPISODES, silent, PLAIN, POLE, PLAIN))
    assert 0 < action_disagreement(EPISODES, POLE, PLAIN, POLE, _with(delay=1)) < 0.9


def test_windows_are_those_met_on_the_way() -> None:
    met = windows(EPISODES, POLE, PLAIN, 50)
    assert met.shape == (50, 3, 4)
    assert met.dtype == np.float32
    assert len(windows(EPISODES[:1], lambda x: np.full((len(x), 2), np.nan), PLAIN, 50)) == 1


@tasks
def test_chance_is_of_each_item_alone(task: str) -> None:
    episodes = draw_episodes(task, 12, seed=3)
    whole = chance(episodes, repeats=2)
    np.testing.assert_array_equal(whole[[3, 1]], chance([episodes[3], episodes[1]], repeats=2))
    assert whole.shape == (12,)
    assert ((whole >= 0) & (whole <= 1)).all()
    assert whole.mean() < 0.05


@tasks
def test_the_data_are_the_same_every_time_and_no_two_alike(task: str) -> None:
    data = episode_data(task)
    assert data.digest() == episode_data(task).digest()
    assert (data.domain, data.kind, data.classes, len(data)) == ("control", "episodes", OUTCOMES, 2000)
    assert data.items[1] == Item(id=f"{task}/0001", label=1)
    raws = [raw for row in range(len(data)) if isinstance(raw := data.raw(row), Episode)]
    values = np.array([[*raw.state, *(value for _, value in raw.physics)] for raw in raws])
    unit = (values - values.mean(axis=0)) / values.std(axis=0)
    squares = (unit**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * unit @ unit.T
    np.fill_diagonal(apart, np.inf)
    assert np.sqrt(apart.min()) > 0.02
    assert len({raw.seed for raw in raws}) == 2000
    assert set(SPREADS[task].physics) | set(SPREADS[task].noise) == set(control_task(task).physics)


def test_the_readers_give_the_data_and_refuse_other_classes() -> None:
    assert [reader.name for reader in READERS] == ["cartpole", "mountaincar"]
    for reader in READERS:
        assert reader.accepts(reader.name)
        assert not reader.accepts("digits")
        with pytest.raises(DataError, match="has the classes 'no', 'yes'"):
            reader.read(reader.name, ["no", "yes"])
    assert READERS[0].read("cartpole", None).items[0].id == "cartpole/0000"


@tasks
def test_the_reference_controller_solves_most_items_and_every_plain_one(task: str) -> None:
    teacher: Reference = reference(task)
    assert reference(task) is teacher
    fresh = draw_episodes(task, 400, seed=77)
    clear = rollout([_quiet(episode) for episode in fresh], teacher, teacher.preprocessing, 400)
    assert clear.solved.mean() > 0.9
    assert not clear.solved.all()
    noisy = rollout(fresh, teacher, teacher.preprocessing, 400)
    assert noisy.solved.mean() < clear.solved.mean() - 0.15
    plain = rollout(_plain(task), teacher, teacher.preprocessing, 400)
    assert plain.solved.all()


def _quiet(episode: Episode) -> Episode:
    """As one that sees the true state meets it."""
    physics = tuple((name, 0.0 if name == "sensor_noise" else value) for name, value in episode.physics)
    return replace(episode, physics=physics)


@tasks
def test_mastery_tells_solved_episodes_apart_and_from_the_others(task: str) -> None:
    teacher = reference(task)
    done = rollout(draw_episodes(task, 200, seed=5), teacher, teacher.preprocessing, 200)
    assert ((done.mastery >= 0) & (done.mastery <= 1)).all()
    assert len(np.unique(done.mastery[done.solved].round(3))) > 30
    assert np.quantile(done.mastery[done.solved], 0.1) > np.quantile(done.mastery[~done.solved], 0.9)


def test_episodes_are_left_after_the_most_steps() -> None:
    whole, cut = rollout(EPISODES, POLE, PLAIN), rollout(EPISODES, POLE, PLAIN, most=30)
    np.testing.assert_array_equal(cut.steps, np.minimum(whole.steps, 30))
    assert not cut.solved.any()
    np.testing.assert_array_equal(cut.observations[:, :30], whole.observations[:, :30])
    assert not cut.observations[:, 31:].any()


@tasks
def test_noise_is_each_items_own_and_reaches_from_little_to_much(task: str) -> None:
    noise = np.array([dict(episode.physics)["sensor_noise"] for episode in draw_episodes(task, 400, seed=1)])
    _, low, high = SPREADS[task].noise["sensor_noise"]
    assert low <= noise.min() < 0.3 * high
    assert 0.8 * high < noise.max() <= high
    assert len(np.unique(noise)) == 400


def _plain(task: str) -> list[Episode]:
    """gymnasium's own physics and starts."""
    generator = np.random.default_rng(0)
    own = {
        "cartpole": {"gravity": 9.8, "masscart": 1.0, "masspole": 0.1, "length": 0.5, "force_mag": 10.0},
        "mountaincar": {"force": 0.001, "gravity": 0.0025},
    }[task] | {"actuator_noise": 0.0, "sensor_noise": 0.0}
    starts = generator.uniform(-0.05, 0.05, (100, 4)) if task == "cartpole" else generator.uniform(-0.6, -0.4, (100, 1))
    states = starts if task == "cartpole" else np.hstack([starts, np.zeros((100, 1))])
    return [Episode(task, tuple(state.tolist()), tuple(own.items()), seed) for seed, state in enumerate(states)]


def test_an_episode_is_as_near_to_a_tie_as_its_closest_decision() -> None:
    """Rounding can turn a decision that is a tie, and with it the whole episode."""
    steps = 0

    def torn_once(inputs: NDArray[Any]) -> NDArray[Any]:
        nonlocal steps
        steps += 1
        logits = np.tile(np.array([[0.0, 4.0]], np.float32), (len(inputs), 1))
        logits[steps % 2 == 0] = [4.0, 0.0]
        if steps == 5:
            logits[0] = [1.0, 1.0 + 2e-4]
        return logits

    gap = rollout(EPISODES[:3], torn_once, PLAIN).gap
    assert gap[0] == pytest.approx(2e-4 / 4, rel=0.01)  # over the range of all logits of the episode
    assert gap[1:].tolist() == [1.0, 1.0]


def test_an_episode_of_equal_logits_is_a_tie_throughout() -> None:
    def even(inputs: NDArray[Any]) -> NDArray[Any]:
        return np.zeros((len(inputs), 2), np.float32)

    assert rollout(EPISODES[:2], even, PLAIN).gap.tolist() == [0.0, 0.0]
