"""torch to ONNX, with a dynamic batch and, for sequences, a dynamic length."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import onnx
import onnx_ir
import torch
from torch import Tensor, nn

from gapshift.errors import EvaluationError
from gapshift.export.model_file import TensorDescription, describe
from gapshift.records import atomic_path

OPSET = 20
BATCH = "batch"
"""Name of the symbolic first dimension of input and output."""
LENGTH = "length"
"""Name of a sequence's symbolic dimension."""


def to_onnx(
    model: nn.Module,
    example: Tensor,
    path: Path,
    *,
    input_name: str = "input",
    output_name: str = "logits",
    length_axis: int | None = None,
    recurrent: bool = False,
    architecture: str | None = None,
) -> None:
    """Write ``model`` in eval mode and float32 to one self-contained file, atomically.

    ``example`` (N, ...) gives the shape of an input; its first dimension becomes symbolic, and
    so does ``length_axis`` where one is given. Whole numbers (token ids) are taken as int64.
    ``recurrent``: the model holds an LSTM or a GRU. Models of one ``architecture`` differ in
    nothing but their weights: its graph is captured once in a process, the slow part, and gets
    each model's weights; the file is the same to the byte. The caller's model is not touched.
    Raises EvaluationError where the exporter fails or freezes one of these dimensions.
    """
    frozen = copy.deepcopy(model).cpu().float().eval()
    frozen = frozen.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in torch's stub
    # Two rows: a batch of 1 would be specialised to a constant.
    one = example.detach().cpu()[:1]
    one = one.float() if one.is_floating_point() else one.long()
    pair = one.repeat(2, *([1] * (one.ndim - 1))).contiguous()
    dynamic = {0: BATCH} if length_axis is None else {0: BATCH, length_axis: LENGTH}
    address = (
        None if architecture is None else f"{architecture} {tuple(pair.shape)} {dynamic} {input_name} {output_name}"
    )
    export = _trace if recurrent else partial(_capture, address=address)
    with atomic_path(path) as temporary:
        try:
            with _EXPORTER, _quiet():
                export(frozen, pair, temporary, [input_name], [output_name], dynamic)
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise EvaluationError(
                f"Cannot export {type(model).__name__} to ONNX (opset {OPSET}, dynamic {' and '.join(dynamic.values())}"
                f"): {error}. Rewrite the operation that the message names, and export again."
            ) from error
        require_symbolic(temporary, length_axis, called=type(model).__name__)


_EXPORTER = threading.Lock()
"""Held while a model is exported: torch's exporters and ``_quiet`` change what all threads share."""
_CAPTURED: OrderedDict[str, torch.onnx.ONNXProgram] = OrderedDict()
"""The latest captured graphs by address, read and changed by the holder of ``_EXPORTER`` alone."""
_MOST_CAPTURED = 16


def _capture(
    model: nn.Module,
    example: Tensor,
    path: Path,
    inputs: list[str],
    outputs: list[str],
    dynamic: dict[int, str],
    address: str | None,
) -> None:
    program = _CAPTURED.get(address) if address is not None else None
    if program is None:
        # Not optimised yet: that folds weights into others, and then they could not be exchanged.
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(dynamic,),
            verbose=False,
        )
        if program is None:
            raise EvaluationError(f"torch gave no graph of {type(model).__name__}. Export it with another version.")
        if address is not None:
            _CAPTURED[address] = program
            if len(_CAPTURED) > _MOST_CAPTURED:
                _CAPTURED.popitem(last=False)
    filled = _with_weights(program, model)
    filled.optimize()
    filled.save(path, external_data=False)
    _forget_origins(path)


def _with_weights(program: torch.onnx.ONNXProgram, model: nn.Module) -> torch.onnx.ONNXProgram:
    """A copy of a captured graph with this model's weights. Raises EvaluationError where one does not fit."""
    copied = onnx_ir.from_proto(onnx_ir.to_proto(program.model))
    weights = model.state_dict()
    for name, value in copied.graph.initializers.items():
        if name in weights:
            array = weights[name].detach().cpu().contiguous().numpy()
            if value.const_value is None or tuple(value.const_value.shape) != array.shape:
                raise EvaluationError(
                    f"{type(model).__name__} has a weight {name!r} of shape {array.shape} that the captured graph has "
                    "not: models of one architecture differ in their weights' values alone. Export it by itself."
                )
            value.const_value = onnx_ir.tensor(array, name=name)
    return torch.onnx.ONNXProgram(copied, program.exported_program)


def _forget_origins(path: Path) -> None:
    """Drop every node's stack trace: paths of this machine, and four fifths of a small file."""
    model = onnx.load(str(path))
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        del node.metadata_props[:]
    path.write_bytes(model.SerializeToString(deterministic=True))


def _trace(
    model: nn.Module, example: Tensor, path: Path, inputs: list[str], outputs: list[str], dynamic: dict[int, str]
) -> None:
    """Through the older exporter: after the first recurrent network that a process captures
    with ``dynamo=True`` later ones keep the example's length (torch 2.13)."""
    with torch.no_grad():
        spans = model(example).ndim > 2
    answers = {0: BATCH, 2: LENGTH} if spans and len(dynamic) > 1 else {0: BATCH}
    torch.onnx.export(
        model,
        (example,),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=inputs,
        output_names=outputs,
        dynamic_axes={inputs[0]: dynamic, outputs[0]: answers},
        verbose=False,
    )


def require_symbolic(path: Path, length_axis: int | None = None, called: str = "") -> None:
    """Raise EvaluationError unless the batch, and the length where an axis is given, are symbolic.

    That of an output is its last dimension where it has three (batch, 2, length). ``called``
    names the model where ``path`` would say nothing.
    """
    graph = describe(path)
    frozen = [_shown(port) for port in graph.inputs if _is_fixed(port, 0)]
    frozen += [_shown(port) for port in graph.outputs if _is_fixed(port, 0)]
    named = called or path
    if frozen:
        raise EvaluationError(f"The export of {named} froze the batch dimension: {', '.join(frozen)}. {_NEXT}")
    if length_axis is None:
        return
    frozen = [_shown(port) for port in graph.inputs if _is_fixed(port, length_axis)]
    frozen += [_shown(port) for port in graph.outputs if port.shape and len(port.shape) > 2 and _is_fixed(port, 2)]
    if frozen:
        raise EvaluationError(f"The export of {named} froze the length: {', '.join(frozen)}. {_NEXT}")


_NEXT = "Do not deploy this file; export again, or look for operations that depend on the batch or the length."


def _is_fixed(port: TensorDescription, axis: int) -> bool:
    return port.shape is None or axis >= len(port.shape) or port.shape[axis] is not None


def _shown(port: TensorDescription) -> str:
    return f"{port.name} {port.shape}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Contain the exporters' prints, log lines and deprecation warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    before = [logger.level for logger in loggers]
    sink = io.StringIO()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
