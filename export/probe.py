"""Whether two forms of one node differ at all, found by running both."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.export.graph_part import Part

_MOST_VALUES = 1 << 22
"""A larger tensor is not tried: its node counts as changed."""


def differs(part: Part, before: onnx.NodeProto, after: onnx.NodeProto) -> bool:
    """Whether the two give other values, or values of another shape, for random numbers of the node's own shape.

    One item is tried. True as well where that cannot be known beforehand: other dimensions than the batch
    are dynamic, an operand is computed, or ONNX Runtime's CPU provider cannot run the node.
    """
    shape = part.shape(before.input[0])
    operands = {name: part.value(name) for name in before.input[1:] if name}
    if not shape or None in shape[1:] or any(value is None for value in operands.values()):
        return True
    whole = [shape[0] or 1, *(size or 1 for size in shape[1:])]
    if np.prod(whole) > _MOST_VALUES:
        return True
    values = np.random.default_rng(0).normal(size=whole).astype(np.float32)
    one, other = (_run(part, node, values, operands) for node in (before, after))
    return one is None or other is None or not np.array_equal(one, other)


def _run(
    part: Part, node: onnx.NodeProto, values: NDArray[np.float32], operands: dict[str, NDArray[Any] | None]
) -> NDArray[Any] | None:
    import onnxruntime

    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, list(values.shape))],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in operands.items() if value is not None],
    )
    model = helper.make_model(graph, opset_imports=part.model.opset_import, ir_version=part.model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        result: NDArray[Any] = session.run(None, {node.input[0]: values})[0]
    except Exception:  # noqa: BLE001  ONNX Runtime raises a type of its own for each kind of failure
        return None
    return result
