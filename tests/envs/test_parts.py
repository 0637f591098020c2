"""Cells that are read in parts: what is asked, of whom, in which order, and what is left when something stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapshift.envs import runner
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.envs.runtimes import Session, open_runtime
from gapshift.errors import EvaluationError, WorkspaceError
from gapshift.records import Records
from gapshift.schema import Bundle, CellInfo, Contract, Environment, Runtime
from gapshift.workspace import Workspace

from .conftest import Small

ONE = Environment(name="one", kind="lossy", summary="s", deviations={"runtime.intra_op_threads": 1})
FOUR = Environment(name="four", kind="lossy", summary="s", deviations={"runtime.batch_size": 4})
Indices = NDArray[np.intp]


class Backwards:
    """Reads each cell's last ``limits[name]`` items, the last one first."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits
        self.taken: list[tuple[str, str]] = []

    def address(self, bundle: Bundle, environment: Environment) -> Any:
        return [bundle.name, "backwards", self.limits.get(environment.name, 0)]

    def first(self, task: TaskItems, readable: NDArray[np.bool_]) -> Indices:
        del task
        return np.flatnonzero(~readable)

    def begin(self, bundle: Bundle, environment: Environment, task: TaskItems, readable: NDArray[np.bool_]) -> Any:
        del bundle, readable
        rows = np.arange(len(task.dataset))[::-1][: self.limits.get(environment.name, 0)]
        return Queue(rows, self.taken)

    def beside(self, bundle: Bundle) -> Iterator[tuple[Environment, Records]]:
        del bundle
        return iter(())


class Queue:
    def __init__(self, rows: Indices, taken: list[tuple[str, str]]) -> None:
        self.rows, self.taken = rows, taken

    def next_rows(self, most: int) -> Indices:
        rows, self.rows = self.rows[:most], self.rows[most:]
        return rows

    def take(self, reference: Records, answers: Records) -> None:
        self.taken += zip(reference.item_id.tolist(), answers.item_id.tolist(), strict=True)


def matrix(small: Small, reader: Backwards, *environments: Environment) -> Matrix:
    levels = {item.id: 1 + row % 5 for row, item in enumerate(small.judged.items)}
    tasks = {small.bundle.task: TaskItems(small.judged, small.calibration, levels)}
    return Matrix((small.bundle,), environments or (ONE, FOUR), tasks, reader=reader)


def ids(workspace: Workspace, small: Small, name: str) -> list[str]:
    found = workspace.read_cell(small.bundle.name, name)
    assert found is not None
    return [str(each) for each in found[1].item_id]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that any model is asked."""
    found: list[int] = []

    def opened(runtime: Runtime, model: Path, contract: Contract) -> Session:
        session = open_runtime(runtime, model, contract)
        ask = session.predict
        monkeypatch.setattr(session, "predict", lambda batch: found.append(len(batch)) or ask(batch))
        return session

    monkeypatch.setattr(runner, "open_runtime", opened)
    return found


@pytest.mark.parametrize("task", ["vision", "text", "spans", "audio", "control"])
def test_every_kind_of_item_can_be_read_in_parts(task: str, small: Callable[..., Small], tmp_path: Path) -> None:
    """The reference answers as many as the cell that needs most, and what is read is what a whole pass answers."""
    made, reader = small(task, tmp_path / task, n=30), Backwards(one=7, four=19)
    workspace = Workspace(tmp_path / "run")
    evaluate(workspace, matrix(made, reader), debug=True)
    last = [item.id for item in made.judged.items][::-1]
    assert ids(workspace, made, "one") == last[:7]
    assert ids(workspace, made, "four") == last[:19]
    assert sorted(ids(workspace, made, "reference")) == sorted(last[:19])
    assert reader.taken == [(name, name) for count in (7, 19) for name in last[:count]]
    whole = Workspace(tmp_path / "whole")
    evaluate(whole, Matrix((made.bundle,), (ONE, FOUR), matrix(made, reader).tasks), debug=True)
    for name in ("reference", "one"):
        _, part = workspace.read_cell(made.bundle.name, name)  # type: ignore[misc]  # it is there
        _, records = whole.read_cell(made.bundle.name, name)  # type: ignore[misc]  # it is there
        answers = dict(zip(records.item_id.tolist(), records.prediction.tolist(), strict=True))
        assert part.prediction.tolist() == [answers[item] for item in part.item_id.tolist()]


def test_no_item_is_asked_twice_and_a_second_call_asks_none(
    small: Callable[..., Small], tmp_path: Path, calls: list[int]
) -> None:
    made, workspace = small("vision", tmp_path / "m", n=40), Workspace(tmp_path / "run")
    evaluate(workspace, matrix(made, Backwards(one=20, four=33)), debug=True)
    assert sum(calls) == 33 + 20 + 33
    evaluate(workspace, matrix(made, Backwards(one=20, four=33)), debug=True)
    assert sum(calls) == 33 + 20 + 33
    evaluate(workspace, matrix(made, Backwards(one=20, four=40)), debug=True)
    assert sum(calls) == 33 + 20 + 33 + 40 + 7


def test_a_reference_that_is_gone_is_read_again_as_far_as_the_cells_need_it(
    small: Callable[..., Small], tmp_path: Path, calls: list[int]
) -> None:
    made, workspace = small("vision", tmp_path / "m", n=40), Workspace(tmp_path / "run")
    evaluate(workspace, matrix(made, Backwards(one=20, four=33)), debug=True)
    before = sorted(ids(workspace, made, "reference"))
    workspace.cell_path(made.bundle.name, "reference").unlink()
    calls.clear()
    evaluate(workspace, matrix(made, Backwards(one=20, four=33)), debug=True)
    assert sum(calls) == 33
    assert sorted(ids(workspace, made, "reference")) == before


@pytest.mark.parametrize("threads", [1, 2])
def test_what_stops_one_of_them_is_said(
    small: Callable[..., Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """A cell's trouble is its own (one thread); the reference's (two) leaves its bundle unread, and is tried again."""

    def opened(runtime: Runtime, model: Path, contract: Contract) -> Session:
        if runtime.intra_op_threads == threads:
            raise EvaluationError("it does not load")
        return open_runtime(runtime, model, contract)

    monkeypatch.setattr(runner, "open_runtime", opened)
    made, workspace = small("vision", tmp_path / "m"), Workspace(tmp_path / "run")
    evaluate(workspace, matrix(made, Backwards(one=5, four=9)))
    broken = "one" if threads == 1 else "reference"
    found = workspace.read_cell(made.bundle.name, broken)
    assert found is not None
    assert (found[0].status, found[0].reason) == ("error", "it does not load")
    assert (workspace.read_cell(made.bundle.name, "four") is None) == (threads == 2)
    monkeypatch.setattr(runner, "open_runtime", open_runtime)
    evaluate(workspace, matrix(made, Backwards(one=5, four=9)))
    assert len(ids(workspace, made, "one")) == 5
    assert len(ids(workspace, made, "four")) == len(ids(workspace, made, "reference")) == 9


def test_a_full_disk_stops_the_run(
    small: Callable[..., Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise WorkspaceError("the disk is full")

    made, workspace = small("vision", tmp_path / "m"), Workspace(tmp_path / "run")
    monkeypatch.setattr(Workspace, "write_cell", full)
    with pytest.raises(WorkspaceError, match="the disk is full"):
        evaluate(workspace, matrix(made, Backwards(one=5)))


def test_the_reference_is_written_before_the_cell_that_it_answered_for(
    small: Callable[..., Small], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two leaves no cell that cannot be judged."""
    written: list[str] = []
    write = Workspace.write_cell

    def noted(self: Workspace, info: CellInfo, records: Records | None = None) -> None:
        written.append(info.environment)
        write(self, info, records)

    monkeypatch.setattr(Workspace, "write_cell", noted)
    made = small("vision", tmp_path / "m")
    evaluate(Workspace(tmp_path / "run"), matrix(made, Backwards(one=5, four=9)), debug=True)
    assert written == ["reference", "one", "reference", "four"]


def test_a_reference_that_is_read_on_keeps_the_time_that_it_took_before(
    small: Callable[..., Small], tmp_path: Path
) -> None:
    made, workspace = small("vision", tmp_path / "m"), Workspace(tmp_path / "run")
    evaluate(workspace, matrix(made, Backwards(one=5)), debug=True)
    info, records = workspace.read_cell(made.bundle.name, "reference")  # type: ignore[misc]  # it is there
    workspace.write_cell(info.model_copy(update={"seconds": 1000.0}), records)
    evaluate(workspace, matrix(made, Backwards(one=9)), debug=True)
    info, records = workspace.read_cell(made.bundle.name, "reference")  # type: ignore[misc]  # it is there
    assert len(records) == 9
    assert info.seconds > 1000
    assert info.items_per_second == pytest.approx(9 / info.seconds)
