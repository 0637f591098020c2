"""An ONNX file as a thing on disk: read, checked, hashed, described.

Every problem is a ModelFileError that says what, where and the next step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from gapshift.errors import ModelFileError

_NEXT = "Give the path of a file that torch.onnx.export or another ONNX exporter wrote."
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorDescription:
    """A graph's input or output. ``shape`` holds None for each dynamic dimension;
    it is None as a whole where the file declares no rank. ``dtype`` is NumPy's name."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What a model takes and gives. ``fixed_batch`` is the first input's first
    dimension where it is a number, None where batches of any size are taken."""

    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    opset: int
    fixed_batch: int | None
    metadata: dict[str, str]


def read_model(path: Path) -> onnx.ModelProto:
    """The model with its external data. Raises ModelFileError where it is none."""
    model = _parse(path)
    try:
        onnx.checker.check_model(str(path))
        onnx.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelFileError(f"{path} is not a valid ONNX model: {_first_line(error)}. {_NEXT}") from error
    return model


def sha256(path: Path) -> str:
    """SHA-256 (hex) of the file's bytes, and of its external data where it has some."""
    state = hashlib.sha256()
    locations = _external_locations(_parse(path))
    for part in (path, *(path.parent / location for location in locations)):
        _update(state, part)
    return state.hexdigest()


def describe(path: Path) -> ModelDescription:
    """Inputs, outputs, opset, batch and metadata of an ONNX file. Reads no weights."""
    model = _parse(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor(value) for value in model.graph.input if value.name not in weights)
    first = inputs[0].shape if inputs else None
    return ModelDescription(
        inputs=inputs,
        outputs=tuple(_tensor(value) for value in model.graph.output),
        opset=max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        fixed_batch=first[0] if first else None,
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelFileError(f"{path} {what}; an ONNX file is expected. {_NEXT}")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        size = path.stat().st_size
        raise ModelFileError(
            f"{path} ({size} bytes) is not an ONNX file, or it is cut short: {_first_line(error)}. {_NEXT}"
        ) from error
    if not model.ir_version or not model.graph.node:
        raise ModelFileError(f"{path} ({path.stat().st_size} bytes) holds no ONNX graph. {_NEXT}")
    _refuse_outside(path, model)
    return model


def _refuse_outside(path: Path, model: onnx.ModelProto) -> None:
    """A model file may come from anywhere; it names no file outside its own folder."""
    for location in _external_locations(model):
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        if posix.is_absolute() or windows.anchor or ".." in (*posix.parts, *windows.parts):
            raise ModelFileError(
                f"{path} keeps weights in {location!r}, outside its own folder; such a file is not read. "
                "Save it again with its external data beside it, as a relative path without '..'."
            )


def _external_locations(model: onnx.ModelProto) -> list[str]:
    graphs = (model.graph, *model.functions)
    tensors = (tensor for graph in graphs for tensor in _tensors(graph) if uses_external_data(tensor))
    return sorted({ExternalDataInfo(tensor).location for tensor in tensors})


def _tensors(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph or function: weights, constants, and those of graphs inside its nodes."""
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
        yield from _parts(graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            yield from _parts((attribute.sparse_tensor, *attribute.sparse_tensors))
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _parts(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _update(state: Any, path: Path) -> None:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
    except OSError as error:
        raise ModelFileError(f"Cannot read {path}: {error}. Put the model's external data beside it.") from error


def _tensor(value: onnx.ValueInfoProto) -> TensorDescription:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    known = tensor.elem_type != onnx.TensorProto.UNDEFINED
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if known else "unknown"
    return TensorDescription(value.name, shape, dtype)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
