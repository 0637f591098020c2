"""From a run's folder to item pairs: the reference's answers beside each cell's.

Nothing is dropped in silence. Whatever cannot be paired leaves a *problem*, in plain
words, and a cell with a problem is never a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gapshift.errors import WorkspaceError
from gapshift.records import Records, read_items
from gapshift.schema import TIE_GAP, CalibrationCard, CellInfo, RecordStatus
from gapshift.workspace import Workspace

UNREADABLE_SHARE = 0.001
"""More items than this share that cannot be read, or that break the reference itself, are an ERROR."""
STATUSES: tuple[str, ...] = get_args(RecordStatus)
SCORED = ("ok", "nan_output", "fallback", "no_answer")
"""Statuses of answers that are right or wrong; one that was never given is wrong."""
ALL_LEVELS = (1, 2, 3, 4, 5)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


class IdIndex:
    """Finds positions of ids, in O(log n) each, or at once when the order is the same."""

    def __init__(self, ids: NDArray[np.str_]) -> None:
        self.ids = ids
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]
        self.duplicates = int(len(ids) - len(np.unique(self._sorted))) if len(ids) else 0

    def locate(self, ids: NDArray[np.str_]) -> Indices:
        """Position of each id; -1 where it is unknown."""
        if len(ids) == len(self.ids) and np.array_equal(ids, self.ids):
            return np.arange(len(ids), dtype=np.intp)
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.intp)
        place = np.minimum(np.searchsorted(self._sorted, ids), len(self.ids) - 1)
        found: Indices = np.where(self._sorted[place] == ids, self._order[place], -1).astype(np.intp)
        return found


@dataclass(frozen=True, eq=False)
class RatedItems:
    """The items of one task with their difficulty; arrays of shape (n,).

    ``level`` and ``level_abs`` are 0 where an item has none, ``group`` empty where it belongs to none; ``b``,
    ``a``, ``c`` are NaN where unknown, and so is ``chance``, what a random answer would score.
    """

    index: IdIndex
    level: NDArray[np.int64]
    split: NDArray[np.str_]
    group: NDArray[np.str_]
    b: Floats
    a: Floats
    c: Floats
    chance: Floats
    level_abs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.level)

    @cached_property
    def group_code(self) -> Indices:
        """Each item's group as a number; -1 where it belongs to none."""
        return np.where(self.group == "", -1, np.unique(self.group, return_inverse=True)[1])


def load_items(workspace: Workspace) -> tuple[Callable[[str], RatedItems], tuple[CalibrationCard, ...]]:
    """A function from a task's name to its rated items, and the calibration cards.

    A table without that task in its ``task`` column serves every task whole. Raises
    WorkspaceError when ``items.parquet`` is missing or has no id or level column.
    """
    table, cards = read_items(workspace.items_path)
    tasks = _text(table, "task")
    cache: dict[str, RatedItems] = {}

    def items_of(task: str) -> RatedItems:
        if task not in cache:
            mask = tasks == task
            cache[task] = _rated(table.filter(pa.array(mask)) if mask.any() else table)
        return cache[task]

    return items_of, cards


def _rated(table: pa.Table) -> RatedItems:
    return RatedItems(
        index=IdIndex(_text(table, "id")),
        level=_levels(table, "level"),
        split=_text(table, "split"),
        group=_text(table, "group"),
        b=_numbers(table, "b"),
        a=_numbers(table, "a"),
        c=_numbers(table, "c"),
        chance=_numbers(table, "chance"),
        level_abs=_levels(table, "level_abs"),
    )


def _levels(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column of levels, 0 where an item has none."""
    level = _numbers(table, name)
    return np.where(np.isin(level, ALL_LEVELS), level, 0).astype(np.int64)


def _text(table: pa.Table, name: str) -> NDArray[np.str_]:
    if name not in table.column_names:
        return np.full(table.num_rows, "", dtype=np.str_)
    return np.array([value or "" for value in table.column(name).to_pylist()], dtype=np.str_)


def _numbers(table: pa.Table, name: str) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values = table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


# ------------------------------------------------------------------------- reading


@dataclass(frozen=True, eq=False)
class Cell:
    """One planned cell as found on disk; ``problem`` says why there is nothing to judge."""

    info: CellInfo | None
    records: Records | None
    problem: str = ""


def load_cell(read: Callable[[], tuple[CellInfo, Records] | None]) -> Cell:
    """Read a cell; a missing or broken file becomes its problem."""
    try:
        found = read()
    except (WorkspaceError, OSError, pa.ArrowInvalid) as error:
        return Cell(None, None, f"its record file cannot be read: {error}")
    if found is None:
        return Cell(None, None, "did not run")
    info, records = found
    return Cell(info, records)


def value_problems(records: Records) -> list[str]:
    """What is wrong with a cell's rows themselves: doubles, unknown words, unscored items."""
    problems = []
    doubles = len(records) - len(np.unique(records.item_id))
    if doubles:
        problems.append(f"{doubles} items have more than one record")
    unknown = sorted(set(records.status.tolist()) - set(STATUSES))
    if unknown:
        problems.append(f"unknown record status {', '.join(map(repr, unknown))}; valid: {', '.join(STATUSES)}")
    unscored = int(_unscored(records).sum())
    if unscored:
        problems.append(f"{unscored} items are unscored (status error, or no right/wrong)")
    return problems


def _unscored(records: Records) -> Bools:
    """Items whose answer is neither right nor wrong, though they could be read."""
    answered = np.isin(records.status, SCORED)
    scored = np.where(records.status == "no_answer", records.correct == 0.0, np.isin(records.correct, (0.0, 1.0)))
    unscored: Bools = (records.status != "unreadable") & ~(answered & scored)
    return unscored


@dataclass(frozen=True, eq=False)
class Reference:
    """A bundle's reference answers, ready for pairing. ``position`` points into the items."""

    records: Records
    items: RatedItems
    index: IdIndex
    position: Indices
    level: NDArray[np.int64]
    answered: Bools
    problems: tuple[str, ...]

    @property
    def unreadable(self) -> int:
        """Items of the reference that could not be read."""
        return int((self.records.status == "unreadable").sum())


def reference_of(cell: Cell, items: RatedItems) -> Reference | str:
    """The reference of a bundle, or the reason why it cannot serve as one.

    An item that nothing can read has no level either, for rating skips it; pairing counts
    it as unreadable. Every other judged item needs a level.
    """
    if cell.info is None or cell.records is None:
        return f"the reference {cell.problem}" if cell.problem == "did not run" else f"the reference: {cell.problem}"
    if cell.info.status != "ok":
        return f"the reference ended as {cell.info.status}: {cell.info.reason or 'no reason was recorded'}"
    return reference_from(cell.records, items) if len(cell.records) else "the reference holds no item"


def reference_from(records: Records, items: RatedItems) -> Reference:
    """Answers of the reference, ready for pairing."""
    position = items.index.locate(records.item_id)
    level = np.where(position >= 0, items.level[position], 0)
    problems = [f"the reference: {text}" for text in value_problems(records)]
    unrated = int(((level == 0) & (records.status != "unreadable")).sum())
    if unrated:
        problems.append(f"{unrated} of {len(records)} judged items have no level in items.parquet; calibrate them")
    broken = records.status == "nan_output"
    if broken.sum() > UNREADABLE_SHARE * len(records):
        problems.append(
            f"the reference itself puts out non-finite scores for {_counted(broken, records)} of {len(records)} "
            "(at most 0.1% may be): the model is broken there, or its contract is wrong"
        )
    if items.index.duplicates:
        problems.append(f"items.parquet holds {items.index.duplicates} doubled ids")
    return Reference(
        records=records,
        items=items,
        index=IdIndex(records.item_id),
        position=position,
        level=level,
        answered=(records.status != "unreadable") & ~_unscored(records),
        problems=tuple(problems),
    )


# ------------------------------------------------------------------------- pairing


@dataclass(frozen=True, eq=False)
class Pairs:
    """Items answered in the reference and in one cell; arrays of shape (n,).

    ``position`` points into the task's items. ``changed`` says that the prediction is
    another one; ``tie`` that the reference's own prediction was a tie. ``chance`` is what a
    random answer would score, NaN where that is the majority label's share; the scores are
    grades from 0 to 1 beside right and wrong, NaN where a task has none. ``fallback`` and
    ``no_answer`` tell which answers came from a service's fallback, and which were never given. ``group``
    numbers an item's group (speaker, paragraph), -1 where it has none.
    """

    position: Indices
    level: NDArray[np.int64]
    label: NDArray[np.int32]
    reference_prediction: NDArray[np.int32]
    prediction: NDArray[np.int32]
    right: Bools
    still_right: Bools
    changed: Bools
    tie: Bools
    reference_confidence: Floats
    confidence: Floats
    chance: Floats
    reference_score: Floats
    score: Floats
    fallback: Bools
    no_answer: Bools
    group: Indices

    def __len__(self) -> int:
        return len(self.level)

    def at(self, mask: Bools | Indices) -> Pairs:
        """The pairs where ``mask`` holds, or those at these places."""
        return Pairs(**{name: getattr(self, name)[mask] for name in self.__dataclass_fields__})

    @property
    def lost(self) -> NDArray[np.int64]:
        """The paired difference per item: 1 right to wrong, -1 wrong to right, else 0."""
        return self.right.astype(np.int64) - self.still_right.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Pairing:
    """Pairs, why the cell cannot be trusted (``problems``), and what a reader must know (``remarks``).

    ``unreadable`` items were so in the reference, ``unknown`` ones have no answer there.
    """

    pairs: Pairs
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    unreadable: int
    unknown: int = 0


def pair(reference: Reference, records: Records, subsample: bool) -> Pairing:
    """Pair a cell with its reference on the reference's ids.

    An item unreadable in both is outside the pairs (more than 0.1% of them is a
    problem); unreadable in the cell alone, it is wrong. A cell may lack items of the
    reference only when ``subsample`` says so.
    """
    row = reference.index.locate(records.item_id)
    theirs = np.flatnonzero(row >= 0)
    mine = row[theirs]
    problems = [*reference.problems, *value_problems(records.take(theirs))]
    missing = len(reference.records) - len(np.unique(mine))
    if missing and not (subsample and len(mine)):
        problems.append(f"{missing} of {len(reference.records)} items have no record")
    other_label = int((reference.records.label[mine] != records.label[theirs]).sum())
    if other_label:
        problems.append(f"{other_label} items have another label than in the reference: the data changed in between")
    unread = reference.records.status[mine] == "unreadable"
    if unread.sum() > UNREADABLE_SHARE * len(mine):
        found = _counted(unread, records.take(theirs))
        problems.append(f"{found} of {len(mine)} cannot be read (at most 0.1% may be)")
    keep = reference.answered[mine] & ~_unscored(records)[theirs] & (reference.level[mine] > 0)
    pairs = _pairs(reference, records, mine[keep], theirs[keep])
    return Pairing(
        pairs=pairs,
        problems=tuple(problems),
        remarks=_remarks(reference.records, records, mine, theirs),
        unreadable=int(unread.sum()),
        unknown=len(records) - len(theirs),
    )


def pairs_of(before: Records, after: Records, items: RatedItems) -> Pairs:
    """Pairs of a few items' answers in the reference and in a cell, as ``pair`` makes them."""
    return pair(reference_from(before, items), after, subsample=True).pairs


def _pairs(reference: Reference, records: Records, mine: Indices, theirs: Indices) -> Pairs:
    before = reference.records
    readable = records.status[theirs] != "unreadable"
    return Pairs(
        position=reference.position[mine],
        level=reference.level[mine],
        label=before.label[mine],
        reference_prediction=before.prediction[mine],
        prediction=records.prediction[theirs],
        right=before.correct[mine] == 1.0,
        still_right=readable & (records.correct[theirs] == 1.0),
        changed=~readable | (before.prediction[mine] != records.prediction[theirs]),
        tie=before.gap[mine] <= TIE_GAP,
        reference_confidence=before.confidence[mine],
        confidence=records.confidence[theirs],
        chance=reference.items.chance[reference.position[mine]],
        reference_score=before.score[mine],
        score=records.score[theirs],
        fallback=records.status[theirs] == "fallback",
        no_answer=records.status[theirs] == "no_answer",
        group=reference.items.group_code[reference.position[mine]],
    )


def _remarks(before: Records, after: Records, mine: Indices, theirs: Indices) -> tuple[str, ...]:
    """What a reader must know of a cell's items, each with the first item's id."""
    old, new = before.take(mine), after.take(theirs)
    masks = (
        (new.status == "nan_output", "with non-finite outputs here, judged as wrong"),
        (old.status == "nan_output", "with non-finite outputs in the reference, judged as wrong"),
        (old.status == "unreadable", "that cannot be read, outside the pairs"),
        ((new.status == "unreadable") & (old.status != "unreadable"), "unreadable here alone, judged as wrong"),
    )
    return tuple(f"{_counted(mask, new)} {text}" for mask, text in masks if mask.any())


def _counted(mask: Bools, records: Records) -> str:
    """How many items, and the first of them."""
    n = int(mask.sum())
    first = str(records.item_id[int(np.flatnonzero(mask)[0])])
    return f"1 item ({first!r})" if n == 1 else f"{n} items ({first!r} first)"


def sums(position: NDArray[Any], size: int, weights: NDArray[Any] | None = None) -> Floats:
    """Sum of the weights (or the count) of each position from 0 to size - 1, shape (size,)."""
    return np.asarray(np.bincount(position, weights=weights, minlength=size), dtype=np.float64)


def strata(level: NDArray[np.int64]) -> dict[str, Bools]:
    """Masks by key: ``all`` and ``1`` to ``5``."""
    masks: dict[str, Bools] = {"all": level > 0}
    return masks | {str(k): level == k for k in ALL_LEVELS}


def json_dict(value: Any) -> dict[str, Any]:
    """A frozen noun as plain JSON types."""
    dumped: dict[str, Any] = value.model_dump(mode="json")
    return dumped
