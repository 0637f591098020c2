"""Difficulty measures in one file: merged over tasks, whole or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from gapshift.errors import CalibrationError, WorkspaceError
from gapshift.train.measures import MEASURE_SCHEMA, read_measures, write_measures


def rows(path: Path) -> set[tuple[str, str, str, float]]:
    return {(row["task"], row["id"], row["measure"], row["value"]) for row in read_measures(path).to_pylist()}


def test_measures_of_several_tasks_are_merged_and_the_same_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "measures.parquet"
    write_measures(path, "digits", ["a", "b"], {"early error norm": np.array([0.1, 0.9]), "rarity": np.array([1, 2])})
    write_measures(path, "words", ["a"], {"rarity": np.array([5.0])})
    write_measures(path, "digits", ["b"], {"rarity": np.array([3.0])})
    assert read_measures(path).schema == MEASURE_SCHEMA
    assert rows(path) == {
        ("digits", "a", "early error norm", 0.1),
        ("digits", "b", "early error norm", 0.9),
        ("words", "a", "rarity", 5.0),
        ("digits", "b", "rarity", 3.0),
    }
    assert [file.name for file in tmp_path.iterdir()] == ["measures.parquet"]


def test_no_measure_is_an_empty_table(tmp_path: Path) -> None:
    write_measures(tmp_path / "m.parquet", "cartpole", ["a"], {})
    assert len(read_measures(tmp_path / "m.parquet")) == 0


@pytest.mark.parametrize(
    ("ids", "values", "text"),
    [
        (["a", "b"], np.ones(3), r"'m' of task 't' has shape \(3,\) for 2 ids, 2 of them different; give one value"),
        (["a", "a"], np.ones(2), r"for 2 ids, 1 of them different"),
        (["a", "b"], np.array([1, np.nan]), r"'m' of task 't' is not finite for 1 items \(b\)\. Leave the measure out"),
    ],
)
def test_what_is_no_measure_is_refused_and_the_file_stands(
    tmp_path: Path, ids: list[str], values: NDArray[np.float64], text: str
) -> None:
    path = tmp_path / "m.parquet"
    write_measures(path, "t", ["a"], {"m": np.ones(1)})
    with pytest.raises(CalibrationError, match=text):
        write_measures(path, "t", ids, {"m": values})
    assert rows(path) == {("t", "a", "m", 1.0)}


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    with pytest.raises(WorkspaceError, match=r"Cannot read .*m\.parquet"):
        read_measures(path)
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(WorkspaceError, match=r"Cannot read .*m\.parquet.*gapshift study"):
        write_measures(path, "t", ["a"], {"m": np.ones(1)})
    pq.write_table(pa.table({"id": ["a"]}), path)
    with pytest.raises(
        WorkspaceError, match=r"holds no difficulty measures: its columns are id, not task, id, measure"
    ):
        read_measures(path)
