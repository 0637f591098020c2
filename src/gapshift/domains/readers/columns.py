"""From the columns that describe items, however they are stored, to items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gapshift.domains.readers.labels import resolve_labels
from gapshift.errors import DataError
from gapshift.schema import LEVELS, Item

Where = Callable[[int, str], str]
"""Names a row (from 0) and a column in an error's text."""


@dataclass(frozen=True, slots=True)
class Columns:
    """One value per item in each column; None for a column that is not there."""

    labels: Sequence[Any]
    default_ids: Sequence[str]
    ids: Sequence[Any] | None = None
    levels: Sequence[Any] | None = None
    groups: Sequence[Any] | None = None
    splits: Sequence[Any] | None = None


def built_items(columns: Columns, classes: Sequence[str] | None, where: Where) -> tuple[tuple[str, ...], list[Item]]:
    """The classes and the items. Raises DataError naming row and column of a bad value."""
    ids = [_id(columns, row, where) for row in range(len(columns.labels))]
    names, labels = resolve_labels(columns.labels, classes, lambda row: f"{where(row, 'label')} (item {ids[row]!r})")
    items = [
        Item(
            id=ids[row],
            label=int(label),
            split=_text(columns.splits, row) or "all",
            group=_text(columns.groups, row),
            level=_level(columns.levels, row, where),
        )
        for row, label in enumerate(labels)
    ]
    return names, items


def _id(columns: Columns, row: int, where: Where) -> str:
    if columns.ids is None:
        return columns.default_ids[row]
    text = _text(columns.ids, row)
    if text is None:
        raise DataError(f"{where(row, 'id')} is empty. Give every item an id, or leave the column out.")
    return text


def _level(levels: Sequence[Any] | None, row: int, where: Where) -> int | None:
    if levels is None:
        return None
    value = levels[row]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if number not in LEVELS:
        raise DataError(f"{where(row, 'level')} is {value!r}. Valid: 1, 2, 3, 4, 5; or leave the column out.")
    return int(number)


def _text(values: Sequence[Any] | None, row: int) -> str | None:
    if values is None or values[row] is None or str(values[row]) == "":
        return None
    return str(values[row])
