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

from gapshift.domains.base import Dataset, rank
from gapshift.domains.vision import no_effect
from gapshift.envs.catalog import REFERENCE_ENVIRONMENT
from gapshift.envs.execution import truth
from gapshift.envs.machine import cpu_flags, versions
from gapshift.envs.prepare import Prepared, Preparer
from gapshift.envs.resolve import preprocessing_deviations, resolve
from gapshift.envs.runtimes import open_runtime
from gapshift.errors import (
    EvaluationError,
    GapshiftError,
    NotApplicableError,
    SkippedError,
    WorkspaceError,
)
from gapshift.export.model_file import sha256
from gapshift.export.precision import variant
from gapshift.records import Records, concatenate, records_from_scores, unanswered
from gapshift.schema import Bundle, CellInfo, CellStatus, Deployment, Environment, Precision, cell_basis, digest
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
_SLAB = 1024
"""Items whose scores are turned into records at once: few enough for flat memory."""


@dataclass(frozen=True)
class Matrix:
    """What to evaluate: every bundle in the reference and in every environment.

    ``dataset`` holds the judged items, ``calibration`` the quantiser's (never judged),
    ``strata`` each judged item's level. Environments marked ``subsample`` answer at most
    ``subsample_per_level`` items of each level, drawn by ``seed`` and id alone.
    """

    bundles: tuple[Bundle, ...]
    environments: tuple[Environment, ...]
    dataset: Dataset
    calibration: Dataset | None = None
    strata: Mapping[str, int] = field(default_factory=dict)
    subsample_per_level: int = 200
    seed: int = 0


@dataclass(frozen=True)
class _Cell:
    bundle: Bundle
    environment: Environment
    deployment: Deployment
    key: str


def evaluate(workspace: Workspace, matrix: Matrix, progress: Progress | None = None, debug: bool = False) -> None:
    """Run every cell that does not exist yet. ``debug`` lets a cell's exception through.

    Raises WorkspaceError when records cannot be written; everything else that goes wrong
    becomes the status and reason of its cell.
    """
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
        self._items = matrix.dataset.digest()
        self._calibration = matrix.calibration.digest() if matrix.calibration else ""

    def run(self, progress: Progress) -> None:
        total = len(self._matrix.bundles) * (1 + len(self._matrix.environments))
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
            for environment in (REFERENCE_ENVIRONMENT, *self._matrix.environments):
                cell = self._planned(bundle, environment)
                if cell and not self._workspace.finished(bundle.name, environment.name, cell.key):
                    cells.append(cell)
        order: dict[str, int] = {}
        for cell in cells:
            self._workspace.cell_path(cell.bundle.name, cell.environment.name).unlink(missing_ok=True)
            order.setdefault(_preprocessing_key(cell.deployment), len(order))
        yield from sorted(cells, key=lambda cell: order[_preprocessing_key(cell.deployment)])

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
        return _Cell(bundle, environment, deployment, self._key(bundle, environment, deployment))

    def _unresolved(self, bundle: Bundle, environment: Environment, status: CellStatus, reason: str) -> CellInfo:
        """The header of a cell that has no deployment."""
        basis = cell_basis(bundle, environment, self._items)
        return CellInfo(
            key=basis, basis=basis, bundle=bundle.name, environment=environment.name, status=status, reason=reason
        )

    def _key(self, bundle: Bundle, environment: Environment, deployment: Deployment) -> str:
        """The content address: everything that could change an answer."""
        calibrated = deployment.precision.format in CALIBRATED_FORMATS
        sample = [self._matrix.subsample_per_level, self._matrix.seed, sorted(self._matrix.strata.items())]
        return digest(
            {
                "model": bundle.sha256,
                "contract": bundle.contract.model_dump(mode="json"),
                "deployment": deployment.model_dump(mode="json"),
                "items": self._items,
                "calibration": self._calibration if calibrated else "",
                "sample": sample if environment.subsample else [],
                "versions": _versions(),
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
        basis = cell_basis(cell.bundle, cell.environment, self._items)
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
        judged, calibration = self._preparers_for(cell.bundle)
        effect = self._effect(cell, judged)
        prepared = judged.prepared(cell.deployment.preprocessing)
        rows = self._rows(cell.environment)
        model = self._model(cell, calibration)
        with open_runtime(cell.deployment.runtime, model, cell.bundle.contract) as session:
            execution = truth(session, model, cell.deployment.precision, cell.deployment.runtime)
            records, seconds, kind = self._predict(cell, prepared, rows, session.predict)
        info = self._header(
            cell,
            reason="; ".join(note for note in (effect, kind, self._unreadable(prepared)) if note),
            execution=execution,
            seconds=seconds,
            items_per_second=len(rows) / seconds if seconds > 0 else 0.0,
        )
        return info, records

    def _preparers_for(self, bundle: Bundle) -> tuple[Preparer, Preparer | None]:
        """Bundles with the same contract share their prepared inputs."""
        keep = bundle.contract.preprocessing
        key = digest(keep.model_dump(mode="json"))
        if key not in self._preparers:
            folder = self._workspace.root / _PREPARED / key[:12]
            judged = Preparer(self._matrix.dataset, folder / "judged", keep)
            other = self._matrix.calibration
            calibration = Preparer(other, folder / "calibration", keep) if other else None
            self._preparers[key] = (
                self._stack.enter_context(judged),
                self._stack.enter_context(calibration) if calibration else None,
            )
        return self._preparers[key]

    def _effect(self, cell: _Cell, judged: Preparer) -> str:
        """A note where preprocessing deviations change no item; NotApplicableError where nothing else deviates.

        A reason that a sample of items gives is believed only if every item's tensor stays the same.
        """
        deviations = preprocessing_deviations(cell.environment)
        if not deviations:
            return ""
        contract, deployed = cell.bundle.contract.preprocessing, cell.deployment.preprocessing
        reason = no_effect(self._matrix.dataset, contract, deviations)
        comparable = deployed.channels == contract.channels
        if reason is None or (comparable and not judged.prepared(deployed).same_as(judged.prepared(contract))):
            return ""
        if len(deviations) == len(cell.environment.deviations):
            raise NotApplicableError(reason)
        return f"its preprocessing changes no item: {reason}"

    def _unreadable(self, prepared: Prepared) -> str:
        """How many items cannot be decoded, and why the first of them cannot."""
        if not prepared.problems:
            return ""
        first = min(prepared.problems)
        item = self._matrix.dataset.items[first]
        return f"{len(prepared.problems)} items cannot be decoded, {item.id!r} first: {prepared.problems[first]}"

    def _rows(self, environment: Environment) -> NDArray[np.intp]:
        """Indices of the items that this environment answers."""
        if not environment.subsample:
            return np.arange(len(self._matrix.dataset))
        chosen: dict[int, list[tuple[str, int]]] = {}
        for index, item in enumerate(self._matrix.dataset.items):
            place = rank(item.id, self._matrix.seed)
            chosen.setdefault(self._matrix.strata.get(item.id, 0), []).append((place, index))
        per_level = self._matrix.subsample_per_level
        return np.array(
            sorted(index for ranked in chosen.values() for _, index in sorted(ranked)[:per_level]), dtype=np.intp
        )

    def _model(self, cell: _Cell, calibration: Preparer | None) -> Path:
        """The file to run: the bundle's own, or its precision variant (made once)."""
        source = self._source(cell.bundle)
        precision, contract = cell.deployment.precision, cell.bundle.contract
        if precision == Precision():
            return source
        calibrated = precision.format in CALIBRATED_FORMATS
        if calibrated and calibration is None:
            raise EvaluationError(
                f"{precision.format} needs calibration items that are not judged; give --calibration-data DATA."
            )
        address = [
            cell.bundle.sha256,
            precision.model_dump(mode="json"),
            [self._calibration, contract.model_dump(mode="json")] if calibrated else [],
            _versions(),
        ]
        path = self._workspace.root / "variants" / f"{digest(address)[:24]}.onnx"
        if not path.exists():
            batches = _batches(calibration.prepared(contract.preprocessing)) if calibrated and calibration else None
            variant(source, precision, path, calibration=batches, input_name=contract.model.input)
        return path

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

    def _predict(
        self,
        cell: _Cell,
        prepared: Prepared,
        rows: NDArray[np.intp],
        predict: Callable[[NDArray[np.generic]], NDArray[np.floating]],
    ) -> tuple[Records, float, str]:
        """Records in item order, the seconds of inference, and a note where outputs look like another kind."""
        items, contract = self._matrix.dataset.items, cell.bundle.contract.model
        readable = rows[prepared.readable[rows]]
        size = cell.deployment.runtime.batch_size
        slab = size * max(1, _SLAB // size)
        timed, parts, like_probabilities = _Timed(predict), [], True
        for begin in range(0, len(readable), slab):
            some = readable[begin : begin + slab]
            scores = np.concatenate([timed(prepared.tensor[some[s : s + size]]) for s in range(0, len(some), size)])
            if scores.shape[1] != len(contract.labels):
                raise EvaluationError(
                    f"The model gives {scores.shape[1]} scores an item; its contract names {len(contract.labels)} "
                    "labels. Correct the contract's model.labels."
                )
            like_probabilities = like_probabilities and _sum_to_one(scores)
            parts.append(records_from_scores([items[i] for i in some], scores, contract.output_kind == "probabilities"))
        unreadable = rows[~prepared.readable[rows]]
        parts.append(unanswered([items[i] for i in unreadable], "unreadable"))
        order = np.argsort(np.concatenate([readable, unreadable]), kind="stable")
        odd = contract.output_kind == "logits" and like_probabilities and len(readable) > 0
        return concatenate(parts).take(order), timed.seconds, _LIKE_PROBABILITIES if odd else ""


def _sum_to_one(scores: NDArray[np.floating]) -> bool:
    """Whether every row looks like a softmax's."""
    return bool(((scores >= 0) & (scores <= 1)).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))


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


def _batches(prepared: Prepared, size: int = 16) -> list[NDArray[np.generic]]:
    rows = np.flatnonzero(prepared.readable)
    return [np.ascontiguousarray(prepared.tensor[rows[s : s + size]]) for s in range(0, len(rows), size)]


def _preprocessing_key(deployment: Deployment) -> str:
    return digest(deployment.preprocessing.model_dump(mode="json"))


def _versions() -> dict[str, str]:
    return versions("gapshift", "onnxruntime", "onnx", "openvino", "numpy", "pillow", "opencv")
