"""A runtime that answers from a script: whole pipelines run without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapshift.envs.runtimes.base import Interface, Session
from gapshift.envs.runtimes.graph import ExecutedGraph
from gapshift.export.model_file import TensorDescription
from gapshift.schema import Domain, OutputKind, Runtime


@final
class ScriptedSession(Session):
    """Answers with ``scores``: a function of the batch, or an array, shape (N, K), whose
    rows are dealt out in order from each ``open``. NaN in it is answered as NaN.

    ``failures`` maps the index of a predict call (from 0) to what it raises; ``refuses``
    is raised by ``open``. ``shape`` is the input that is accepted, None in it meaning any;
    ``domain`` and ``output_kind`` are the contract's.

    >>> with ScriptedSession([[0.1, 0.9], [0.8, 0.2]]) as session:
    ...     session.predict(np.zeros((2, 3), dtype=np.float32)).argmax(axis=1).tolist()
    [1, 0]
    """

    engine = "scripted"

    def __init__(
        self,
        scores: ArrayLike | Callable[[NDArray[Any]], NDArray[Any]],
        *,
        shape: tuple[int | None, ...] | None = None,
        classes: int | None = None,
        domain: Domain = "vision",
        output_kind: OutputKind = "logits",
        failures: Mapping[int, Exception] | None = None,
        refuses: Exception | None = None,
    ) -> None:
        takes = TensorDescription("input", shape, "unknown") if shape is not None else None
        super().__init__(Interface("scripted", takes, "scores", classes, domain, output_kind))
        self._answer: Callable[[NDArray[Any]], NDArray[Any]] = scores if callable(scores) else self._deal
        self._rows = None if callable(scores) else np.asarray(scores)
        self._failures = dict(failures or {})
        self._refuses = refuses
        self._calls = self._next = 0

    @staticmethod
    def available(runtime: Runtime) -> None:
        del runtime

    def _open(self) -> None:
        self._calls = self._next = 0
        if self._refuses is not None:
            raise self._refuses

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        call, self._calls = self._calls, self._calls + 1
        if call in self._failures:
            raise self._failures[call]
        return self._answer(batch)

    def _close(self) -> None:
        """Nothing is held."""

    def _executed(self) -> ExecutedGraph:
        return ExecutedGraph(nodes=(), providers={"scripted": 1})

    def _deal(self, batch: NDArray[Any]) -> NDArray[Any]:
        assert self._rows is not None
        start, self._next = self._next, self._next + len(batch)
        if self._next > len(self._rows):
            raise IndexError(f"the script holds {len(self._rows)} rows and row {self._next} was asked for")
        return self._rows[start : self._next]
