"""Records: from scores to rows, to a file and back, and what a kill or a full disk leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from gapshift.errors import EvaluationError, WorkspaceError
from gapshift.records import (
    ITEM_SCHEMA,
    RECORD_SCHEMA,
    Records,
    atomic_path,
    concatenate,
    read_cell,
    read_cell_info,
    read_items,
    records_from_scores,
    unanswered,
    write_cell,
    write_items,
    write_text,
)
from gapshift.schema import CalibrationCard, CellInfo, Execution, Item

NAN, INF = float("nan"), float("inf")
INFO = CellInfo(key="k", bundle="b", environment="e", seconds=0.5, execution=Execution(engine="o", provider="p"))


def _items(*labels: int) -> list[Item]:
    return [Item(id=f"item/{row}", label=label) for row, label in enumerate(labels)]


def _records(rows: list[list[float]], labels: list[int], probabilities: bool = False) -> Records:
    return records_from_scores(_items(*labels), np.array(rows), probabilities)


def assert_same(one: Records, other: Records) -> None:
    for name in Records.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype.kind == getattr(other, name).dtype.kind


# ------------------------------------------------------------------------ from scores


def test_logits_become_predictions_and_softmax_confidences() -> None:
    records = _records([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], [1, 2])
    e = np.e
    assert records.item_id.tolist() == ["item/0", "item/1"]
    assert records.prediction.tolist() == [1, 0]
    assert records.correct.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(records.confidence, [e**2 / (1 + e + e**2), e**3 / (e**3 + 2)])
    np.testing.assert_allclose(records.gap, [0.5, 1.0])
    assert records.status.tolist() == ["ok", "ok"]


def test_probabilities_are_taken_as_they_are() -> None:
    records = _records([[0.1, 0.7, 0.2]], [1], probabilities=True)
    np.testing.assert_allclose(records.confidence, [0.7])
    np.testing.assert_allclose(records.gap, [0.5 / 0.6])


def test_logits_that_are_called_probabilities_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"they reach from -3 to 4\..*output_kind = 'logits'"):
        _records([[0.5, 0.5], [-3.0, 4.0]], [0, 1], probabilities=True)
    assert _records([[NAN, 4.0], [1.0 + 1e-6, -1e-6]], [0, 0], probabilities=True).correct.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_non_finite_score_is_a_wrong_answer_with_a_status(bad: float) -> None:
    records = _records([[bad, 9.0], [0.0, 1.0], [bad, bad]], [1, 1, 0])
    assert records.status.tolist() == ["nan_output", "ok", "nan_output"]
    assert records.prediction.tolist() == [-1, 1, -1]
    assert records.correct.tolist() == [0.0, 1.0, 0.0]
    assert np.isnan(records.confidence).tolist() == [True, False, True]
    assert np.isnan(records.gap).tolist() == [True, False, True]


def test_ties_have_no_gap_and_the_first_class() -> None:
    records = _records([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [5.0, 5.0 - 1e-6, 0.0]], [0, 0, 0])
    assert records.gap[:2].tolist() == [0.0, 0.0]
    assert 0 < records.gap[2] <= 1e-4
    assert records.prediction.tolist() == [0, 0, 0]
    np.testing.assert_allclose(records.confidence[1], 1 / 3)


@pytest.mark.parametrize("scale", [1e3, 1e30, 1e308, 1.7e308])
def test_huge_logits_do_not_overflow(scale: float) -> None:
    records = _records([[scale, -scale, 0.0], [-scale, -scale, -scale]], [0, 0])
    np.testing.assert_allclose(records.confidence, [1.0, 1 / 3])
    np.testing.assert_allclose(records.gap, [0.5, 0.0])
    assert records.status.tolist() == ["ok", "ok"]


def test_half_precision_scores_are_widened() -> None:
    scores = np.array([[60000.0, -60000.0]], dtype=np.float16)
    assert records_from_scores(_items(0), scores, False).confidence.tolist() == [1.0]


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (2,), (2, 1), (2, 3, 1)])
def test_scores_that_are_not_one_row_an_item_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationError, match=r"for 2 items; expected \(2, classes\)"):
        records_from_scores(_items(0, 1), np.zeros(shape), False)


def test_no_items_give_no_records() -> None:
    assert len(records_from_scores([], np.zeros((0, 3)), False)) == 0
    assert len(concatenate([])) == 0


def test_unanswered_items_are_unscored() -> None:
    records = unanswered(_items(3, 4), "unreadable")
    assert records.status.tolist() == ["unreadable", "unreadable"]
    assert records.label.tolist() == [3, 4]
    assert records.prediction.tolist() == [-1, -1]
    assert np.isnan(np.concatenate([records.confidence, records.correct, records.gap])).all()


def test_take_and_concatenate_keep_rows_together() -> None:
    whole = concatenate([_records([[0.0, 1.0]], [1]), unanswered([Item("a-longer-id", 0)], "unreadable")])
    turned = whole.take(np.array([1, 0]))
    assert turned.item_id.tolist() == ["a-longer-id", "item/0"]
    assert turned.status.tolist() == ["unreadable", "ok"]
    assert turned.label.tolist() == [0, 1]


# --------------------------------------------------------------------------- on disk


def test_a_cell_comes_back_as_it_was_with_its_nan(tmp_path: Path) -> None:
    records = concatenate([_records([[NAN, 1.0], [0.0, 1.0]], [0, 1]), unanswered([Item("é/\n", 2)], "unreadable")])
    write_cell(tmp_path / "new" / "c.parquet", INFO, records)
    info, again = read_cell(tmp_path / "new" / "c.parquet")
    assert info == INFO
    assert_same(again, records)
    table = pq.read_table(tmp_path / "new" / "c.parquet")
    assert table.schema == RECORD_SCHEMA
    assert sum(column.null_count for column in table.columns) == 0


def test_a_cell_that_did_not_run_has_a_header_and_no_rows(tmp_path: Path) -> None:
    info = INFO.model_copy(update={"status": "skipped", "reason": "no such runtime"})
    write_cell(tmp_path / "c.parquet", info)
    back, records = read_cell(tmp_path / "c.parquet")
    assert back == info == read_cell_info(tmp_path / "c.parquet")
    assert len(records) == 0


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _garbage(path: Path) -> None:
    path.write_bytes(b"no parquet at all")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _headless(path: Path) -> None:
    pq.write_table(pa.table({"item_id": ["a"]}), path)


def _newer(path: Path) -> None:
    header = INFO.model_dump_json().replace('"schema_version":1', '"schema_version":2')
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"gapshift.cell": header.encode()}), path)


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_cut, _garbage, _empty, _headless, _newer, _missing], ids=lambda f: f.__name__)
def test_a_file_that_is_not_a_whole_cell_is_named(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "c.parquet"
    write_cell(path, INFO, _records([[0.0, 1.0]], [1]))
    damage(path)
    for read in (read_cell, read_cell_info):
        with pytest.raises(WorkspaceError) as raised:
            read(path)
        text = str(raised.value)
        assert text.startswith(f"{path} is not a gapshift cell: ")
        assert text.endswith("Delete it and run the same command again.")


def test_a_cell_without_a_column_is_no_cell(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_cell(path, INFO, _records([[0.0, 1.0]], [1]))
    pq.write_table(pq.read_table(path).drop_columns(["correct"]), path)
    assert read_cell_info(path) == INFO
    with pytest.raises(WorkspaceError, match="its columns are item_id, label, prediction, confidence, gap, status"):
        read_cell(path)


def test_damage_inside_the_rows_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    rng = np.random.default_rng(0)
    write_cell(path, INFO, records_from_scores(_items(*range(5)), rng.normal(size=(5, 3)), False))
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 100 + content[104:])
    assert read_cell_info(path) == INFO
    with pytest.raises(WorkspaceError, match="is not a gapshift cell"):
        read_cell(path)


# ----------------------------------------------------------------------- atomic files


def test_a_block_that_ends_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    write_text(path, "one é")
    write_text(path, "two")
    assert path.read_text(encoding="utf-8") == "two"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def _half_written(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), WorkspaceError("x")], ids=repr)
def test_an_exception_in_the_block_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(type(error)):
        _half_written(path, error)
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_cell_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.parquet"
    write_cell(path, INFO, _records([[0.0, 1.0]], [1]))
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match=r"Cannot write .*c\.parquet: .*No space left.* make room"):
        write_cell(path, INFO, _records([[1.0, 0.0]], [1]))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["c.parquet"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"Cannot write .*a\.txt: "):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_a_very_long_name_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    write_text(path, "text")
    assert path.read_text(encoding="utf-8") == "text"


# ------------------------------------------------------------------------ items.parquet

CARD = CalibrationCard(task="t", engine="em", items=2, responders=9, split_half=0.9, gated_bands=((1, 2), (3, 4, 5)))


def _item_table() -> pa.Table:
    columns: dict[str, Any] = {name: [None, None] for name in ITEM_SCHEMA.names}
    levels: NDArray[np.int64] = np.array([1, 5])
    return pa.table(columns | {"id": ["a", "b"], "level": levels, "b": [0.5, NAN]})


def test_items_and_their_cards_come_back(tmp_path: Path) -> None:
    write_items(tmp_path / "i.parquet", _item_table().select(ITEM_SCHEMA.names), [CARD])
    table, cards = read_items(tmp_path / "i.parquet")
    assert cards == (CARD,)
    assert table.schema.equals(ITEM_SCHEMA)
    assert table["level"].to_pylist() == [1, 5]
    assert np.isnan(table["b"].to_pylist()[1])


def test_a_table_made_elsewhere_has_no_cards(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "level": [3]}), tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet")[1] == ()


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (pa.table({"id": ["a"]}), r"has no column level; it has id\."),
        (pa.table({"x": ["a"]}), r"has no column id, level; it has x\."),
        (
            pa.table({"id": ["a"], "level": [1]}).replace_schema_metadata({"gapshift.calibration": "[{"}),
            "holds calibration cards that cannot be read: Invalid JSON",
        ),
        (
            pa.table({"id": ["a"], "level": [1]}).replace_schema_metadata({"gapshift.calibration": '[{"tusk": "t"}]'}),
            "holds calibration cards that cannot be read: Field required",
        ),
    ],
)
def test_items_that_cannot_be_used_are_named(tmp_path: Path, table: pa.Table, text: str) -> None:
    pq.write_table(table, tmp_path / "i.parquet")
    with pytest.raises(WorkspaceError, match=text):
        read_items(tmp_path / "i.parquet")


def test_items_that_are_no_parquet_are_named(tmp_path: Path) -> None:
    (tmp_path / "i.parquet").write_text("id,level\n", encoding="utf-8")
    for name in ("i.parquet", "none.parquet"):
        with pytest.raises(WorkspaceError, match=rf"Cannot read .*{name}: .*gapshift calibrate"):
            read_items(tmp_path / name)
