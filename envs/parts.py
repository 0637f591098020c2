"""Cells that are read in parts: somebody else says which items come next, and when it is enough.

``Reader`` and ``Reading`` are what a flow hands to the runner; nothing here knows why a reading ends. The reference
answers only as far as some cell needs it (``OnDemand``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from gapshift.envs.cells import Cell, TaskItems
from gapshift.envs.opened import Opened
from gapshift.errors import EvaluationError, WorkspaceError
from gapshift.records import Records, concatenate
from gapshift.schema import Bundle, CellInfo, Environment
from gapshift.workspace import Workspace

_BESIDE = 256
"""Answers that exist already are read so many at once."""

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


class Runner(Protocol):
    """What a cell takes to run, lent by the matrix runner."""

    def has(self, cell: Cell) -> bool:
        """Whether it ran to its end."""

    def attempt(self, cell: Cell, answer: Callable[[Cell], tuple[CellInfo, Records]]) -> None:
        """Write what it answers, or why it does not."""

    def opened(self, cell: Cell, rows: Indices) -> AbstractContextManager[Opened]:
        """Its session, ready to be asked these rows or some of them."""

    def header(self, cell: Cell, **fields: Any) -> CellInfo:
        """Its header."""


@final
class BundleReading:
    """A bundle's cells, read one after the other beside their reference, whose cell is ``first``."""

    def __init__(self, runner: Runner, workspace: Workspace, first: Cell, reader: Reader) -> None:
        self._runner = runner
        self._workspace = workspace
        self._first = first
        self._reader = reader
        self._rows = np.arange(len(first.task.dataset))

    def read(self, cells: Iterable[Cell]) -> Iterator[str]:
        """Read what did not run yet; gives the name of each environment that is done, the reference's last."""
        with ExitStack() as stack:
            opened = partial(self._runner.opened, self._first, self._rows)
            reference = OnDemand(self._first, self._known(), lambda: stack.enter_context(opened()))
            try:
                reference.answers(self._reader.first(self._first.task, reference.readable))
                for environment, answers in self._reader.beside(self._first.bundle):
                    self._read_beside(environment, answers, reference)
                for cell in cells:
                    self._read_cell(cell, reference)
                    yield cell.environment.name
                self._save(reference)
            except ReferenceStoppedError as stopped:
                self._runner.attempt(self._first, partial(_again, stopped.__cause__))
        yield self._first.environment.name

    def _known(self) -> tuple[CellInfo, Records] | None:
        """What the reference answered in an earlier call; another plan's file is taken away."""
        name = self._first.bundle.name, self._first.environment.name
        if self._runner.has(self._first):
            return self._workspace.read_cell(*name)
        self._workspace.remove_cell(*name)
        return None

    def _read_cell(self, cell: Cell, reference: OnDemand) -> None:
        """Read a cell that did not run yet; of one that did the reference holds every item afterwards."""
        name = cell.bundle.name, cell.environment.name
        found = self._workspace.read_cell(*name) if self._runner.has(cell) else None
        if found is not None:
            reference.answers(reference.rows_of(found[1]))
            return
        self._workspace.remove_cell(*name)
        self._runner.attempt(cell, partial(self._answer, reference=reference))

    def _answer(self, cell: Cell, reference: OnDemand) -> tuple[CellInfo, Records]:
        reading = self._reader.begin(cell.bundle, cell.environment, cell.task, reference.readable)
        most = max(each.deployment.runtime.batch_size for each in (cell, self._first))
        with self._runner.opened(cell, self._rows) as opened:
            parts = follow(reading, reference, opened.answer, most)
            info = self._runner.header(cell, **opened.header())
        self._save(reference)  # first: a cell without its reference could not be judged
        return info, concatenate(parts)

    def _read_beside(self, environment: Environment, answers: Records, reference: OnDemand) -> None:
        """Extend the reference as far as answers that exist already need it."""
        place = np.full(len(self._rows), -1, dtype=np.intp)
        known = np.isin(answers.item_id, [item.id for item in self._first.task.dataset.items])
        place[reference.rows_of(answers)] = np.flatnonzero(known)
        reading = self._reader.begin(self._first.bundle, environment, self._first.task, reference.readable)
        follow(reading, reference, lambda rows: answers.take(place[rows][place[rows] >= 0]), _BESIDE)

    def _save(self, reference: OnDemand) -> None:
        if reference.grown:
            self._workspace.write_cell(self._runner.header(self._first, **reference.header()), reference.records)
            reference.grown = False


def _again(cause: BaseException | None, _cell: Cell) -> tuple[CellInfo, Records]:
    """Raise what stopped a reference, as if its cell were run by itself."""
    raise cause or EvaluationError("it says no more")
