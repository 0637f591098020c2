"""Four-bit weights: stored in four bits, turned back where the graph reads them, computed in float32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gapshift.errors import EvaluationError
from gapshift.export.emulate import is_matrix_operator, require_matrix_operator
from gapshift.export.opset import at_opset
from gapshift.export.quantize import quiet

_OPSET = 21
"""From here on DequantizeLinear takes int4 and blocks."""
_BLOCK = 32
"""Rows of a MatMul's weights that share a scale."""
# Said in the node: DequantizeLinear and MatMul would be fused to a node that rounds the activations to int8 (level 4).
_FLOAT32 = 1
_LARGEST = 7


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every constant weight of a matrix operator in int4, symmetric, without calibration.

    MatMul by ONNX Runtime's quantiser as its MatMulNBits, one scale for each output and block of 32 rows; it knows
    no other operator. Conv, ConvTranspose and Gemm by the standard's DequantizeLinear, one scale for each output
    channel. Recurrent weights and embeddings stay float32. Raises EvaluationError where no matrix operator has a
    constant weight.
    """
    require_matrix_operator(model)
    quantized = _matmuls(at_opset(model, _OPSET, "int4 exists"))
    found = _others(quantized.graph)
    if not found and not any(node.op_type == "MatMulNBits" for node in quantized.graph.node):
        raise EvaluationError(
            "no matrix operator at the graph's top level has a constant weight, so there is nothing to quantise. "
            "Leave environments of this format out."
        )
    return quantized


def _matmuls(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(
            model,
            bits=4,
            block_size=_BLOCK,
            is_symmetric=True,
            accuracy_level=_FLOAT32,
            quant_format=QuantFormat.QOperator,
        )
        quantizer.process()
    done: onnx.ModelProto = quantizer.model.model
    return done


def _others(graph: onnx.GraphProto) -> int:
    """Quantises the weights that the library leaves; returns how many."""
    weights = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    made: dict[tuple[str, int], str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if is_matrix_operator(node) and node.op_type != "MatMul" and node.input[1] in weights:
            key = node.input[1], _output_axis(node)
            if key not in made:
                made[key] = f"{key[0]}_int4_axis{key[1]}"
                nodes.append(_stored(graph, weights[key[0]], key[1], made[key]))
            node.input[1] = made[key]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph, {name for name, _ in made})
    return len(made)


def _output_axis(node: onnx.NodeProto) -> int:
    """The axis of a weight that counts the operator's outputs."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 1 if node.op_type == "ConvTranspose" else 0


def _stored(graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int, name: str) -> onnx.NodeProto:
    """Adds the int4 weight and its scales; returns the node that turns them back into ``name``."""
    whole, scales = quantized_int4(numpy_helper.to_array(weight), axis)
    graph.initializer.append(numpy_helper.from_array(whole, f"{name}_quantized"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    return helper.make_node(
        "DequantizeLinear", [f"{name}_quantized", f"{name}_scale"], [name], name=f"dequantize_{name}", axis=axis
    )


def quantized_int4(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """Whole numbers from −7 to 7, as int4, and the scales along ``axis`` that turn them back.

    >>> whole, scales = quantized_int4(np.array([[7.0, -3.4], [0.0, 14.0]], np.float32), 0)
    >>> whole.astype(int).tolist(), scales.tolist()
    ([[7, -3], [0, 7]], [1.0, 2.0])
    """
    others = tuple(a for a in range(values.ndim) if a != axis)
    scales = np.abs(values).max(axis=others, keepdims=True) / np.float32(_LARGEST)
    scales = np.maximum(scales, np.finfo(np.float32).tiny)  # a denormal scale would itself be rounded coarsely
    whole = np.clip(np.rint(values / scales), -_LARGEST, _LARGEST)
    return whole.astype(ml_dtypes.int4), scales.reshape(-1).astype(np.float32)


def _drop_unread(graph: onnx.GraphProto, names: set[str]) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in read or t.name not in names]
    del graph.initializer[:]
    graph.initializer.extend(kept)
