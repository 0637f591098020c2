"""int8 variants through ONNX Runtime's quantiser.

Static: uint8 activations and int8 weights between QuantizeLinear/DequantizeLinear
pairs, the mix that ONNX Runtime fuses to integer kernels everywhere (int8 activations
fused 9 of 21 convolutions); or uint16 activations, for which its CPU provider has no
integer kernels. Dynamic: uint8 weights (int8 ones run five times slower).
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gapshift.errors import EvaluationError, NotApplicableError
from gapshift.export.emulate import require_matrix_operator
from gapshift.export.opset import at_opset
from gapshift.schema import Precision

# The library's own default for entropy is 128 bins over 128 levels: a single candidate
# threshold, so that entropy equals minmax. Its cost grows with the square of the bins
# (2048: half a second a tensor).
_CALIBRATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "minmax": ("MinMax", {}),
    "entropy": ("Entropy", {"num_bins": 512, "num_quantized_bins": 128}),
    "percentile": ("Percentile", {"num_bins": 2048, "percentile": 99.99}),
}

_INT16_OPSET = 21
"""From here on QuantizeLinear gives 16 bits."""
_MASK = -1e4
"""Values from here down stand for minus infinity."""
_ELEMENTWISE = frozenset(["Where", "Add", "Sub", "Mul", "Min", "Max", "Cast", "Identity"])
_MOVES = frozenset(["Expand", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Slice", "Concat", "Gather"])


def quantize_dynamic(model: onnx.ModelProto, per_channel: bool) -> onnx.ModelProto:
    """Weights in uint8, activation scales found anew in every batch.

    The library has scales per output channel for MatMul and Gemm alone. Raises NotApplicableError where they are asked
    for and the model has neither.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    with quiet(), tempfile.TemporaryDirectory() as folder:
        prepared, out = _prepared(model, Path(folder)), Path(folder) / "out.onnx"
        quantize(prepared, out, per_channel=per_channel, weight_type=QuantType.QUInt8)
        quantized: onnx.ModelProto = onnx.load(str(out))
    scales = [tensor for tensor in quantized.graph.initializer if tensor.name.endswith("_scale")]
    if per_channel and scales and not any(np.prod(tensor.dims) > 1 for tensor in scales):
        raise NotApplicableError(
            "precision.per_channel changes nothing: dynamic quantisation has scales per output channel for MatMul and "
            "Gemm with weights of their own alone, and this model has neither. Use int8-dynamic without it."
        )
    return quantized


def quantize_static(
    model: onnx.ModelProto, precision: Precision, calibration: Iterable[NDArray[Any]] | None, input_name: str
) -> onnx.ModelProto:
    """QDQ with ranges from ``calibration``: batches (n, ...) of the model's inputs, token ids too.

    What depends on the inputs' length alone (positions) stays float32, and so does what carries
    a mask: 256 steps from -10,000 upwards would leave nothing of the rest. Raises
    EvaluationError where there are no batches, they are not finite or differ in length.
    """
    require_matrix_operator(model)
    wide = precision.format == "int16x8-qdq"
    if wide:
        model = at_opset(model, _INT16_OPSET, "16-bit activations exist")
    batches = _batches(model, calibration, input_name)
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    with quiet(), tempfile.TemporaryDirectory() as folder:
        operators = sorted({*QLinearOpsRegistry, *QDQRegistry})
        prepared = _prepared(model, Path(folder))
        ranges = _ranges(prepared, operators, precision, ({input_name: batch} for batch in batches))
        source = onnx.load(str(prepared))
        quantizer = QDQQuantizer(
            source,
            precision.per_channel,
            False,  # reduce_range
            QuantType.QInt8,
            QuantType.QUInt16 if wide else QuantType.QUInt8,
            ranges,
            [],  # nodes to quantise: all
            [*_of_shapes_alone(source.graph, input_name), *_masking(source.graph)],  # nodes to leave out
            operators,
            {},
        )
        quantizer.quantize_model()
        quantized: onnx.ModelProto = quantizer.model.model
        return quantized


def _ranges(prepared: Path, operators: list[str], precision: Precision, feeds: Iterator[dict[str, Any]]) -> Any:
    """Every tensor's range. ``feeds`` is read once, batch by batch."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the library is untyped
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    method, options = _CALIBRATORS[precision.calibrator]
    calibrator = create_calibrator(
        prepared,
        operators,
        str(prepared.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod[method],
        extra_options=options,
    )
    calibrator.collect_data(Reader())
    return calibrator.compute_data()


def _of_shapes_alone(graph: onnx.GraphProto, input_name: str) -> list[str]:
    """Names of the nodes that no value of the input reaches, only its shape."""
    reached = {input_name}
    for node in graph.node:  # in topological order
        if node.op_type not in ("Shape", "Size") and reached.intersection(node.input):
            reached.update(node.output)
    return [node.name for node in graph.node if not reached.intersection(node.output)]


def _masking(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that take or give a tensor with a mask's huge negative values in it."""
    masked = {tensor.name for tensor in graph.initializer if _is_mask(tensor)}
    for node in graph.node:
        if node.op_type in _ELEMENTWISE | _MOVES and masked.intersection(node.input):
            masked.update(node.output)
    return [node.name for node in graph.node if masked.intersection((*node.input, *node.output))]


def _is_mask(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
        return False
    values = onnx.numpy_helper.to_array(tensor)
    return bool(values.size and values.min() <= _MASK)


def _prepared(model: onnx.ModelProto, folder: Path) -> Path:
    """The model with shapes inferred and constants folded, as the quantiser advises, and every node named.

    ONNX's own shape inference: the library's symbolic one leaves files in the working
    directory where it meets a shape that it cannot infer. The declared shapes of weights are
    dropped, since the quantiser turns some weights and keeps what was declared.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared = folder / "source.onnx", folder / "prepared.onnx"
    onnx.save(model, str(source))
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    ready = onnx.load(str(prepared))
    weights = {tensor.name for tensor in ready.graph.initializer}
    declared = [value for value in ready.graph.value_info if value.name not in weights]
    del ready.graph.value_info[:]
    ready.graph.value_info.extend(declared)
    for index, node in enumerate(ready.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.save(ready, str(prepared))
    return prepared


def _batches(model: onnx.ModelProto, calibration: Iterable[NDArray[Any]] | None, input_name: str) -> list[NDArray[Any]]:
    takes = _input(model, input_name)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(takes.elem_type)
    batches = [np.asarray(batch, dtype=dtype) for batch in calibration or ()]
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        raise EvaluationError(
            "static quantisation needs calibration batches and got none. Give items to calibrate on "
            "(--calibration-data), or use int8-dynamic, which needs none."
        )
    if not all(np.isfinite(batch).all() for batch in batches):
        raise EvaluationError("the calibration batches hold values that are not finite. Check their preprocessing.")
    shapes = sorted({batch.shape[1:] for batch in batches})
    if len(shapes) > 1:
        raise EvaluationError(f"the calibration batches hold inputs of shapes {shapes}. Prepare all to one length.")
    return _of_size(batches, _fixed_batch(takes) or len(batches[0]))


def _of_size(batches: list[NDArray[Any]], size: int) -> list[NDArray[Any]]:
    """The same rows in batches of equal size, the last filled with its last row.

    The histogram calibrators need equal sizes, a model with a fixed batch needs its own.
    """
    rows = np.concatenate(batches)
    missing = -len(rows) % size
    rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
    return list(rows.reshape(-1, size, *rows.shape[1:]))


def _input(model: onnx.ModelProto, input_name: str) -> onnx.TypeProto.Tensor:
    names = [value.name for value in model.graph.input]
    if input_name not in names:
        raise EvaluationError(f"the model has no input {input_name!r}; it has {', '.join(names)}.")
    return model.graph.input[names.index(input_name)].type.tensor_type


def _fixed_batch(takes: onnx.TypeProto.Tensor) -> int | None:
    dims = takes.shape.dim
    return dims[0].dim_value if dims and dims[0].HasField("dim_value") else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The library's quantisers print progress and log hints to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
