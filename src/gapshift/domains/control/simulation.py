"""Episodes of one task, stepped side by side, each with the noise of its own seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Episode
from gapshift.domains.control.physics import ControlTask, control_task
from gapshift.errors import DataError

NOISE, DROPS, CHANCE, SLIPS = 0, 1, 2, 3
"""The streams of an episode's seed: physical noise, lost readings, a random policy, an actuator's random actions."""
ALMOST = 0.999
"""The most that an unsolved episode scores: 1 is for solved ones alone."""


def stream(episode: Episode, *which: int) -> np.random.Generator:
    """What is random about one thing of one episode, whatever else runs beside it."""
    return np.random.default_rng([episode.seed, *which])


def task_of(episodes: Sequence[Episode]) -> ControlTask:
    """The task that all of them belong to.

    Raises DataError where they are none or of several tasks, or where one's state or physics do
    not fit its task; UnknownNameError for a task that does not exist.
    """
    names = sorted({episode.task for episode in episodes})
    if len(names) != 1:
        raise DataError(f"{len(episodes)} episodes of the tasks {names}; give at least one, all of one task.")
    task = control_task(names[0])
    for episode in episodes:
        given = tuple(name for name, _ in episode.physics)
        if len(episode.state) != len(task.observations) or sorted(given) != sorted(task.physics):
            raise DataError(
                f"An episode of {task.name} has {len(episode.state)} state values and the physics {', '.join(given)}; "
                f"it takes {len(task.observations)} ({', '.join(task.observations)}) and {', '.join(task.physics)}."
            )
    return task


class Simulation:
    """The episodes' states and what was observed of them.

    ``live`` (m,) holds the rows of the episodes that go on, ``time`` the steps that these have
    taken. ``observations`` (horizon, n, dimensions) float32 holds what was observed before each
    step, ``states`` likewise what would have been without sensor noise; rows of episodes that
    are over stay 0. ``steps``, ``solved``, ``score`` and ``mastery`` (n,) are final once
    ``live`` is empty.
    """

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self.task = task_of(episodes)
        n, size = len(episodes), len(self.task.observations)
        self._state = np.array([episode.state for episode in episodes], dtype=np.float64).T.copy()
        by_name = [dict(episode.physics) for episode in episodes]
        self._physics = {name: np.array([row[name] for row in by_name], dtype=np.float64) for name in self.task.physics}
        self._noise = np.empty((self.task.horizon, 1 + size, n), dtype=np.float32)
        for row, episode in enumerate(episodes):
            drawn = stream(episode, NOISE).standard_normal((self.task.horizon, 1 + size), dtype=np.float32)
            self._noise[:, :, row] = drawn
        self.live: NDArray[np.intp] = np.arange(n, dtype=np.intp)
        self.time = 0
        self.steps = np.zeros(n, dtype=np.int64)
        self.solved = np.zeros(n, dtype=np.bool_)
        self.score = np.zeros(n, dtype=np.float64)
        self.mastery = np.zeros(n, dtype=np.float64)
        self.observations = np.zeros((self.task.horizon, n, size), dtype=np.float32)
        self.states = np.zeros_like(self.observations)
        self._observe()

    def step(self, actions: NDArray[np.intp]) -> None:
        """One step of the live episodes; ``actions`` (m,) in the order of ``live``."""
        live, task = self.live, self.task
        physics = {name: values[live] for name, values in self._physics.items()}
        push = 1 + physics["actuator_noise"] * self._noise[self.time, 0, live]
        state = task.step(np.ascontiguousarray(self._state[:, live]), actions, physics, push)
        self.time += 1
        self._state[:, live] = state
        self.steps[live] = self.time
        solved = task.solved(state, self.steps[live])
        far = np.minimum(task.progress(state, physics, self.steps[live]), ALMOST)
        self.score[live] = np.where(solved, 1.0, np.maximum(self.score[live], far))
        self.solved[live] = solved
        self._master(live, solved, task.quality(state, physics))
        self.live = live[~task.over(state)] if self.time < task.horizon else live[:0]
        if len(self.live):
            self._observe()

    def stop(self, rows: NDArray[np.bool_]) -> None:
        """End the live episodes that are marked, shape (m,): their controller gave no action."""
        self.live = self.live[~rows]

    def _master(self, live: NDArray[np.intp], solved: NDArray[np.bool_], quality: NDArray[np.float64]) -> None:
        """Step t weighs as t and counts with its quality; those that a solved episode spares, in full."""
        before, horizon = self.time * (self.time - 1), self.task.horizon
        whole = horizon * (horizon + 1)
        self.mastery[live] += np.where(solved, whole - before, 2 * self.time * quality) / whole

    def _observe(self) -> None:
        """What the sensors show of the live states: gymnasium's float32 where they have no noise."""
        live = self.live
        unit = np.array(self.task.sensor_unit)[:, None] * self._physics["sensor_noise"][live]
        state = self._state[:, live]
        self.states[self.time, live] = state.T
        self.observations[self.time, live] = (state + unit * self._noise[self.time, 1:][:, live]).T
