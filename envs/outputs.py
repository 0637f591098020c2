"""A cell's raw outputs on disk, for comparing what predictions hide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import Keep
from gapshift.errors import EvaluationError
from gapshift.records import atomic_path

_ROWS = 1024
"""Rows that are made at once: few enough for flat memory."""


@contextmanager
def outputs_file(path: Path, items: int) -> Iterator[Keep]:
    """Write an .npy file of shape (items, ...) in the data set's order; gives what notes the outputs of some items.

    Rows that nothing was noted of are NaN; without any the shape is (items, 0). The type is that of the first
    outputs. The file appears, whole, when the block ends well. It is written row by row and never held in memory.
    Raises WorkspaceError where it cannot be written, EvaluationError where the outputs' shape changes on the way.
    """
    with atomic_path(path) as temporary, temporary.open("r+b") as file:
        rows = _Rows(file, items)
        yield rows.note
        rows.finish()


class _Rows:
    def __init__(self, file: BinaryIO, items: int) -> None:
        self._file = file
        self._items = items
        self._shape: tuple[int, ...] | None = None

    def note(self, rows: NDArray[np.intp], outputs: NDArray[Any]) -> None:
        if self._shape is None:
            self._begin(outputs.shape[1:], outputs.dtype)
        if outputs.shape[1:] != self._shape:
            raise EvaluationError(
                f"The model put out {self._shape} for the first items and {outputs.shape[1:]} for others; only outputs "
                "of one shape can be compared. Pad the inputs to one length."
            )
        outputs = np.ascontiguousarray(outputs, self._dtype)
        size = outputs[0].nbytes if len(outputs) else 0
        for row, values in zip(rows.tolist(), outputs, strict=True):
            os.pwrite(self._file.fileno(), values.tobytes(), self._start + row * size)

    def finish(self) -> None:
        if self._shape is None:
            self._begin((0,), np.dtype(np.float32))

    def _begin(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._shape, self._dtype = shape, dtype
        described = np.lib.format.dtype_to_descr(dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self._items, *shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._start = self._file.tell()
        for begin in range(0, self._items, _ROWS):  # all of it now: a full disk is found here
            self._file.write(np.full((min(_ROWS, self._items - begin), *shape), np.nan, dtype).tobytes())
        self._file.flush()
