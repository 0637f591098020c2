"""Number formats emulated inside a float32 graph with plain ONNX operators.

A matrix operator's weights, inputs and outputs are rounded to the format; sums run
in float32, as accelerators do them. Hardware adds in other orders, so a device is
matched within a tolerance only, never bit for bit.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.errors import EvaluationError, NotApplicableError

MATRIX_OPERATORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
RECURRENT_OPERATORS = ("LSTM", "GRU", "RNN")
_SUFFIX = "bfloat16"


def round_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nearest bfloat16, ties to even, as float32.

    >>> round_bfloat16(np.array([1.00390625, 1.01171875], dtype=np.float32)).tolist()
    [1.0, 1.015625]
    """
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def emulate_bfloat16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with both factors and the result of every matrix operator rounded.

    Weights are rounded in the file, the rest by a pair of Casts in the graph. Biases
    stay float32, like the sums they join. Raises EvaluationError where the model has
    no float32 matrix operator at its top level, NotApplicableError where it has a recurrent
    one: its state goes from step to step inside the operator, out of reach of a rounding.
    """
    require_matrix_operator(model)
    _refuse_recurrent(model)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    _Rounding(rounded.graph).apply()
    return rounded


def require_matrix_operator(model: onnx.ModelProto) -> None:
    """Raises EvaluationError where a conversion of matrix operators would change nothing."""
    if not any(_is_matrix_operator(node) for node in model.graph.node):
        raise EvaluationError(
            f"the graph has none of {', '.join(MATRIX_OPERATORS)} at its top level, so there is nothing to convert. "
            "Leave environments of this format out."
        )


def _refuse_recurrent(model: onnx.ModelProto) -> None:
    found = sorted({node.op_type for node in model.graph.node if node.op_type in RECURRENT_OPERATORS})
    if found:
        raise NotApplicableError(
            f"the graph has {' and '.join(found)}, whose state is carried inside the operator in float32 and cannot be "
            "rounded at every step. Leave environments of this format out for recurrent models."
        )


def _is_matrix_operator(node: onnx.NodeProto) -> bool:
    return node.op_type in MATRIX_OPERATORS and node.domain in ("", "ai.onnx")


class _Rounding:
    """One pass over a graph; every tensor is rounded once, however many read it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._float = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        self._rounded: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def apply(self) -> None:
        for node in list(self._graph.node):
            if _is_matrix_operator(node):
                self._round_node(node)
            else:
                self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _round_node(self, node: onnx.NodeProto) -> None:
        for index in (0, 1):
            node.input[index] = self._factor(node.input[index])
        name = node.output[0]
        node.output[0] = f"{name}_sum"
        self._nodes.append(node)
        self._cast(f"{name}_sum", name)
        # A rounded result that feeds the next factor needs no second rounding.
        self._rounded[name] = name

    def _factor(self, name: str) -> str:
        if name not in self._rounded:
            self._rounded[name] = f"{name}_{_SUFFIX}"
            if name in self._float:
                self._weight(name)
            else:
                self._cast(name, self._rounded[name])
        return self._rounded[name]

    def _weight(self, name: str) -> None:
        values = round_bfloat16(numpy_helper.to_array(self._float[name]))
        self._graph.initializer.append(numpy_helper.from_array(values, self._rounded[name]))

    def _cast(self, source: str, target: str) -> None:
        half = f"{target}_as_{_SUFFIX}"
        for tensor, result, to in ((source, half, TensorProto.BFLOAT16), (half, target, TensorProto.FLOAT)):
            self._nodes.append(helper.make_node("Cast", [tensor], [result], name=f"round_{result}", to=to))
