"""Batch normalisation folded into the convolution or matrix product before it, as converters do.

With s = scale / √(variance + ε) a normalised channel is y s + (shift − mean s): a weight times s, and
another bias. In exact arithmetic nothing changes; the new weights are rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from gapshift.export.graph_part import Part, attribute, with_attributes

FOLDS_INTO = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class _Affine:
    """What a normalisation does to channel c: y · scale[c] + shift[c], in float64."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


def fold(part: Part, norm: onnx.NodeProto) -> str | None:
    """Folds one BatchNormalization; says why where it cannot be."""
    before = part.producer(norm.input[0])
    if before is None or before.op_type not in FOLDS_INTO:
        return f"what comes before it is {before.op_type if before is not None else 'an input'}"
    if attribute(norm, "training_mode", 0):
        return "it normalises by each batch's own mean and variance (training_mode)"
    if part.readers(before.output[0]) != [norm] or any(v.name == before.output[0] for v in part.graph.output):
        return f"{before.op_type} {before.name!r} is read elsewhere too"
    affine, weight = _affine(part, norm), part.value(before.input[1])
    if affine is None or weight is None:
        return "its parameters or the weights before it are no constants"
    return _INTO[before.op_type](part, before, norm, affine, weight)


def _affine(part: Part, norm: onnx.NodeProto) -> _Affine | None:
    values = [part.value(name) for name in norm.input[1:5]]
    if any(value is None for value in values):
        return None
    scale, shift, mean, variance = (np.asarray(value, np.float64) for value in values)
    factor = scale / np.sqrt(variance + float(attribute(norm, "epsilon", 1e-5)))
    return _Affine(factor, shift - mean * factor)


def _bias(part: Part, node: onnx.NodeProto) -> NDArray[np.float64] | None:
    """The bias in float64, 0 where there is none; None where it is computed."""
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(1)
    value = part.value(node.input[2])
    return None if value is None else value.astype(np.float64)


def _convolution(
    part: Part, node: onnx.NodeProto, norm: onnx.NodeProto, affine: _Affine, weight: NDArray[Any]
) -> str | None:
    bias = _bias(part, node)
    if bias is None:
        return f"the bias of {node.op_type} {node.name!r} is no constant"
    if node.op_type == "Conv":  # (out, in / groups, ...)
        factor = affine.scale.reshape(-1, *[1] * (weight.ndim - 1))
        scaled = weight * factor
    else:  # (in, out / groups, ...): the outputs of a group belong to the inputs of that group
        groups = int(attribute(node, "group", 1))
        factor = affine.scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        scaled = (weight.reshape(groups, -1, *weight.shape[1:]) * factor).reshape(weight.shape)
    _put(part, node, norm, scaled.astype(weight.dtype), (bias * affine.scale + affine.shift).astype(weight.dtype))
    return None


def _gemm(part: Part, node: onnx.NodeProto, norm: onnx.NodeProto, affine: _Affine, weight: NDArray[Any]) -> str | None:
    bias = _bias(part, node)
    if bias is None:
        return f"the bias of Gemm {node.name!r} is no constant"
    scaled = weight * (affine.scale[:, None] if attribute(node, "transB", 0) else affine.scale)
    beta = float(attribute(node, "beta", 1.0))
    added = beta * bias * affine.scale + affine.shift
    node = with_attributes(node, {"beta": 1.0})
    _put(part, node, norm, scaled.astype(weight.dtype), added.astype(weight.dtype))
    return None


def _matmul(
    part: Part, node: onnx.NodeProto, norm: onnx.NodeProto, affine: _Affine, weight: NDArray[Any]
) -> str | None:
    shape = part.shape(node.output[0])
    if weight.ndim != 2 or shape is None or len(shape) != 2:
        return f"MatMul {node.name!r} does not give a matrix, so its columns are not the channels"
    product = part.fresh(f"{norm.output[0]}_product")
    scaled = part.constant((weight * affine.scale).astype(weight.dtype), f"{node.input[1]}_folded")
    shift = part.constant(affine.shift.astype(weight.dtype), f"{norm.output[0]}_bias")
    first = helper.make_node("MatMul", [node.input[0], scaled], [product], name=node.name)
    added = helper.make_node("Add", [product, shift], norm.output[:1], name=part.fresh(f"{norm.output[0]}_add"))
    part.replace(norm, [first, added])
    return None


def _put(part: Part, node: onnx.NodeProto, norm: onnx.NodeProto, weight: NDArray[Any], bias: NDArray[Any]) -> None:
    """The node with other weights in the normalisation's place."""
    folded = with_attributes(node, {})
    names = [node.input[0], part.constant(weight, f"{node.input[1]}_folded")]
    names.append(part.constant(bias, f"{norm.output[0]}_bias"))
    del folded.input[:], folded.output[:]
    folded.input.extend(names)
    folded.output.extend(norm.output[:1])
    part.replace(norm, [folded])


_INTO = {"Conv": _convolution, "ConvTranspose": _convolution, "Gemm": _gemm, "MatMul": _matmul}
