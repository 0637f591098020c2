"""Records on disk: the contract between running and judging.

One Parquet file per cell, its CellInfo in the file's own metadata, so that a cell is
whole or absent. NaN means *unscored* and stays NaN.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from gapshift.errors import EvaluationError, WorkspaceError
from gapshift.schema import CalibrationCard, CellInfo, Item, RecordStatus

_INFO = b"gapshift.cell"
_ROWS_AT_ONCE = 8192
_CARDS = b"gapshift.calibration"
_CARD_LIST = TypeAdapter(tuple[CalibrationCard, ...])

RECORD_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("confidence", pa.float64()),
        ("correct", pa.float64()),
        ("gap", pa.float64()),
        ("status", pa.string()),
        ("score", pa.float64()),
    ]
)
ITEM_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("group", pa.string()),
        ("b", pa.float64()),
        ("a", pa.float64()),
        ("c", pa.float64()),
        ("se_b", pa.float64()),
        ("level", pa.int8()),
        ("level_abs", pa.int8()),
        ("proportion_correct", pa.float64()),
        ("chance", pa.float64()),
    ]
)


@dataclass(frozen=True, eq=False)
class Records:
    """One cell's answers, one row an item; every array has shape (n,).

    ``prediction`` is -1 where there is none. ``confidence`` is the top probability,
    NaN where unscored. ``correct`` is 1, 0 or NaN (unscored). ``gap`` is the distance
    between the two highest scores divided by the item's score range (``tie_gaps``):
    a prediction whose gap is at most 1e-4 is a tie. ``status``: ok, nan_output,
    unreadable, error, fallback or no_answer (``schema.RecordStatus``). ``score`` is a grade from 0 to 1
    beside right or wrong: F1 of a span, the share of an episode that was mastered; NaN where a task has none.
    """

    item_id: NDArray[np.str_]
    label: NDArray[np.int32]
    prediction: NDArray[np.int32]
    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]
    gap: NDArray[np.float64]
    status: NDArray[np.str_]
    score: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not len(self.score):
            object.__setattr__(self, "score", np.full(len(self.item_id), np.nan))

    def __len__(self) -> int:
        return len(self.item_id)

    def take(self, rows: NDArray[np.intp]) -> Records:
        """The given rows, in the given order."""
        return Records(**{name: getattr(self, name)[rows] for name in Records.__dataclass_fields__})


def records_from_scores(items: Sequence[Item], scores: NDArray[np.floating], probabilities: bool) -> Records:
    """Records of one cell from its raw scores, shape (n, K).

    A row with a non-finite score is wrong, status ``nan_output``, confidence NaN.
    ``probabilities`` says that rows are probabilities already; else softmax is taken.
    Raises EvaluationError where scores are not one row of at least two per item, or
    probabilities lie outside 0-1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or len(scores) != len(items) or scores.shape[1] < 2:
        raise EvaluationError(
            f"Scores of shape {scores.shape} for {len(items)} items; expected ({len(items)}, classes) with 2 classes "
            "or more. Check model.output and model.labels in the contract."
        )
    finite = np.isfinite(scores).all(axis=1)
    safe = np.where(finite[:, None], scores, 0.0)
    if probabilities:
        _refuse_other_than_probabilities(safe)
    gap = tie_gaps(safe, probabilities)
    confidence = safe.max(axis=1) if probabilities else _top_softmax(safe)
    label = np.array([item.label for item in items], dtype=np.int32)
    prediction = np.where(finite, safe.argmax(axis=1), -1).astype(np.int32)
    return Records(
        item_id=np.array([item.id for item in items], dtype=np.str_),
        label=label,
        prediction=prediction,
        confidence=np.where(finite, confidence, np.nan),
        correct=np.where(finite, prediction == label, 0.0).astype(np.float64),
        gap=np.where(finite, gap, np.nan),
        status=np.where(finite, "ok", "nan_output").astype(np.str_),
    )


def _refuse_other_than_probabilities(scores: NDArray[np.float64]) -> None:
    """Confidences beyond 0-1 would make every calibration error nonsense; rounding is let pass."""
    low, high = scores.min(initial=0.0), scores.max(initial=1.0)
    if low < -0.01 or high > 1.01:
        raise EvaluationError(
            f"The contract calls the scores probabilities, and they reach from {low:.3g} to {high:.3g}. "
            "Set model.output_kind = 'logits' in the contract."
        )


def tie_gaps(scores: NDArray[np.float64], probabilities: bool) -> NDArray[np.float64]:
    """How far each row of ``scores`` (n, K) is from a tie, in [0, 1], shape (n,).

    Distance of the two highest scores over the range of the row's scores; 0 where all are
    equal. Two scores are their own range, and no row would ever be a tie: with K = 2 it is the
    distance of their probabilities, whose range is 1.

    >>> tie_gaps(np.array([[0.0, 1.0, 2.0]]), probabilities=False).tolist()
    [0.5]
    >>> tie_gaps(np.array([[1.0, 1.0002]]), probabilities=False).round(6).tolist()
    [0.0001]
    """
    ordered = np.sort(scores / 2, axis=1)  # halved, so that no difference overflows
    spread = ordered[:, -1] - ordered[:, 0]
    if scores.shape[1] == 2:
        return 2 * spread if probabilities else np.tanh(spread)
    gaps: NDArray[np.float64] = np.divide(
        ordered[:, -1] - ordered[:, -2], spread, out=np.zeros(len(scores)), where=spread > 0
    )
    return gaps


def _top_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The highest softmax probability of each row."""
    with np.errstate(over="ignore"):  # a difference beyond the largest float is -inf, whose exp is 0 as it should be
        below = logits - logits.max(axis=1, keepdims=True)
    top: NDArray[np.float64] = 1 / np.exp(below).sum(axis=1)
    return top


def unanswered(items: Sequence[Item], status: RecordStatus) -> Records:
    """Records of items that got no answer: unscored, NaN, with a status that says why."""
    n = len(items)
    nan = np.full(n, np.nan)
    return Records(
        item_id=np.array([item.id for item in items], dtype=np.str_),
        label=np.array([item.label for item in items], dtype=np.int32),
        prediction=np.full(n, -1, dtype=np.int32),
        confidence=nan,
        correct=nan.copy(),
        gap=nan.copy(),
        status=np.full(n, status),
    )


def no_answers(items: Sequence[Item]) -> Records:
    """Records of items that the deployment skipped: wrong, and all the rest as of unanswered ones."""
    return replace(unanswered(items, "no_answer"), correct=np.zeros(len(items)))


def concatenate(parts: Iterable[Records]) -> Records:
    """The rows of several records, in order."""
    parts = list(parts)
    names = Records.__dataclass_fields__
    if not parts:
        return unanswered([], "ok")
    return Records(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block succeeds.

    A kill or a full disk leaves the old file, or none: never half a file.
    """
    temporary: Path | None = None
    try:
        temporary = _temporary_beside(path)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise WorkspaceError(
            f"Cannot write {path}: {error}. Finished files are intact; make room (or the folder "
            "writable) and run again."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    os.close(handle)
    return Path(name)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_cell(path: Path, info: CellInfo, records: Records | None = None) -> None:
    """Write one cell atomically; a cell that did not run has no rows."""
    records = records if records is not None else unanswered([], "ok")
    schema = RECORD_SCHEMA.with_metadata({_INFO: info.model_dump_json().encode()})
    # In parts, and with dictionaries for words alone: a few MB of buffers for 50,000 rows, where it would be 36.
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, use_dictionary=["status"], write_page_checksum=True) as writer,
    ):
        for start in range(0, len(records), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            columns = [_as_arrow(getattr(records, field.name)[part], field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _as_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A column by its buffers: ``pa.array`` would import pandas, which is 40 MB and a quarter of a second."""
    if not pa.types.is_string(kind):
        numbers = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
        return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])
    texts = [text.encode() for text in values.tolist()]
    offsets = np.zeros(len(texts) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return pa.Array.from_buffers(kind, len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))])


def read_cell_info(path: Path) -> CellInfo:
    """A cell's header alone. Raises WorkspaceError when the file is not a whole cell."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return CellInfo.model_validate_json(metadata[_INFO])
    except KeyError as error:
        raise _not_a_cell(path, "a Parquet file without a cell's header") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "header"
        raise _not_a_cell(path, f"{where}: {problem['msg']}") from error
    except (OSError, pa.ArrowException) as error:
        raise _not_a_cell(path, error) from error


def read_cell(path: Path) -> tuple[CellInfo, Records]:
    """A cell's header and its records. Raises WorkspaceError when the file is not a whole cell."""
    info = read_cell_info(path)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        if table.schema != RECORD_SCHEMA:
            raise _not_a_cell(path, f"its columns are {', '.join(table.column_names) or 'none'}")
    except (OSError, pa.ArrowException) as error:
        raise _not_a_cell(path, error) from error
    return info, Records(**{name: _column(table, name) for name in RECORD_SCHEMA.names})


def _not_a_cell(path: Path, problem: object) -> WorkspaceError:
    return WorkspaceError(f"{path} is not a gapshift cell: {problem}. Delete it and run the same command again.")


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    column = table.column(name)
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=np.str_)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def write_items(path: Path, table: pa.Table, cards: Sequence[CalibrationCard]) -> None:
    """Write ``items.parquet`` (columns of ITEM_SCHEMA) with its calibration cards inside."""
    text = "[" + ",".join(card.model_dump_json() for card in cards) + "]"
    with atomic_path(path) as temporary:
        pq.write_table(table.cast(ITEM_SCHEMA).replace_schema_metadata({_CARDS: text.encode()}), temporary)


def read_items(path: Path) -> tuple[pa.Table, tuple[CalibrationCard, ...]]:
    """``items.parquet`` and the calibration cards that travel in it.

    Raises WorkspaceError when the file, a column or a card cannot be read.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(f"Cannot read {path}: {error}. Make it with `gapshift calibrate`.") from error
    missing = [name for name in ("id", "level") if name not in table.column_names]
    if missing:
        raise WorkspaceError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}.")
    try:
        cards = _CARD_LIST.validate_json((table.schema.metadata or {}).get(_CARDS, b"[]"))
    except ValidationError as error:
        raise WorkspaceError(
            f"{path} holds calibration cards that cannot be read: {error.errors()[0]['msg']}. "
            "Make it again with `gapshift calibrate`."
        ) from error
    return table, cards
