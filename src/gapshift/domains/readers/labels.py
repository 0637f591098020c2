"""From the labels that a source states to indexes into its classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import listed_classes
from gapshift.errors import DataError

MOST_CLASSES = 100_000
"""An integer label above this is taken for a mistake, not for that many classes."""


def resolve_labels(
    values: Sequence[Any], classes: Sequence[str] | None, where: Callable[[int], str]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The classes, and each item's index into them.

    ``values`` are class names or integers, one per item. With ``classes`` given they
    are names if every one is among the classes, else indexes into them. Without, all
    integers means the classes '0', '1', … up to the largest; else the sorted names.
    ``where(i)`` names item i in a DataError (missing label, or one outside the classes).
    """
    _refuse_missing(values, where)
    distinct = {str(value) for value in values}
    integers = all(_is_index(text) for text in distinct)
    if classes is None:
        classes = _count_up(distinct) if integers else tuple(sorted(distinct))
    position = {name: index for index, name in enumerate(classes)}
    if integers and not distinct <= position.keys():
        position = {str(index): index for index in range(len(classes))}
    for row, value in enumerate(values):
        if str(value) not in position:
            raise DataError(f"{where(row)}: label {value!r} is none of the classes. Valid: {listed_classes(classes)}.")
    return tuple(classes), np.array([position[str(value)] for value in values], dtype=np.int64)


def _refuse_missing(values: Sequence[Any], where: Callable[[int], str]) -> None:
    for row, value in enumerate(values):
        if value is None or str(value) == "" or value != value:  # NaN differs from itself
            raise DataError(f"{where(row)}: no label. Label it or take it out: every item is judged by its label.")


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and str(int(text)) == text


def _count_up(distinct: set[str]) -> tuple[str, ...]:
    largest = max(int(text) for text in distinct)
    if largest >= MOST_CLASSES:
        raise DataError(f"The largest integer label is {largest}; labels count the classes from 0. Name them instead.")
    return tuple(str(index) for index in range(largest + 1))
