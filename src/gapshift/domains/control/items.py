"""Which episodes there are: initial states and physics, spread so that difficulty varies smoothly.

Every episode has a severity, uniform in [0.2, 1]: its physics and initial state are drawn from
ranges that widen with it, around gymnasium's own physics (a slightly weaker, heavier car).
What makes most of the difficulty is its sensor noise, from little up to readings in which a step's
velocity is lost: a controller has to average its window, and acts wrongly the more often the
noisier they are, so that episodes grow hard by degrees and not for all controllers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gapshift.domains.base import Dataset, Episode, InMemory
from gapshift.domains.control.physics import control_task
from gapshift.schema import OUTCOMES, Item

COUNT = 2000
"""Episodes of a built-in data set."""
_SEED = 20240
_LEAST = 0.2
"""The least severity: at 0 all episodes would be the same."""
_DIGITS = 9
"""Decimals that are kept, so that an episode's text form is short and the same everywhere."""


@dataclass(frozen=True)
class Spread:
    """The ranges of one task at severity 1: (low, high) around a nominal value.

    At severity s a value is uniform between ``nominal + s (low - nominal)`` and ``nominal + s
    (high - nominal)``; physics so on a logarithmic scale, noise and states on a linear one.
    """

    state: tuple[tuple[float, float, float], ...]
    physics: dict[str, tuple[float, float, float]]
    noise: dict[str, tuple[float, float, float]]


SPREADS = {
    "cartpole": Spread(
        state=((0.0, -2.0, 2.0), (0.0, -0.9, 0.9), (0.0, -0.16, 0.16), (0.0, -0.9, 0.9)),
        physics={
            "gravity": (9.8, 6.0, 20.0),
            "masscart": (1.0, 0.5, 2.0),
            "masspole": (0.1, 0.04, 0.5),
            "length": (0.5, 0.2, 1.0),
            "force_mag": (10.0, 5.0, 16.0),
        },
        noise={"actuator_noise": (0.0, 0.0, 1.5), "sensor_noise": (1.5, 0.8, 5.5)},
    ),
    "mountaincar": Spread(
        state=((-0.5, -1.0, 0.0), (0.0, -0.03, 0.03)),
        physics={"force": (0.00075, 0.0004, 0.0012), "gravity": (0.0027, 0.0019, 0.0036)},
        noise={"actuator_noise": (0.0, 0.0, 1.5), "sensor_noise": (0.0, 0.0, 60.0)},
    ),
}


def draw_episodes(task: str, count: int, seed: int) -> list[Episode]:
    """``count`` episodes of ``task``; the first ones are the same whatever the count.

    Raises UnknownNameError for a task that does not exist.
    """
    control_task(task)
    return [_draw(task, np.random.default_rng([seed, place])) for place in range(count)]


def _draw(task: str, generator: np.random.Generator) -> Episode:
    spread, severity = SPREADS[task], generator.uniform(_LEAST, 1.0)

    def value(nominal: float, low: float, high: float) -> float:
        share = generator.random()
        return nominal + severity * (low - nominal + share * (high - low))

    state = tuple(round(value(*bounds), _DIGITS) for bounds in spread.state)
    physics = {name: float(np.exp(value(*np.log(bounds)))) for name, bounds in spread.physics.items()}
    noise = {name: value(*bounds) for name, bounds in spread.noise.items()}
    settled = tuple((name, round(number, _DIGITS)) for name, number in (physics | noise).items())
    return Episode(task, state, settled, seed=int(generator.integers(2**31)))


def episode_data(task: str, labels: Sequence[str] | None = None, count: int = COUNT) -> Dataset:
    """The built-in episodes of ``task``, ids ``task/0000`` on, the same on every machine.

    Raises DataError for ``labels`` that are not OUTCOMES, UnknownNameError for another task.
    """
    episodes = draw_episodes(task, count, _SEED)
    items = [Item(id=f"{task}/{place:04d}", label=1) for place in range(count)]
    return InMemory(task, tuple(labels or OUTCOMES), items, episodes, "control", "episodes")
