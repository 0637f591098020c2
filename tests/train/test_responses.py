"""Response matrices made elsewhere: formats, orientation, error texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapshift.errors import DataError, UnknownNameError
from gapshift.train.irt.responses import ResponseMatrix, read_responses

NAN = float("nan")


def csv_file(folder: Path, text: str, name: str = "responses.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def check(matrix: ResponseMatrix, responses: list[list[float]], items: list[str], responders: list[str]) -> None:
    np.testing.assert_array_equal(matrix.responses, np.array(responses))
    assert (matrix.item_ids, matrix.responder_ids) == (tuple(items), tuple(responders))


def test_csv_with_responders_in_rows(tmp_path: Path) -> None:
    matrix = read_responses(csv_file(tmp_path, "model,q1,q2,q3,q4\nm1,1,0,,0.25\nm2,NaN,true,False,1\n"))
    check(matrix, [[1, 0, NAN, 0.25], [NAN, 1, 0, 1]], ["q1", "q2", "q3", "q4"], ["m1", "m2"])
    assert (matrix.orientation, matrix.detected) == ("responders-by-items", True)


def test_csv_with_items_in_rows(tmp_path: Path) -> None:
    matrix = read_responses(csv_file(tmp_path, "\ufeffitem_id,m1,m2,m3\n7,1,0,1\n8,0,,1\n"))
    check(matrix, [[1, 0], [0, NAN], [1, 1]], ["7", "8"], ["m1", "m2", "m3"])
    assert (matrix.orientation, matrix.detected) == ("items-by-responders", True)


def test_the_naming_column_may_stand_anywhere(tmp_path: Path) -> None:
    matrix = read_responses(csv_file(tmp_path, "m1,Item ID,m2\n1,a,0\n0,b,1\n"))
    check(matrix, [[1, 0], [0, 1]], ["a", "b"], ["m1", "m2"])


@pytest.mark.parametrize("header", ["id", "", "Name", "whatever"])
def test_without_a_telling_name_the_longer_side_is_items(tmp_path: Path, header: str) -> None:
    wide = read_responses(csv_file(tmp_path, f"{header},x,y,z\nr1,1,0,1\nr2,0,0,1\n"))
    check(wide, [[1, 0, 1], [0, 0, 1]], ["x", "y", "z"], ["r1", "r2"])
    assert (wide.orientation, wide.detected) == ("responders-by-items", True)
    long = read_responses(csv_file(tmp_path, f"{header},x,y\nr1,1,0\nr2,0,0\nr3,1,1\n"))
    check(long, [[1, 0, 1], [0, 0, 1]], ["r1", "r2", "r3"], ["x", "y"])
    assert long.orientation == "items-by-responders"


def test_rows_without_names_are_numbered(tmp_path: Path) -> None:
    wide = read_responses(csv_file(tmp_path, "x,y,z\n1,0,1\n0,0,1\n"))
    assert wide.responder_ids == ("responder-1", "responder-2")
    long = read_responses(csv_file(tmp_path, "x,y\n1,0\n0,0\n1,1\n"))
    assert long.item_ids == ("item-1", "item-2", "item-3")


def test_a_said_orientation_wins(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "item,a,b,c\nx,1,0,1\ny,0,0,1\n")
    said = read_responses(path, "responders-by-items")
    check(said, [[1, 0, 1], [0, 0, 1]], ["a", "b", "c"], ["x", "y"])
    assert said.detected is False
    assert read_responses(path, "items-by-responders").item_ids == ("x", "y")


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "responses.parquet"
    pq.write_table(pa.table({"item": [1, 2, 3], "m1": [True, False, None], "m2": [0.5, NAN, 1.0]}), path)
    check(read_responses(path), [[1, 0, NAN], [0.5, NAN, 1]], ["1", "2", "3"], ["m1", "m2"])


def test_json_lines(tmp_path: Path) -> None:
    lines = [{"subject_id": "s1", "responses": {"a": 1, "b": 0}}, {"subject_id": "s2", "responses": {"c": 1, "a": 0}}]
    path = csv_file(tmp_path, "\n".join(map(json.dumps, lines)) + "\n\n", "responses.jsonl")
    matrix = read_responses(path)
    check(matrix, [[1, 0, NAN], [0, NAN, 1]], ["a", "b", "c"], ["s1", "s2"])
    assert (matrix.orientation, matrix.detected) == ("responders-by-items", False)
    with pytest.raises(DataError, match="JSON Lines hold one line a responder"):
        read_responses(path, "items-by-responders")


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 0.125, NAN]), min_size=4, max_size=4), min_size=2, max_size=8))
def test_every_format_and_orientation_gives_the_same_matrix(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]]
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    responses, subjects, items = np.array(rows), [f"s{i}" for i in range(len(rows))], list("abcd")
    by_row = {"responder": subjects} | {item: responses[:, i].tolist() for i, item in enumerate(items)}
    by_column = {"item": items} | {name: responses[i].tolist() for i, name in enumerate(subjects)}
    for name, columns in (("rows", by_row), ("columns", by_column)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        csv_file(folder, "\n".join(lines), f"{name}.csv")
    for path in sorted(folder.iterdir()):
        check(read_responses(path), rows, items, subjects)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it holds no responses"),
        ("model,a,b\n", "is empty: it holds no responses"),
        ("model\nm1\nm2\n", "is empty: it holds no responses"),
        ("model,a,b\nm1,1,0\nm2,yes,0\n", r"row 2 \('m2'\), column 'a' holds 'yes', which is not a number"),
        ("a,b,c\n1,0,1\n0,x,1\n", r"row 2, column 'b' holds 'x'"),
        ("model,a,b\nm1,1,1.5\nm2,1,0\n", r"row 1 \('m1'\), column 'b' holds 1.5, outside \[0, 1\]"),
        ("model,a,b\nm1,1,-inf\nm2,1,0\n", "holds -inf, outside"),
        ("number,a,b,c\n1,1,0,1\n2,1,0,0\n", r"column 'number' holds 2, outside .* call it 'item' or 'responder'"),
        ("model,a,b\nm1,1,0\nm1,1,0\n", "duplicate row ids: m1"),
        ("model,a,a\nm1,1,0\nm2,1,0\n", "duplicate column ids: a"),
        ("0,1,0\n1,1,0\n0,1,1\n1,1,1\n", "duplicate column ids: 0.*first line of a table must hold"),
        ("model,a,b\nm1,1,0\nm2,1\n", "row 2 has 2 cells, the header 3"),
        ("id,a,b\nx,1,0\ny,1,0\n", "2 rows and 2 columns do not tell .* responders-by-items or items-by-responders"),
    ],
)
def test_what_a_csv_gets_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = csv_file(tmp_path, text)
    with pytest.raises(DataError, match=message) as caught:
        read_responses(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2 is not a py-irt line"),
        ('{"subject_id": "s2"}', r"line 2 .*'responses'.*Valid: {\"subject_id\""),
        ('{"responses": {"a": 1}}', "line 2 .*'subject_id'"),
        ('{"subject_id": "s2", "responses": [1]}', "'responses' is not an object"),
        ('{"subject_id": "s2", "responses": {"a": 1, "a": 0}}', "duplicate keys: a"),
        ('{"subject_id": "s1", "responses": {"a": 1}}', "duplicate row ids: s1"),
        ('{"subject_id": "s2", "responses": {"a": "wrong"}}', "column 'a' holds 'wrong', which is not a number"),
        ('{"subject_id": "s2", "responses": {"a": [1]}}', r"column 'a' holds \[1\], which is not a number"),
    ],
)
def test_what_json_lines_get_wrong(tmp_path: Path, line: str, message: str) -> None:
    path = csv_file(tmp_path, '{"subject_id": "s1", "responses": {"a": 1, "b": 0}}\n' + line, "r.jsonl")
    with pytest.raises(DataError, match=message):
        read_responses(path)


def broken(folder: Path, name: str, content: bytes | None) -> Any:
    path = folder / name
    if content is not None:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, r"Cannot read .*absent.csv as responses: .*No such file.*exists and is whole"),
        ("latin.csv", b"model,a\nm\xe91,1\n", "Cannot read .*latin.csv as responses: .*utf-8"),
        ("cut.parquet", b"PAR1 and no more", "Cannot read .*cut.parquet as responses"),
        ("empty.jsonl", b"\n", "empty.jsonl is empty"),
        ("matrix.xlsx", b"", r"unknown suffix '.xlsx'. Valid: .csv, .jsonl, .jsonlines, .parquet"),
        ("matrix", b"", "unknown suffix ''"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_responses(broken(tmp_path, name, content))


def test_an_unknown_orientation(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown orientation 'items'.*Valid: items-by-responders, resp"):
        read_responses(tmp_path / "x.csv", "items")
