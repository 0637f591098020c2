"""Physics away from training: an episode's own parameters multiplied, by a factor that grows with severity.

The initial state, the noise drawn at each step and the lost readings stay the episode's own, so
that it is paired with itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gapshift.domains.base import Episode
from gapshift.domains.control.physics import NOISES
from gapshift.domains.corruptions.base import Family
from gapshift.errors import NotApplicableError

FACTORS = (1.2, 1.5, 2.0, 2.5, 3.0)
"""What one parameter is multiplied by (a force: divided by)."""
MILD_FACTORS = (1.1, 1.2, 1.35, 1.5, 1.75)
"""The same where all parameters change at once."""


def physics(episode: Episode, severity: int, rng: np.random.Generator) -> Episode:
    """Every parameter but the noises, each up or down by its own draw."""
    names = [name for name, _ in episode.physics if name not in NOISES]
    ups = rng.random(len(names)) < 0.5
    factor = MILD_FACTORS[severity - 1]
    return _scaled(episode, {name: factor if up else 1 / factor for name, up in zip(names, ups, strict=True)})


def _one(name: str, *parameters: str, down: bool = False) -> Family[Episode]:
    """A family that changes the first of ``parameters`` that the task has."""

    def apply(episode: Episode, severity: int, _: np.random.Generator) -> Episode:
        own = [parameter for parameter, _ in episode.physics]
        known = [parameter for parameter in parameters if parameter in own]
        if not known:
            raise NotApplicableError(
                f"shift.corruption = {name} changes {' or '.join(parameters)}, which {episode.task} has not; "
                f"it has {', '.join(own)}"
            )
        factor = FACTORS[severity - 1]
        return _scaled(episode, {known[0]: 1 / factor if down else factor})

    return Family(name, apply)


def _scaled(episode: Episode, factors: Mapping[str, float]) -> Episode:
    return replace(episode, physics=tuple((name, value * factors.get(name, 1.0)) for name, value in episode.physics))


FAMILIES = (
    Family[Episode]("physics", physics),
    _one("gravity", "gravity"),
    _one("weak-actuator", "force_mag", "force", down=True),
    _one("heavy-cart", "masscart"),
    _one("heavy-pole", "masspole"),
    _one("long-pole", "length"),
    _one("sensor-noise", "sensor_noise"),
    _one("actuator-noise", "actuator_noise"),
)
