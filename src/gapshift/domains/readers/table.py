"""Tables: CSV, TSV, Parquet or JSON Lines with a row per item.

Columns: ``label`` (class name or integer), and one of three forms:

- ``path``: an image file, relative to the table's folder; a path may lead out of that folder,
  and is only read;
- pixels 0-255 row by row, channels last: ``pixel0`` … ``pixelN`` (also from 1), ``0`` … ``N``, or
  one list column ``pixels``. ``height``, ``width`` and ``channels`` (1, 3 or 4) shape the
  pixels; without them they must form a square grey image;
- ``text``, and for pairs ``text_b``. SST-2's header (``sentence``, ``label``) is read too.

Optional: ``id`` (else the path, or the row's number from 0), ``level`` (1-5), ``group``, ``split``.
CSV is quoted as usual, TSV not at all: a tab parts columns, and quotation marks are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, Files, InMemory, Pixels, Text
from gapshift.domains.readers.columns import Columns, built_items
from gapshift.domains.readers.reader import Reader
from gapshift.errors import DataError

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_SHAPE = ("height", "width", "channels")
_OPTIONAL = ("id", "level", "group", "split")
_TEXT = ("label", "path", "text", "text_b", "sentence", *_OPTIONAL)
_FORMS = (
    "'path' (an image file), pixels (pixel0 … pixelN, 0 … N, or a list column 'pixels'), "
    "or 'text' (for pairs also 'text_b')"
)


def read_table(path: Path, labels: Sequence[str] | None = None) -> Dataset:
    """The table's rows as items. Raises DataError naming row (from 1) and column."""
    table = _load(path)
    if "label" not in table.column_names:
        raise DataError(f"{path} has no column 'label'. {_what_it_has(path, table)}")
    if not table.num_rows:
        raise DataError(f"{path} holds no rows below its header. Give every item a row.")
    text = _text_column(path, table)
    stored_as_files = "path" in table.column_names
    default_ids = _file_ids(path, table) if stored_as_files else [f"{row:06d}" for row in range(table.num_rows)]
    columns = Columns(
        labels=_sst2_names(path, table, labels) or _column(table, "label") or [],
        default_ids=default_ids,
        ids=_column(table, "id"),
        levels=_column(table, "level"),
        groups=_column(table, "group"),
        splits=_column(table, "split"),
    )
    classes, items = built_items(columns, labels, lambda row, column: f"{path}, row {row + 1}, column {column}")
    if text:
        return InMemory(path.stem, classes, items, _texts(path, table, text), "text")
    if stored_as_files:
        return Files(path.stem, classes, items, [path.parent / name for name in _column(table, "path") or []])
    return Pixels(path.stem, classes, items, _images(path, table))


def _what_it_has(path: Path, table: Any) -> str:
    text = f"It has: {', '.join(table.column_names[:20])}. A table needs 'label' and one of: {_FORMS}."
    if path.suffix.lower() == ".tsv":
        text += " Give it such a header; GLUE's own files are read as their folder (train.tsv, dev.tsv)."
    return text


def _load(path: Path) -> Any:
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            return _load_csv(path)
        if path.suffix.lower() == ".parquet":
            return pyarrow.parquet.read_table(path)
        return pyarrow.json.read_json(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error


def _load_csv(path: Path) -> Any:
    """Text as text ('007' stays so) and pixels as numbers; one thread, so that errors name rows."""
    parse = (
        pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
        if path.suffix.lower() == ".tsv"
        else pyarrow.csv.ParseOptions(newlines_in_values=True)
    )
    read = pyarrow.csv.ReadOptions(use_threads=False)
    names: list[str] = []
    try:
        names = pyarrow.csv.open_csv(path, read_options=read, parse_options=parse).schema.names
        types = {name: pa.string() for name in _TEXT} | {name: pa.float32() for _, name in _pixel_columns(names)}
        return pyarrow.csv.read_csv(
            path,
            read_options=read,
            parse_options=parse,
            convert_options=pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        if damage := _damage(path, names, str(error)):
            raise damage from error
        raise


def _damage(path: Path, names: Sequence[str], text: str) -> DataError | None:
    """What pyarrow says of one row, in this project's terms; pyarrow counts the header as a row."""
    if cell := re.search(r"column #(\d+): Row #(\d+): CSV conversion error to float: invalid value (.*)", text):
        where = f"{path}, row {int(cell[2]) - 1}, column {names[int(cell[1])]}"
        return DataError(f"{where} is {cell[3]}. Valid: whole numbers 0 to 255.")
    if cell := re.search(r"column #(\d+): Row #(\d+): CSV conversion error to string: invalid UTF8", text):
        where = f"{path}, row {int(cell[2]) - 1}, column {names[int(cell[1])]}"
        return DataError(f"{where} is no UTF-8 text. Save the table as UTF-8.")
    if row := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", text):
        mark = "tab" if path.suffix.lower() == ".tsv" else "comma"
        cure = "take tabs out of the texts" if mark == "tab" else "put cells that hold commas into quotation marks"
        return DataError(
            f"{path}, row {int(row[1]) - 1} has {row[3]} columns, the header {row[2]}. A {mark} parts columns: {cure}."
        )
    return None


def _column(table: Any, name: str) -> list[Any] | None:
    return table.column(name).to_pylist() if name in table.column_names else None


def _file_ids(path: Path, table: Any) -> list[str]:
    names = _column(table, "path") or []
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise DataError(f"{path}, row {row + 1}, column path is empty. Give an image file for every item.")
        if "id" not in table.column_names and (
            PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
        ):
            raise DataError(
                f"{path}, row {row + 1}, column path: {name!r} is absolute, so it is no id that holds on other "
                f"machines. Add a column 'id', or make paths relative to {path.parent}."
            )
    return [PurePosixPath(name).as_posix() for name in names]


# ----------------------------------------------------------------------------- texts


def _text_column(path: Path, table: Any) -> str | None:
    """The column of the texts; None where the items are images."""
    names = table.column_names
    if "text" not in names:
        return "sentence" if "sentence" in names and set(names) <= {"sentence", "label", *_OPTIONAL} else None
    image = next((name for name in ("path", "pixels") if name in names), None)
    image = image or next((name for _, name in _pixel_columns(names)), None)
    if image:
        raise DataError(
            f"{path} has the columns 'text' and {image!r}, so its items are texts or images. Take one column out."
        )
    return "text"


def _sst2_names(path: Path, table: Any, labels: Sequence[str] | None) -> list[str] | None:
    """SST-2's 0 and 1 by name for a model that has the names, whatever their order; else None."""
    words = _column(table, "label") or []
    names = {"0": "negative", "1": "positive"}
    if path.suffix.lower() != ".tsv" or table.column_names != ["sentence", "label"] or not set(words) <= names.keys():
        return None
    return [names[word] for word in words] if set(names.values()) <= set(labels or ()) else None


def _texts(path: Path, table: Any, first: str) -> list[Text]:
    names = [first, "text_b"] if "text_b" in table.column_names else [first]
    return [Text(*row) for row in zip(*(_cells(path, table, name) for name in names), strict=True)]


def _cells(path: Path, table: Any, name: str) -> list[str]:
    cells = _column(table, name) or []
    for row, cell in enumerate(cells):
        where = f"{path}, row {row + 1}, column {name}"
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            raise DataError(f"{where} is empty. Give every item its text, or take the row out.")
        if not isinstance(cell, str):
            raise DataError(f"{where} is {cell!r}, not a text. Put it into quotation marks.")
    return cells


# ---------------------------------------------------------------------------- pixels


def _images(path: Path, table: Any) -> list[NDArray[np.uint8]]:
    numbered = _pixel_columns(table.column_names)
    if "pixels" in table.column_names:
        rows = _listed_pixels(path, table)
    elif numbered:
        rows = list(_numbered_pixels(path, table, [name for _, name in numbered]))
    else:
        raise DataError(f"{path} has neither a column 'path' nor pixels nor 'text'. {_what_it_has(path, table)}")
    sides = {name: _column(table, name) for name in _SHAPE}
    shapes = [_shape(path, row, values.size, sides) for row, values in enumerate(rows)]
    return [values.reshape(shape) for values, shape in zip(rows, shapes, strict=True)]


def _pixel_columns(names: Sequence[str]) -> list[tuple[int, str]]:
    """Pixel columns with their numbers, in order; empty where they do not count up from 0 or 1."""
    for pattern in (r"pixel(\d+)", r"(\d+)"):
        found = sorted((int(match[1]), name) for name in names if (match := re.fullmatch(pattern, name)))
        if found and [number for number, _ in found] in (
            list(range(len(found))),
            list(range(1, len(found) + 1)),
        ):
            return found
    return []


def _numbered_pixels(path: Path, table: Any, names: Sequence[str]) -> NDArray[np.uint8]:
    matrix = np.empty((table.num_rows, len(names)), dtype=np.uint8)
    for position, name in enumerate(names):
        values = table.column(name).to_numpy(zero_copy_only=False)
        matrix[:, position] = _as_pixels(values, lambda row, name=name: f"{path}, row {row + 1}, column {name}")
    return matrix


def _listed_pixels(path: Path, table: Any) -> list[NDArray[np.uint8]]:
    column = table.column("pixels").combine_chunks()
    if not (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        raise DataError(f"{path}: column pixels holds {column.type}, not a list of numbers in every row.")
    rows = []
    for row, cell in enumerate(column):
        if not cell.is_valid:
            raise DataError(f"{path}, row {row + 1}, column pixels is empty. Give every item its pixels.")
        values = cell.values.to_numpy(zero_copy_only=False)
        rows.append(_as_pixels(values, lambda at, row=row: f"{path}, row {row + 1}, column pixels, value {at + 1}"))
    return rows


def _as_pixels(values: NDArray[Any], where: Any) -> NDArray[np.uint8]:
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where(0)} is {values[0]!r}. Valid: whole numbers 0 to 255.")
    bad = np.flatnonzero(~((values >= 0) & (values <= 255) & (np.floor(values) == values)))
    if bad.size:
        raise DataError(f"{where(int(bad[0]))} is {values[bad[0]]}. Valid: whole numbers 0 to 255.")
    return values.astype(np.uint8)


def _shape(path: Path, row: int, size: int, sides: dict[str, list[Any] | None]) -> tuple[int, ...]:
    where = f"{path}, row {row + 1}"
    height, width = sides["height"], sides["width"]
    channels = 1 if (stated := sides["channels"]) is None else stated[row]
    if height is None or width is None:
        side = math.isqrt(size)
        if side * side != size or channels != 1 or not size:
            raise DataError(f"{where} has {size} pixels, no square grey image. Add columns height, width and channels.")
        return side, side
    if channels not in (1, 3, 4):
        raise DataError(f"{where}, column channels is {channels!r}. Valid: 1 (grey), 3 (RGB), 4 (RGBA).")
    if not _is_side(height[row]) or not _is_side(width[row]) or height[row] * width[row] * channels != size:
        raise DataError(f"{where} has {size} pixels, not {height[row]} x {width[row]} x {channels}. Correct its shape.")
    return (height[row], width[row]) if channels == 1 else (height[row], width[row], channels)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and value > 0


READER = Reader(
    name="table",
    layout=f"a file {', '.join(SUFFIXES)} with a column label, and path, pixels or text",
    accepts=lambda source: Path(source).suffix.lower() in SUFFIXES and Path(source).is_file(),
    read=lambda source, labels: read_table(Path(source), labels),
)
