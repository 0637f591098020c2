"""Response matrices made elsewhere: CSV, Parquet and py-irt's JSON Lines.

CSV and Parquet hold one row a responder and one column an item, or the other way round.
A column may name the rows: one called item, responder or the like (which also tells the
orientation), one called id or name, or a first column without any number in it. Without
such a telling name the longer side is taken for the items.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gapshift.errors import DataError, UnknownNameError
from gapshift.train.irt.base import Floats, first_few

Orientation = Literal["responders-by-items", "items-by-responders"]

_ITEM_WORDS = ("item", "items", "item_id", "item_ids", "item_name", "question", "question_id")
_RESPONDER_WORDS = (
    *("responder", "responders", "responder_id", "responder_ids", "respondent", "respondent_id"),
    *("model", "models", "model_id", "model_name", "subject", "subjects", "subject_id", "run", "run_id"),
)
_NAME_WORDS = ("id", "ids", "name", "names", "index", "", "unnamed:_0", "__index_level_0__")
_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none"})
_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, eq=False)
class ResponseMatrix:
    """``responses`` (responders, items) in [0, 1], NaN missing, with the names of both sides.

    ``orientation`` is how the file was read; ``detected`` says that nobody had told.
    """

    responses: Floats
    item_ids: tuple[str, ...]
    responder_ids: tuple[str, ...]
    orientation: Orientation
    detected: bool


def read_responses(path: Path | str, orientation: str | None = None) -> ResponseMatrix:
    """The response matrix in a .csv, .parquet, .jsonl or .jsonlines file.

    ``orientation`` says what the rows are; without it, it is detected. Raises
    UnknownNameError for another orientation and DataError where the file cannot be read
    as a matrix of responses: the text names file, row and column.
    """
    path = Path(path)
    if orientation is not None and orientation not in get_args(Orientation):
        raise UnknownNameError("orientation", orientation, get_args(Orientation))
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"Cannot read {path} as responses: unknown suffix {path.suffix!r}. Valid: {', '.join(sorted(_READERS))}."
        )
    try:
        table = reader(path)
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException, RecursionError) as error:
        raise DataError(
            f"Cannot read {path} as responses: {error}. Check that the file exists and is whole."
        ) from error
    return _matrix(path, table, orientation)


# ------------------------------------------------------------------------- tables of cells


@dataclass(frozen=True, eq=False)
class _Table:
    """A file's cells as they were found. ``word`` is the header of the column that names the rows.

    ``said`` is the orientation that the format itself fixes, if it does.
    """

    columns: list[str]
    rows: list[str] | None
    cells: Sequence[Sequence[Any]]
    word: str | None = None
    said: Orientation | None = None


def _read_csv(path: Path) -> _Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    header, *cells = lines or [[]]
    for number, row in enumerate(cells, start=1):
        if len(row) != len(header):
            raise DataError(
                f"{path}: row {number} has {len(row)} cells, the header {len(header)}. "
                "Every row needs one cell per column, separated by commas."
            )
    return _named(header, cells)


def _read_parquet(path: Path) -> _Table:
    table = pq.read_table(path)
    columns = [column.to_pylist() for column in table.columns]
    return _named(list(table.column_names), list(zip(*columns, strict=True)))


def _named(header: list[str], cells: Sequence[Sequence[Any]]) -> _Table:
    """The table without the column that names its rows, where there is one."""
    names = _naming_column(header, cells)
    if names is None:
        return _Table(header, None, cells)
    rows = [str(row[names]).strip() for row in cells]
    return _Table(_without(header, names), rows, [_without(row, names) for row in cells], word=_word(header[names]))


def _naming_column(header: list[str], cells: Sequence[Sequence[Any]]) -> int | None:
    for words in (_ITEM_WORDS, _RESPONDER_WORDS, _NAME_WORDS):
        for position, name in enumerate(header):
            if _word(name) in words:
                return position
    first_is_text = bool(cells) and all(_number(row[0]) is None for row in cells if len(row))
    return 0 if header and first_is_text else None


def _without(values: Sequence[Any], position: int) -> list[Any]:
    return [*values[:position], *values[position + 1 :]]


def _word(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _read_json_lines(path: Path) -> _Table:
    """py-irt's lines: {"subject_id": ..., "responses": {item: 0 or 1, ...}}."""
    subjects: list[str] = []
    answers: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            subject, given = _subject(path, number, line)
            subjects.append(subject)
            answers.append(given)
    items = list(dict.fromkeys(item for given in answers for item in given))
    cells = [[given.get(item) for item in items] for given in answers]
    return _Table(items, subjects, cells, said="responders-by-items")


def _subject(path: Path, number: int, line: str) -> tuple[str, dict[str, Any]]:
    try:
        value = json.loads(line, object_pairs_hook=_no_duplicates)
        given = value["responses"]
        if not isinstance(given, dict):
            raise TypeError("'responses' is not an object")
        return str(value["subject_id"]), given
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: line {number} is not a py-irt line ({error}). "
            'Valid: {"subject_id": "model-1", "responses": {"item-1": 1, "item-2": 0}}.'
        ) from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    again = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if again:
        raise ValueError(f"duplicate keys: {first_few(again)}")
    return dict(pairs)


_READERS: dict[str, Callable[[Path], _Table]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".jsonlines": _read_json_lines,
}


# ------------------------------------------------------------------- from cells to responses


def _matrix(path: Path, table: _Table, orientation: str | None) -> ResponseMatrix:
    if not table.cells or not table.columns:
        raise DataError(
            f"{path} is empty: it holds no responses. It needs a header line and one row per responder or item."
        )
    columns = [name.strip() for name in table.columns]
    _check_unique(path, columns, "column")
    values = _values(path, table)
    found = _orientation(path, table, orientation, values.shape)
    rows_are_items = found == "items-by-responders"
    stem = "item" if rows_are_items else "responder"
    rows = table.rows if table.rows is not None else [f"{stem}-{number}" for number in range(1, len(values) + 1)]
    _check_unique(path, rows, "row")
    items, responders = (rows, columns) if rows_are_items else (columns, rows)
    return ResponseMatrix(
        responses=np.ascontiguousarray(values.T if rows_are_items else values),
        item_ids=tuple(items),
        responder_ids=tuple(responders),
        orientation=found,
        detected=orientation is None and table.said is None,
    )


def _values(path: Path, table: _Table) -> Floats:
    """Cells as numbers, (rows, columns); DataError for the first that is none, or outside [0, 1]."""
    numbers = np.empty((len(table.cells), len(table.columns)))
    for row, cells in enumerate(table.cells):
        found = [_number(cell) for cell in cells]
        if None in found:
            column = found.index(None)
            raise DataError(
                f"{path}: {_place(table, row, column)} holds {cells[column]!r}, which is not a number. "
                "Valid: 0 to 1, true, false, or empty where missing."
            )
        numbers[row] = found
    outside = ~np.isnan(numbers) & ~((numbers >= 0) & (numbers <= 1))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise DataError(
            f"{path}: {_place(table, row, column)} holds {numbers[row, column]:g}, outside [0, 1]. Valid: 0 (wrong) to "
            "1 (right). If the column names the rows, call it 'item' or 'responder'."
        )
    return numbers


def _place(table: _Table, row: int, column: int) -> str:
    name = f" ({table.rows[row]!r})" if table.rows is not None else ""
    return f"row {row + 1}{name}, column {table.columns[column]!r}"


def _number(cell: Any) -> float | None:
    """A cell as a float, NaN where missing, None where it is not a number."""
    if cell is None:
        return float("nan")
    if isinstance(cell, str):
        text = cell.strip().lower()
        if text in _MISSING:
            return float("nan")
        cell = _WORDS.get(text, text)
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _orientation(path: Path, table: _Table, said: str | None, shape: tuple[int, ...]) -> Orientation:
    if table.said is not None and said not in (None, table.said):
        raise DataError(
            f"{path}: JSON Lines hold one line a responder; orientation {said!r} does not fit. Leave it out."
        )
    known = said or table.said or _orientation_of_word(table.word)
    if known is not None:
        return "items-by-responders" if known == "items-by-responders" else "responders-by-items"
    if shape[0] == shape[1]:
        raise DataError(
            f"{path}: {shape[0]} rows and {shape[1]} columns do not tell which are the items. "
            f"Say the orientation: {' or '.join(get_args(Orientation))}, or call the column of names "
            "'item' or 'responder'."
        )
    return "items-by-responders" if shape[0] > shape[1] else "responders-by-items"


def _orientation_of_word(word: str | None) -> Orientation | None:
    if word in _ITEM_WORDS:
        return "items-by-responders"
    return "responders-by-items" if word in _RESPONDER_WORDS else None


def _check_unique(path: Path, names: list[str], side: str) -> None:
    again = [name for name, count in Counter(names).items() if count > 1]
    if again:
        raise DataError(
            f"{path}: duplicate {side} ids: {first_few(again)}. Every item and every responder needs an id of its own; "
            "the first line of a table must hold the columns' names."
        )
