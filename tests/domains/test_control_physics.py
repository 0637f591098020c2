"""The vectorised physics against gymnasium's own environments, step by step."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from gapshift.domains.base import Episode
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.control.physics import TASKS, control_task
from gapshift.domains.control.simulation import NOISE, Simulation, stream
from gapshift.errors import DataError, UnknownNameError

ENVIRONMENTS = {"cartpole": "CartPole-v1", "mountaincar": "MountainCar-v0"}
FORCE = {"cartpole": "force_mag", "mountaincar": "force"}
tasks = pytest.mark.parametrize("task", TASKS)


def _gymnasium(episode: Episode) -> Any:
    """gymnasium's own environment with the episode's physics and initial state."""
    environment: Any = gymnasium.make(ENVIRONMENTS[episode.task]).unwrapped
    environment.reset(seed=0)
    for name, value in episode.physics:
        if not name.endswith("noise"):
            assert hasattr(environment, name)
            setattr(environment, name, value)
    if episode.task == "cartpole":
        environment.total_mass = environment.masspole + environment.masscart
        environment.polemass_length = environment.masspole * environment.length
    environment.state = np.array(episode.state)
    return environment


def _quiet(episode: Episode) -> Episode:
    physics = tuple((name, 0.0 if name == "sensor_noise" else value) for name, value in episode.physics)
    return Episode(episode.task, episode.state, physics, episode.seed)


@tasks
def test_it_follows_gymnasium_step_by_step(task: str) -> None:
    """Random items, random actions, the force's noise given to gymnasium as that step's force."""
    episodes = [_quiet(episode) for episode in draw_episodes(task, 80, seed=5)]
    environments = [_gymnasium(episode) for episode in episodes]
    horizon, force = TASKS[task].horizon, FORCE[task]
    noise = [stream(e, NOISE).standard_normal((horizon, 1 + len(e.state)), dtype=np.float32) for e in episodes]
    simulation = Simulation(episodes)
    generator, compared = np.random.default_rng(0), 0
    while len(live := simulation.live):
        time = simulation.time
        for row in live:
            seen = simulation.observations[time, row]
            np.testing.assert_allclose(seen, np.array(environments[row].state, np.float32), rtol=1e-6, atol=1e-9)
        actions = generator.integers(len(control_task(task).actions), size=len(live))
        simulation.step(actions)
        for row, action in zip(live, actions, strict=True):
            physics, environment = dict(episodes[row].physics), environments[row]
            setattr(environment, force, physics[force] * (1 + physics["actuator_noise"] * float(noise[row][time, 0])))
            _, _, terminated, _, _ = environment.step(int(action))
            np.testing.assert_allclose(simulation._state[:, row], environment.state, rtol=0, atol=1e-12)
            assert terminated == (row not in simulation.live) or simulation.time == horizon
            compared += 1
    assert compared > 1000
    assert (simulation.steps[~simulation.solved] <= horizon).all()


def test_the_goal_within_200_steps_solves_mountaincar_and_500_steps_cartpole() -> None:
    plain = (("force", 0.001), ("gravity", 0.0025), ("actuator_noise", 0.0), ("sensor_noise", 0.0))
    near = Simulation([Episode("mountaincar", (0.45, 0.06), plain, 1), Episode("mountaincar", (-0.5, 0.0), plain, 2)])
    while len(near.live):
        near.step(np.full(len(near.live), 2))
    assert near.solved.tolist() == [True, False]
    assert near.steps.tolist() == [1, 200]
    assert near.score[0] == 1
    assert 0 < near.score[1] < 1
    assert near.mastery[0] == 1
    assert 0 < near.mastery[1] < 0.5


def test_the_share_of_an_unsolved_cartpole_is_its_steps() -> None:
    fallen = Simulation(draw_episodes("cartpole", 20, seed=1))
    while len(fallen.live):
        fallen.step(np.ones(len(fallen.live), dtype=np.intp))
    np.testing.assert_allclose(fallen.score, fallen.steps / 500)
    assert not fallen.solved.any()
    assert (fallen.mastery <= fallen.steps * (fallen.steps + 1) / (500 * 501)).all()


@tasks
def test_sensor_noise_changes_what_is_seen_and_nothing_else(task: str) -> None:
    noisy = draw_episodes(task, 6, seed=2)
    loud, silent = Simulation(noisy), Simulation([_quiet(episode) for episode in noisy])
    for simulation in (loud, silent):
        while len(live := simulation.live):
            simulation.step(np.zeros(len(live), dtype=np.intp))
    np.testing.assert_array_equal(loud.states, silent.states)
    np.testing.assert_array_equal(silent.observations, silent.states)
    np.testing.assert_array_equal(loud.mastery, silent.mastery)
    assert (loud.observations != loud.states).any(axis=(0, 2)).all()


def test_what_is_no_episode_of_a_task_is_named() -> None:
    cartpole, car = draw_episodes("cartpole", 1, 0)[0], draw_episodes("mountaincar", 1, 0)[0]
    with pytest.raises(DataError, match=r"2 episodes of the tasks \['cartpole', 'mountaincar'\].*all of one task"):
        Simulation([cartpole, car])
    with pytest.raises(DataError, match="0 episodes"):
        Simulation([])
    with pytest.raises(DataError, match=r"has 2 state values .* it takes 4 \(position"):
        Simulation([Episode("cartpole", car.state, cartpole.physics, 0)])
    with pytest.raises(DataError, match=r"the physics force, gravity.*takes 4"):
        Simulation([Episode("cartpole", cartpole.state, car.physics, 0)])
    with pytest.raises(UnknownNameError, match=r"Did you mean 'cartpole'\? Valid: cartpole, mountaincar"):
        control_task("cartpol")
