"""The file that a cell runs: the bundle's own, or one made from it once (rewritten, in another number format)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.envs.calibration import calibration_address, chosen_items
from gapshift.envs.cells import Cell
from gapshift.envs.control import reference_windows
from gapshift.envs.prepare import Prepared
from gapshift.errors import EvaluationError
from gapshift.export.model_file import sha256
from gapshift.export.precision import variant
from gapshift.export.rewrite import rewrite
from gapshift.schema import (
    CALIBRATED_FORMATS,
    Bundle,
    ControlPreprocessing,
    Graph,
    Precision,
    digest,
)
from gapshift.workspace import Workspace

_CALIBRATION_WINDOWS = 512
"""A controller's inputs that a static quantiser calibrates on."""


class Variants:
    """Makes and finds the files of a run's cells.

    ``versions`` of the libraries and ``calibration`` (the digest of each task's calibration items) address them.
    """

    def __init__(self, workspace: Workspace, versions: Mapping[str, str], calibration: Mapping[str, str]) -> None:
        self._workspace = workspace
        self._versions = dict(versions)
        self._calibration = calibration
        self._verified: set[str] = set()

    def source(self, bundle: Bundle) -> Path:
        """The bundle's file, which must still be the one that its cells are addressed by."""
        path = self._workspace.bundle_path(bundle.path)
        if bundle.name not in self._verified:
            if sha256(path) != bundle.sha256:
                raise EvaluationError(
                    f"{path} is not the file that this run was planned with (its SHA-256 differs). "
                    "Put that file back, or check the new one in a run of its own."
                )
            self._verified.add(bundle.name)
        return path

    def file(self, cell: Cell, quantiser: Prepared | None) -> Path:
        """The file to run; ``quantiser`` holds a static quantiser's inputs.

        Raises EvaluationError where it cannot be made, NotApplicableError where there is nothing to change.
        """
        return self._in_format(cell, self._rewritten(cell), quantiser)

    def existing(self, cell: Cell) -> Path | None:
        """The file to run where it need not be made: the bundle's own, or one that lies in the run already."""
        graph, precision = cell.deployment.graph, cell.deployment.precision
        if precision != Precision():
            path = self._converted_path(cell)
        else:
            path = self.source(cell.bundle) if graph == Graph() else self._rewritten_path(cell)
        return path if path.exists() else None

    def _rewritten(self, cell: Cell) -> Path:
        source, graph = self.source(cell.bundle), cell.deployment.graph
        if graph == Graph():
            return source
        path = self._rewritten_path(cell)
        if not path.exists():
            rewrite(source, graph, path)
        return path

    def _rewritten_path(self, cell: Cell) -> Path:
        return self._path([cell.bundle.sha256, cell.deployment.graph.model_dump(mode="json"), self._versions])

    def _in_format(self, cell: Cell, source: Path, quantiser: Prepared | None) -> Path:
        precision, contract = cell.deployment.precision, cell.bundle.contract
        if precision == Precision():
            return source
        calibrated = precision.format in CALIBRATED_FORMATS
        if calibrated and cell.task.calibration is None:
            raise EvaluationError(
                f"{precision.format} needs calibration items that are not judged; give --calibration-data DATA."
            )
        path = self._converted_path(cell)
        if not path.exists():
            batches = self._calibration_batches(cell, quantiser) if calibrated else None
            variant(source, precision, path, calibration=batches, input_name=contract.model.input)
        return path

    def _converted_path(self, cell: Cell) -> Path:
        precision, contract, graph = cell.deployment.precision, cell.bundle.contract, cell.deployment.graph
        calibrated = precision.format in CALIBRATED_FORMATS
        chosen = calibration_address(precision, self._calibration[cell.bundle.task], cell.task)
        return self._path(
            [
                cell.bundle.sha256,
                precision.model_dump(mode="json"),
                [chosen, contract.model_dump(mode="json")] if calibrated else [],
                self._versions,
                *([] if graph == Graph() else [graph.model_dump(mode="json")]),
            ]
        )

    def _path(self, address: list[Any]) -> Path:
        return self._workspace.root / "variants" / f"{digest(address)[:24]}.onnx"

    def _calibration_batches(self, cell: Cell, quantiser: Prepared | None) -> list[NDArray[Any]]:
        """The quantiser's inputs; in control what the float32 controller meets on its episodes."""
        dataset, precision = cell.task.calibration, cell.deployment.precision
        if isinstance(cell.bundle.contract.preprocessing, ControlPreprocessing) and dataset is not None:
            episodes = dataset.subset(chosen_items(precision, cell.task, np.ones(len(dataset), bool)).tolist())
            return _split(
                reference_windows(episodes, self.source(cell.bundle), cell.bundle.contract, _CALIBRATION_WINDOWS)
            )
        return _split(quantiser.tensor[chosen_items(precision, cell.task, quantiser.readable)]) if quantiser else []


def _split(inputs: NDArray[Any], size: int = 16) -> list[NDArray[Any]]:
    return [np.ascontiguousarray(inputs[s : s + size]) for s in range(0, len(inputs), size)]
