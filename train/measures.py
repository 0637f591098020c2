"""Other measures of difficulty, beside b: kept per task, item and measure in one Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gapshift.errors import CalibrationError, WorkspaceError
from gapshift.records import atomic_path
from gapshift.train.irt.base import first_few

MEASURE_SCHEMA = pa.schema(
    [("task", pa.string()), ("id", pa.string()), ("measure", pa.string()), ("value", pa.float64())]
)


def write_measures(path: Path, task: str, ids: Sequence[str], values: Mapping[str, NDArray[np.floating]]) -> None:
    """Keep measures of one task, each (len(ids),) and greater where harder, atomically in ``path``.

    What the file holds already of other tasks and measures stays; the same measure of the same
    task is replaced. Raises CalibrationError for values that are not one finite number per id,
    WorkspaceError where the file cannot be read or written.
    """
    parts = [_part(task, ids, measure, given) for measure, given in values.items()]
    if path.exists():
        kept = read_measures(path)
        again = pc.and_(pc.equal(kept["task"], task), pc.is_in(kept["measure"], pa.array(list(values), pa.string())))
        parts.insert(0, kept.filter(pc.invert(again)))
    with atomic_path(path) as temporary:
        pq.write_table(pa.concat_tables([*parts, MEASURE_SCHEMA.empty_table()]), temporary)


def read_measures(path: Path) -> pa.Table:
    """The table of MEASURE_SCHEMA in ``path``. Raises WorkspaceError where it cannot be read as one."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise WorkspaceError(f"Cannot read {path}: {error}. Make it again with `gapshift study`.") from error
    if table.schema != MEASURE_SCHEMA:
        raise WorkspaceError(
            f"{path} holds no difficulty measures: its columns are {', '.join(table.column_names) or 'none'}, not "
            f"{', '.join(MEASURE_SCHEMA.names)}. Delete it and make it again with `gapshift study`."
        )
    return table


def _part(task: str, ids: Sequence[str], measure: str, values: NDArray[np.floating]) -> pa.Table:
    given = np.asarray(values, dtype=np.float64)
    if given.shape != (len(ids),) or len(set(ids)) != len(ids):
        raise CalibrationError(
            f"Measure {measure!r} of task {task!r} has shape {given.shape} for {len(ids)} ids, {len(set(ids))} of them "
            "different; give one value per item and each item once."
        )
    bad = [ids[row] for row in np.flatnonzero(~np.isfinite(given)).tolist()]
    if bad:
        raise CalibrationError(
            f"Measure {measure!r} of task {task!r} is not finite for {len(bad)} items ({first_few(bad)}). "
            "Leave the measure out, or those items."
        )
    return pa.table([[task] * len(ids), list(ids), [measure] * len(ids), given], schema=MEASURE_SCHEMA)
