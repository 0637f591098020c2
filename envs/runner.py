"""The matrix runner: bundles × environments → one record file per cell.

A cell's content address decides whether it still has to run, so a second run of the
same plan runs nothing and a killed one goes on where it stopped. One cell's trouble is
that cell's status; it never takes another cell with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import Keep
from gapshift.envs.calibration import calibration_address
from gapshift.envs.cells import Cell, Laps, TaskItems, rows_of
from gapshift.envs.control import open_loop
from gapshift.envs.effects import batch_effect, effect, require_fit, unreadable_calibration
from gapshift.envs.execution import truth
from gapshift.envs.machine import cpu_flags, versions
from gapshift.envs.opened import Opened
from gapshift.envs.outputs import outputs_file
from gapshift.envs.parts import BundleReading, Reader, ReferenceStoppedError
from gapshift.envs.prepare import Prepared, Preparer, input_key
from gapshift.envs.resolve import resolve
from gapshift.envs.runtimes import open_runtime
from gapshift.envs.variants import Variants
from gapshift.errors import (
    GapshiftError,
    NotApplicableError,
    SkippedError,
    UnknownNameError,
    WorkspaceError,
)
from gapshift.records import Records, read_cell
from gapshift.schema import (
    CALIBRATED_FORMATS,
    REFERENCE_ENVIRONMENT,
    Bundle,
    CellInfo,
    CellStatus,
    ControlPreprocessing,
    Deployment,
    Environment,
    cell_basis,
    digest,
    environments_for,
)
from gapshift.workspace import Workspace

Progress = Callable[[str, int, int], None]
"""Called with (what, cells done, cells in all)."""

_PREPARED = ".prepared"


@dataclass(frozen=True)
class Matrix:
    """What to evaluate: every bundle in the reference and in every environment.

    ``tasks`` holds the items of every bundle's task. Environments marked ``subsample`` answer
    at most ``subsample_per_level`` items of each level, drawn by ``seed`` and id alone.
    ``keep_outputs``: raw outputs are written as well (``Workspace.outputs_path``), but for control.
    ``known``: files of cells that were answered elsewhere, by content address; they are copied and not run.
    ``reader``: cells are read in parts, as far as it says; then neither samples nor ``known`` nor outputs are used.
    """

    bundles: tuple[Bundle, ...]
    environments: tuple[Environment, ...]
    tasks: Mapping[str, TaskItems]
    subsample_per_level: int = 200
    seed: int = 0
    keep_outputs: bool = False
    known: Mapping[str, Path] = field(default_factory=dict)
    reader: Reader | None = None


def evaluate(workspace: Workspace, matrix: Matrix, progress: Progress | None = None, debug: bool = False) -> None:
    """Run every cell that does not exist yet. ``debug`` lets a cell's exception through.

    Raises UnknownNameError for a bundle whose task has no items here, and WorkspaceError when
    records cannot be written; everything else that goes wrong becomes the status and reason of
    its cell.
    """
    for bundle in matrix.bundles:
        if bundle.task not in matrix.tasks:
            raise UnknownNameError(f"task (of bundle {bundle.name})", bundle.task, matrix.tasks)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, workspace.root / _PREPARED, ignore_errors=True)
        _Run(workspace, matrix, stack, debug).run(progress or (lambda _what, _done, _all: None))


class _Run:
    def __init__(self, workspace: Workspace, matrix: Matrix, stack: ExitStack, debug: bool) -> None:
        self._workspace = workspace
        self._matrix = matrix
        self._stack = stack
        self._debug = debug
        self._laps = Laps()
        self._preparers: dict[str, tuple[Preparer, Preparer | None]] = {}
        self._versions = library_versions()  # once: reading them takes as long as a small model's thousand answers
        self._items = {name: task.dataset.digest() for name, task in matrix.tasks.items()}
        self._calibration = {
            name: task.calibration.digest() if task.calibration else "" for name, task in matrix.tasks.items()
        }
        self._variants = Variants(workspace, self._versions, self._calibration)
        self._samples = {
            name: digest([matrix.subsample_per_level, matrix.seed, sorted(task.strata.items())])
            for name, task in matrix.tasks.items()
        }
        self._planned_for = {
            bundle.name: (
                REFERENCE_ENVIRONMENT,
                *environments_for(bundle, matrix.bundles, matrix.environments),
            )
            for bundle in matrix.bundles
        }

    def run(self, progress: Progress) -> None:
        total = sum(map(len, self._planned_for.values()))
        if self._matrix.reader is not None:
            self._read_all(self._matrix.reader, total, progress)
            return
        cells = list(self._pending())
        done = total - len(cells)
        self._workspace.log("evaluate", cells=total, finished=done)
        progress("cells", done, total)
        for cell in cells:
            self._run_cell(cell)
            done += 1
            progress(f"{cell.bundle.name} in {cell.environment.name}", done, total)

    def _read_all(self, reader: Reader, total: int, progress: Progress) -> None:
        self._workspace.log("evaluate", cells=total, in_parts=True)
        progress("cells", 0, total)
        done = 0
        for bundle in self._matrix.bundles:
            planned = [self._planned(bundle, environment) for environment in self._planned_for[bundle.name]]
            cells = sorted((cell for cell in planned[1:] if cell is not None), key=_preprocessing_key)
            if planned[0] is not None:
                for name in BundleReading(self, self._workspace, planned[0], reader).read(cells):
                    progress(f"{bundle.name} in {name}", min(total, done := done + 1), total)
        progress("cells", total, total)

    def _pending(self) -> Iterator[Cell]:
        """Cells that did not run yet, those with the same preprocessing together.

        A stale file under their name (of an older plan) goes first: it must not be judged.
        """
        cells: list[Cell] = []
        for bundle in self._matrix.bundles:
            for environment in self._planned_for[bundle.name]:
                cell = self._planned(bundle, environment)
                if cell and not self.has(cell) and not self._adopted(cell):
                    cells.append(cell)
        order: dict[str, int] = {}
        for cell in cells:
            self._workspace.remove_cell(cell.bundle.name, cell.environment.name)
            order.setdefault(_preprocessing_key(cell), len(order))
        yield from sorted(cells, key=lambda cell: order[_preprocessing_key(cell)])

    def has(self, cell: Cell) -> bool:
        """Whether a cell ran to its end, and its outputs are there where they are wanted."""
        name = cell.bundle.name, cell.environment.name
        if not self._workspace.finished(*name, cell.key):
            return False
        if not self._keeps(cell) or self._workspace.outputs_path(*name, cell.key).exists():
            return True
        found = self._workspace.read_cell(*name)
        return found is not None and found[0].status != "ok"  # it has none

    def _adopted(self, cell: Cell) -> bool:
        """Whether the same cell was answered elsewhere; its records are then copied under this one's name."""
        path = self._matrix.known.get(cell.key)
        if path is None or self._keeps(cell):
            return False
        try:
            info, records = read_cell(path)
        except WorkspaceError:  # damaged since: it runs here
            return False
        if info.key != cell.key or info.status != "ok":
            return False
        told = self.header(cell).model_dump(include={"bundle", "environment", "basis"})
        self._workspace.write_cell(info.model_copy(update=told), records)
        self._workspace.log("shared", bundle=cell.bundle.name, environment=cell.environment.name, key=cell.key)
        return True

    def _keeps(self, cell: Cell) -> bool:
        return self._matrix.keep_outputs and cell.deployment.domain != "control"

    def _planned(self, bundle: Bundle, environment: Environment) -> Cell | None:
        """The cell to run; None where the contract already rules it out (recorded as such)."""
        self._laps = Laps()
        try:
            deployment = resolve(bundle.contract, environment)
        except NotApplicableError as error:
            self._finish(self._unresolved(bundle, environment, "not_applicable", str(error)))
            return None
        except GapshiftError as error:
            self._finish(self._unresolved(bundle, environment, "error", str(error)))
            return None
        key = self._key(bundle, environment, deployment)
        return Cell(bundle, environment, deployment, key, self._matrix.tasks[bundle.task])

    def _unresolved(self, bundle: Bundle, environment: Environment, status: CellStatus, reason: str) -> CellInfo:
        """The header of a cell that has no deployment."""
        basis = cell_basis(bundle, environment, self._items[bundle.task])
        return CellInfo(
            key=basis, basis=basis, bundle=bundle.name, environment=environment.name, status=status, reason=reason
        )

    def _key(self, bundle: Bundle, environment: Environment, deployment: Deployment) -> str:
        """The content address: everything that could change an answer."""
        task = self._matrix.tasks[bundle.task]
        return digest(
            {
                "model": bundle.sha256,
                "contract": bundle.contract.model_dump(mode="json"),
                "deployment": deployment.model_dump(mode="json"),
                "items": self._items[bundle.task],
                "calibration": calibration_address(deployment.precision, self._calibration[bundle.task], task),
                "sample": self._sample(bundle, environment),
                "versions": self._versions,
                "cpu": list(cpu_flags()),
            }
        )

    def _sample(self, bundle: Bundle, environment: Environment) -> str:
        """What decides which of the items are answered; empty where all are."""
        if self._matrix.reader is not None:
            return digest(["read in parts", self._matrix.reader.address(bundle, environment)])
        return self._samples[bundle.task] if environment.subsample else ""

    def _run_cell(self, cell: Cell) -> None:
        self.attempt(cell, self._answer)

    def attempt(self, cell: Cell, answer: Callable[[Cell], tuple[CellInfo, Records]]) -> None:
        """Write what a cell answers, or why it does not."""
        status: CellStatus
        self._laps = Laps()
        try:
            info, records = answer(cell)
            self._laps.lap("answer")
            self._finish(info, records)
            return
        except (WorkspaceError, ReferenceStoppedError):
            raise
        except NotApplicableError as error:
            status, reason = "not_applicable", str(error)
        except SkippedError as error:
            status, reason = "skipped", str(error)
        except GapshiftError as error:
            status, reason = "error", str(error)
        except Exception as error:
            if self._debug:
                raise
            status, reason = "error", f"{type(error).__name__}: {error or 'it says no more'}"
        self._laps.lap("until it stopped")
        self._finish(self.header(cell, status=status, reason=reason))

    def header(self, cell: Cell, **fields: Any) -> CellInfo:
        basis = cell_basis(cell.bundle, cell.environment, self._items[cell.bundle.task])
        return CellInfo(key=cell.key, basis=basis, bundle=cell.bundle.name, environment=cell.environment.name, **fields)

    def _finish(self, info: CellInfo, records: Records | None = None) -> None:
        existing = self._workspace.finished(info.bundle, info.environment, info.key)
        if not existing:
            self._workspace.write_cell(info, records)
            self._laps.lap("write")
            self._workspace.log(
                "cell",
                bundle=info.bundle,
                environment=info.environment,
                status=info.status,
                reason=info.reason,
                seconds=self._laps.seconds(),
            )

    # ------------------------------------------------------------- one cell's answers

    def _answer(self, cell: Cell) -> tuple[CellInfo, Records]:
        rows = rows_of(cell, self._matrix.subsample_per_level, self._matrix.seed)
        with self._kept(cell) as keep, self.opened(cell, rows, keep) as opened:
            records = opened.answer(rows)
            self._laps.lap("answer")
            elsewhere = open_loop(cell, rows, self._variants.source(cell.bundle), opened.predict)
        return self.header(cell, open_loop=elsewhere, **opened.header()), records

    @contextmanager
    def opened(self, cell: Cell, rows: NDArray[np.intp], keep: Keep | None = None) -> Iterator[Opened]:
        """The cell's session, ready to be asked ``rows`` or some of them."""
        judged, calibration = self._preparers_for(cell)
        note = effect(cell, judged)
        inputs = _inputs(cell, judged)
        self._laps.lap("prepare")
        quantiser = _quantisers_inputs(cell, calibration)
        model = self._variants.file(cell, quantiser)
        self._laps.lap("convert")
        with open_runtime(cell.deployment.runtime, model, cell.bundle.contract) as session:
            require_fit(cell, inputs, session.interface)
            one_size = batch_effect(cell, session.fixed_batch)
            execution = truth(
                session,
                model,
                cell.deployment.precision,
                cell.deployment.runtime,
                rounds=cell.deployment.graph.softmax is not None,
            )
            self._laps.lap("open")
            notes = (note, one_size, unreadable_calibration(quantiser))
            yield Opened(cell, rows, inputs, session, execution, notes, keep)

    def _kept(self, cell: Cell) -> AbstractContextManager[Keep | None]:
        if not self._keeps(cell):
            return nullcontext()
        path = self._workspace.outputs_path(cell.bundle.name, cell.environment.name, cell.key)
        return outputs_file(path, len(cell.task.dataset))

    def _preparers_for(self, cell: Cell) -> tuple[Preparer, Preparer | None]:
        """Bundles of one task with the same contract share their prepared inputs."""
        keep = cell.bundle.contract.preprocessing
        key = digest([cell.bundle.task, keep.model_dump(mode="json")])
        if key not in self._preparers:
            folder = self._workspace.root / _PREPARED / key[:12]
            judged, other = cell.task.dataset, cell.task.calibration
            self._preparers[key] = (
                self._stack.enter_context(Preparer(judged, folder / "judged", keep)),
                self._stack.enter_context(Preparer(other, folder / "calibration", keep)) if other else None,
            )
        return self._preparers[key]


def _inputs(cell: Cell, judged: Preparer) -> Prepared | None:
    """Every item's input; None in control, where inputs come about step by step."""
    if isinstance(cell.deployment.preprocessing, ControlPreprocessing):
        return None
    return judged.prepared(cell.deployment.preprocessing, cell.deployment.shift)


def _quantisers_inputs(cell: Cell, calibration: Preparer | None) -> Prepared | None:
    """What a static quantiser calibrates on; None where there is no such quantiser, and in control."""
    how = cell.bundle.contract.preprocessing
    calibrated = cell.deployment.precision.format in CALIBRATED_FORMATS
    if calibration is None or not calibrated or isinstance(how, ControlPreprocessing):
        return None
    return calibration.prepared(how)


def _preprocessing_key(cell: Cell) -> str:
    return digest([cell.bundle.task, input_key(cell.deployment.preprocessing, cell.deployment.shift)])


def library_versions() -> dict[str, str]:
    """The versions that are part of every cell's address."""
    runtimes = versions("gapshift", "onnxruntime", "onnx", "openvino", "numpy")
    return runtimes | versions(
        "scipy", "tokenizers", "pillow", "opencv", "torch", "av", "simplejpeg", "soxr", "librosa"
    )
