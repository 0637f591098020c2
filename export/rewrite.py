"""What converters change inside a model silently, done to the ONNX file on purpose: ``schema.Graph`` made real.

Graphs inside nodes (If, Loop, Scan) and a model's own functions are rewritten too. A rewrite that would change
nothing is refused, never passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, shape_inference

from gapshift.errors import EvaluationError, NotApplicableError
from gapshift.export.conversion import explained, inlined, write
from gapshift.export.fold import FOLDS_INTO, fold
from gapshift.export.gelu import gelus, rewrite_gelu
from gapshift.export.graph_part import Part, attribute, parts_of, with_attributes
from gapshift.export.model_file import read_model
from gapshift.export.probe import differs
from gapshift.schema import Graph

NORMALIZATIONS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization")
_EPSILON = 1e-5
"""ONNX's default of every normalisation."""
_CUBIC = -0.75
"""ONNX's default of ``cubic_coeff_a``."""
_RESIZE_OPSET = 11
"""The first opset whose Resize has a coordinate transformation."""
_TRIED_BATCH = 7
"""Shapes are inferred with a batch of this size once more: a Reshape to fixed sizes fits no other one by chance."""


def rewrite(model: Path, graph: Graph, out: Path) -> None:
    """Write ``model`` with every rewrite that ``graph`` names to ``out``, atomically, its metadata kept.

    Raises NotApplicableError where one of them finds nothing of its kind, or nothing that it would change;
    EvaluationError where one fails, or makes shapes that a later node (named) cannot take; ModelFileError
    when ``model`` cannot be read.
    """
    source = read_model(model)
    wanted = {key: value for key, value in graph.model_dump().items() if value is not None}
    said = ", ".join(f"graph.{key} = {value}" for key, value in wanted.items())
    with explained(f"Cannot rewrite {model} ({said})", "with these keys"):
        rewritten = _rewritten(source, wanted)
    write(rewritten, out)


def _rewritten(source: onnx.ModelProto, wanted: dict[str, Any]) -> onnx.ModelProto:
    original = _with_shapes(inlined(source))
    model = original
    for key, rewriting in _REWRITES.items():
        if key in wanted:
            model = _with_shapes(model)
            rewriting(parts_of(model), wanted[key])
    model = _with_shapes(model)
    onnx.checker.check_model(model)
    problem = _misfit(model)
    if problem and not _misfit(original):  # what could not be inferred before either is for the runtime to say
        raise EvaluationError(f"{problem}. Leave environments with these keys out for this model.")
    return model


# ------------------------------------------------------------------------ one rewrite each


def _max_pool(parts: list[Part], value: str) -> None:
    found = [(part, node, int(attribute(node, "ceil_mode", 0))) for part in parts for node in part.nodes("MaxPool")]
    _require(found, f"graph.max_pool = {value}", "MaxPool nodes")
    mode = int(value == "ceil")
    changes = [(part, node, {"ceil_mode": mode}) for part, node, now in found if now != mode]
    _set(changes, f"graph.max_pool = {value}", "the windows fit exactly, so that rounding changes no output's shape")


def _average_pool(parts: list[Part], value: str) -> None:
    said = f"graph.average_pool = {value}"
    found = [(part, node) for part in parts for node in part.nodes("AveragePool")]
    _require(found, said, "AveragePool nodes")
    counted = int(value == "padding-counted")
    changes = [
        (part, node, {"count_include_pad": counted})
        for part, node in found
        if int(attribute(node, "count_include_pad", 0)) != counted
    ]
    padded = [each for each in changes if _is_padded(each[1])]
    if changes and not padded:
        raise NotApplicableError(f"{said} changes nothing: no AveragePool node of its {len(changes)} has padding")
    _set(padded, said, "no window reaches into the padding")


def _is_padded(node: onnx.NodeProto) -> bool:
    return any(attribute(node, "pads", [])) or attribute(node, "auto_pad", "NOTSET").startswith("SAME")


def _resize_mode(parts: list[Part], value: str) -> None:
    _resize(parts, "mode", "graph.resize_mode", "nearest", value)


def _resize_coordinates(parts: list[Part], value: str) -> None:
    _resize(parts, "coordinate_transformation_mode", "graph.resize_coordinates", "half_pixel", value)


def _resize(parts: list[Part], key: str, called: str, default: str, value: str) -> None:
    said = f"{called} = {value}"
    found = [(part, node) for part in parts for node in part.nodes("Resize")]
    _require(found, said, "Resize nodes")
    if parts[0].opset < _RESIZE_OPSET:
        raise NotApplicableError(
            f"{said}: Resize has no such settings before opset {_RESIZE_OPSET}; the file's is {parts[0].opset}"
        )
    changes = [
        (part, node, _consistent(node, {key: value})) for part, node in found if attribute(node, key, default) != value
    ]
    _set(changes, said, "at their sizes both give the same values")


def _consistent(node: onnx.NodeProto, changes: dict[str, Any]) -> dict[str, Any]:
    """With the attributes that follow: those of another mode go, and nearest neighbours lie where the grid puts them.

    Rounding down suits a grid without half a pixel's offset (torch's nearest); rounding to the nearest the others.
    """
    mode = changes.get("mode", attribute(node, "mode", "nearest"))
    where = changes.get("coordinate_transformation_mode", attribute(node, "coordinate_transformation_mode", ""))
    if mode == "nearest":
        changes["nearest_mode"] = "floor" if where == "asymmetric" else "round_prefer_floor"
        changes["antialias"] = None
    else:
        changes["nearest_mode"] = None
    if mode != "cubic":
        changes["exclude_outside"] = None
    changes["cubic_coeff_a"] = float(attribute(node, "cubic_coeff_a", _CUBIC)) if mode == "cubic" else None
    return changes


def _normalization_epsilon(parts: list[Part], value: float) -> None:
    said = f"graph.normalization_epsilon = {value:g}"
    found = [(part, node) for part in parts for node in part.nodes(*NORMALIZATIONS)]
    _require(found, said, f"{', '.join(NORMALIZATIONS)} (normalisation written out in simpler nodes is not recognised)")
    changed = [each for each in found if not _same(attribute(each[1], "epsilon", _EPSILON), value)]
    if not changed:
        raise NotApplicableError(f"{said}: every normalisation of its {len(found)} has that epsilon already")
    for part, node in changed:
        part.replace(node, [with_attributes(node, {"epsilon": value})])


def _same(one: float, other: float) -> bool:
    """As float32, which attributes are."""
    return math.isclose(one, other, rel_tol=1e-6)


def _batch_norm(parts: list[Part], value: str) -> None:
    said = f"graph.batch_norm = {value}"
    found = [(part, node) for part in parts for node in part.nodes("BatchNormalization")]
    _require(found, said, "BatchNormalization nodes (most exporters fold them)")
    reasons = [f"{node.name or node.output[0]!r}: {reason}" for part, node in found if (reason := fold(part, node))]
    if len(reasons) == len(found):
        raise NotApplicableError(
            f"{said}: no BatchNormalization node of its {len(found)} can be folded into "
            f"{', '.join(FOLDS_INTO)}: {reasons[0]}"
        )


def _gelu(parts: list[Part], value: Any) -> None:
    said = f"graph.gelu = {value}"
    found = [(part, gelu) for part in parts for gelu in gelus(part)]
    _require(found, said, "Gelu nodes, and Erf and Tanh nodes inside a GELU written out")
    changed = [(part, gelu) for part, gelu in found if gelu.form != value]
    if not changed:
        raise NotApplicableError(f"{said}: every GELU of its {len(found)} is {value} already")
    for part, gelu in changed:
        rewrite_gelu(part, gelu, value)


def _softmax(parts: list[Part], value: str) -> None:
    said = f"graph.softmax = {value}"
    found = [(part, node) for part in parts for node in part.nodes("Softmax")]
    _require(found, said, "Softmax nodes")
    wide = [(part, node) for part, node in found if part.element_type(node.output[0]) in (TensorProto.FLOAT, 0)]
    if not wide:
        raise NotApplicableError(f"{said}: no Softmax node of its {len(found)} takes float32")
    for part, node in wide:
        part.replace(node, _rounded(part, node))


def _rounded(part: Part, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Input and output rounded to float16, sums in float32 between: what half-precision kernels compute.

    ONNX Runtime's CPU provider has no float16 Softmax, and where a float16 node stands between two Casts it
    takes all of them away; a float32 one between two pairs of Casts stays as it is.
    """
    (x, y) = node.input[0], node.output[0]
    names = [part.fresh(f"{y}_{what}") for what in ("input_half", "input", "exact", "half")]
    half_input, rounded, exact, half = names
    between = with_attributes(node, {})
    between.input[0], between.output[0] = rounded, exact

    def cast(source: str, target: str, to: int) -> onnx.NodeProto:
        return helper.make_node("Cast", [source], [target], name=part.fresh(f"{target}_cast"), to=to)

    into = [cast(x, half_input, TensorProto.FLOAT16), cast(half_input, rounded, TensorProto.FLOAT)]
    return [*into, between, cast(exact, half, TensorProto.FLOAT16), cast(half, y, TensorProto.FLOAT)]


_REWRITES: dict[str, Callable[[list[Part], Any], None]] = {
    "normalization_epsilon": _normalization_epsilon,  # before folding, which uses it
    "batch_norm": _batch_norm,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "resize_mode": _resize_mode,
    "resize_coordinates": _resize_coordinates,
    "gelu": _gelu,
    "softmax": _softmax,
}


def _require(found: list[Any], said: str, looked_for: str) -> None:
    if not found:
        raise NotApplicableError(f"{said}: the graph has none of what this changes: {looked_for}")


def _set(changes: Iterable[tuple[Part, onnx.NodeProto, dict[str, Any]]], said: str, otherwise: str) -> None:
    """Sets the attributes of the nodes for which that makes a difference. Raises NotApplicableError for none."""
    every = [(part, node, with_attributes(node, attributes)) for part, node, attributes in changes]
    if not every:
        raise NotApplicableError(f"{said}: the file already has it everywhere")
    real = [(part, node, other) for part, node, other in every if differs(part, node, other)]
    if not real:
        raise NotApplicableError(
            f"{said} changes nothing: tried on random numbers, every {every[0][1].op_type} node that it would set "
            f"({len(every)}) gives the same as before: {otherwise}"
        )
    for part, node, other in real:
        part.replace(node, [other])


# ----------------------------------------------------------------------------------- shapes


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the shapes and types that follow from its inputs, and no older ones; results stay as declared."""
    copy = _without_shapes(model)
    inferred: onnx.ModelProto = shape_inference.infer_shapes(copy, data_prop=True)
    for part, declared in zip(parts_of(inferred), parts_of(copy), strict=True):
        del part.graph.output[:]
        part.graph.output.extend(declared.graph.output)
    return inferred


def _without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for part in parts_of(copy):
        del part.graph.value_info[:]
    return copy


def _misfit(model: onnx.ModelProto) -> str:
    """What a node cannot take, by name; empty where every shape follows from those before it."""
    copy = _without_shapes(model)
    for tensor in copy.graph.input:
        dims = tensor.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = _TRIED_BATCH
    try:
        shape_inference.infer_shapes(copy, check_type=True, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError as error:
        return " ".join(str(error).split()).rstrip(".")
    return ""
