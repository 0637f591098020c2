"""Two cells' raw outputs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS = 1024
"""Rows that are compared at once: few enough for flat memory."""
_CLASSES = 2
"""Dimensions of outputs that are one score per class."""


@dataclass(frozen=True)
class Difference:
    """How far two cells' outputs lie apart.

    ``bitwise``: every bit is the same. ``largest`` absolute difference over all items and outputs, and ``relative``:
    that over the range of all the first cell's outputs (None where they are all one, and for spans, whose masked
    tokens would be the range). Outputs that are finite in one cell alone are counted, by item, in ``one_sided``, and
    are in neither.
    """

    bitwise: bool
    largest: float
    relative: float | None
    one_sided: int


def compare_outputs(first: Path, second: Path) -> Difference | str | None:
    """Compare two .npy files of shape (n, ...) row by row.

    None where neither is there (control has none); a sentence where they cannot be compared.
    """
    if not first.exists() and not second.exists():
        return None
    try:
        one, other = (np.load(path, mmap_mode="r", allow_pickle=False) for path in (first, second))
    except (OSError, ValueError) as error:
        return f"raw outputs cannot be read: {error}"
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"raw outputs are {one.dtype} of {one.shape} and {other.dtype} of {other.shape}"
    return _difference(one, other)


def _difference(one: NDArray[Any], other: NDArray[Any]) -> Difference:
    bitwise, largest, one_sided = True, 0.0, 0
    low, high = np.inf, -np.inf
    for begin in range(0, len(one), _ROWS):
        a, b = (np.asarray(each[begin : begin + _ROWS]) for each in (one, other))
        bitwise = bitwise and a.tobytes() == b.tobytes()
        finite = np.isfinite(a), np.isfinite(b)
        one_sided += int((finite[0] != finite[1]).reshape(len(a), -1).any(axis=1).sum())
        both = finite[0] & finite[1]
        largest = max(largest, float(np.abs(a[both].astype(np.float64) - b[both]).max(initial=0.0)))
        low, high = (
            min(low, float(a[finite[0]].min(initial=np.inf))),
            max(high, float(a[finite[0]].max(initial=-np.inf))),
        )
    relative = largest / (high - low) if high > low and one.ndim == _CLASSES else None
    return Difference(bitwise, largest, relative, one_sided)
