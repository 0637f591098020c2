"""What was found of a cell, as plain values for ``layers.json``. A value that is not finite is null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gapshift.envs.layers.causes import REPRODUCES, Reproduced
from gapshift.envs.layers.compare import FLOOR_TIMES, LEAST_THRESHOLD, Comparison, LayerDifference
from gapshift.envs.layers.examine import Examined
from gapshift.envs.layers.leaving import STANDS_OUT, Leaving, Scale
from gapshift.envs.layers.opened import Layer
from gapshift.envs.layers.passes import THRESHOLD, Passes
from gapshift.envs.layers.tally import NOTICEABLE, Difference
from gapshift.envs.layers.weights import WeightDifference

Json = dict[str, Any]

RULES: Json = {
    "floor_times": FLOOR_TIMES,
    "least_threshold": LEAST_THRESHOLD,
    "stands_out": STANDS_OUT,
    "pass_threshold": THRESHOLD,
    "noticeable": NOTICEABLE,
    "reproduces": REPRODUCES,
}
"""The thresholds that findings are made by."""


def examined_json(found: Examined) -> Json:
    """Everything; ``layers``, ``leaving`` and ``passes`` are null where the engine cannot be opened."""
    return {
        "items": found.items,
        "given": difference_json(found.given),
        "outputs": {**difference_json(found.outputs.difference), "changed_answers": found.outputs.changed},
        "opening": number(found.opening),
        **_layers(found.comparison),
        "leaving": _leaving(found.leaving),
        "passes": _passes(found.passes),
        "explained": found.explained,
        "causes": [_reproduced(each) for each in found.causes],
        "notes": list(found.notes),
    }


def number(value: float | None) -> float | None:
    """The value; null where it is none or not finite."""
    return value if value is not None and math.isfinite(value) else None


def difference_json(found: Difference) -> Json:
    """One tensor's difference; its error is null where the shapes differ, or one side alone is not finite."""
    return {
        "error": number(found.error),
        "finite": math.isfinite(found.error) or not found.same_shape,
        "same_shape": found.same_shape,
        "largest": number(found.largest),
        "cosine": number(found.cosine),
        "changed": number(found.changed),
        "levels": {str(level): number(error) for level, error in found.levels.items()},
        "range": [number(end) for end in found.range],
        "other_range": [number(end) for end in found.other_range],
    }


def _layers(found: Comparison | None) -> Json:
    if found is None:
        return {"layers": None, "unmatched": [], "unmatched_reference": [], "same_file": None, "parts": None}
    return {
        "layers": [_layer(each, found.reference_layers) for each in found.layers],
        "unmatched": [_node(each) for each in found.matching.unmatched],
        "unmatched_reference": [_node(each) for each in found.matching.unmatched_reference],
        "same_file": found.same_file,
        "parts": found.parts,
    }


def _node(layer: Layer) -> Json:
    return {"tensor": layer.tensor, "node": layer.node, "operator": layer.operator}


def _layer(each: LayerDifference, known: Mapping[str, Layer]) -> Json:
    theirs = known.get(each.match.reference)
    return {
        **_node(each.layer),
        "reference": {**_node(theirs)} if theirs else {"tensor": each.match.reference, "node": None, "operator": None},
        "stage": each.match.stage,
        **difference_json(each.difference),
        "inputs": number(each.inputs),
        "floor": number(each.floor),
        "threshold": number(each.threshold),
        "own": number(each.own.error) if each.own is not None else None,
        "own_finite": each.own is None or math.isfinite(each.own.error),
    }


def _leaving(found: Leaving | None) -> Json | None:
    if found is None:
        return None
    return {
        "given": found.given,
        "first": found.first.layer.tensor if found.first else None,
        "blamed": found.blamed.layer.tensor if found.blamed else None,
        "also": [each.layer.tensor for each in found.also],
        "typical": number(found.typical),
        "weights": [_weight(each) for each in found.weights],
        "scale": _scale(found.scale) if found.scale else None,
    }


def _weight(each: WeightDifference) -> Json:
    return {
        "name": each.name,
        "error": number(each.error),
        "outliers": each.outliers,
        "size": each.size,
        "shape": list(each.shape),
        "block": [list(ends) for ends in each.block],
        "factor": number(each.factor),
        "beside": number(each.beside),
    }


def _scale(scale: Scale) -> Json:
    return {
        "step": number(scale.step),
        "needed": number(scale.needed),
        "range": [number(end) for end in scale.range],
        "other_range": [number(end) for end in scale.other_range],
    }


def _passes(found: Passes | None) -> Json | None:
    if found is None:
        return None
    return {
        "errors": {level: number(error) for level, error in found.errors.items()},
        "changed": dict(found.changed),
        "level": found.level,
        "applied": list(found.applied),
        "restoring": list(found.restoring),
        "together": list(found.together),
        "left": {name: number(error) for name, error in found.left.items()},
    }


def _reproduced(each: Reproduced) -> Json:
    return {
        "name": each.name,
        "words": each.words,
        "left": number(each.left),
        "is_cause": each.left <= REPRODUCES,
    }
