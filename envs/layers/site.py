"""What a cell's layers are compared on: both files, and both sides' inputs of the same items."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.domains.services import Rows
from gapshift.envs.cells import Cell, TaskItems, sample_of
from gapshift.envs.control import windows_seen_by
from gapshift.envs.effects import require_fit
from gapshift.envs.layers.causes import Inputs
from gapshift.envs.layers.compare import Side
from gapshift.envs.prepare import Preparer
from gapshift.envs.resolve import reference_deployment, resolve
from gapshift.envs.runner import library_versions
from gapshift.envs.runtimes.base import interface_of
from gapshift.envs.variants import Variants
from gapshift.errors import EvaluationError
from gapshift.export.stamp import read_contract, read_stamp
from gapshift.schema import (
    CALIBRATED_FORMATS,
    AnyPreprocessing,
    Bundle,
    Contract,
    ControlPreprocessing,
    Deployment,
    Environment,
    Service,
    digest,
)
from gapshift.workspace import Workspace

WINDOWS = 512
"""A controller's inputs along the reference's trajectories."""


@dataclass(frozen=True, eq=False)
class Site:
    """A cell ready to be compared. ``levels`` (n,) are its items' (0: none; a controller's moments have none), and
    ``places`` (n,) their rows in ``inputs``. ``notes`` say what the comparison leaves out."""

    cell: Cell
    contract: Contract
    reference: Side
    other: Side
    levels: NDArray[np.int64]
    places: NDArray[np.intp]
    inputs: Inputs
    notes: tuple[str, ...]
    converted: bool

    @property
    def opens(self) -> bool:
        """Whether the cell's engine is one whose layers can be seen."""
        runtime = self.cell.deployment.runtime
        return runtime.engine == "onnxruntime" and runtime.provider == "CPUExecutionProvider"


class Picked:
    """Some rows of inputs."""

    def __init__(self, rows: Rows, places: NDArray[np.intp]) -> None:
        self._rows, self._places = rows, places
        self.shape, self.dtype = (len(places), *rows.shape[1:]), rows.dtype

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        return self._rows[self._places[rows]]


class Sites:
    """Prepares cells of one run on a level-balanced sample of ``items`` of its items (None: all), drawn by ``seed``.

    A context manager: prepared inputs in ``folder`` are removed on exit.
    """

    def __init__(
        self, workspace: Workspace, tasks: Mapping[str, TaskItems], folder: Path, items: int | None, seed: int
    ) -> None:
        self._tasks, self._folder = tasks, folder
        self._samples = {name: _sampled(task, items, seed) for name, task in tasks.items()}
        calibration = {name: task.calibration.digest() if task.calibration else "" for name, task in tasks.items()}
        self._variants = Variants(workspace, library_versions(), calibration)
        self._inputs: dict[str, Inputs] = {}

    def __enter__(self) -> Sites:
        self._stack = ExitStack()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inputs.clear()
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def site(self, bundle: Bundle, environment: Environment, against: Path | None = None) -> Site:
        """A bundle's cell. ``against`` is a model file that takes the reference's place, with its own contract where
        it carries one.

        Raises what resolving, converting and preparing raise, and EvaluationError where no item can be read.
        """
        contract = bundle.contract if against is None else contract_of(against, bundle)
        deployment = resolve(bundle.contract, environment)
        cell = Cell(bundle, environment, deployment, "", self._tasks[bundle.task])
        file, made_again = self._file(cell)
        inputs = self._inputs_of(bundle, contract)
        source = self._variants.source(bundle) if against is None else against
        mine, theirs, places = self._both(cell, contract, inputs, (source, file))
        runtime = reference_deployment(contract).runtime
        return Site(
            cell=cell,
            contract=contract,
            reference=Side(source, mine, runtime),
            other=Side(file, theirs, deployment.runtime),
            levels=_levels(cell, inputs.dataset, places),
            places=places,
            inputs=inputs,
            notes=_left_out(deployment, contract.preprocessing),
            converted=made_again,
        )

    def source(self, bundle: Bundle) -> Path:
        """The bundle's own file."""
        return self._variants.source(bundle)

    def strata(self, task: str) -> Mapping[str, int]:
        """The level of each item of a task, by id."""
        return self._tasks[task].strata

    def inputs(self, bundle: Bundle) -> Inputs:
        """The sample's inputs by the bundle's own contract."""
        return self._inputs_of(bundle, bundle.contract)

    def _file(self, cell: Cell) -> tuple[Path, bool]:
        """The cell's file, and whether it had to be made now."""
        there = self._variants.existing(cell)
        return (there, False) if there else (self._variants.file(cell, self._quantisers(cell)), True)

    def _quantisers(self, cell: Cell) -> Any:
        how, other = cell.bundle.contract.preprocessing, cell.task.calibration
        calibrated = cell.deployment.precision.format in CALIBRATED_FORMATS
        if other is None or not calibrated or isinstance(how, ControlPreprocessing):
            return None
        folder = self._folder / f"calibration-{cell.bundle.name}"
        return self._stack.enter_context(Preparer(other, folder, how)).prepared(how)

    def _inputs_of(self, bundle: Bundle, contract: Contract) -> Inputs:
        key = f"{bundle.task}-{digest(contract.preprocessing.model_dump(mode='json'))[:12]}"
        if key not in self._inputs:
            made = Inputs(self._samples[bundle.task], self._folder / key, contract.preprocessing)
            self._inputs[key] = self._stack.enter_context(made)
        return self._inputs[key]

    def _both(
        self, cell: Cell, contract: Contract, inputs: Inputs, files: tuple[Path, Path]
    ) -> tuple[Rows, Rows, NDArray[np.intp]]:
        """Both sides' inputs, and the rows of ``inputs`` that they are of; -1 for a controller's moments."""
        own, deployed = contract.preprocessing, cell.deployment.preprocessing
        if isinstance(own, ControlPreprocessing) and isinstance(deployed, ControlPreprocessing):
            mine, theirs = windows_seen_by([own, deployed], inputs.dataset, files[0], contract, WINDOWS)
            return mine, theirs, np.full(len(mine), -1, dtype=np.intp)
        one, other = inputs.prepared(own), inputs.prepared(deployed, cell.deployment.shift)
        if one is None or other is None:  # no controller's contract is another domain's
            raise EvaluationError(f"{cell.bundle.name} has nothing prepared; only images, texts and sounds have.")
        require_fit(cell, other, interface_of(files[1], cell.bundle.contract))
        places = np.flatnonzero(one.readable & other.readable)
        if not len(places):
            raise EvaluationError("Not one item can be read on both sides, so there is nothing to compare.")
        return Picked(one.tensor, places), Picked(other.tensor, places), places


def _levels(cell: Cell, dataset: Dataset, places: NDArray[np.intp]) -> NDArray[np.int64]:
    found = [0 if place < 0 else cell.task.strata.get(dataset.items[place].id, 0) for place in places]
    return np.array(found, dtype=np.int64)


def _sampled(task: TaskItems, items: int | None, seed: int) -> Dataset:
    if items is None or items >= len(task.dataset):
        return task.dataset
    groups = {task.strata.get(item.id, 0) for item in task.dataset.items}
    return task.dataset.subset(sample_of(task, max(1, items // len(groups)), seed).tolist())


def contract_of(model: Path, bundle: Bundle) -> Contract:
    """A file's own contract; the bundle's where it has none."""
    return read_contract(model) if "contract" in read_stamp(model) else bundle.contract


def _left_out(deployment: Deployment, own: AnyPreprocessing) -> tuple[str, ...]:
    """What a deployment does that neither inputs nor layers show."""
    said, deployed = [], deployment.preprocessing
    if deployment.service != Service():
        said.append("its service's failures, late and stale answers are not part of what is compared")
    if isinstance(own, ControlPreprocessing) and isinstance(deployed, ControlPreprocessing):
        moved = [name for name in ("action_repeat", "action_noise") if getattr(own, name) != getattr(deployed, name)]
        said += [f"{name} acts on what the controller decided, which no layer shows" for name in moved]
    return tuple(said)
