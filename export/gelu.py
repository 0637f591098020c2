"""GELU, exact or by tanh, in every form that exporters give it.

exact: x Φ(x) = x (1 + erf(x / √2)) / 2; by tanh: x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2
(Hendrycks and Gimpel, 2016). They differ by 0.0005 at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from scipy.special import erf

from gapshift.export.graph_part import Part, attribute, with_attributes

Form = Literal["exact", "tanh"]
_APPROXIMATE: dict[Form, str] = {"exact": "none", "tanh": "tanh"}
_GELU_OPSET = 20
"""The first opset with a Gelu operator."""
_CUBE = 0.044715
_SAMPLES = np.linspace(-4.0, 4.0, 33)
_TOLERANCE = 1e-3
"""Above what float16 constants do to the function, far below what another function (x·sigmoid(1.702x)) does."""
_REACH = 5
"""Most nodes between a GELU's input and its erf or tanh, and from there to its output."""
_COMPUTED: dict[str, Callable[..., NDArray[Any]]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power,
    "Erf": erf, "Tanh": np.tanh, "Identity": np.asarray,
}  # fmt: skip
# ONNX Runtime's own fused operators, in files that its optimiser wrote; FastGelu takes a bias too.
_FUSED: dict[str, Form] = {"Gelu": "exact", "BiasGelu": "exact", "FastGelu": "tanh"}
_FUSED_DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Gelu:
    """One GELU of a graph: its last node, and the tensor that it takes."""

    node: onnx.NodeProto
    takes: str
    form: Form


def gelus(part: Part) -> list[Gelu]:
    """Every GELU of a graph, whether one operator or several."""
    found = [
        Gelu(node, node.input[0], "tanh" if attribute(node, "approximate", "none") == "tanh" else "exact")
        for node in part.nodes("Gelu")
    ]
    fused = [node for node in part.graph.node if node.domain == _FUSED_DOMAIN and node.op_type in _FUSED]
    found += [Gelu(node, node.input[0], _FUSED[node.op_type]) for node in fused]
    written_out = (_written_out(part, node) for node in part.nodes("Erf", "Tanh"))
    return found + [gelu for gelu in written_out if gelu]


def rewrite_gelu(part: Part, gelu: Gelu, form: Form) -> None:
    """Puts the other form in a GELU's place."""
    node = gelu.node
    if node.domain == _FUSED_DOMAIN:
        biased = len(node.input) > 1
        exact = "BiasGelu" if biased else "Gelu"
        other = helper.make_node(
            "FastGelu" if form == "tanh" else exact, node.input, node.output, name=node.name, domain=_FUSED_DOMAIN
        )
        part.replace(node, [other])
    elif node.op_type == "Gelu":
        part.replace(node, [with_attributes(node, {"approximate": _APPROXIMATE[form]})])
    else:
        part.replace(node, _form(part, gelu, form))


def _form(part: Part, gelu: Gelu, form: Form) -> list[onnx.NodeProto]:
    x, y = gelu.takes, gelu.node.output[0]
    if part.opset >= _GELU_OPSET:
        return [helper.make_node("Gelu", [x], [y], name=part.fresh(f"{y}_gelu"), approximate=_APPROXIMATE[form])]
    write = _Writer(part, y, part.element_type(x) or onnx.TensorProto.FLOAT)
    if form == "exact":
        inner = write("Erf", write("Div", x, math.sqrt(2)))
    else:
        cube = write("Mul", write("Mul", write("Mul", x, x), x), _CUBE)
        inner = write("Tanh", write("Mul", write("Add", x, cube), math.sqrt(2 / math.pi)))
    write("Mul", write("Mul", x, write("Add", inner, 1.0)), 0.5)
    write.nodes[-1].output[0] = y
    return write.nodes


class _Writer:
    """Writes nodes one by one; numbers become constants of the GELU's type."""

    def __init__(self, part: Part, prefix: str, element_type: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._part, self._prefix = part, prefix
        self._dtype = helper.tensor_dtype_to_np_dtype(element_type)

    def __call__(self, operator: str, *operands: str | float) -> str:
        names = [each if isinstance(each, str) else self._constant(each) for each in operands]
        output = self._part.fresh(f"{self._prefix}_{operator.lower()}")
        self.nodes.append(helper.make_node(operator, names, [output], name=output))
        return output

    def _constant(self, value: float) -> str:
        return self._part.constant(np.asarray(value, self._dtype), f"{self._prefix}_constant")


# ---------------------------------------------------------------- recognised by what they compute


def _written_out(part: Part, inner: onnx.NodeProto) -> Gelu | None:
    """The GELU around an Erf or Tanh node, if there is one: some result is GELU of some operand, number by number."""
    form: Form = "exact" if inner.op_type == "Erf" else "tanh"
    wanted = _gelu(_SAMPLES, form)
    for takes in _before(part, inner, _REACH):
        for last in _after(part, inner, _REACH):
            values = _evaluate(part, last.output[0], takes)
            if values is not None and np.allclose(values, wanted, rtol=0, atol=_TOLERANCE):
                return Gelu(last, takes, form)
    return None


def _gelu(x: NDArray[Any], form: Form) -> NDArray[Any]:
    inner = erf(x / math.sqrt(2)) if form == "exact" else np.tanh(math.sqrt(2 / math.pi) * (x + _CUBE * x**3))
    result: NDArray[Any] = 0.5 * x * (1 + inner)
    return result


def _before(part: Part, node: onnx.NodeProto, reach: int) -> Iterator[str]:
    """Tensors that a node is computed from by elementwise steps, nearest first."""
    for name in node.input:
        if part.value(name) is None:
            yield name
    for name in node.input:
        producer = part.producer(name)
        if reach > 1 and producer is not None and producer.op_type in _COMPUTED:
            yield from _before(part, producer, reach - 1)


def _after(part: Part, node: onnx.NodeProto, reach: int) -> Iterator[onnx.NodeProto]:
    """Nodes that go on computing with a node's result by elementwise steps, nearest first."""
    readers = [reader for reader in part.readers(node.output[0]) if reader.op_type in _COMPUTED]
    yield from readers
    if reach > 1:
        for reader in readers:
            yield from _after(part, reader, reach - 1)


def _evaluate(part: Part, name: str, x: str, depth: int = 2 * _REACH + 2) -> NDArray[Any] | None:
    """A tensor's value at every sample of ``x``; None where it depends on anything else."""
    if name == x:
        return _SAMPLES
    constant = part.value(name)
    if constant is not None:
        return np.full_like(_SAMPLES, constant.item()) if constant.size == 1 and constant.dtype.kind != "O" else None
    node = part.producer(name)
    if node is None or node.op_type not in _COMPUTED or depth == 0:
        return None
    operands = [_evaluate(part, each, x, depth - 1) for each in node.input]
    if any(each is None for each in operands):
        return None
    with np.errstate(all="ignore"):  # what leaves the numbers is no GELU
        return np.asarray(_COMPUTED[node.op_type](*operands))
