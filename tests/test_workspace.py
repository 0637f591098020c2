"""A run's folder: which cells count as done, what a kill leaves, and what is refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from gapshift.errors import WorkspaceError
from gapshift.records import records_from_scores, write_cell
from gapshift.schema import CellInfo, CellStatus, DataSource, Item, RunPlan, TaskPlan
from gapshift.workspace import Workspace

RECORDS = records_from_scores([Item("a", 1)], np.array([[0.0, 1.0]]), False)
PLAN = RunPlan(
    command="check",
    tasks=(TaskPlan(name="digits", data=DataSource(source="digits")),),
    bundles=(),
    environments=(),
    seed=7,
)


def _info(key: str = "k", status: CellStatus = "ok") -> CellInfo:
    return CellInfo(key=key, bundle="b", environment="e", status=status)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "run")


# ------------------------------------------------------------------------------ cells


@pytest.mark.parametrize(
    ("status", "done"), [("ok", True), ("not_applicable", True), ("error", False), ("skipped", False)]
)
def test_a_cell_is_finished_when_it_ran_to_an_end(workspace: Workspace, status: CellStatus, done: bool) -> None:
    assert not workspace.finished("b", "e", "k")
    workspace.write_cell(_info(status=status), RECORDS if status == "ok" else None)
    assert workspace.finished("b", "e", "k") is done
    assert not workspace.finished("b", "e", "another key")
    assert not workspace.finished("b", "another", "k")


def test_a_damaged_cell_is_not_finished_and_can_be_written_again(workspace: Workspace) -> None:
    workspace.write_cell(_info(), RECORDS)
    path = workspace.cell_path("b", "e")
    path.write_bytes(path.read_bytes()[:-20])
    assert not workspace.finished("b", "e", "k")
    with pytest.raises(WorkspaceError, match="is not a gapshift cell"):
        workspace.read_cell("b", "e")
    workspace.write_cell(_info(), RECORDS)
    assert workspace.finished("b", "e", "k")


def test_cells_and_answers_come_back_or_are_none(workspace: Workspace) -> None:
    assert workspace.read_cell("b", "e") is None
    assert workspace.read_answers("b") is None
    workspace.write_cell(_info(), RECORDS)
    write_cell(workspace.answers_path("b"), _info("answers"), RECORDS)
    cell, answers = workspace.read_cell("b", "e"), workspace.read_answers("b")
    assert cell is not None
    assert answers is not None
    assert cell[0] == _info()
    assert cell[1].item_id.tolist() == ["a"]
    assert answers[0].key == "answers"


def test_a_bundle_lies_inside_the_run_or_at_its_own_path(workspace: Workspace, tmp_path: Path) -> None:
    assert workspace.bundle_path("bundles/b.onnx") == workspace.bundles / "b.onnx"
    assert workspace.bundle_path(str(tmp_path / "m.onnx")) == tmp_path / "m.onnx"


# ------------------------------------------------------------------------------- plan


def test_a_plan_comes_back(workspace: Workspace) -> None:
    workspace.write_plan(PLAN)
    assert workspace.read_plan() == PLAN


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    for root in (tmp_path, tmp_path / "none", tmp_path / "model.onnx"):
        with pytest.raises(WorkspaceError, match=r"is not a run folder: it has no run\.json\. Make one with"):
            Workspace(root).read_plan()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "the whole file: Invalid JSON"),
        (b"\xff\xfe", "can't decode byte"),
        (PLAN.model_dump_json().replace('"seed":7', '"seed":"x"').encode(), "seed: Input should be a valid integer"),
        (PLAN.model_dump_json().replace('"schema_version":2', '"schema_version":3').encode(), "schema_version: "),
    ],
)
def test_a_plan_that_cannot_be_read_says_where(workspace: Workspace, content: bytes, text: str) -> None:
    workspace.write_plan(PLAN)
    workspace.plan_path.write_bytes(content)
    with pytest.raises(WorkspaceError) as raised:
        workspace.read_plan()
    assert "run.json cannot be read: " in str(raised.value)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


# ----------------------------------------------------------------------------- stages


def test_a_stage_is_done_with_its_inputs_alone(workspace: Workspace) -> None:
    assert not workspace.is_done("calibrate", "k")
    workspace.mark_done("calibrate", "k")
    assert workspace.is_done("calibrate", "k")
    assert not workspace.is_done("calibrate", "other")
    assert not workspace.is_done("train", "k")
    workspace.mark_done("calibrate", "other")
    assert not workspace.is_done("calibrate", "k")
    assert [event["stage"] for event in workspace.journal()] == ["calibrate", "calibrate"]


# ---------------------------------------------------------------------------- journal


def test_events_come_back_in_order_with_their_time(workspace: Workspace) -> None:
    assert list(workspace.journal()) == []
    workspace.log("one", cells=3)
    workspace.log("two", name="é\u2028\n")
    one, two = workspace.journal()
    assert (one["event"], one["cells"]) == ("one", 3)
    assert two["name"] == "é\u2028\n"
    assert one["time"].endswith("+00:00")


@pytest.mark.parametrize("keep", [1, 5, -1])
def test_a_line_cut_by_a_kill_costs_that_event_alone(workspace: Workspace, keep: int) -> None:
    for name in ("one", "two"):
        workspace.log(name)
    path = workspace.root / "journal.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:keep] if keep > 0 else first + second[:-2])
    assert [event["event"] for event in workspace.journal()] == ["one"]
    workspace.log("three")
    workspace.log("four")
    assert [event["event"] for event in workspace.journal()] == ["one", "three", "four"]


def test_bytes_that_are_no_text_cost_that_event_alone(workspace: Workspace) -> None:
    workspace.log("one")
    with (workspace.root / "journal.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00\n")
    workspace.log("two")
    assert [event["event"] for event in workspace.journal()] == ["one", "two"]


def test_every_line_is_json_of_its_own(workspace: Workspace) -> None:
    workspace.log("a", reason="two\nlines")
    (line,) = (workspace.root / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["reason"] == "two\nlines"


def test_a_journal_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"Cannot write the journal in .*file"):
        Workspace(tmp_path / "file").log("one")


@pytest.mark.parametrize("below", [".", "run"])
def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    said = pytest.raises(WorkspaceError, match=r"Cannot write to .*file.*Give another folder with --out")
    with said, Workspace(tmp_path / "file" / below).lock():
        pass


def test_who_holds_the_folder_is_named(workspace: Workspace) -> None:
    with workspace.lock(), pytest.raises(WorkspaceError) as raised, Workspace(workspace.root).lock():
        pass
    assert re.search(
        rf"\(process {os.getpid()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)\. Wait for it", str(raised.value)
    )
    assert not (workspace.root / ".lock-holder").exists()


@pytest.mark.parametrize("stale", [b"1 2020-01-01 00:00:00", b"\xff", b""])
def test_what_a_killed_process_left_locks_nobody_out(workspace: Workspace, stale: bytes) -> None:
    workspace.root.mkdir(parents=True, exist_ok=True)
    (workspace.root / ".lock").write_bytes(b"")
    (workspace.root / ".lock-holder").write_bytes(stale)
    with workspace.lock():
        assert (workspace.root / ".lock-holder").read_text().startswith(f"{os.getpid()} ")


def test_a_holder_that_cannot_be_read_is_left_out(workspace: Workspace) -> None:
    with workspace.lock():
        (workspace.root / ".lock-holder").write_bytes(b"\xff")
        with pytest.raises(WorkspaceError, match=r"works on \S+\. Wait for it"), Workspace(workspace.root).lock():
            pass
