"""From a run's folder to the models of its study.

Nothing is dropped in silence: a model whose answers cannot be used stays, all NaN, with its
problem in words, and every quantity that needs it is null.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gapshift.records import Records, read_items
from gapshift.reports.load import UNREADABLE_SHARE, RatedItems, load_cell, load_items, sums, value_problems
from gapshift.reports.planned import OTHER_PLAN, MeasuredRun
from gapshift.reports.study.members import Group, Member, Study, TaskItems
from gapshift.reports.study.quantity import Floats
from gapshift.schema import TrainedRun, answers_key
from gapshift.workspace import Workspace


def read_study(workspace: Workspace, run: MeasuredRun) -> Study:
    """All trained models of a run. Raises WorkspaceError where ``items.parquet`` cannot be read."""
    items_of, cards = load_items(workspace)
    table, _ = read_items(workspace.items_path)
    domains = {trained.task: trained.domain for trained in run.plan.runs}
    tasks = {name: _task(name, domain, items_of(name), table) for name, domain in domains.items()}
    groups: dict[tuple[str, str, int, str, float], list[Member]] = {}
    transferred = []
    for trained in run.plan.runs:
        member = _member(workspace, trained, tasks[trained.task])
        if trained.trunk_from is not None:
            transferred.append(member)
        else:
            key = (trained.task, trained.family, trained.width, trained.regime, trained.shuffled)
            groups.setdefault(key, []).append(member)
    return Study(
        tasks=tuple(tasks.values()),
        groups=tuple(Group(tasks[key[0]], tuple(members)) for key, members in groups.items()),
        transferred=tuple(transferred),
        runs={trained.name: trained for trained in run.plan.runs},
        cards=cards,
        rule=run.rule,
        seed=run.plan.seed,
    )


def _task(name: str, domain: str, rated: RatedItems, table: pa.Table) -> TaskItems:
    if "task" in table.column_names:
        own = table.filter(pc.equal(table.column("task"), name))
        table = own if own.num_rows else table
    label = np.zeros(len(rated), dtype=np.int64)
    if "label" in table.column_names:
        label = np.asarray(pc.fill_null(table.column("label"), -1).to_numpy(), dtype=np.int64)
    return TaskItems(name, domain, rated, label, np.where(rated.split == "test", rated.level, 0))


def _member(workspace: Workspace, run: TrainedRun, task: TaskItems) -> Member:
    nothing = np.full(len(task.rated), np.nan)
    answers = _answers(workspace, run)
    if isinstance(answers, str):
        return Member(run, nothing, nothing, None, f"{run.name}: {answers}")
    right, confidence = _on_items(answers, task.rated)
    held_out = task.level > 0
    missing = int(np.isnan(right[held_out]).sum())
    if missing > UNREADABLE_SHARE * held_out.sum():
        why = f"{run.name}: {missing} of {int(held_out.sum())} held-out items have no answer"
        return Member(run, nothing, nothing, None, why)
    if run.trunk_from is not None:
        return Member(run, right, confidence, None)
    weight = read_weights(workspace.mix_path(run.name), task.rated)
    if isinstance(weight, str):
        return Member(run, right, confidence, None, weight)
    drawn = int(np.isnan(right[weight > 0]).sum())
    if drawn:
        return Member(run, right, confidence, None, f"{run.name}: {drawn} training items have no answer")
    return Member(run, right, confidence, weight)


def _answers(workspace: Workspace, run: TrainedRun) -> Records | str:
    """A model's answers, or why there are none to use."""
    cell = load_cell(partial(workspace.read_answers, run.name))
    if cell.info is None or cell.records is None:
        return "its answers are missing" if cell.problem == "did not run" else cell.problem
    if cell.info.key != answers_key(run.sha256):
        return OTHER_PLAN
    if cell.info.status != "ok":
        return f"its answers ended as {cell.info.status}: {cell.info.reason or 'no reason was recorded'}"
    return "; ".join(value_problems(cell.records)) or cell.records


def _on_items(records: Records, rated: RatedItems) -> tuple[Floats, Floats]:
    """Right answers and confidences in the order of the items, NaN where there are none."""
    position = rated.index.locate(records.item_id)
    known = position >= 0
    columns = []
    for values in (records.correct, records.confidence):
        column = np.full(len(rated), np.nan)
        column[position[known]] = values[known]
        columns.append(column)
    return columns[0], columns[1]


def read_weights(path: Path, rated: RatedItems) -> Floats | str:
    """Each item's share of a training run's draws, (n,) with sum 1, or why it is unknown."""
    if not path.exists():
        return f"{path.name} is missing: how often each training item was drawn is unknown"
    try:
        table = pq.read_table(path, columns=["item_id", "weight"])
    except (OSError, KeyError, pa.ArrowException) as error:
        return f"{path.name} cannot be read: {error}"
    position = rated.index.locate(np.array(table.column("item_id").to_pylist(), dtype=np.str_))
    weight = np.asarray(table.column("weight").to_numpy(zero_copy_only=False), dtype=np.float64)
    if not (len(weight) and np.isfinite(weight).all() and weight.min() >= 0 and weight.sum() > 0):
        return f"{path.name} holds no usable weights (each 0 or more, some above 0)"
    if (position < 0).any() or _unfit(rated, position[weight > 0]).any():
        return f"{path.name} draws items that are no rated training items of items.parquet"
    return sums(position, len(rated), weight / weight.sum())


def _unfit(rated: RatedItems, position: NDArray[np.intp]) -> NDArray[np.bool_]:
    unfit: NDArray[np.bool_] = (rated.split[position] != "train") | (rated.level[position] == 0)
    return unfit
