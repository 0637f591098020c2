"""Adjusting p-values for how many were looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control


def holm(p: Sequence[float], family: int | None = None) -> NDArray[np.float64]:
    """Holm's adjusted p-values, in the given order (Holm 1979, Scand. J. Statistics 6:65-70).

    ``family`` is the number of *planned* tests; those that gave no p count as p = 1, so
    a test that could not run never makes the others easier. Raises ValueError for p
    outside 0-1 (NaN too) and for a family smaller than the list.

    >>> holm([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.06, 0.06]
    >>> holm([0.01], family=10).round(6).tolist()
    [0.1]
    """
    values = _checked(p)
    size = len(values) if family is None else family
    if size < len(values):
        raise ValueError(f"family is {size}, smaller than the {len(values)} p-values given")
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    stepped = values[order] * (size - np.arange(len(values)))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted


def benjamini_hochberg(p: Sequence[float]) -> NDArray[np.float64]:
    """Adjusted p-values that hold the false discovery rate (Benjamini & Hochberg 1995, JRSS B 57:289-300).

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(6).tolist()
    [0.03, 0.04, 0.04]
    """
    values = _checked(p)
    return np.asarray(false_discovery_control(values, method="bh"), dtype=np.float64) if len(values) else values


def _checked(p: Sequence[float]) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not np.all((values >= 0) & (values <= 1)):
        raise ValueError("p-values must be one list of numbers between 0 and 1; NaN is not a p-value")
    return values
