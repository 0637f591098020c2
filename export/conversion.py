"""What every conversion of an ONNX file does around its own work: explain a failure, write the result whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import inliner

from gapshift.errors import EvaluationError, GapshiftError, NotApplicableError
from gapshift.records import atomic_path


@contextmanager
def explained(did: str, leave: str) -> Iterator[None]:
    """Turns what the block raises into an EvaluationError that begins with ``did``; NotApplicableError passes through.

    ``leave`` names the environments that an unforeseen failure asks to leave out.
    """
    try:
        yield
    except NotApplicableError:
        raise
    except GapshiftError as error:
        raise EvaluationError(f"{did}: {error}") from error
    except Exception as error:
        message = " ".join(str(error).split()).rstrip(".")
        raise EvaluationError(
            f"{did}: {type(error).__name__}: {message}. "
            f"Leave environments {leave} out, or convert the model yourself and check the result."
        ) from error


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its own functions written out, which no converter knows; itself where it has none."""
    return inliner.inline_local_functions(model) if model.functions else model


def write(model: onnx.ModelProto, out: Path) -> None:
    """The model's file, atomically; equal models give equal bytes."""
    data = model.SerializeToString(deterministic=True)
    with atomic_path(out) as temporary:
        temporary.write_bytes(data)
