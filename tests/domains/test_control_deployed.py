"""What a deployed plant does otherwise: units, saturation, an actuator that slips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapshift.domains.control.episodes import action_disagreement, rollout
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.control.sensors import Sensors
from gapshift.errors import NotApplicableError
from gapshift.schema import ControlPreprocessing, digest

EPISODES = draw_episodes("cartpole", 16, seed=11)
PLAIN = ControlPreprocessing(window=1, offset=(0.0,), scale=(1.0,))


def _with(**changes: Any) -> ControlPreprocessing:
    return ControlPreprocessing.model_validate(PLAIN.model_dump() | changes)


def _pole(inputs: NDArray[Any]) -> NDArray[Any]:
    right = (inputs[:, -1].astype(np.float64) * (0.3, 0.3, 12.0, 1.8)).sum(axis=1)
    return np.stack([-right, right], axis=1)


def _reading(**changes: Any) -> list[float]:
    seen = np.array([[[1.0, 2.0, 0.1, -0.2]]], dtype=np.float32)
    found: list[float] = Sensors(EPISODES[:1], seen, _with(**changes)).window(np.array([0]), 0)[0, 0].tolist()
    return found


def test_angles_in_degrees_reach_the_scaling_unconverted() -> None:
    degrees = 180 / np.pi
    assert _reading(angles_in="degrees") == pytest.approx([1, 2, 0.1 * degrees, -0.2 * degrees])
    assert _reading(angles_in="degrees", offset=(0.5,), scale=(2.0,)) == pytest.approx(
        [1, 3, 2 * (0.1 * degrees - 0.5), 2 * (-0.2 * degrees - 0.5)], rel=1e-6
    )


def test_a_task_without_angles_has_none_in_degrees() -> None:
    cars = draw_episodes("mountaincar", 2, seed=1)
    with pytest.raises(
        NotApplicableError, match="degrees changes nothing: mountaincar observes position, velocity, and"
    ):
        rollout(cars, lambda inputs: np.zeros((len(inputs), 3)), _with(angles_in="degrees"))


def test_saturation_comes_after_gain_and_before_rounding() -> None:
    assert _reading(sensor_gain=2.0, saturation=1.1, quantization=0.5) == pytest.approx([1, 1, 0, -0.5])
    assert _reading(sensor_gain=-2.0, saturation=1.1) == pytest.approx([-1.1, -1.1, -0.2, 0.4])


def test_slips_are_the_episodes_own_whoever_steers() -> None:
    """Always told the same, an episode under either controller slips at the same steps."""

    def acted(told: int) -> NDArray[np.bool_]:
        logits = np.eye(2)[[told]] * 5
        done = rollout(EPISODES, lambda inputs: np.repeat(logits, len(inputs), axis=0), _with(action_noise=0.4))
        pushed = np.diff(done.states[:, :2, 1], axis=1)[:, 0] > 0  # the first step's push, by the velocity
        return np.asarray(pushed, dtype=np.bool_)

    left, right = acted(0), acted(1)
    assert (left <= right).all()  # pushed right although told left: so does who is told right
    assert 0 < left.sum() < right.sum() < len(EPISODES)


@settings(max_examples=6, deadline=None)
@given(st.permutations(range(8)), st.integers(1, 9), st.integers(1, 3))
def test_slips_depend_on_no_other_episode(order: list[int], batch: int, repeat: int) -> None:
    how = _with(action_noise=0.3, action_repeat=repeat)
    whole, mixed = rollout(EPISODES[:8], _pole, how, 64), rollout([EPISODES[row] for row in order], _pole, how, batch)
    np.testing.assert_array_equal(whole.score[order], mixed.score)


def test_the_open_loop_sees_slips_at_their_rate() -> None:
    assert action_disagreement(EPISODES, _pole, PLAIN, _pole, _with(action_noise=0.0)) == 0
    # a random one of two actions is the one that was told half of the time
    assert action_disagreement(EPISODES, _pole, PLAIN, _pole, _with(action_noise=0.4)) == pytest.approx(0.2, abs=0.03)


def test_noise_alone_is_a_random_policy() -> None:
    done = rollout(EPISODES, _pole, _with(action_noise=1.0))
    other = rollout(EPISODES, lambda inputs: -_pole(inputs), _with(action_noise=1.0))
    np.testing.assert_array_equal(done.observations, other.observations)


def test_a_controller_that_gives_no_action_is_not_helped_by_slips() -> None:
    done = rollout(EPISODES, lambda inputs: np.full((len(inputs), 2), np.nan), _with(action_noise=1.0))
    assert not done.finite.any()
    assert not done.steps.any()


def test_contracts_from_before_keep_their_json_and_digest() -> None:
    before = {
        "window": 4, "offset": [], "scale": [], "sensor_gain": 1.0, "sensor_bias": 0.0, "quantization": 0.0,
        "delay": 0, "drop_rate": 0.0, "action_repeat": 1,
    }  # fmt: skip
    assert digest(ControlPreprocessing().model_dump(mode="json")) == digest(before)
