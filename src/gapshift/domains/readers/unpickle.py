"""A pickle reader for data that cannot run code.

It admits numpy arrays of plain numbers or strings, dicts, lists, bytes, strings and
integers. No object of the pickle is ever called: the few globals that an array needs
resolve to the inert holders below, and any other global is refused by name.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import DataError


def load_pickle(path: Path) -> Any:
    """The plain data in a pickle file; text of Python 2 stays bytes.

    Raises DataError for a refused global (naming it), for anything but plain data,
    and for a file that ends early (with the bytes expected and found).
    """
    content = path.read_bytes()
    try:
        return _plain(_PlainUnpickler(BytesIO(content), encoding="bytes").load())
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except RecursionError as error:
        raise DataError(f"{path}: the pickle nests too deeply for plain data.") from error
    except Exception as error:
        raise DataError(f"{path}: not a readable pickle: {_problem(content, error)}.") from error


def _problem(content: bytes, error: Exception) -> str:
    try:
        for _ in pickletools.genops(content):
            pass
    except ValueError as cut:  # names how many bytes were expected and how many remain
        return f"{cut}; the file has {len(content)} bytes"
    return f"{error}; the file has {len(content)} bytes"


class _Dtype:
    """Holds what a pickled numpy.dtype says of itself."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else str(code)
        self.value = np.dtype(text)
        if self.value.kind not in "biufSU":
            raise DataError(f"an array of dtype {text!r}; plain numbers and strings are admitted.")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, order, *structure = state
        if any(part is not None for part in structure[:3]):
            raise DataError("an array of structured dtype; plain numbers and strings are admitted.")
        code = self.value.str.lstrip("<>|=")
        self.value = np.dtype((order.decode("ascii") if isinstance(order, bytes) else str(order)) + code)


class _Array:
    """Holds what a pickled numpy array says of itself."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, fortran, content = state
        self.fill(content, dtype, shape, "F" if fortran else "C")

    def fill(self, content: Any, dtype: _Dtype, shape: Any, order: str) -> None:
        expected = int(np.prod([int(side) for side in shape], dtype=object)) * dtype.value.itemsize
        if len(content) != expected:
            raise DataError(f"an array of {expected} bytes holds {len(content)} bytes.")
        flat = np.frombuffer(content if isinstance(content, bytes) else bytes(content), dtype=dtype.value)
        self.value = flat.reshape(tuple(shape), order="F" if order == "F" else "C")


def _from_buffer(content: Any, dtype: _Dtype, shape: Any, order: str) -> _Array:
    array = _Array()
    array.fill(content, dtype, shape, order)
    return array


def _latin1(text: str | bytes, encoding: str | bytes) -> bytes:
    """How Python 3 writes bytes into the old protocols: ``_codecs.encode(text, 'latin1')``."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise DataError(f"_codecs.encode with {encoding!r}; only text as latin1 is admitted.")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


_ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            raise DataError(
                f"the pickle asks for {module_name}.{global_name}, which is refused: only numpy arrays, dicts, "
                "lists, bytes, strings and integers are read. Do not open this file with pickle.load."
            ) from None


def _plain(value: Any) -> Any:
    """``value`` with its holders replaced by arrays; anything but plain data is refused."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(content) for content in value)
    if value is None or type(value) in (bytes, str, int, bool, float):
        return value
    raise DataError(f"the pickle holds a {type(value).__name__}; only numpy arrays and plain data are read.")
