"""A cell whose session is open: it answers the rows that it is asked, in as many parts as wanted."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import Asked, Keep, answer
from gapshift.domains.services import NO_SERVICE, Served, serve
from gapshift.envs.cells import Cell, Timed
from gapshift.envs.effects import service_effect, unreadable
from gapshift.envs.prepare import Prepared
from gapshift.envs.runtimes.base import Session
from gapshift.records import Records
from gapshift.schema import Execution, ServiceTally

_LIKE_PROBABILITIES = (
    "the outputs look like probabilities and the contract calls them logits: predictions hold, confidences and ECE "
    "do not (set model.output_kind)"
)


@final
class Opened:
    """One cell's session with its inputs, for ``rows`` or some of them.

    ``inputs`` is None in control; ``notes`` are part of the cell's reason.
    """

    def __init__(
        self,
        cell: Cell,
        rows: NDArray[np.intp],
        inputs: Prepared | None,
        session: Session,
        execution: Execution,
        notes: tuple[str, ...],
        keep: Keep | None = None,
    ) -> None:
        self.cell = cell
        self.predict = session.predict
        self.readable = inputs.readable if inputs else np.ones(len(cell.task.dataset), dtype=np.bool_)
        self._rows = rows
        self._inputs = inputs
        self._timed = Timed(session.predict)
        self._execution = execution
        self._notes = notes
        self._keep = keep
        self._served = self._requests()
        self._like_probabilities: list[bool] = []
        self._asked: list[NDArray[np.intp]] = []
        self._tally: ServiceTally | None = None

    def answer(self, rows: NDArray[np.intp]) -> Records:
        """Records of these rows of the data set, in this order."""
        found = answer(self._question(rows), self._timed, self.cell.bundle.contract.model)
        self._asked.append(rows)
        self._like_probabilities.append(found.like_probabilities)
        self._tally = self._served.tally(np.concatenate(self._asked)) if self._served else found.service
        return found.records

    def header(self) -> dict[str, Any]:
        """What ``CellInfo`` tells of everything that was answered so far."""
        effect = service_effect(self.cell, self._all_requests())
        kind = _LIKE_PROBABILITIES if self._like_probabilities and all(self._like_probabilities) else ""
        notes = (*self._notes, effect, kind, unreadable(self.cell, self._inputs))
        items = sum(map(len, self._asked))
        return {
            "reason": "; ".join(note for note in notes if note),
            "execution": self._execution,
            "seconds": self._timed.seconds,
            "items_per_second": items / self._timed.seconds if self._timed.seconds > 0 else 0.0,
            "service": self._tally,
        }

    def _question(self, rows: NDArray[np.intp]) -> Asked:
        deployment = self.cell.deployment
        return Asked(
            dataset=self.cell.dataset,
            rows=rows,
            preprocessing=deployment.preprocessing,
            batch=deployment.runtime.batch_size,
            tensor=self._inputs.tensor if self._inputs else None,
            readable=self._inputs.readable if self._inputs else None,
            keep=self._keep,
            service=deployment.service,
            served=self._served,
        )

    def _requests(self) -> Served | None:
        """What befalls every item's request, whoever asks and when; None without a service, and in control."""
        if self._inputs is None or self.cell.deployment.service == NO_SERVICE:
            return None
        ids = [item.id for item in self.cell.task.dataset.items]
        return serve(self.cell.deployment.service, ids, self._inputs.readable)

    def _all_requests(self) -> ServiceTally | None:
        """What the service does to all rows that may be asked; in control, to those that were."""
        return self._served.tally(self._rows) if self._served else self._tally
