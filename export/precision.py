"""Precision variants: the same model in another number format, as a file of its own.

A variant keeps the types of the model's input and output (token ids stay int64) and its metadata.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from gapshift.errors import EvaluationError, NotApplicableError
from gapshift.export.conversion import explained, inlined, write
from gapshift.export.emulate import emulate
from gapshift.export.formats import CAST_TO
from gapshift.export.half import to_bfloat16, to_float16
from gapshift.export.model_file import read_model
from gapshift.export.quantize import quantize_dynamic, quantize_static
from gapshift.export.weights import quantize_weights
from gapshift.schema import Precision


def variant(
    model: Path, precision: Precision, out: Path, *, calibration: Iterable[NDArray[Any]] | None, input_name: str
) -> None:
    """Write ``model`` in ``precision`` to ``out``, atomically.

    ``calibration`` yields input batches (n, ...) as the model takes them, token ids as whole
    numbers; only the formats of ``CALIBRATED_FORMATS`` read it. Raises EvaluationError when the
    conversion fails, changes nothing or lacks calibration batches, NotApplicableError where a
    model of this kind cannot be had in this format, ModelFileError when ``model`` cannot be read.
    """
    source = read_model(model)
    did = f"Cannot convert {model} to {precision.format}"
    try:
        with explained(did, "of this format"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # converters warn about their own internals
            converted = _convert(precision, calibration, input_name)(inlined(source))
            _require_format(precision, converted)
            finished = _finished(converted, source)
    except NotApplicableError as error:
        raise NotApplicableError(f"{did}: {error}") from error
    write(finished, out)


def _convert(
    precision: Precision, calibration: Iterable[NDArray[Any]] | None, input_name: str
) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    match precision.format:
        case "float32":
            return lambda model: model
        case "float16":
            return lambda model: to_float16(model, precision.keep_float32)
        case "bfloat16":
            return lambda model: to_bfloat16(model, precision.keep_float32)
        case "int8-dynamic":
            return lambda model: quantize_dynamic(model, precision.per_channel)
        case "int8-qdq" | "int16x8-qdq":
            return lambda model: quantize_static(model, precision, calibration, input_name)
        case "int4-weights":
            return quantize_weights
        case emulated:
            return lambda model: emulate(model, emulated.removesuffix("-emulated"))


_STORED_AS: dict[str, tuple[int, ...]] = {
    "float16": (TensorProto.FLOAT16,),
    "bfloat16": (TensorProto.BFLOAT16,),
    "int8-dynamic": (TensorProto.INT8, TensorProto.UINT8),
    "int8-qdq": (TensorProto.INT8, TensorProto.UINT8),
    "int16x8-qdq": (TensorProto.UINT16,),
    "int4-weights": (TensorProto.INT4, TensorProto.UINT8),
    "tf32-emulated": (TensorProto.DOUBLE,),
    **{f"{form}-emulated": (number,) for form, number in CAST_TO.items()},
}


def _require_format(precision: Precision, converted: onnx.ModelProto) -> None:
    """Raise EvaluationError where a format left no trace: no weight and no Cast is of its type."""
    if precision.format == "float32":
        return
    found = {tensor.data_type for tensor in converted.graph.initializer}
    found |= {attribute.i for node in converted.graph.node for attribute in node.attribute if attribute.name == "to"}
    if not found.intersection(_STORED_AS[precision.format]):
        raise EvaluationError(
            "the converter left every operator in its old format, since it has none that it can convert. "
            "Leave environments of this format out."
        )


def _finished(converted: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """With the source's metadata, and in topological order, which converters leave behind."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    metadata = list(source.metadata_props)  # taken first: both may be the same model
    del converted.metadata_props[:]
    converted.metadata_props.extend(metadata)
    ONNXModel(converted).topological_sort()
    onnx.checker.check_model(converted)
    return converted
