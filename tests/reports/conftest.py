"""Synthetic run folders: answers are written as cells, no model is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapshift.records import Records, concatenate, write_cell, write_items
from gapshift.reports.judge import judge
from gapshift.schema import (
    Bundle,
    CalibrationCard,
    CellInfo,
    Contract,
    DataSource,
    Environment,
    Execution,
    ModelInterface,
    Preprocessing,
    Resize,
    RunPlan,
    TaskPlan,
    answers_key,
    cell_basis,
)
from gapshift.workspace import Workspace

CLASSES = 10
ITEMS = "digest of the judged items"
CONTRACT = Contract(
    preprocessing=Preprocessing(resize=Resize(size=(8, 8))),
    model=ModelInterface(input="x", output="y", labels=tuple("abcdefghij")),
)
ACCURACY = {1: 0.98, 2: 0.95, 3: 0.9, 4: 0.8, 5: 0.6}


class RunBuilder:
    """Builds one run folder. Every level has ``per_level`` items, the first of them right."""

    def __init__(self, root: Path, per_level: int = 600) -> None:
        self.workspace = Workspace(root)
        self.per_level = dict.fromkeys(ACCURACY, per_level)
        self.settings: dict[str, Any] = {}
        self.environments: list[Environment] = []
        self.bundles: list[Bundle] = []
        self.card: dict[str, Any] = {}
        self.parameters = True
        self.chance: float | None = None
        self.training_items = 0
        self.group: Callable[[str], str | None] = lambda _: None
        self._cells: list[tuple[dict[str, Any], Records | None]] = []
        self._training: list[tuple[dict[str, Any], Records]] = []

    # ------------------------------------------------------------------- answers

    def answers(
        self,
        accuracy: Mapping[int, float] = ACCURACY,
        lost: Mapping[int, int] | None = None,
        gained: Mapping[int, int] | None = None,
        moved: Mapping[int, int] | None = None,
        prefix: str = "item",
    ) -> Records:
        """Records of all levels; per level some right items ``lost``, wrong ones ``gained``,
        and wrong ones ``moved`` to another wrong label."""
        return concatenate(
            self._level(level, n, accuracy[level], (lost or {}).get(level, 0), (gained or {}).get(level, 0),
                        (moved or {}).get(level, 0), prefix)
            for level, n in self.per_level.items()
        )  # fmt: skip

    def _level(self, level: int, n: int, accuracy: float, lost: int, gained: int, moved: int, prefix: str) -> Records:
        label = np.arange(n, dtype=np.int32) % CLASSES
        right = np.arange(n) < round(accuracy * n)
        edge = int(right.sum())
        prediction = np.where(right, label, (label + 1) % CLASSES).astype(np.int32)
        prediction[:lost] = (label[:lost] + 2) % CLASSES
        prediction[edge : edge + gained] = label[edge : edge + gained]
        if moved:
            prediction[-moved:] = (label[-moved:] + 2) % CLASSES
        return Records(
            item_id=np.array([f"{prefix}-{level}-{k:05d}" for k in range(n)], dtype=np.str_),
            label=label,
            prediction=prediction,
            confidence=np.linspace(0.3, 0.99, n)[::-1].copy() if n else np.zeros(0),
            correct=(prediction == label).astype(np.float64),
            gap=np.full(n, 0.5),
            status=np.full(n, "ok", dtype="<U10"),
        )

    # ---------------------------------------------------------------------- files

    def bundle(self, name: str = "m", **fields: Any) -> str:
        self.bundles.append(
            Bundle(name=name, path=f"bundles/{name}.onnx", sha256="0" * 64, contract=CONTRACT, **fields)
        )
        return name

    def environment(self, name: str, kind: Any = "equivalent", **fields: Any) -> str:
        self.environments.append(Environment(name=name, kind=kind, summary=f"{name}.", **fields))
        return name

    def cell(self, environment: str, records: Records | None, bundle: str = "m", **fields: Any) -> None:
        """A cell, written by ``finish`` when the plan is known; ``fields`` replace those of its header."""
        execution = Execution(engine="onnxruntime", provider="CPUExecutionProvider")
        header = {"key": "k", "bundle": bundle, "environment": environment, "execution": execution}
        self._cells.append((header | fields, records))

    def training(self, records: Records, bundle: str = "m", **fields: Any) -> None:
        self._training.append(({"bundle": bundle, "environment": "training"} | fields, records))

    def forget_training(self) -> None:
        """Take back the training-side answers."""
        self._training.clear()

    def mix(self, weights: Mapping[str, float], bundle: str = "m") -> None:
        self.workspace.bundles.mkdir(parents=True, exist_ok=True)
        table = pa.table({"item_id": list(weights), "weight": list(weights.values())})
        pq.write_table(table, self.workspace.bundles / f"{bundle}.mix.parquet")

    def finish(self, **settings: Any) -> Workspace:
        """Write plan and items; a bundle ``m`` stands where none was added."""
        if not self.bundles:
            self.bundle()
        self._write_items()
        plan: dict[str, Any] = {
            "command": "check",
            "tasks": tuple(
                TaskPlan(name=task, data=DataSource(source="synthetic"), items=ITEMS)
                for task in dict.fromkeys(bundle.task for bundle in self.bundles)
            ),
            "bundles": tuple(self.bundles),
            "environments": tuple(self.environments),
        }
        self.workspace.write_plan(RunPlan(**(plan | settings)))
        self._write_cells()
        return self.workspace

    def judged(
        self,
        records: Records | None = None,
        kind: Any = "lossy",
        named: bool = True,
        name: str = "env",
        environment: Mapping[str, Any] | None = None,
        cell: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A run of one bundle and one environment, judged: the summary and its first cell."""
        self.environment(name, kind, **(environment or {}))
        self.cell("reference", self.answers())
        if records is not None:
            self.cell(name, records, **(cell or {}))
        summary = judge(self.finish(deployments=(name,) if named else (), **settings))
        return summary, summary["cells"][0]

    def _write_cells(self) -> None:
        bundles = {bundle.name: bundle for bundle in self.bundles}
        environments = {environment.name: environment for environment in self.environments}
        for header, records in self._cells:
            name = header["environment"]
            environment = environments.get(name) or Environment(name=name, kind="equivalent", summary="As declared.")
            basis = cell_basis(bundles[header["bundle"]], environment, ITEMS)
            self.workspace.write_cell(CellInfo(**({"basis": basis} | header)), records)
        for header, records in self._training:
            key = answers_key(bundles[header["bundle"]])
            write_cell(self.workspace.answers_path(header["bundle"]), CellInfo(**({"key": key} | header)), records)

    def _write_items(self) -> None:
        held_out = self.answers()
        rows = [(i, int(i.split("-")[1]), "test") for i in held_out.item_id.tolist()]
        rows += [(f"train-{lv}-{k:05d}", lv, "train") for lv in ACCURACY for k in range(self.training_items)]
        n = len(rows)
        levels = np.array([level for _, level, _ in rows])
        columns: dict[str, Any] = {
            "id": [i for i, _, _ in rows],
            "task": ["task"] * n,
            "split": [split for _, _, split in rows],
            "label": [0] * n,
            "group": pa.array([self.group(i) for i, _, _ in rows], pa.string()),
            "b": levels - 3.0 if self.parameters else [None] * n,
            "a": np.ones(n) if self.parameters else [None] * n,
            "c": np.full(n, 0.1) if self.parameters else [None] * n,
            "se_b": [None] * n,
            "level": levels,
            "level_abs": levels,
            "proportion_correct": [None] * n,
            "chance": pa.array([self.chance] * n, pa.float64()),
        }
        card = CalibrationCard(**({"task": "task", "engine": "em", "items": n, "responders": 24} | self.card))
        write_items(self.workspace.items_path, pa.table({k: pa.array(v) for k, v in columns.items()}), [card])


def changed(records: Records, **arrays: Any) -> Records:
    """Records with some columns replaced."""
    return replace(records, **arrays)


def rows(records: Records, keep: Any) -> Records:
    """Some rows of the records."""
    return Records(**{name: getattr(records, name)[keep] for name in Records.__dataclass_fields__})


def with_status(records: Records, where: Any, status: str) -> Records:
    """Records whose rows ``where`` got no answer, for the reason ``status``."""
    nan_or_zero = 0.0 if status == "nan_output" else np.nan
    columns = {name: getattr(records, name).copy() for name in ("prediction", "confidence", "correct", "gap", "status")}
    columns["prediction"][where], columns["status"][where] = -1, status
    columns["confidence"][where], columns["gap"][where], columns["correct"][where] = np.nan, np.nan, nan_or_zero
    return replace(records, **columns)


@pytest.fixture
def builder(tmp_path: Path) -> RunBuilder:
    return RunBuilder(tmp_path / "run")


@pytest.fixture
def make_builder(tmp_path: Path) -> Callable[..., RunBuilder]:
    """Several run folders in one test."""
    made: list[RunBuilder] = []

    def make(**fields: Any) -> RunBuilder:
        made.append(RunBuilder(tmp_path / f"run{len(made)}", **fields))
        return made[-1]

    return make


@pytest.fixture
def edit() -> Callable[..., Records]:
    """``edit(records, rows=…)``, ``edit(records, status=…, where=…)`` or new columns."""

    def apply(
        records: Records, keep: Any = None, status: str | None = None, where: Any = None, **arrays: Any
    ) -> Records:
        records = records if keep is None else rows(records, keep)
        records = records if status is None else with_status(records, where, status)
        return changed(records, **arrays)

    return apply
