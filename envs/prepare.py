"""Prepared inputs, made once per distinct preprocessing and corruption, and shared by every cell that uses them.

Tensors lie in files and are read row by row, so memory stays flat in the number of items.
"""

from __future__ import annotations

import shutil
import weakref
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.domains.corruptions.apply import corrupted
from gapshift.domains.prepare import prepare
from gapshift.errors import EvaluationError, UnreadableItemError, WorkspaceError
from gapshift.schema import AnyPreprocessing, Shift, digest

_CHUNK = 256
_UNSHIFTED = Shift()


@final
class TensorFile:
    """The rows of a tensor (n, ...) in a file, read as they are asked for.

    Not a memory map: pages of one that were read once count as this process's memory until it ends.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self._row_bytes = prod(shape[1:]) * dtype.itemsize
        self._file: BinaryIO | None = path.open("rb") if prod(shape) else None
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | list[int] | NDArray[np.integer[Any] | np.bool_]) -> NDArray[Any]:
        """These rows (indices from 0, or a mask), in this order: an array of the caller's own."""
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        wanted = np.flatnonzero(wanted) if wanted.dtype == np.bool_ else wanted.astype(np.intp, copy=False)
        found = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        if self._file is not None:
            for begin, end in _neighbours(wanted):
                self._file.seek(int(wanted[begin]) * self._row_bytes)
                _fill(found[begin:end], self._file)
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows at once."""
        del copy
        return self[:].astype(dtype or self.dtype, copy=False)


def _fill(rows: NDArray[Any], file: BinaryIO) -> None:
    missing = rows.nbytes - file.readinto(rows.view(np.uint8).reshape(-1))  # type: ignore[attr-defined]  # not in BinaryIO
    if missing:
        raise WorkspaceError(f"{file.name} lacks {missing} bytes: something else wrote to it. Run again.")


def _neighbours(rows: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Slices of ``rows`` that hold consecutive rows, which are read at once.

    >>> _neighbours(np.array([3, 4, 5, 9]))
    [(0, 3), (3, 4)]
    """
    ends = [*(np.flatnonzero(rows[1:] - rows[:-1] != 1) + 1).tolist(), len(rows)]
    return list(zip([0, *ends], ends, strict=False)) if len(rows) else []


@dataclass(frozen=True, eq=False)
class Prepared:
    """Model inputs of a data set, shape (n, …); rows of unreadable items are zero.

    ``readable``: bool, shape (n,). ``problems``: index → why an item could not be read.
    """

    tensor: TensorFile
    readable: NDArray[np.bool_]
    problems: dict[int, str]

    def same_as(self, other: Prepared) -> bool:
        """Whether every item reaches the model as the very same tensor."""
        if self.tensor.shape != other.tensor.shape or self.tensor.dtype != other.tensor.dtype:
            return False
        if not np.array_equal(self.readable, other.readable):
            return False
        starts = range(0, len(self.tensor), _CHUNK)
        return all(np.array_equal(self.tensor[s : s + _CHUNK], other.tensor[s : s + _CHUNK]) for s in starts)


class Preparer:
    """Prepares one data set; keeps the reference's tensors and the latest other ones.

    A context manager: its files are removed on exit, and a killed run's at the next start.
    """

    def __init__(self, dataset: Dataset, folder: Path, keep: AnyPreprocessing) -> None:
        self._dataset = dataset
        self._folder = folder
        self._keep = input_key(keep, Shift())
        self._made: dict[str, Prepared] = {}

    def __enter__(self) -> Preparer:
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._made.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def prepared(self, preprocessing: AnyPreprocessing, shift: Shift = _UNSHIFTED) -> Prepared:
        """Every item's tensor under ``preprocessing``, corrupted as ``shift`` says.

        Raises WorkspaceError when the disk is full.
        """
        key = input_key(preprocessing, shift)
        if key not in self._made:
            if key != self._keep:
                self._forget_others()
            self._made[key] = self._prepare(preprocessing, shift, self._path(key))
        return self._made[key]

    def _forget_others(self) -> None:
        for key in [key for key in self._made if key != self._keep]:
            self._forget(key)

    def _forget(self, key: str) -> None:
        del self._made[key]  # whoever still holds its rows goes on reading the open file
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key[:16]}.rows"

    def _prepare(self, preprocessing: AnyPreprocessing, shift: Shift, path: Path) -> Prepared:
        dataset = corrupted(self._dataset, shift, preprocessing)
        problems: dict[int, str] = {}
        with _TensorWriter(path) as writer:
            for index in range(len(dataset)):
                try:
                    writer.append(prepare(dataset.raw(index), preprocessing))
                except UnreadableItemError as error:
                    problems[index] = str(error)
                    writer.append(None)
        readable = np.ones(len(dataset), dtype=bool)
        readable[list(problems)] = False
        return Prepared(writer.tensor(), readable, problems)


def input_key(preprocessing: AnyPreprocessing, shift: Shift) -> str:
    """What tells one way of preparing from another."""
    return digest([preprocessing.model_dump(mode="json"), shift.model_dump(mode="json")])


class _TensorWriter:
    """Writes rows of one shape; those that are missing become zeros. A full disk is a WorkspaceError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._row: NDArray[Any] | None = None
        self._count = 0

    def __enter__(self) -> _TensorWriter:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        except OSError as error:
            raise self._full(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as problem:
            raise self._full(problem) from problem

    def append(self, row: NDArray[Any] | None) -> None:
        try:
            if row is not None and self._row is None:  # what was missing so far had no shape yet
                self._row = np.zeros_like(row, order="C")
                self._file.write(self._row.tobytes() * self._count)
            if self._row is not None:
                self._file.write(self._like_the_others(row))
        except OSError as error:
            raise self._full(error) from error
        self._count += 1

    def tensor(self) -> TensorFile:
        if self._row is None:  # not one item can be read: there is no shape
            return TensorFile(self._path, (self._count, 0), np.dtype(np.float32))
        return TensorFile(self._path, (self._count, *self._row.shape), self._row.dtype)

    def _like_the_others(self, row: NDArray[Any] | None) -> bytes:
        assert self._row is not None
        if row is None:
            return self._row.tobytes()
        if row.shape != self._row.shape or row.dtype != self._row.dtype:
            raise EvaluationError(
                f"Item {self._count} is prepared as {row.dtype} {row.shape}, those before it as {self._row.dtype} "
                f"{self._row.shape}. A model's inputs have one shape: give a preprocessing that makes one."
            )
        return row.tobytes()

    def _full(self, error: OSError) -> WorkspaceError:
        return WorkspaceError(
            f"Cannot hold prepared inputs in {self._path.parent}: {error}. Free disk space and run again."
        )
