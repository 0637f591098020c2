"""The matrix runner: bundles × environments → one record file per cell.

A cell's content address decides whether it still has to run, so a second run of the
same plan runs nothing and a killed one goes on where it stopped. One cell's trouble is
that cell's status; it never takes another cell with it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import Asked, answer, episode_of
from gapshift.domains.base import Dataset, rank
from gapshift.domains.control.episodes import action_disagreement, windows
from gapshift.domains.corruptions.apply import corrupted, is_silent
from gapshift.domains.prepare import no_effect
from gapshift.envs.catalog import REFERENCE_ENVIRONMENT
from gapshift.envs.execution import truth
from gapshift.envs.machine import cpu_flags, versions
from gapshift.envs.prepare import Prepared, Preparer, input_key
from gapshift.envs.resolve import listing, preprocessing_deviations, reference_deployment, resolve, shift_deviations
from gapshift.envs.runtimes import open_runtime
from gapshift.envs.runtimes.base import Interface
from gapshift.errors import (
    EvaluationError,
    GapshiftError,
    NotApplicableError,
    SkippedError,
    UnknownNameError,
    WorkspaceError,
)
from gapshift.export.model_file import sha256
from gapshift.export.precision import variant
from gapshift.records import Records
from gapshift.schema import (
    AnyPreprocessing,
    Bundle,
    CellInfo,
    CellStatus,
    ControlPreprocessing,
    Deployment,
    Environment,
    Precision,
    Preprocessing,
    Shift,
    cell_basis,
    digest,
    environments_for,
)
from gapshift.workspace import Workspace

Progress = Callable[[str, int, int], None]
"""Called with (what, cells done, cells in all)."""

CALIBRATED_FORMATS = ("int8-qdq",)
"""Number formats whose quantiser needs calibration items."""

_PREPARED = ".prepared"


_LIKE_PROBABILITIES = (
    "the outputs look like probabilities and the contract calls them logits: predictions hold, confidences and ECE "
    "do not (set model.output_kind)"
)
_OPEN_LOOP_EPISODES = 64
"""Episodes along whose reference trajectories actions are compared."""
_CALIBRATION_WINDOWS = 512
"""A controller's inputs that a static quantiser calibrates on."""


@dataclass(frozen=True)
class TaskItems:
    """A task's items: ``dataset`` holds the judged ones, ``calibration`` the quantiser's (never
    judged), ``strata`` each judged item's level."""

    dataset: Dataset
    calibration: Dataset | None = None
    strata: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Matrix:
    """What to evaluate: every bundle in the reference and in every environment.

    ``tasks`` holds the items of every bundle's task. Environments marked ``subsample`` answer
    at most ``subsample_per_level`` items of each level, drawn by ``seed`` and id alone.
    """

    bundles: tuple[Bundle, ...]
    environments: tuple[Environment, ...]
    tasks: Mapping[str, TaskItems]
    subsample_per_level: int = 200
    seed: int = 0


@dataclass(frozen=True)
class _Cell:
    bundle: Bundle
    environment: Environment
    deployment: Deployment
    key: str
    task: TaskItems

    @property
    def dataset(self) -> Dataset:
        """The judged items as this deployment receives them."""
        return corrupted(self.task.dataset, self.deployment.shift, self.deployment.preprocessing)


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
        self._preparers: dict[str, tuple[Preparer, Preparer | None]] = {}
        self._verified: set[str] = set()
        self._versions = _versions()  # once: reading them takes as long as a small model's thousand answers
        self._items = {name: task.dataset.digest() for name, task in matrix.tasks.items()}
        self._calibration = {
            name: task.calibration.digest() if task.calibration else "" for name, task in matrix.tasks.items()
        }
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
        cells = list(self._pending())
        done = total - len(cells)
        self._workspace.log("evaluate", cells=total, finished=done)
        progress("cells", done, total)
        for cell in cells:
            self._run_cell(cell)
            done += 1
            progress(f"{cell.bundle.name} in {cell.environment.name}", done, total)

    def _pending(self) -> Iterator[_Cell]:
        """Cells that did not run yet, those with the same preprocessing together.

        A stale file under their name (of an older plan) goes first: it must not be judged.
        """
        cells: list[_Cell] = []
        for bundle in self._matrix.bundles:
            for environment in self._planned_for[bundle.name]:
                cell = self._planned(bundle, environment)
                if cell and not self._workspace.finished(bundle.name, environment.name, cell.key):
                    cells.append(cell)
        order: dict[str, int] = {}
        for cell in cells:
            self._workspace.cell_path(cell.bundle.name, cell.environment.name).unlink(missing_ok=True)
            order.setdefault(_preprocessing_key(cell), len(order))
        yield from sorted(cells, key=lambda cell: order[_preprocessing_key(cell)])

    def _planned(self, bundle: Bundle, environment: Environment) -> _Cell | None:
        """The cell to run; None where the contract already rules it out (recorded as such)."""
        try:
            deployment = resolve(bundle.contract, environment)
        except NotApplicableError as error:
            self._finish(self._unresolved(bundle, environment, "not_applicable", str(error)))
            return None
        except GapshiftError as error:
            self._finish(self._unresolved(bundle, environment, "error", str(error)))
            return None
        key = self._key(bundle, environment, deployment)
        return _Cell(bundle, environment, deployment, key, self._matrix.tasks[bundle.task])

    def _unresolved(self, bundle: Bundle, environment: Environment, status: CellStatus, reason: str) -> CellInfo:
        """The header of a cell that has no deployment."""
        basis = cell_basis(bundle, environment, self._items[bundle.task])
        return CellInfo(
            key=basis, basis=basis, bundle=bundle.name, environment=environment.name, status=status, reason=reason
        )

    def _key(self, bundle: Bundle, environment: Environment, deployment: Deployment) -> str:
        """The content address: everything that could change an answer."""
        calibrated = deployment.precision.format in CALIBRATED_FORMATS
        return digest(
            {
                "model": bundle.sha256,
                "contract": bundle.contract.model_dump(mode="json"),
                "deployment": _address(deployment),
                "items": self._items[bundle.task],
                "calibration": self._calibration[bundle.task] if calibrated else "",
                "sample": self._samples[bundle.task] if environment.subsample else "",
                "versions": self._versions,
                "cpu": list(cpu_flags()),
            }
        )

    def _run_cell(self, cell: _Cell) -> None:
        status: CellStatus
        try:
            info, records = self._answer(cell)
            self._finish(info, records)
            return
        except WorkspaceError:
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
            status, reason = "error", f"{type(error).__name__}: {error}"
        self._finish(self._header(cell, status=status, reason=reason))

    def _header(self, cell: _Cell, **fields: Any) -> CellInfo:
        basis = cell_basis(cell.bundle, cell.environment, self._items[cell.bundle.task])
        return CellInfo(key=cell.key, basis=basis, bundle=cell.bundle.name, environment=cell.environment.name, **fields)

    def _finish(self, info: CellInfo, records: Records | None = None) -> None:
        existing = self._workspace.finished(info.bundle, info.environment, info.key)
        if not existing:
            self._workspace.write_cell(info, records)
            self._workspace.log(
                "cell", bundle=info.bundle, environment=info.environment, status=info.status, reason=info.reason
            )

    # ------------------------------------------------------------- one cell's answers

    def _answer(self, cell: _Cell) -> tuple[CellInfo, Records]:
        effect, inputs = self._effect(cell), self._inputs(cell)
        model = self._model(cell)
        with open_runtime(cell.deployment.runtime, model, cell.bundle.contract) as session:
            _require_fit(cell, inputs, session.interface)
            execution = truth(session, model, cell.deployment.precision, cell.deployment.runtime)
            timed = _Timed(session.predict)
            answered = answer(self._asked(cell, inputs), timed, cell.bundle.contract.model)
            open_loop = self._open_loop(cell, session.predict)
        kind = _LIKE_PROBABILITIES if answered.like_probabilities else ""
        info = self._header(
            cell,
            reason="; ".join(note for note in (effect, kind, _unreadable(cell, inputs)) if note),
            execution=execution,
            seconds=timed.seconds,
            items_per_second=len(answered.records) / timed.seconds if timed.seconds > 0 else 0.0,
            open_loop=open_loop,
        )
        return info, answered.records

    def _asked(self, cell: _Cell, inputs: Prepared | None) -> Asked:
        return Asked(
            dataset=cell.dataset,
            rows=self._rows(cell),
            preprocessing=cell.deployment.preprocessing,
            batch=cell.deployment.runtime.batch_size,
            tensor=inputs.tensor if inputs else None,
            readable=inputs.readable if inputs else None,
        )

    def _inputs(self, cell: _Cell) -> Prepared | None:
        """Every item's input; None in control, where inputs come about step by step."""
        if isinstance(cell.deployment.preprocessing, ControlPreprocessing):
            return None
        return self._preparers_for(cell)[0].prepared(cell.deployment.preprocessing, cell.deployment.shift)

    def _preparers_for(self, cell: _Cell) -> tuple[Preparer, Preparer | None]:
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

    def _effect(self, cell: _Cell) -> str:
        """A note where preprocessing or the corruption changes no item; NotApplicableError where
        nothing else deviates."""
        prepared, corrupt = preprocessing_deviations(cell.environment), shift_deviations(cell.environment)
        reasons = {
            "preprocessing": self._same_preparation(cell, prepared) if prepared else None,
            "corruption": self._same_items(cell) if corrupt else None,
        }
        silent = {axis: reason for axis, reason in reasons.items() if reason}
        inert = ("preprocessing" in silent) * len(prepared) + ("corruption" in silent) * len(corrupt)
        if silent and inert == len(cell.environment.deviations):
            raise NotApplicableError("; ".join(silent.values()))
        return "; ".join(f"its {axis} changes no item: {reason}" for axis, reason in silent.items())

    def _same_preparation(self, cell: _Cell, deviations: Mapping[str, Any]) -> str | None:
        """Why preparing otherwise changes nothing, if so.

        A reason that a sample of clean items gives is believed only if every tensor stays the same,
        corrupted where the deployment's items are.
        """
        contract, deployed = cell.bundle.contract, cell.deployment
        reason = no_effect(cell.task.dataset, contract.domain, contract.preprocessing, deviations)
        if reason is None or isinstance(deployed.preprocessing, ControlPreprocessing):
            return reason
        if _channels(deployed.preprocessing) != _channels(contract.preprocessing):
            return reason
        judged = self._preparers_for(cell)[0]
        mine, theirs = (
            judged.prepared(each, deployed.shift) for each in (deployed.preprocessing, contract.preprocessing)
        )
        return reason if mine.same_as(theirs) else None

    def _same_items(self, cell: _Cell) -> str | None:
        """Why the corruption reaches no model's input, if so: the sample first, then every item."""
        how, shift = cell.deployment.preprocessing, cell.deployment.shift
        if not is_silent(cell.task.dataset, shift, how):
            return None
        said = f"shift.corruption = {shift.corruption} at severity {shift.severity}"
        if isinstance(how, ControlPreprocessing):
            return f"{said}: every episode stays the same"
        judged = self._preparers_for(cell)[0]
        same = judged.prepared(how, shift).same_as(judged.prepared(how))
        return f"{said}: every item reaches the model as the same tensor" if same else None

    def _open_loop(self, cell: _Cell, predict: Callable[[NDArray[Any]], NDArray[Any]]) -> float | None:
        """Control: the share of steps along the reference's trajectories at which the action differs.

        Other physics make other trajectories and leave this one as it was: it tells of the controller alone.
        """
        contract, deployed = cell.bundle.contract, cell.deployment.preprocessing
        if not (
            isinstance(contract.preprocessing, ControlPreprocessing) and isinstance(deployed, ControlPreprocessing)
        ):
            return None  # a deployment is of its contract's domain
        rows = self._rows(cell)[:_OPEN_LOOP_EPISODES]
        episodes = [episode_of(cell.task.dataset, row) for row in rows]
        with open_runtime(reference_deployment(contract).runtime, self._source(cell.bundle), contract) as reference:
            return action_disagreement(episodes, reference.predict, contract.preprocessing, predict, deployed)

    def _rows(self, cell: _Cell) -> NDArray[np.intp]:
        """Indices of the items that this environment answers."""
        if not cell.environment.subsample:
            return np.arange(len(cell.task.dataset))
        chosen: dict[int, list[tuple[str, int]]] = {}
        for index, item in enumerate(cell.task.dataset.items):
            place = rank(item.id, self._matrix.seed)
            chosen.setdefault(cell.task.strata.get(item.id, 0), []).append((place, index))
        per_level = self._matrix.subsample_per_level
        return np.array(
            sorted(index for ranked in chosen.values() for _, index in sorted(ranked)[:per_level]), dtype=np.intp
        )

    def _model(self, cell: _Cell) -> Path:
        """The file to run: the bundle's own, or its precision variant (made once)."""
        source = self._source(cell.bundle)
        precision, contract = cell.deployment.precision, cell.bundle.contract
        if precision == Precision():
            return source
        calibrated = precision.format in CALIBRATED_FORMATS
        if calibrated and cell.task.calibration is None:
            raise EvaluationError(
                f"{precision.format} needs calibration items that are not judged; give --calibration-data DATA."
            )
        address = [
            cell.bundle.sha256,
            precision.model_dump(mode="json"),
            [self._calibration[cell.bundle.task], contract.model_dump(mode="json")] if calibrated else [],
            self._versions,
        ]
        path = self._workspace.root / "variants" / f"{digest(address)[:24]}.onnx"
        if not path.exists():
            batches = self._calibration_batches(cell) if calibrated else None
            variant(source, precision, path, calibration=batches, input_name=contract.model.input)
        return path

    def _calibration_batches(self, cell: _Cell) -> list[NDArray[Any]]:
        """The quantiser's inputs; in control what the float32 controller meets on its episodes."""
        contract, dataset = cell.bundle.contract, cell.task.calibration
        if isinstance(contract.preprocessing, ControlPreprocessing) and dataset is not None:
            episodes = [episode_of(dataset, row) for row in range(len(dataset))]
            runtime = reference_deployment(contract).runtime
            with open_runtime(runtime, self._source(cell.bundle), contract) as session:
                inputs = windows(episodes, session.predict, contract.preprocessing, _CALIBRATION_WINDOWS)
            return _split(inputs)
        _, calibration = self._preparers_for(cell)
        prepared = calibration.prepared(contract.preprocessing) if calibration else None
        return _split(prepared.tensor[np.flatnonzero(prepared.readable)]) if prepared else []

    def _source(self, bundle: Bundle) -> Path:
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


def _require_fit(cell: _Cell, inputs: Prepared | None, takes: Interface) -> None:
    """Raises NotApplicableError where deviations, not the contract, make inputs that the graph cannot take."""
    deviations = preprocessing_deviations(cell.environment)
    if inputs is None or takes.input is None or not inputs.readable.any() or not deviations:
        return
    problem = takes.misfit(inputs.tensor)
    if problem:
        raise NotApplicableError(f"it sets {listing(deviations)}, which contradicts the graph: {problem}")


def _unreadable(cell: _Cell, inputs: Prepared | None) -> str:
    """How many items cannot be decoded, and why the first of them cannot."""
    if inputs is None or not inputs.problems:
        return ""
    first = min(inputs.problems)
    item = cell.task.dataset.items[first]
    return f"{len(inputs.problems)} items cannot be decoded, {item.id!r} first: {inputs.problems[first]}"


class _Timed:
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


def _channels(preprocessing: AnyPreprocessing) -> int | None:
    return preprocessing.channels if isinstance(preprocessing, Preprocessing) else None


def _split(inputs: NDArray[Any], size: int = 16) -> list[NDArray[Any]]:
    return [np.ascontiguousarray(inputs[s : s + size]) for s in range(0, len(inputs), size)]


def _preprocessing_key(cell: _Cell) -> str:
    return digest([cell.bundle.task, input_key(cell.deployment.preprocessing, cell.deployment.shift)])


def _address(deployment: Deployment) -> dict[str, Any]:
    """A deployment in a cell's content address: without a corruption it is what it was before there were any."""
    unshifted = deployment.shift == Shift()
    return deployment.model_dump(mode="json", exclude={"shift"} if unshifted else None)


def _versions() -> dict[str, str]:
    runtimes = versions("gapshift", "onnxruntime", "onnx", "openvino", "numpy")
    return runtimes | versions("scipy", "tokenizers", "pillow", "opencv", "torch", "av", "simplejpeg")
