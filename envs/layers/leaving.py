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

_ABOUT = 0.5
"""An own error is about as large as the largest from this share of it on: a scale that two tensors share."""
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
    """``first``: the first layer that leaves. ``blamed``: the layer whose own error stands out, if one does, and of
    several about as large the first; ``also`` are the others that stand out. ``typical`` is the median of the
    remaining layers' own errors that exceed their threshold (0 where none does). ``given``: the inputs differ already.
    ``weights`` and ``scale`` are the blamed layer's; where no layer leaves, ``weights`` are all that differ, and that
    no item shows."""

    first: LayerDifference | None
    blamed: LayerDifference | None
    typical: float
    given: bool
    weights: tuple[WeightDifference, ...] = ()
    scale: Scale | None = None
    also: tuple[LayerDifference, ...] = ()


def leaving(comparison: Comparison, reference: OpenModel, other: OpenModel) -> Leaving:
    """Where it leaves; what is blamed looks at the files' weights and scales too."""
    first = next((each for each in comparison.layers if each.difference.error > each.threshold), None)
    given = comparison.given.error > LEAST_THRESHOLD
    outstanding, typical = _standing_out(comparison)
    if not outstanding:
        unseen = first is None and not comparison.same_file
        weights = weight_differences(reference, other, other.constants) if unseen else []
        return Leaving(first, None, typical, given, tuple(weights))
    blamed = next(each for each in outstanding if _own(each) >= _own(max(outstanding, key=_own)) * _ABOUT)
    matched = {each.layer.tensor for each in comparison.layers}
    names = weights_of(blamed.layer, other, matched)
    weights = weight_differences(reference, other, names)
    also = tuple(each for each in outstanding if each is not blamed)
    return Leaving(first, blamed, typical, given, tuple(weights), _scale(blamed, other), also)


def _standing_out(comparison: Comparison) -> tuple[list[LayerDifference], float]:
    """The layers whose own error stands out from those of the rest, in topological order, and the rest's median.

    One after the other is taken away, the largest first, while it stands out from what remains; half of them at most,
    or one: what most layers do is what is usual.
    """
    erring = [each for each in comparison.layers if each.own is not None and each.own.error > each.threshold]
    ranked = sorted(erring, key=_own, reverse=True)  # stable: of equals the first in the graph
    taken = 0
    while taken < len(ranked) and _own(ranked[taken]) >= STANDS_OUT * _median(ranked[taken + 1 :]):
        taken += 1
        if 2 * taken >= len(ranked):
            break
    out = ranked[:taken]
    return [each for each in comparison.layers if each in out], _median(ranked[taken:])


def _median(layers: list[LayerDifference]) -> float:
    return float(np.median([_own(each) for each in layers])) if layers else 0.0


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
