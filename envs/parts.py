"""Cells that are read in parts: somebody else says which items come next, and when it is enough.

``Reader`` and ``Reading`` are what a flow hands to the runner; nothing here knows why a reading ends. The reference
answers only as far as some cell needs it (``OnDemand``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from gapshift.envs.cells import Cell, TaskItems
from gapshift.envs.opened import Opened
from gapshift.errors import WorkspaceError
from gapshift.records import Records, concatenate
from gapshift.schema import Bundle, CellInfo, Environment

Indices = NDArray[np.intp]
Bools = NDArray[np.bool_]


class Reading(Protocol):
    """How far one cell is read."""

    def next_rows(self, most: int) -> Indices:
        """Rows of the data set to ask next, at most so many; none where the reading ends."""

    def take(self, reference: Records, answers: Records) -> None:
        """What the reference and the cell answered to the rows that ``next_rows`` gave."""


class Reader(Protocol):
    """What reads the cells of a matrix."""

    def address(self, bundle: Bundle, environment: Environment) -> Any:
        """What decides which items are read, as plain JSON types: a part of the cell's content address."""

    def first(self, task: TaskItems, readable: Bools) -> Indices:
        """Rows that the reference answers in any case."""

    def begin(self, bundle: Bundle, environment: Environment, task: TaskItems, readable: Bools) -> Reading:
        """A new reading; ``readable`` (n,) says which items the reference can read."""

    def beside(self, bundle: Bundle) -> Iterator[tuple[Environment, Records]]:
        """Answers that exist already and are judged like a cell's, with the name they go by."""


class ReferenceStoppedError(Exception):
    """The reference cannot answer: no cell of its bundle can be read on. Its cause is why."""


@final
class OnDemand:
    """The reference's answers; those of an earlier call count, and its session opens when a new one is needed.

    Raises ReferenceStoppedError from whatever keeps it from answering, but for a full disk (WorkspaceError).
    """

    def __init__(self, cell: Cell, known: tuple[CellInfo, Records] | None, open_cell: Callable[[], Opened]) -> None:
        self.cell = cell
        self.grown = known is None
        self._known = known
        self._open_cell = open_cell
        self._opened: Opened | None = None
        self._place_of = {item.id: row for row, item in enumerate(cell.task.dataset.items)}
        self._place = np.full(len(cell.task.dataset), -1, dtype=np.intp)
        self._parts: list[Records] = []
        self._count = 0
        if known is not None:
            self._add(self.rows_of(known[1]), known[1])

    @property
    def readable(self) -> Bools:
        """Which items can be read, shape (n,)."""
        if self._known is None:
            return self._session().readable
        records, found = self._known[1], np.ones(len(self._place), dtype=np.bool_)
        found[self.rows_of(records)[records.status == "unreadable"]] = False
        return found

    def rows_of(self, records: Records) -> Indices:
        """The rows of the data set that records are of, those of other data left out."""
        return np.array([self._place_of[name] for name in records.item_id.tolist() if name in self._place_of], np.intp)

    def answers(self, rows: Indices) -> Records:
        """The records of these rows, in this order."""
        missing = rows[self._place[rows] < 0]
        if len(missing):
            self._add(missing, self._ask(missing))
            self.grown = True
        if len(missing) == len(rows) > 0:
            return self._parts[-1]
        return self.records.take(self._place[rows])

    @property
    def records(self) -> Records:
        """All answers so far, in the order in which they were given."""
        if len(self._parts) != 1:
            self._parts = [concatenate(self._parts)]
        return self._parts[0]

    def header(self) -> dict[str, Any]:
        """What ``CellInfo`` tells of all the answers, those of earlier calls among them."""
        told = self._session().header()
        if self._known is not None:
            told["seconds"] += self._known[0].seconds
        told["items_per_second"] = self._count / told["seconds"] if told["seconds"] > 0 else 0.0
        return told

    def _add(self, rows: Indices, records: Records) -> None:
        self._place[rows] = self._count + np.arange(len(rows))
        self._count += len(rows)
        self._parts.append(records)

    def _ask(self, rows: Indices) -> Records:
        opened = self._session()
        try:
            return opened.answer(rows)
        except WorkspaceError:
            raise
        except Exception as error:
            raise ReferenceStoppedError from error

    def _session(self) -> Opened:
        if self._opened is None:
            try:
                self._opened = self._open_cell()
            except WorkspaceError:
                raise
            except Exception as error:
                raise ReferenceStoppedError from error
        return self._opened


def follow(reading: Reading, reference: OnDemand, answer: Callable[[Indices], Records], most: int) -> list[Records]:
    """Ask a reading's items until it ends; what was answered, part by part."""
    parts = []
    while len(rows := reading.next_rows(most)):
        before, after = reference.answers(rows), answer(rows)
        reading.take(before, after)
        parts.append(after)
    return parts
