"""The ONNX reference evaluator: NumPy, node by node, as the specification reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import onnx
from numpy.typing import NDArray

from gapshift.envs.runtimes.base import Session, interface_of
from gapshift.envs.runtimes.graph import ExecutedGraph, executed_nodes, roundings
from gapshift.schema import Contract, Runtime


@final
class ReferenceSession(Session):
    """Always there, never optimised, about a twentieth of ONNX Runtime's speed."""

    engine = "onnx-reference"
    heeds: ClassVar[frozenset[str]] = frozenset()
    refusals = (
        (r"Node type '([^']+)' from domain '([^']*)' is unknown", "operator {1}:{0}"),
        (r"No (?:registered |default )?(?:schema|implementation) for operator '([^']+)'", "operator {}"),
    )

    def __init__(self, runtime: Runtime, model: Path, contract: Contract) -> None:
        del runtime  # nothing in it applies to NumPy
        super().__init__(interface_of(model, contract))
        self._path = model
        self._model: Any = None
        self._evaluator: Any = None

    @staticmethod
    def available(runtime: Runtime) -> None:
        del runtime

    def _open(self) -> None:
        from onnx.reference import ReferenceEvaluator

        self._model = onnx.load(str(self._path))
        self._evaluator = ReferenceEvaluator(self._model)

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        takes = self.interface.input
        name = takes.name if takes else self._evaluator.input_names[0]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # overflow and NaN are results here, judged by the caller
            scores: NDArray[Any] = self._evaluator.run([self.interface.output], {name: batch})[0]
        return scores

    def _close(self) -> None:
        self._model = self._evaluator = None

    def _executed(self) -> ExecutedGraph:
        return ExecutedGraph(
            nodes=executed_nodes(self._model),
            providers={"NumPy": len(self._model.graph.node)},
            roundings=roundings(self._model),
        )
