"""Prepared inputs, made once per distinct preprocessing and corruption, and shared by every cell that uses them.

Tensors lie in memory-mapped files, so memory stays flat in the number of items.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.domains.corruptions.apply import corrupted
from gapshift.domains.prepare import prepare
from gapshift.errors import UnreadableItemError, WorkspaceError
from gapshift.schema import AnyPreprocessing, Shift, digest

_CHUNK = 256
_UNSHIFTED = Shift()


@dataclass(frozen=True, eq=False)
class Prepared:
    """Model inputs of a data set, shape (n, …); rows of unreadable items are zero.

    ``readable``: bool, shape (n,). ``problems``: index → why an item could not be read.
    """

    tensor: NDArray[Any]
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
            self._made[key] = self._prepare(preprocessing, shift, self._folder / f"{key[:16]}.npy")
        return self._made[key]

    def _forget_others(self) -> None:
        for key in [key for key in self._made if key != self._keep]:
            del self._made[key]
            (self._folder / f"{key[:16]}.npy").unlink(missing_ok=True)

    def _prepare(self, preprocessing: AnyPreprocessing, shift: Shift, path: Path) -> Prepared:
        dataset = corrupted(self._dataset, shift, preprocessing)
        n = len(dataset)
        readable = np.zeros(n, dtype=bool)
        problems: dict[int, str] = {}
        tensor: NDArray[Any] | None = None
        for index in range(n):
            try:
                one = prepare(dataset.raw(index), preprocessing)
            except UnreadableItemError as error:
                problems[index] = str(error)
                continue
            if tensor is None:
                tensor = _allocate(path, (n, *one.shape), one.dtype)
            tensor[index] = one
            readable[index] = True
        if tensor is None:  # not one item can be read: there is no shape to allocate
            tensor = np.zeros((n, 0), dtype=np.float32)
        return Prepared(tensor, readable, problems)


def input_key(preprocessing: AnyPreprocessing, shift: Shift) -> str:
    """What tells one way of preparing from another."""
    return digest([preprocessing.model_dump(mode="json"), shift.model_dump(mode="json")])


def _allocate(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A file-backed array whose disk space is reserved, so that a full disk is an error and not a crash."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensor = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return tensor
    except OSError as error:
        raise WorkspaceError(
            f"Cannot hold prepared inputs in {path.parent}: {error}. Free disk space and run again."
        ) from error
