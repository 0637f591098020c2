"""From what was observed to what a controller is given: readings, their faults, windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Episode
from gapshift.domains.control.physics import ControlTask
from gapshift.domains.control.served import ServedReadings
from gapshift.domains.control.simulation import DROPS, stream, task_of
from gapshift.domains.services import NO_SERVICE
from gapshift.errors import NotApplicableError, SettingsError
from gapshift.schema import ControlPreprocessing, Service


def require_scaling(preprocessing: ControlPreprocessing, size: int) -> None:
    """Raises SettingsError where offset or scale are empty, or fit no observation of ``size`` values."""
    for name, values in (("offset", preprocessing.offset), ("scale", preprocessing.scale)):
        if len(values) not in (1, size):
            raise SettingsError(
                f"preprocessing.{name} has {len(values)} values; observations have {size}: give 1 or {size}, or have "
                "it learnt from training items."
            )


def unit_factors(task: ControlTask, preprocessing: ControlPreprocessing) -> NDArray[np.float64]:
    """What the unit of the angles multiplies observations by: one value, or one a dimension.

    Raises NotApplicableError where angles are in degrees and the task observes none.
    """
    if preprocessing.angles_in == "radians":
        return np.ones(1)
    angular = np.array(["ang" in name for name in task.observations])
    if not angular.any():
        raise NotApplicableError(
            f"preprocessing.angles_in = degrees changes nothing: {task.name} observes "
            f"{', '.join(task.observations)}, and no angle."
        )
    return np.where(angular, 180 / np.pi, 1.0)


def readings(
    observations: NDArray[np.float32], preprocessing: ControlPreprocessing, factors: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Readings of ``observations`` (..., observation), in units by ``factors``, with the sensor's faults."""
    offset, scale = np.array(preprocessing.offset), np.array(preprocessing.scale)
    values = (observations * factors - offset) * scale * preprocessing.sensor_gain + preprocessing.sensor_bias
    if preprocessing.saturation is not None:
        values = values.clip(-preprocessing.saturation, preprocessing.saturation)
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
    than its own. What the sensors read comes through ``service``.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        observations: NDArray[np.float32],
        preprocessing: ControlPreprocessing,
        service: Service = NO_SERVICE,
    ) -> None:
        require_scaling(preprocessing, observations.shape[2])
        self._factors = unit_factors(task_of(episodes), preprocessing)
        self._observations = observations
        self._preprocessing = preprocessing
        self._standing = sources(lost(episodes, len(observations), preprocessing))
        steps, _, size = observations.shape
        self._served = None if service == NO_SERVICE else ServedReadings(service, episodes, steps, size)
        if self._served:
            self._standing = np.take_along_axis(self._standing, self._served.origin, axis=0)

    def silent(self, rows: NDArray[np.intp], time: int) -> NDArray[np.bool_]:
        """For which of ``rows`` (m,) the deployment asks its controller nothing at ``time``: no new reading came."""
        if self._served is None:
            return np.zeros(len(rows), dtype=np.bool_)
        found: NDArray[np.bool_] = self._served.silent[moments(time, self._preprocessing)[-1], rows]
        return found

    def window(self, rows: NDArray[np.intp], times: NDArray[np.integer[Any]] | int) -> NDArray[np.float32]:
        """Inputs (m, window, observation) of ``rows`` (m,) at ``times`` (one, or one a row)."""
        seen = np.broadcast_to(moments(times, self._preprocessing), (len(rows), self._preprocessing.window))
        columns = rows[:, None]
        found = readings(self._observations[self._standing[seen, columns], columns], self._preprocessing, self._factors)
        return found if self._served is None else self._served.overwritten(found, seen, columns)
