"""Sixteen-bit files: float16 and bfloat16 weights and arithmetic, with some operators kept in float32.

The model's input and output keep their types; Casts stand where two formats meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from gapshift.errors import EvaluationError, NotApplicableError, UnknownNameError
from gapshift.export.formats import rounded
from gapshift.export.opset import at_opset, opset_of

_BFLOAT16_OPSET = 22
"""From here on convolutions, pools and recurrent operators take bfloat16."""


def to_float16(model: onnx.ModelProto, keep_float32: Iterable[str] = ()) -> onnx.ModelProto:
    """Every float32 tensor in float16, but around operators of the types ``keep_float32``.

    Also kept: the operators that ONNX Runtime's converter knows to have no float16. Raises UnknownNameError for a
    type that no operator has, NotApplicableError where the graph has none of those named.
    """
    return _converted(model, _kept(model, keep_float32))


def to_bfloat16(model: onnx.ModelProto, keep_float32: Iterable[str] = ()) -> onnx.ModelProto:
    """The same in bfloat16, at an opset whose operators take it; those that still do not are kept in float32.

    ONNX Runtime's converter knows float16 alone: it places the Casts, then each float16 tensor becomes a bfloat16
    one, weights rounded from what they were in float32.
    """
    kept = _kept(model, keep_float32)
    source = _constants_lifted(at_opset(model, _BFLOAT16_OPSET, "Conv takes bfloat16"))
    weights = {t.name: numpy_helper.to_array(t) for g in _graphs(source.graph) for t in g.initializer}
    half = _converted(source, kept | _without_bfloat16(source))
    for graph in _graphs(half.graph):
        _retype(graph, weights)
    return half


def _kept(model: onnx.ModelProto, asked: Iterable[str]) -> set[str]:
    kept = set(asked)
    has = {node.op_type for graph in _graphs(model.graph) for node in graph.node}
    known = {schema.name for schema in onnx.defs.get_all_schemas()} | has
    for name in sorted(kept - known):
        raise UnknownNameError("operator type (precision.keep_float32)", name, sorted(known))
    if kept and not kept & has:
        raise NotApplicableError(
            f"precision.keep_float32 names {', '.join(sorted(kept))}, and the graph has none of them. It has "
            f"{', '.join(sorted(has))}; name some of these, or leave keep_float32 out."
        )
    return kept


def _converted(model: onnx.ModelProto, kept: set[str]) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the converter works in place
    blocked = [*DEFAULT_OP_BLOCK_LIST, *sorted(kept)]
    half: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True, op_block_list=blocked)
    return half


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes (branches, loop bodies)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _WITH_GRAPHS else ():
                yield from _graphs(inner)


_WITH_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _constants_lifted(model: onnx.ModelProto) -> onnx.ModelProto:
    """With Constant nodes as initializers, so that every weight has a name."""
    for graph in _graphs(model.graph):
        rest = []
        for node in graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if node.op_type == "Constant" and value is not None:
                graph.initializer.add().CopyFrom(value)
                graph.initializer[-1].name = node.output[0]
            else:
                rest.append(node)
        del graph.node[:]
        graph.node.extend(rest)
    return model


def _without_bfloat16(model: onnx.ModelProto) -> set[str]:
    """Operator types of the graph that take float32 and no bfloat16."""
    version = opset_of(model)
    used = {(node.op_type, node.domain) for graph in _graphs(model.graph) for node in graph.node}
    return {name for name, domain in used if not _takes_bfloat16(name, domain, version)}


def _takes_bfloat16(name: str, domain: str, version: int) -> bool:
    if domain not in ("", "ai.onnx"):
        return False
    constraints = onnx.defs.get_schema(name, version, "").type_constraints
    kinds = [set(constraint.allowed_type_strs) for constraint in constraints]
    return all("tensor(bfloat16)" in kind for kind in kinds if "tensor(float)" in kind)


def _retype(graph: onnx.GraphProto, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """float16 becomes bfloat16 everywhere in one graph."""
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(_as_bfloat16(tensor, weights))
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
            elif attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(_as_bfloat16(attribute.t, weights))


def _as_bfloat16(tensor: onnx.TensorProto, weights: Mapping[str, NDArray[np.float32]]) -> onnx.TensorProto:
    import ml_dtypes

    values = numpy_helper.to_array(tensor)
    source = weights.get(tensor.name, values)
    if source.shape != values.shape:
        raise EvaluationError(f"the float16 converter changed the shape of {tensor.name!r}. Report this.")
    short = rounded(source.astype(np.float32), "bfloat16").astype(ml_dtypes.bfloat16)
    return numpy_helper.from_array(short, tensor.name)
