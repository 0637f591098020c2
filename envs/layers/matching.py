"""Which tensor of the reference a tensor of another file stands for, by the names that converters keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gapshift.envs.layers.opened import Layer, OpenModel

Stage = Literal["computed", "quantised"]
_CLIPPING = ("Relu", "Clip")


@dataclass(frozen=True)
class Match:
    """``reference`` and ``layer.tensor`` are the same quantity. ``quantised``: as the nodes after it read it, through
    QuantizeLinear and DequantizeLinear; ``computed``: as its own node puts it out."""

    reference: str
    layer: Layer
    stage: Stage = "computed"


@dataclass(frozen=True)
class Matching:
    """Matches in the topological order of the other file, and the tensors of both that have no counterpart."""

    matches: tuple[Match, ...]
    unmatched_reference: tuple[Layer, ...]
    unmatched: tuple[Layer, ...]


def match(reference: OpenModel, other: OpenModel) -> Matching:
    """Match two files' tensors. Integer counterparts (quantised tensors, indices of another kind) stay unmatched."""
    known = reference.layers
    quantised = _quantised(reference, other)
    found: list[Match] = []
    for layer in other.layers.values():
        through = quantised.get(layer.tensor)
        if through is not None:
            found.append(Match(through, layer, "quantised"))
        elif (source := _computed(layer, reference, other)) is not None:
            found.append(Match(source, layer))
    mine, theirs = {pair.reference for pair in found}, {pair.layer.tensor for pair in found}
    return Matching(
        matches=tuple(found),
        unmatched_reference=tuple(layer for name, layer in known.items() if name not in mine),
        unmatched=tuple(layer for name, layer in other.layers.items() if name not in theirs),
    )


def _quantised(reference: OpenModel, other: OpenModel) -> dict[str, str]:
    """DequantizeLinear's results in ``other`` → the tensors of ``reference`` that they stand for.

    The library's matching works by the names that its quantiser gives; its values are not looked at.
    """
    from onnxruntime.quantization.qdq_loss_debug import create_activation_matching

    if not any(layer.operator == "DequantizeLinear" for layer in other.layers.values()):
        return {}
    tensors: dict[str, Any] = {name: [name] for name in (*other.inputs, *other.layers)}
    known: dict[str, Any] = {name: [name] for name in (*reference.inputs, *reference.layers)}
    pairs = create_activation_matching(tensors, known)
    return {
        str(found["post_qdq"][0]): str(found["float"][0])
        for found in pairs.values()
        if "float" in found and _is_dequantised(other, str(found["post_qdq"][0]))
    }


def _is_dequantised(model: OpenModel, tensor: str) -> bool:
    return tensor in model.layers and model.layers[tensor].operator == "DequantizeLinear"


def _computed(layer: Layer, reference: OpenModel, other: OpenModel) -> str | None:
    """The reference's tensor of the same name and, where it is quantised next, of the same operator.

    A quantiser leaves Relu to QuantizeLinear's lower end and gives the convolution Relu's name: then the tensor is
    what Relu read.
    """
    name = layer.tensor.removesuffix("_QuantizeLinear_Input")
    theirs = reference.layers.get(name)
    if theirs is None:
        return None
    if theirs.operator in _CLIPPING and layer.operator not in _CLIPPING and _is_quantised_next(layer, other):
        before = reference.layers.get(theirs.reads[0]) if theirs.reads else None
        return before.tensor if before is not None and before.operator == layer.operator else None
    return name


def _is_quantised_next(layer: Layer, model: OpenModel) -> bool:
    return any(each.operator == "QuantizeLinear" and layer.tensor in each.reads for each in model.layers.values())
