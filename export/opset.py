"""A model at a newer version of ONNX's operators, where a number format needs it."""

from __future__ import annotations

import onnx

from gapshift.errors import NotApplicableError


def at_opset(model: onnx.ModelProto, least: int, why: str) -> onnx.ModelProto:
    """A copy of ``model`` at opset ``least``, or as it is where it has that or a later one.

    ``why`` names what the older opset lacks. Raises NotApplicableError where ONNX's version converter cannot
    bring the model there.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    has = opset_of(model)
    if has >= least:
        return copy
    try:
        raised: onnx.ModelProto = onnx.version_converter.convert_version(copy, least)
        onnx.checker.check_model(raised)
    except Exception as error:  # the converter raises RuntimeError, and more from C++
        message = " ".join(str(error).split())[:300].rstrip(".")
        raise NotApplicableError(
            f"{why} from opset {least} on, the model has opset {has}, and ONNX's converter cannot raise it: {message}. "
            f"Export the model at opset {least} or later, or leave environments of this format out."
        ) from error
    return raised


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard operators that a model uses."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
