"""What only controllers have: the open loop along the reference's trajectories, and the inputs met on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import Predict, episode_of
from gapshift.domains.base import Dataset
from gapshift.domains.control.episodes import action_disagreement, seen_by
from gapshift.envs.cells import Cell
from gapshift.envs.resolve import reference_deployment
from gapshift.envs.runtimes import open_runtime
from gapshift.schema import Contract, ControlPreprocessing

_OPEN_LOOP_EPISODES = 64
"""Episodes along whose reference trajectories actions are compared."""


def open_loop(cell: Cell, rows: NDArray[np.intp], source: Path, predict: Predict) -> float | None:
    """The share of steps along the reference's trajectories at which the action differs; None but in control.

    ``source`` is the bundle's own file. Other physics make other trajectories and leave this one as it was: it tells
    of the controller alone.
    """
    contract, deployed = cell.bundle.contract, cell.deployment.preprocessing
    first = rows[np.isin(rows, np.sort(rows)[:_OPEN_LOOP_EPISODES])]  # the same ones in whatever order they are asked
    if not (isinstance(contract.preprocessing, ControlPreprocessing) and isinstance(deployed, ControlPreprocessing)):
        return None  # a deployment is of its contract's domain
    episodes = [episode_of(cell.task.dataset, row) for row in first]
    asked = _in_batches(predict, cell.deployment.runtime.batch_size)
    with open_runtime(reference_deployment(contract).runtime, source, contract) as reference:
        return action_disagreement(
            episodes,
            reference.predict,
            contract.preprocessing,
            asked,
            deployed,
            other_service=cell.deployment.service,
        )


def _in_batches(predict: Predict, size: int) -> Predict:
    """The same, given at most ``size`` inputs a call."""
    return lambda inputs: np.concatenate([predict(inputs[s : s + size]) for s in range(0, len(inputs), size)])


def reference_windows(dataset: Dataset, source: Path, contract: Contract, count: int) -> NDArray[Any]:
    """``count`` inputs that the reference controller meets on a data set's episodes."""
    assert isinstance(contract.preprocessing, ControlPreprocessing)
    return windows_seen_by([contract.preprocessing], dataset, source, contract, count)[0]


def windows_seen_by(
    others: Sequence[ControlPreprocessing], dataset: Dataset, source: Path, contract: Contract, count: int
) -> list[NDArray[Any]]:
    """The moments of ``reference_windows`` as each of other deployments' sensors sees them."""
    assert isinstance(contract.preprocessing, ControlPreprocessing)
    episodes = [episode_of(dataset, row) for row in range(len(dataset))]
    with open_runtime(reference_deployment(contract).runtime, source, contract) as session:
        return list(seen_by(others, episodes, session.predict, contract.preprocessing, count))
