"""One cell: which file runs, on which inputs, and how its answers become records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, rank
from gapshift.domains.corruptions.apply import corrupted
from gapshift.schema import Bundle, Deployment, Environment


@dataclass(frozen=True)
class TaskItems:
    """A task's items: ``dataset`` holds the judged ones, ``calibration`` the quantiser's (never
    judged), ``strata`` the level of each item of either."""

    dataset: Dataset
    calibration: Dataset | None = None
    strata: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One bundle in one environment, still to be run. ``key`` is its content address."""

    bundle: Bundle
    environment: Environment
    deployment: Deployment
    key: str
    task: TaskItems

    @property
    def dataset(self) -> Dataset:
        """The judged items as this deployment receives them."""
        return corrupted(self.task.dataset, self.deployment.shift, self.deployment.preprocessing)


def rows_of(cell: Cell, per_level: int, seed: int) -> NDArray[np.intp]:
    """Indices of the items that a cell answers, in the order in which they are asked.

    A subsampled environment answers at most ``per_level`` items of each level, drawn by ``seed`` and id alone.
    """
    rows = sample_of(cell.task, per_level, seed) if cell.environment.subsample else np.arange(len(cell.task.dataset))
    order = cell.deployment.runtime.order
    if order is None:
        return rows
    places = [rank(cell.task.dataset.items[row].id, order) for row in rows]
    return rows[np.argsort(np.array(places), kind="stable")]


def sample_of(task: TaskItems, per_level: int, seed: int) -> NDArray[np.intp]:
    """Indices of at most ``per_level`` judged items of each level, ascending, drawn by ``seed`` and id alone."""
    chosen: dict[int, list[tuple[str, int]]] = {}
    for index, item in enumerate(task.dataset.items):
        chosen.setdefault(task.strata.get(item.id, 0), []).append((rank(item.id, seed), index))
    return np.array(sorted(i for ranked in chosen.values() for _, i in sorted(ranked)[:per_level]), dtype=np.intp)


class Timed:
    """A session's predict, with the seconds spent in it."""

    def __init__(self, predict: Callable[[NDArray[np.generic]], NDArray[np.floating]]) -> None:
        self._predict = predict
        self.seconds = 0.0

    def __call__(self, inputs: NDArray[np.generic]) -> NDArray[np.floating]:
        inputs = np.ascontiguousarray(inputs)
        began = time.perf_counter()
        scores = self._predict(inputs)
        self.seconds += time.perf_counter() - began
        return scores


class Laps:
    """Seconds that a cell's steps took, for the journal."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._steps: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """What passed since the last lap was spent in ``step``."""
        now = time.perf_counter()
        self._steps[step] = self._steps.get(step, 0.0) + now - self._began
        self._began = now

    def seconds(self) -> dict[str, float]:
        """Step to seconds."""
        return {step: round(seconds, 6) for step, seconds in self._steps.items()}
