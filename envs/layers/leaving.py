"""The layer at which a deployment leaves the reference.

A layer *leaves* where its error exceeds its threshold: ten times what graph optimisation alone changes, at least
1e-5. The layer to blame is another matter: where a file differs, it is the one whose own error (given the reference's
inputs) exceeds its threshold and stands out from those of the others, five times their median; rounding to int8
everywhere makes own errors of one size, one corrupted weight or one bad scale a single large one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapshift.envs.layers.compare import LEAST_THRESHOLD, Comparison, LayerDifference
from gapshift.envs.layers.opened import OpenModel
from gapshift.envs.layers.weights import WeightDifference, constant, weight_differences, weights_of

STANDS_OUT = 5
"""How many times the median of the layers' own errors one must be to be blamed."""


@dataclass(frozen=True)
class Scale:
    """A quantised tensor's step, and the one that the reference's range takes at this number of bits; the least and
    highest value of either."""

    step: float
    needed: float
    range: tuple[float, float]
    other_range: tuple[float, float]


@dataclass(frozen=True)
class Leaving:
    """``first``: the first layer that leaves. ``blamed``: the layer whose own error stands out, if one does;
    ``typical`` is the median of the other layers' own errors that exceed their threshold (0 where none does).
    ``given``: the inputs differ already. ``weights`` and ``scale`` are the blamed layer's."""

    first: LayerDifference | None
    blamed: LayerDifference | None
    typical: float
    given: bool
    weights: tuple[WeightDifference, ...] = ()
    scale: Scale | None = None


def leaving(comparison: Comparison, reference: OpenModel, other: OpenModel) -> Leaving:
    """Where it leaves; what is blamed looks at the files' weights and scales too."""
    first = next((each for each in comparison.layers if each.difference.error > each.threshold), None)
    given = comparison.given.error > LEAST_THRESHOLD
    blamed, typical = _standing_out(comparison)
    if blamed is None:
        return Leaving(first, None, typical, given)
    matched = {each.layer.tensor for each in comparison.layers}
    names = weights_of(blamed.layer, other, matched)
    weights = weight_differences(reference, other, names)
    return Leaving(first, blamed, typical, given, tuple(weights), _scale(blamed, other))


def _standing_out(comparison: Comparison) -> tuple[LayerDifference | None, float]:
    """The layer with the largest own error, where it stands out, and the median of the others'."""
    erring = [each for each in comparison.layers if each.own is not None and each.own.error > each.threshold]
    ranked = sorted(erring, key=_own, reverse=True)  # stable: of equals the first in the graph
    if not ranked:
        return None, 0.0
    typical = float(np.median([_own(each) for each in ranked[1:]])) if len(ranked) > 1 else 0.0
    return (ranked[0] if _own(ranked[0]) >= STANDS_OUT * typical else None), typical


def _own(each: LayerDifference) -> float:
    return each.own.error if each.own is not None else 0.0


def _scale(blamed: LayerDifference, other: OpenModel) -> Scale | None:
    if blamed.match.stage != "quantised" or blamed.own is None or not blamed.layer.constants:
        return None
    step = constant(other, blamed.layer.constants[0])
    if step is None or step.size != 1:
        return None
    low, high = blamed.own.range
    return Scale(
        float(step), (max(high, 0.0) - min(low, 0.0)) / _steps(blamed, other), (low, high), blamed.own.other_range
    )


def _steps(blamed: LayerDifference, other: OpenModel) -> int:
    """The number of steps that the quantised type has."""
    zero = constant(other, blamed.layer.constants[1]) if len(blamed.layer.constants) > 1 else None
    kind = zero.dtype if zero is not None and zero.dtype.kind in "iu" else np.dtype(np.uint8)
    return int(np.iinfo(kind).max) - int(np.iinfo(kind).min)
