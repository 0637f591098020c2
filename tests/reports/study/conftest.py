"""Synthetic study folders: answers of models whose accuracy at each level is known, drawn or exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapshift.records import Records, write_cell, write_items
from gapshift.reports.planned import MeasuredRun, read_run
from gapshift.reports.study import study_json
from gapshift.schema import (
    REFERENCE,
    Bundle,
    CalibrationCard,
    CellInfo,
    Contract,
    DataSource,
    Environment,
    ModelInterface,
    Preprocessing,
    Resize,
    RunPlan,
    TaskPlan,
    TrainedRun,
    answers_key,
    cell_basis,
)
from gapshift.workspace import Workspace

ITEMS = "digest of the judged items"
CLASSES = 10
CONTRACT = Contract(
    preprocessing=Preprocessing(resize=Resize(size=(8, 8))),
    model=ModelInterface(input="x", output="y", labels=tuple("abcdefghij")),
)
FLAT = (0.9, 0.8, 0.7, 0.6, 0.5)


class StudyBuilder:
    """A run folder of tasks with ``per_level`` held-out and as many training items a level."""

    def __init__(self, root: Path, per_level: int = 100) -> None:
        self.workspace = Workspace(root)
        self.per_level = per_level
        self.runs: list[TrainedRun] = []
        self.bundles: list[Bundle] = []
        self.environments: list[Environment] = []
        self.domains: dict[str, str] = {}
        self.chance: dict[str, float | None] = {}
        self.abilities: dict[str, dict[str, float]] = {}
        self.cards: dict[str, dict[str, Any]] = {}
        self.forgotten: set[str] = set()
        self.measures: list[tuple[str, str, str, float]] = []

    # -------------------------------------------------------------------- answers

    def ids(self, split: str) -> list[str]:
        return [f"{split}-{level}-{k:04d}" for level in range(1, 6) for k in range(self.per_level)]

    def right(self, accuracy: Sequence[float], offset: int = 0) -> np.ndarray:
        """The first items of each level are right, ``offset`` further on (exact accuracies)."""
        n = self.per_level
        return np.concatenate([np.roll(np.arange(n) < round(a * n), offset) for a in accuracy]).astype(float)

    def records(self, split: str, right: np.ndarray, confidence: float = 0.8) -> Records:
        n = len(right)
        label = (np.arange(n) % CLASSES).astype(np.int32)
        return Records(
            item_id=np.array(self.ids(split), dtype=np.str_),
            label=label,
            prediction=np.where(right > 0, label, (label + 1) % CLASSES).astype(np.int32),
            confidence=np.full(n, confidence),
            correct=right,
            gap=np.full(n, 0.5),
            status=np.full(n, "ok", dtype="<U10"),
        )

    # ---------------------------------------------------------------------- files

    def train(
        self,
        regime: str,
        seed: int = 0,
        accuracy: Sequence[float] = FLAT,
        *,
        task: str = "digits",
        domain: str = "vision",
        family: str = "cnn",
        width: int = 16,
        levels: Sequence[int] = (1, 2, 3, 4, 5),
        train_right: float = 1.0,
        right: np.ndarray | None = None,
        **fields: Any,
    ) -> str:
        """One model: right on exactly this share of each level, drawn evenly from training ``levels``."""
        name = f"run-{len(self.runs)}"
        run = TrainedRun(
            name=name, task=task, domain=domain, family=family, width=width, regime=regime, seed=seed,
            sha256=f"{len(self.runs):064d}", **fields,
        )  # fmt: skip
        self.runs.append(run)
        self.domains[task] = domain
        parts = [self.records("test", self.right(accuracy) if right is None else right)]
        if run.trunk_from is None:
            parts.append(self.records("train", self.right([train_right] * 5)))
            self._mix(name, levels)
        whole = {field: np.concatenate([getattr(part, field) for part in parts]) for field in vars(parts[0])}
        info = CellInfo(key=answers_key(run.sha256), bundle=name, environment="training")
        write_cell(self.workspace.answers_path(name), info, Records(**whole))
        return name

    def _mix(self, name: str, levels: Sequence[int]) -> None:
        drawn = [i for i in self.ids("train") if int(i.split("-")[1]) in levels]
        table = pa.table({"item_id": drawn, "weight": [1 / len(drawn)] * len(drawn)})
        self.workspace.bundles.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, self.workspace.mix_path(name))

    def seeds(self, regime: str, accuracy: Sequence[float] = FLAT, count: int = 5, spread: float = 0.01, **fields: Any):
        """``count`` models whose accuracies step by ``spread`` around the given ones."""
        middle = (count - 1) / 2
        for seed in range(count):
            shifted = [float(np.clip(a + spread * (seed - middle), 0, 1)) for a in accuracy]
            self.train(regime, seed, shifted, **fields)

    def deploy(self, name: str, environments: Mapping[str, np.ndarray]) -> None:
        """Make a run a bundle, whose reference answers as in training and which in each environment is right there."""
        run = next(run for run in self.runs if run.name == name)
        bundle = Bundle(
            name=name, path=f"bundles/{name}.onnx", sha256=run.sha256, contract=CONTRACT, task=run.task,
            regime=run.regime, seed=run.seed, family=run.family,
        )  # fmt: skip
        self.bundles.append(bundle)
        found = self.workspace.read_answers(name)
        assert found is not None
        held_out = found[1].take(np.arange(5 * self.per_level))
        self._cell(bundle, Environment(name=REFERENCE, kind="equivalent", summary="As declared."), held_out)
        for environment, right in environments.items():
            self._cell(bundle, self._environment(environment), self.records("test", right))

    def _environment(self, name: str) -> Environment:
        known = {environment.name: environment for environment in self.environments}
        if name not in known:
            self.environments.append(Environment(name=name, kind="lossy", summary=f"{name}."))
        return self.environments[-1] if name not in known else known[name]

    def _cell(self, bundle: Bundle, environment: Environment, records: Records) -> None:
        info = CellInfo(
            key="k", bundle=bundle.name, environment=environment.name, basis=cell_basis(bundle, environment, ITEMS)
        )
        self.workspace.write_cell(info, records)

    def measure(self, name: str, values: Mapping[str, float], task: str = "digits") -> None:
        self.measures += [(task, i, name, value) for i, value in values.items()]

    def finish(self) -> Workspace:
        self._items()
        if self.measures:
            columns = zip(*self.measures, strict=True)
            table = pa.table(dict(zip(("task", "id", "measure", "value"), map(list, columns), strict=True)))
            pq.write_table(table, self.workspace.root / "measures.parquet")
        plan = RunPlan(
            command="study",
            tasks=tuple(TaskPlan(name=t, data=DataSource(source="synthetic"), items=ITEMS) for t in self.domains),
            bundles=tuple(self.bundles),
            runs=tuple(self.runs),
            environments=tuple(self.environments),
        )
        self.workspace.write_plan(plan)
        return self.workspace

    def _items(self) -> None:
        tables = [self._task_items(task) for task in self.domains]
        cards = [
            CalibrationCard(
                task=task,
                engine="em",
                items=10 * self.per_level,
                responders=24,
                abilities=self.abilities.get(task, {}),
                **self.cards.get(task, {}),
            )
            for task in self.domains
        ]
        write_items(self.workspace.items_path, pa.concat_tables(tables), cards)

    def _task_items(self, task: str) -> pa.Table:
        ids = [*self.ids("test"), *self.ids("train")]
        n = len(ids)
        levels = np.array([int(i.split("-")[1]) for i in ids])
        place = np.array([int(i.split("-")[2]) for i in ids]) / self.per_level
        columns: dict[str, Any] = {
            "id": ids,
            "task": [task] * n,
            "split": [i.split("-")[0] for i in ids],
            "label": np.arange(n) % CLASSES,
            "group": pa.array([None] * n, pa.string()),
            "b": levels - 3.0 + place,
            "a": np.ones(n),
            "c": np.full(n, 0.1),
            "se_b": pa.array([None] * n, pa.float64()),
            "level": levels,
            "level_abs": levels,
            "proportion_correct": pa.array([None] * n, pa.float64()),
            "chance": pa.array([self.chance.get(task)] * n, pa.float64()),
        }
        return pa.table({name: pa.array(values) for name, values in columns.items()})

    def measured(self) -> tuple[Workspace, MeasuredRun]:
        workspace = self.finish()
        return workspace, read_run(workspace)

    def json(self) -> dict[str, Any]:
        found = study_json(*self.measured())
        assert found is not None
        return found


@pytest.fixture
def study(tmp_path: Path) -> StudyBuilder:
    return StudyBuilder(tmp_path / "run")


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., StudyBuilder]:
    """Several study folders in one test."""
    made: list[StudyBuilder] = []

    def make(**fields: Any) -> StudyBuilder:
        made.append(StudyBuilder(tmp_path / f"run{len(made)}", **fields))
        return made[-1]

    return make
