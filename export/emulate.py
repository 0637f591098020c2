"""Number formats emulated inside a float32 graph with plain ONNX operators.

A matrix operator's factors are rounded to the format, weights in the file and the rest in the graph; in all
formats but tf32 so is its result. Products are exact in float32 or nearly so, sums run in float32, as accelerators
do them. Every rounding is to nearest, ties to even, with denormals kept, and bit-equal to `gapshift.export.formats`.
Hardware adds in other orders (and some of it truncates to tf32, or flushes denormals), so a device is matched within
a tolerance only, never bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gapshift.errors import EvaluationError, NotApplicableError
from gapshift.export.formats import CAST_TO, TF32_SPLIT, rounded
from gapshift.export.graph_part import parts_of
from gapshift.export.opset import at_opset

MATRIX_OPERATORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
RECURRENT_OPERATORS = ("LSTM", "GRU", "RNN")
_OPSET = 19
"""From here on Cast knows the 8-bit floats."""
_SMALLEST_NORMAL = 2.0**-126
# Adding and taking away 1.5·2^52 quanta leaves a float64 rounded to whole quanta; tf32's denormals are 2^-136 apart.
_DENORMAL_SPLIT = 1.5 * 2.0 ** (52 - 136)


def emulate(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """A copy of the model that computes as if in ``form``: ``tf32`` or one of ``formats.CAST_TO``.

    Biases stay float32, like the sums they join. Raises EvaluationError where the model has no matrix operator at
    its top level, NotApplicableError where it has a recurrent one: its state goes from step to step inside the
    operator, out of reach of a rounding; or where it has one inside a branch or loop, which is not rounded.
    """
    require_matrix_operator(model)
    _refuse_recurrent(model)
    _refuse_inner(model)
    emulated = at_opset(model, _OPSET, "8-bit floats exist")
    _Rounding(emulated.graph, form).apply()
    return emulated


def require_matrix_operator(model: onnx.ModelProto) -> None:
    """Raises EvaluationError where a conversion of matrix operators would change nothing."""
    if not any(is_matrix_operator(node) for node in model.graph.node):
        raise EvaluationError(
            f"the graph has none of {', '.join(MATRIX_OPERATORS)} at its top level, so there is nothing to convert. "
            "Leave environments of this format out."
        )


def is_matrix_operator(node: onnx.NodeProto) -> bool:
    """Whether a node is a standard matrix product or convolution."""
    return node.op_type in MATRIX_OPERATORS and node.domain in ("", "ai.onnx")


def _refuse_recurrent(model: onnx.ModelProto) -> None:
    found = sorted({node.op_type for node in model.graph.node if node.op_type in RECURRENT_OPERATORS})
    if found:
        raise NotApplicableError(
            f"the graph has {' and '.join(found)}, whose state is carried inside the operator in float32 and cannot be "
            "rounded at every step. Leave environments of this format out for recurrent models."
        )


def _refuse_inner(model: onnx.ModelProto) -> None:
    """A half emulated model would pass for a whole one."""
    inner = (node for part in parts_of(model)[1:] for node in part.graph.node)
    found = sorted({node.op_type for node in inner if is_matrix_operator(node) or node.op_type in RECURRENT_OPERATORS})
    if found:
        raise NotApplicableError(
            f"the graph has {' and '.join(found)} inside If, Loop or Scan, where nothing is rounded. Leave "
            "environments of this format out for this model, or export it without branches and loops."
        )


class _Rounding:
    """One pass over a graph; every tensor is rounded once, however many read it."""

    def __init__(self, graph: onnx.GraphProto, form: str) -> None:
        self._graph = graph
        self._form = form
        self._float = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        self._rounded: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def apply(self) -> None:
        for node in list(self._graph.node):
            if is_matrix_operator(node):
                self._round_node(node)
            else:
                self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        if self._form == "tf32":
            self._graph.initializer.extend(_tf32_constants())

    def _round_node(self, node: onnx.NodeProto) -> None:
        for index in (0, 1):
            node.input[index] = self._factor(node.input[index])
        self._nodes.append(node)
        if self._form != "tf32":
            self._round_result(node)

    def _round_result(self, node: onnx.NodeProto) -> None:
        name = node.output[0]
        node.output[0] = f"{name}_sum"
        self._nodes.extend(round_nodes(self._form, f"{name}_sum", name))
        # A rounded result that feeds the next factor needs no second rounding.
        self._rounded[name] = name

    def _factor(self, name: str) -> str:
        if name not in self._rounded:
            self._rounded[name] = f"{name}_{self._form}"
            if name in self._float:
                self._weight(name)
            else:
                self._nodes.extend(round_nodes(self._form, name, self._rounded[name]))
        return self._rounded[name]

    def _weight(self, name: str) -> None:
        values = rounded(numpy_helper.to_array(self._float[name]), self._form)
        self._graph.initializer.append(numpy_helper.from_array(values, self._rounded[name]))


def round_nodes(form: str, source: str, target: str) -> list[onnx.NodeProto]:
    """Nodes that write the float32 tensor ``source``, rounded to ``form``, to ``target``."""
    if form == "tf32":
        return list(_tf32_nodes(source, target))
    short = f"{target}_as_{form}"
    return [
        helper.make_node("Cast", [source], [short], name=f"round_{short}", to=CAST_TO[form]),
        helper.make_node("Cast", [short], [target], name=f"round_{target}", to=TensorProto.FLOAT),
    ]


_PREFIX = "gapshift_tf32"


def _tf32_constants() -> Iterator[onnx.TensorProto]:
    for name, value in (("split", TF32_SPLIT), ("denormal", _DENORMAL_SPLIT), ("least", _SMALLEST_NORMAL)):
        yield numpy_helper.from_array(np.array(value, np.float64), f"{_PREFIX}_{name}")


def _tf32_nodes(source: str, target: str) -> Iterator[onnx.NodeProto]:
    """Veltkamp's split (Dekker 1971, *A floating-point technique for extending the available precision*):
    y = (2^s + 1)·x; y − (y − x) is x without its last s bits.

    In float64, with s = 53 − 11 = 42: in float32, with s = 13, it would overflow above 2^114 and keep bits of
    denormals that tf32 does not have.
    """

    def make(operator: str, inputs: list[str], what: str, **attributes: int) -> onnx.NodeProto:
        name = target if what == "rounded" else f"{target}_{what}"
        return helper.make_node(operator, inputs, [name], name=f"round_{name}", **attributes)

    t = f"{target}_"
    yield make("Cast", [source], "wide", to=TensorProto.DOUBLE)
    yield make("Mul", [f"{t}wide", f"{_PREFIX}_split"], "product")
    yield make("Sub", [f"{t}product", f"{t}wide"], "rest")
    yield make("Sub", [f"{t}product", f"{t}rest"], "normal")
    yield make("Add", [f"{t}wide", f"{_PREFIX}_denormal"], "shifted")
    yield make("Sub", [f"{t}shifted", f"{_PREFIX}_denormal"], "denormal")
    yield make("Abs", [f"{t}wide"], "size")
    yield make("Less", [f"{t}size", f"{_PREFIX}_least"], "is_denormal")
    yield make("Where", [f"{t}is_denormal", f"{t}denormal", f"{t}normal"], "finite")
    yield make("Cast", [f"{t}finite"], "narrow", to=TensorProto.FLOAT)
    yield make("IsInf", [source], "is_infinite")
    yield make("Where", [f"{t}is_infinite", source, f"{t}narrow"], "rounded")
