"""From what was observed to what a controller is given: readings, their faults, windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Episode
from gapshift.domains.control.simulation import DROPS, stream
from gapshift.errors import SettingsError
from gapshift.schema import ControlPreprocessing


def require_scaling(preprocessing: ControlPreprocessing, size: int) -> None:
    """Raises SettingsError where offset or scale are empty, or fit no observation of ``size`` values."""
    for name, values in (("offset", preprocessing.offset), ("scale", preprocessing.scale)):
        if len(values) not in (1, size):
            raise SettingsError(
                f"preprocessing.{name} has {len(values)} values; observations have {size}: give 1 or {size}, or have "
                "it learnt from training items."
            )


def readings(observations: NDArray[np.float32], preprocessing: ControlPreprocessing) -> NDArray[np.float32]:
    """Readings of ``observations`` (..., observation) with the sensor's gain, bias and rounding."""
    offset, scale = np.array(preprocessing.offset), np.array(preprocessing.scale)
    values = (observations - offset) * scale * preprocessing.sensor_gain + preprocessing.sensor_bias
    if preprocessing.quantization > 0:
        values = np.round(values / preprocessing.quantization) * preprocessing.quantization
    single: NDArray[np.float32] = values.astype(np.float32)
    return single


def lost(episodes: Sequence[Episode], steps: int, preprocessing: ControlPreprocessing) -> NDArray[np.bool_]:
    """Which readings are lost, shape (steps, n), by each episode's own seed; the first never is."""
    gone = np.zeros((steps, len(episodes)), dtype=np.bool_)
    if preprocessing.drop_rate > 0:
        for row, episode in enumerate(episodes):
            gone[:, row] = stream(episode, DROPS).random(steps) < preprocessing.drop_rate
    gone[:1] = False
    return gone


def sources(gone: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The step whose reading stands at each step, shape (steps, n): the last one that was not lost."""
    steps = np.arange(len(gone), dtype=np.int32)[:, None]
    standing: NDArray[np.int32] = np.maximum.accumulate(np.where(gone, 0, steps), axis=0)
    return standing


def moments(time: NDArray[np.integer[Any]] | int, preprocessing: ControlPreprocessing) -> NDArray[np.intp]:
    """The steps (..., window) that a controller sees at ``time`` (...), oldest first; none before 0."""
    age = np.arange(preprocessing.window - 1, -1, -1) + preprocessing.delay
    seen: NDArray[np.intp] = np.maximum(np.asarray(time, dtype=np.intp)[..., None] - age, 0)
    return seen


class Sensors:
    """What one controller is given along the episodes of a simulation.

    ``observations`` (steps, n, observation) may still be growing: a window reads no later step
    than its own.
    """

    def __init__(
        self, episodes: Sequence[Episode], observations: NDArray[np.float32], preprocessing: ControlPreprocessing
    ) -> None:
        require_scaling(preprocessing, observations.shape[2])
        self._observations = observations
        self._preprocessing = preprocessing
        self._standing = sources(lost(episodes, len(observations), preprocessing))

    def window(self, rows: NDArray[np.intp], times: NDArray[np.integer[Any]] | int) -> NDArray[np.float32]:
        """Inputs (m, window, observation) of ``rows`` (m,) at ``times`` (one, or one a row)."""
        seen = np.broadcast_to(moments(times, self._preprocessing), (len(rows), self._preprocessing.window))
        columns = rows[:, None]
        return readings(self._observations[self._standing[seen, columns], columns], self._preprocessing)
