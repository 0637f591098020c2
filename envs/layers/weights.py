"""Weights that differ between two files, as far as names tell which is which."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from gapshift.envs.layers.opened import Layer, OpenModel, OpenSession
from gapshift.schema import Runtime

_DEQUANTISED = "_DequantizeLinear_Output"
_OUTLIER = 8
"""A value stands out where it differs by this many times the median difference: more than rounding does."""


@dataclass(frozen=True)
class WeightDifference:
    """``error`` is ‖a − b‖ / ‖a‖. ``outliers`` of ``size`` values differ by more than rounding; they lie within
    ``block``, first and last index on each axis. ``factor``: what the reference's weight, multiplied by it, comes
    nearest by, and ``beside`` the error that is left then."""

    name: str
    error: float
    outliers: int
    size: int
    shape: tuple[int, ...]
    block: tuple[tuple[int, int], ...]
    factor: float
    beside: float


def weights_of(layer: Layer, model: OpenModel, matched: Collection[str]) -> tuple[str, ...]:
    """The constants that a layer and the unmatched nodes before it read."""
    found: dict[str, None] = dict.fromkeys(layer.constants)
    waiting, seen = list(layer.reads), set(matched)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in model.layers:
            continue
        seen.add(name)
        found |= dict.fromkeys(model.layers[name].constants)
        waiting.extend(model.layers[name].reads)
    return tuple(found)


def weight_differences(reference: OpenModel, other: OpenModel, names: Collection[str]) -> list[WeightDifference]:
    """The weights that ``other``'s constants ``names`` stand for and that are not the reference's, most first."""
    found = [
        _difference(name, a, b)
        for name, a, b in _matched(reference, other, {_plain(name) for name in names})
        if a.shape == b.shape and not np.array_equal(a, b)
    ]
    return sorted(found, key=lambda each: -each.error)


def constant(model: OpenModel, name: str) -> NDArray[Any] | None:
    """A constant's value, computed where nodes make it; None where it has none."""
    for tensor in model.model.graph.initializer:
        if tensor.name == name:
            value: NDArray[Any] = numpy_helper.to_array(tensor)
            return value
    if name not in model.constants:
        return None
    session = OpenSession(model.alone([name], {}), Runtime(optimization="disabled"), model.path.name)
    return session.run({}).get(name)


def _plain(name: str) -> str:
    """The name of the weight that a quantised one was made of."""
    for end in (_DEQUANTISED, "_quantized", "_scale", "_zero_point"):
        name = name.removesuffix(end)
    return name


def _matched(
    reference: OpenModel, other: OpenModel, names: Collection[str]
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    for name in sorted(names):
        mine, theirs = constant(reference, name), _value(other, name)
        if mine is not None and theirs is not None and np.issubdtype(mine.dtype, np.floating):
            yield name, mine.astype(np.float64), theirs.astype(np.float64)


def _value(model: OpenModel, name: str) -> NDArray[Any] | None:
    """A weight as the model's nodes see it: as it stands, dequantised by a node, or by its scale and zero point."""
    for form in (name, name + _DEQUANTISED):
        if (value := constant(model, form)) is not None:
            return value
    parts = [constant(model, name + end) for end in ("_quantized", "_scale", "_zero_point")]
    if parts[0] is None or parts[1] is None:
        return None
    whole = parts[0].astype(np.float64)
    zero = 0.0 if parts[2] is None else parts[2].astype(np.float64)
    made: NDArray[Any] = (whole - zero) * parts[1].astype(np.float64)
    return made


def _difference(name: str, a: NDArray[np.float64], b: NDArray[np.float64]) -> WeightDifference:
    apart = np.abs(a - b)
    norm = float(np.sqrt((a**2).sum()))
    rounding = max(_OUTLIER * float(np.median(apart)), 1e-6 * float(np.abs(a).max()))
    places = np.nonzero(np.atleast_1d(apart > rounding))
    block = tuple((int(axis.min()), int(axis.max())) for axis in places) if len(places[0]) else ()
    error = float(np.sqrt((apart**2).sum())) / norm if norm else float("inf")
    factor = float((a * b).sum()) / norm**2 if norm else 1.0
    beside = float(np.sqrt(((b - factor * a) ** 2).sum())) / norm if norm else float("inf")
    return WeightDifference(name, error, len(places[0]), a.size, a.shape, block, factor, beside)
