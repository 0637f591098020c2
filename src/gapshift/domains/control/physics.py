"""The equations of motion of gymnasium's CartPole-v1 and MountainCar-v0, with physics of every episode's own.

Any number of episodes is stepped at once; they follow gymnasium's own environments step by
step (tested). Beside the physics every episode has an ``actuator_noise``, the relative sd of
the force at each step, and a ``sensor_noise``, the sd of what is observed in units of the
task's ``sensor_unit``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import UnknownNameError

Values = NDArray[np.float64]

NOISES = ("actuator_noise", "sensor_noise")


class ControlTask(ABC):
    """One kind of episode. A state has shape (dimensions, n): one contiguous row a dimension.

    ``physics`` names what an episode settles beside its initial state; ``horizon`` is the most
    steps that it lasts.
    """

    name: ClassVar[str]
    actions: ClassVar[tuple[str, ...]]
    observations: ClassVar[tuple[str, ...]]
    physics: ClassVar[tuple[str, ...]]
    sensor_unit: ClassVar[tuple[float, ...]]
    horizon: ClassVar[int]

    @abstractmethod
    def step(self, state: Values, actions: NDArray[np.intp], physics: Mapping[str, Values], push: Values) -> Values:
        """The next state. ``push`` (n,) is this step's factor on the force, 1 without noise."""

    @abstractmethod
    def over(self, state: Values) -> NDArray[np.bool_]:
        """Whether the episode ends here, shape (n,): the pole fell, or the car is at the goal."""

    @abstractmethod
    def solved(self, state: Values, steps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether an episode that ends in ``state`` after ``steps`` steps is solved, shape (n,)."""

    @abstractmethod
    def progress(self, state: Values, physics: Mapping[str, Values], steps: NDArray[np.int64]) -> Values:
        """How far a state is on the way, in [0, 1], shape (n,); the most of an episode is its score."""

    @abstractmethod
    def quality(self, state: Values, physics: Mapping[str, Values]) -> Values:
        """How well a state on the way is mastered, in [0, 1], shape (n,); an episode's mastery is its weighted mean."""


@final
class CartPole(ControlTask):
    """A pole on a cart is to stay up for 500 steps (Barto, Sutton & Anderson 1983).

    ``length`` is half of the pole's (m), masses in kg, ``force_mag`` in N. The score is the share
    of the 500 steps that it stayed up; the quality is 1 less the square of how far it is on the
    way out, in position or angle, whichever is further.
    """

    name = "cartpole"
    actions = ("left", "right")
    observations = ("position", "velocity", "angle", "angular velocity")
    physics = ("gravity", "masscart", "masspole", "length", "force_mag", *NOISES)
    sensor_unit = (0.05, 0.2, 0.02, 0.2)
    horizon = 500

    tau: ClassVar[float] = 0.02
    x_limit: ClassVar[float] = 2.4
    angle_limit: ClassVar[float] = 12 * 2 * np.pi / 360

    def step(self, state: Values, actions: NDArray[np.intp], physics: Mapping[str, Values], push: Values) -> Values:
        _, x_dot, theta, theta_dot = state
        magnitude = physics["force_mag"] * push
        force = np.where(actions == 1, magnitude, -magnitude)
        total_mass = physics["masspole"] + physics["masscart"]
        polemass_length = physics["masspole"] * physics["length"]
        cosine, sine = np.cos(theta), np.sin(theta)
        temp = (force + polemass_length * np.square(theta_dot) * sine) / total_mass
        theta_acc = (physics["gravity"] * sine - cosine * temp) / (
            physics["length"] * (4.0 / 3.0 - physics["masspole"] * np.square(cosine) / total_mass)
        )
        x_acc = temp - polemass_length * theta_acc * cosine / total_mass
        moved = (x_dot, x_acc, theta_dot, theta_acc)
        return np.stack([value + self.tau * rate for value, rate in zip(state, moved, strict=True)])

    def over(self, state: Values) -> NDArray[np.bool_]:
        outside: NDArray[np.bool_] = (np.abs(state[0]) > self.x_limit) | (np.abs(state[2]) > self.angle_limit)
        return outside

    def solved(self, state: Values, steps: NDArray[np.int64]) -> NDArray[np.bool_]:  # noqa: ARG002
        full: NDArray[np.bool_] = steps >= self.horizon
        return full

    def progress(self, state: Values, physics: Mapping[str, Values], steps: NDArray[np.int64]) -> Values:  # noqa: ARG002
        return steps / self.horizon

    def quality(self, state: Values, physics: Mapping[str, Values]) -> Values:  # noqa: ARG002
        far = np.maximum(np.abs(state[0]) / self.x_limit, np.abs(state[2]) / self.angle_limit)
        near: Values = np.clip(1 - np.square(far), 0.0, 1.0)
        return near


@final
class MountainCar(ControlTask):
    """A car too weak for its hill is to reach the flag within 200 steps (Moore 1990).

    Position and velocity in the task's own units. The score of an unsolved episode is the highest
    mechanical energy that the car had, as a share of what the flag takes at rest; the quality on
    the way is half of that share's square, so that mastery tells early arrivals from late ones.
    """

    name = "mountaincar"
    actions = ("left", "coast", "right")
    observations = ("position", "velocity")
    physics = ("force", "gravity", *NOISES)
    sensor_unit = (0.02, 0.002)
    horizon = 200

    lowest: ClassVar[float] = -1.2
    highest: ClassVar[float] = 0.6
    fastest: ClassVar[float] = 0.07
    goal: ClassVar[float] = 0.5

    def step(self, state: Values, actions: NDArray[np.intp], physics: Mapping[str, Values], push: Values) -> Values:
        position, velocity = state
        force = physics["force"] * push
        velocity = velocity + ((actions - 1) * force + np.cos(3 * position) * (-physics["gravity"]))
        velocity = np.clip(velocity, -self.fastest, self.fastest)
        position = np.clip(position + velocity, self.lowest, self.highest)
        return np.stack([position, np.where((position == self.lowest) & (velocity < 0), 0.0, velocity)])

    def over(self, state: Values) -> NDArray[np.bool_]:
        at_goal: NDArray[np.bool_] = (state[0] >= self.goal) & (state[1] >= 0)
        return at_goal

    def solved(self, state: Values, steps: NDArray[np.int64]) -> NDArray[np.bool_]:  # noqa: ARG002
        return self.over(state)

    def progress(self, state: Values, physics: Mapping[str, Values], steps: NDArray[np.int64]) -> Values:  # noqa: ARG002
        height = (np.sin(3 * state[0]) + 1) / (np.sin(3 * self.goal) + 1)  # of the valley 0, of the flag 1
        lift = physics["gravity"] / 3 * (np.sin(3 * self.goal) + 1)
        share: Values = np.clip(height + np.square(state[1]) / 2 / lift, 0.0, 1.0)
        return share

    def quality(self, state: Values, physics: Mapping[str, Values]) -> Values:
        return np.square(self.progress(state, physics, np.zeros(0, np.int64))) / 2


TASKS: dict[str, ControlTask] = {task.name: task for task in (CartPole(), MountainCar())}


def control_task(name: str) -> ControlTask:
    """The task of that name. Raises UnknownNameError for any other."""
    if name not in TASKS:
        raise UnknownNameError("control task", name, TASKS)
    return TASKS[name]
