"""Evaluation sets drawn from what a run's models answer, written as run folders and judged by the gate itself.

``detection.py`` stands on it. Models answer a run's judged items once in every environment; an evaluation set is
then drawn from these answers, so that judging a hundred of them runs no model again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.flows.again import with_items
from gapshift.records import Records, read_items, write_items
from gapshift.reports.planned import MeasuredRun
from gapshift.reports.statistics import wilson
from gapshift.reports.verdicts import JudgedCell, judge_cells
from gapshift.schema import (
    REFERENCE,
    REFERENCE_ENVIRONMENT,
    Bundle,
    CalibrationCard,
    CellInfo,
    DataSource,
    Environment,
    RunPlan,
    TaskPlan,
    cell_basis,
)
from gapshift.workspace import Workspace

Rows = NDArray[np.intp]
Bools = NDArray[np.bool_]
Key = tuple[str, str]
"""A bundle's name and an environment's."""


@dataclass(frozen=True)
class Size:
    """Seeds of each rate, those of a whole run with a drop, and items a level (None: as many as it has)."""

    seeds: int = 100
    whole: int = 20
    items: tuple[int | None, ...] = (200, 600)


@dataclass(frozen=True, eq=False)
class Answers:
    """Records by bundle and environment, in the order of the task's table; ``why`` a cell has none."""

    records: Mapping[Key, Records]
    why: Mapping[Key, str]

    def take(self, bundle: str, environment: str, rows: Rows) -> Records:
        """A model's answers to the drawn rows."""
        return self.records[bundle, environment].take(rows)


@dataclass(frozen=True, eq=False)
class Task:
    """One task of a run: its models, and its judged items in the order of ``table`` (ITEM_SCHEMA)."""

    plan: RunPlan
    name: str
    bundles: tuple[Bundle, ...]
    dataset: Dataset
    table: pa.Table
    cards: tuple[CalibrationCard, ...]

    @cached_property
    def level(self) -> NDArray[np.int64]:
        """The level of each item (n,)."""
        return np.array(self.table["level"].to_pylist(), dtype=np.int64)

    def answers(self, folder: Path, bundles: Sequence[Bundle], environments: Sequence[Environment]) -> Answers:
        """What these models answer in the reference and in the environments: the real evaluation, in a new folder."""
        workspace = Workspace(folder)
        level = dict(zip(self.table["id"].to_pylist(), self.level.tolist(), strict=True))
        items = {self.name: TaskItems(self.dataset, None, level)}
        evaluate(workspace, Matrix(bundles=tuple(bundles), environments=tuple(environments), tasks=items))
        records, why = {}, {}
        for bundle in bundles:
            for environment in (REFERENCE_ENVIRONMENT, *environments):
                cell = workspace.read_cell(bundle.name, environment.name)
                if cell is not None and cell[0].status == "ok":
                    records[bundle.name, environment.name] = self._ordered(cell[1])
                else:
                    why[bundle.name, environment.name] = cell[0].reason if cell else "it did not run"
        return Answers(records, why)

    def _ordered(self, records: Records) -> Records:
        place = {item: row for row, item in enumerate(records.item_id.tolist())}
        return records.take(np.array([place[item] for item in self.table["id"].to_pylist()], dtype=np.intp))

    def draw(self, items: int | None, rng: np.random.Generator) -> Rows:
        """So many rows of each level (None: as many as it has), with replacement: a new set of the same kind."""
        levels = [np.flatnonzero(self.level == level) for level in np.unique(self.level)]
        return np.concatenate([rng.choice(rows, items or len(rows)) for rows in levels])


def tasks_of(run: Path, regime: str = "") -> list[Task]:
    """The tasks of a finished run with its models: those of one regime, where one is given and the run has it.

    Raises WorkspaceError for a folder that is no run, and DataError where its items are gone.
    """
    source = Workspace(run)
    plan, sets = with_items(source.read_plan(), source)
    table, cards = read_items(source.items_path)
    found = []
    for task in plan.tasks:
        own = [bundle for bundle in plan.bundles if bundle.task == task.name]
        chosen = [bundle for bundle in own if bundle.regime == regime] or own
        bundles = tuple(b.model_copy(update={"path": str(source.bundle_path(b.path).resolve())}) for b in chosen)
        judged = pa.array([item.id for item in sets[task.name].judged.items])
        rows = table.filter(
            pc.and_(
                pc.equal(table["task"], task.name), pc.and_(pc.is_in(table["id"], judged), pc.is_valid(table["level"]))
            )
        )
        card = tuple(card for card in cards if card.task == task.name)
        found.append(Task(plan, task.name, bundles, sets[task.name].judged, rows, card))
    return found


# ------------------------------------------------------------------------------ what is planted


def hit(reference: Records, faulty: Records, where: Bools) -> Records:
    """The reference's answers, and the faulty path's where a request went through it."""
    names = Records.__dataclass_fields__
    return Records(**{name: np.where(where, getattr(faulty, name), getattr(reference, name)) for name in names})


def swapped(first: Records, second: Records, where: Bools) -> tuple[Records, Records]:
    """Both, with their answers exchanged at some items.

    Exchanged at half of the items, drawn by lot, each is as good as the other: what differs still differs, and the
    true drop is 0.
    """
    return hit(first, second, where), hit(second, first, where)


def wrong(records: Records, where: Bools, classes: int, rng: np.random.Generator) -> Records:
    """The same, with another label than the right one predicted at some items."""
    other = (records.label + rng.integers(1, classes, len(records))) % classes
    return replace(
        records,
        prediction=np.where(where, other, records.prediction).astype(np.int32),
        correct=np.where(where, 0.0, records.correct),
    )


# --------------------------------------------------------------------------------------- judging


def write_run(
    folder: Path,
    task: Task,
    rows: Rows,
    cells: Mapping[Key, Records],
    environments: Sequence[Environment],
    deployments: Iterable[str] = (),
) -> Workspace:
    """A run folder that holds these answers to the drawn ``rows``.

    An item drawn again is another item, of another such group: more items come in more groups.
    """
    bundles = tuple(bundle for bundle in task.bundles if (bundle.name, REFERENCE) in cells)
    workspace, items = Workspace(folder), f"drawn-{folder.name}"
    ids = np.array([f"{k:06d}" for k in range(len(rows))], dtype=np.str_)
    table = task.table.take(pa.array(rows))
    groups = [group and f"{group}#{copy}" for group, copy in zip(table["group"].to_pylist(), copies(rows), strict=True)]
    for name, column in {"id": ids.tolist(), "group": groups}.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column, pa.string()))
    write_items(workspace.items_path, table, task.cards)
    workspace.write_plan(
        RunPlan(
            command="evaluate",
            tasks=(TaskPlan(name=task.name, data=DataSource(source="drawn"), items=items),),
            bundles=bundles,
            environments=tuple(environments),
            deployments=tuple(deployments),
            margin_pp=task.plan.margin_pp,
            alpha=task.plan.alpha,
        )
    )
    for bundle in bundles:
        for environment in (REFERENCE_ENVIRONMENT, *environments):
            basis = cell_basis(bundle, environment, items)
            info = CellInfo(key=basis, basis=basis, bundle=bundle.name, environment=environment.name)
            workspace.write_cell(info, replace(cells[bundle.name, environment.name], item_id=ids))
    return workspace


def judged(run: MeasuredRun, others: int = 0) -> list[JudgedCell]:
    """Every cell judged by the gate, its Holm family enlarged by so many planned tests that find nothing.

    A cell that is not gated is judged as if it were, for its own sake: over its own levels and those of the gated.
    """
    return judge_cells(run.cells, run.rule, sum(len(cell.bands) for cell in run.cells if cell.gated) + others)


def copies(rows: Rows) -> list[int]:
    """How often each row was drawn before.

    >>> copies(np.array([3, 1, 3, 3]))
    [0, 0, 1, 2]
    """
    seen = Counter[int]()
    found = []
    for row in rows.tolist():
        found.append(seen[row])
        seen[row] += 1
    return found


@dataclass(frozen=True)
class Found:
    """What the gate said of one cell of one drawn set, at each level and of the whole cell (key ``cell``)."""

    fails: Mapping[str, bool]
    passes: Mapping[str, bool]
    differs: Mapping[str, bool]
    changes: Mapping[str, bool]
    drop_pp: Mapping[str, float]


def found(cell: JudgedCell, alpha: float) -> Found:
    """FAIL, PASS, "mid-p McNemar below alpha" and "some prediction changed"; of a cell: over all its items."""
    measured = cell.measured.measurement
    levels = [key for key in "12345" if measured["n_by_level"][key]]
    verdicts = {key: cell.at(int(key)).verdict for key in levels} | {"cell": cell.verdict}
    of = {key: key for key in levels} | {"cell": "all"}
    drop = {key: measured["drop_pp"][place] for key, place in of.items()}
    return Found(
        fails={key: verdict == "FAIL" for key, verdict in verdicts.items()},
        passes={key: verdict == "PASS" for key, verdict in verdicts.items()},
        differs={key: value["p_change"] < alpha for key, value in drop.items()},
        changes={key: measured["churn"][place]["estimate"] > 0 for key, place in of.items()},
        drop_pp={key: value["estimate"] for key, value in drop.items()},
    )


def rate(hits: Iterable[bool]) -> dict[str, float]:
    """A share of the seeds with Wilson's 95% interval, its Monte Carlo error."""
    each = list(hits)
    return dict(wilson(sum(each), len(each)).as_json() or {})
