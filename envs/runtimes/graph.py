"""What a graph computes with: each compute operator and its number format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from gapshift.export.formats import CAST_TO, TF32_SPLIT
from gapshift.export.graph_part import inner_graphs, parts_of

INTEGER_OPERATORS = frozenset(
    [
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QLinearConvTranspose",
        "QLinearMatMul",
        "QGemm",
        "QAttention",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "DynamicQuantizeLSTM",
    ]
)
FLOAT_OPERATORS = frozenset(
    [
        "Conv",
        "FusedConv",
        "NhwcFusedConv",
        "NhwcConv",
        "ConvTranspose",
        "MatMul",
        "FusedMatMul",
        "TransposeMatMul",
        "Gemm",
        "FusedGemm",
        "Einsum",
        "Attention",
        "MultiHeadAttention",
        "GroupQueryAttention",
        "PackedAttention",
        "LSTM",
        "GRU",
        "RNN",
        "MatMulNBits",
    ]
)
COMPUTE_OPERATORS = INTEGER_OPERATORS | FLOAT_OPERATORS

_FORMATS: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.UINT16: "int16",
    TensorProto.INT4: "int4",
    TensorProto.UINT4: "int4",
}
# What ONNX Runtime's MatMulNBits computes in, by its accuracy_level; 4 rounds the activations to int8.
_ACCURACY_LEVELS = {2: "float16", 3: "bfloat16", 4: "int8"}
# Operators whose result has a type of its own rather than that of the first input.
_MOVES = frozenset(
    [
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "MaxPool",
        "Slice",
        "Gather",
        "Concat",
        "Expand",
    ]
)


@dataclass(frozen=True, slots=True)
class ExecutedGraph:
    """What a session runs. ``nodes`` are (operator, format) of compute nodes;
    ``providers`` counts all nodes per provider; ``strays`` counts compute nodes that a
    provider other than the asked one runs; ``roundings`` counts an emulation's
    roundings that are to nearest, ties to even."""

    nodes: tuple[tuple[str, str], ...]
    providers: Mapping[str, int]
    strays: Mapping[str, int] = field(default_factory=dict)
    roundings: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)

    def formats(self) -> Counter[str]:
        """Number of compute nodes per format."""
        return Counter(form for _, form in self.nodes)

    def dtypes(self) -> dict[str, dict[str, int]]:
        """Operator to {format: number of nodes}."""
        table: dict[str, Counter[str]] = {}
        for operator, form in self.nodes:
            table.setdefault(operator, Counter())[form] += 1
        return {operator: dict(counts) for operator, counts in sorted(table.items())}


def stored_nodes(model: onnx.ModelProto) -> tuple[tuple[str, str], ...]:
    """(operator, format) as the file means them: a float operator whose two factors
    come from DequantizeLinear is stored in ``int8``, or ``int16x8`` where one has 16 bits."""
    return _nodes(model, fused=True)


def executed_nodes(model: onnx.ModelProto) -> tuple[tuple[str, str], ...]:
    """(operator, format) as the graph runs when no further pass rewrites it: a float
    operator between DequantizeLinear and QuantizeLinear runs in float, and what its factors
    are stored in is named beside it (``float32 with int8 weights``)."""
    return _nodes(model, fused=False)


def roundings(model: onnx.ModelProto) -> int:
    """Number of an emulation's roundings that depend on the input (runtimes fold those of constants), in branches and
    loops too: Casts to a shorter float, and splits that leave tf32."""
    graphs = [part.graph for part in parts_of(model)]
    weights = [tensor for graph in graphs for tensor in graph.initializer]
    constant = {tensor.name for tensor in weights}
    splits = {tensor.name for tensor in weights if _is_split(tensor)}
    count = 0
    for node in (node for graph in graphs for node in graph.node):
        if node.op_type == "Constant" and any(a.name == "value" and _is_split(a.t) for a in node.attribute):
            splits.update(node.output)
        if all(name in constant for name in node.input if name):
            constant.update(node.output)
        elif node.op_type == "Cast":
            count += _attribute(node, "to") in CAST_TO.values()
        elif node.op_type == "Mul":
            count += bool(splits.intersection(node.input))
    return count


def _is_split(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type != TensorProto.DOUBLE or uses_external_data(tensor):
        return False
    values = numpy_helper.to_array(tensor)
    return values.size == 1 and float(values.reshape(())) == TF32_SPLIT


def _nodes(model: onnx.ModelProto, *, fused: bool) -> tuple[tuple[str, str], ...]:
    return tuple(
        (node.op_type, found.format_of(node, fused=fused))
        for graph, found in _graphs(model.graph)
        for node in graph.node
        if node.op_type in COMPUTE_OPERATORS
    )


def _graphs(graph: onnx.GraphProto, outer: _Graph | None = None) -> Iterator[tuple[onnx.GraphProto, _Graph]]:
    """A graph and those inside its nodes (branches, loop bodies), which read the tensors around them."""
    own = _Graph(graph, outer)
    yield graph, own
    for inner in inner_graphs(graph):
        yield from _graphs(inner, own)


class _Graph:
    """Element types of a graph's tensors, by declaration or by following producers."""

    def __init__(self, graph: onnx.GraphProto, outer: _Graph | None = None) -> None:
        own = {tensor.name: tensor.data_type for tensor in graph.initializer}
        self._types: dict[str, int] = {**outer._types, **own} if outer else own
        self._constants: frozenset[str] = frozenset(own) | (outer._constants if outer else frozenset())
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type:
                self._types.setdefault(value.name, value.type.tensor_type.elem_type)
        producers = {name: node for node in graph.node for name in node.output}
        self._producers: dict[str, onnx.NodeProto] = {**outer._producers, **producers} if outer else producers
        for node in graph.node:  # in topological order: inputs are known before outputs
            for name in node.output:
                self._types.setdefault(name, self._result_type(node))

    def format_of(self, node: onnx.NodeProto, *, fused: bool) -> str:
        if node.op_type in INTEGER_OPERATORS:
            return "int8"
        if node.op_type == "MatMulNBits":
            return self._of_packed(node)
        sources = [self._dequantized_from(name) for name in node.input[:2]]
        stored = [_FORMATS.get(self._types.get(source, 0), "unknown") if source else None for source in sources]
        if fused and all(stored):
            return "int16x8" if "int16" in stored else "int8"
        types = (self._types.get(name, 0) for name in (*node.input[1:2], *node.input[:1]))
        form = next((_FORMATS[kind] for kind in types if kind in _FORMATS), "unknown")
        return form + _beside(*stored, constant=sources[-1] in self._constants)

    def _of_packed(self, node: onnx.NodeProto) -> str:
        given = _FORMATS.get(self._types.get(node.input[0], 0), "unknown")
        form = _ACCURACY_LEVELS.get(_attribute(node, "accuracy_level") or 0, given)
        return f"{form} with int{_attribute(node, 'bits') or 4} weights"

    def _dequantized_from(self, name: str) -> str | None:
        """The quantised tensor that a DequantizeLinear turns back into this one, if one does."""
        node = self._producers.get(name)
        while node is not None and node.op_type in _MOVES:
            node = self._producers.get(node.input[0])
        return node.input[0] if node is not None and node.op_type == "DequantizeLinear" else None

    def _result_type(self, node: onnx.NodeProto) -> int:
        match node.op_type:
            case "Cast":
                return int(_attribute(node, "to") or 0)
            case "QuantizeLinear":
                zero = node.input[2] if len(node.input) > 2 else ""
                return self._types.get(zero, _attribute(node, "output_dtype") or int(TensorProto.UINT8))
            case "DequantizeLinear":
                return self._types.get(node.input[1], 0)
            case "Shape" | "Size":
                return int(TensorProto.INT64)
            case "Constant":
                value = next((a.t.data_type for a in node.attribute if a.name == "value"), 0)
                return int(value)
        return self._types.get(node.input[0], 0) if node.input else 0


def _beside(activations: str | None = None, weights: str | None = None, *, constant: bool) -> str:
    """What the factors of a float operator are stored in, to be said after its format.

    Nothing where the second is float: many an operator reads what another one has dequantised. Where it is not
    ``constant`` both are activations (attention).
    """
    if weights is None:
        return ""
    if not constant:
        return f" with {weights} activations"
    if activations in (None, weights):
        return f" with {weights} weights{' and activations' if activations else ''}"
    return f" with {weights} weights and {activations} activations"


def _attribute(node: onnx.NodeProto, name: str) -> int | None:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), None)
