"""torch to ONNX, with a dynamic batch."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from gapshift.errors import EvaluationError
from gapshift.records import atomic_path

OPSET = 20
BATCH = "batch"
"""Name of the symbolic first dimension of input and output."""


def to_onnx(
    model: nn.Module, example: Tensor, path: Path, *, input_name: str = "input", output_name: str = "logits"
) -> None:
    """Write ``model`` in eval mode and float32 to one self-contained file, atomically.

    ``example`` (N, ...) gives the shape of an input; its first dimension becomes symbolic.
    The caller's model is not touched. Raises EvaluationError where the exporter fails.
    """
    frozen = copy.deepcopy(model).cpu().float().eval()
    frozen = frozen.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # missing in torch's stub
    # Two rows: a batch of 1 would be specialised to a constant.
    pair = example.detach().cpu().float()[:1].repeat(2, *([1] * (example.ndim - 1))).contiguous()
    with atomic_path(path) as temporary:
        try:
            with _quiet():
                torch.onnx.export(
                    frozen,
                    (pair,),
                    temporary,
                    dynamo=True,
                    external_data=False,
                    opset_version=OPSET,
                    input_names=[input_name],
                    output_names=[output_name],
                    dynamic_shapes=({0: torch.export.Dim(BATCH)},),
                    verbose=False,
                )
        except torch.onnx.errors.OnnxExporterError as error:
            raise EvaluationError(
                f"Cannot export {type(model).__name__} to ONNX (opset {OPSET}, dynamic batch): {error}. "
                "Rewrite the operation that the message names, and export again."
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Contain the exporter's prints, log lines and deprecation warnings."""
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
