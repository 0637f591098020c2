"""Keys that say how another one is meant: a corruption's severity, a quantiser's calibrator, a timeout's retries.

Where their companion is set they always mean something: left out, the schema's default. A contract says nothing of
them, so that a default is nobody's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from gapshift.errors import GapshiftError
from gapshift.schema.deployment import Precision, Service, Shift

_AXES: dict[str, type[BaseModel]] = {"precision": Precision, "shift": Shift, "service": Service}
_FAILS = ("service.latency_ms", "service.error_rate")
_OF_FORMAT = ("per_channel", "calibrator", "keep_float32", "calibration_items", "calibration_levels")
COMPANIONS: dict[str, tuple[str, ...]] = {
    "shift.severity": ("shift.corruption",),
    "shift.seed": ("shift.corruption",),
    **{f"precision.{name}": ("precision.format",) for name in _OF_FORMAT},
    "service.timeout_ms": ("service.latency_ms",),
    "service.latency_spread": ("service.latency_ms",),
    "service.retries": _FAILS,
    "service.fallback": _FAILS,
    "service.seed": (*_FAILS, "service.stale_rate", "service.corruption_rate"),
}
"""Keys that qualify another, with those of which one must be there."""


def default(key: str) -> Any:
    """What a qualifying key is where it is left out."""
    axis, name = key.split(".")
    value = _AXES[axis].model_fields[name].default
    return list(value) if isinstance(value, tuple) else value


def qualifies(key: str, values: tuple[Any, ...], deviations: Mapping[str, Any]) -> bool:
    """Whether a qualifying key means something beside these deviations: one of its values can be there."""
    if not any(companion in deviations for companion in COMPANIONS[key]):
        return False
    axis, name = key.split(".")
    own = {each.removeprefix(f"{axis}."): value for each, value in deviations.items() if each.startswith(f"{axis}.")}
    # a default is taken even where it means nothing
    said = [value for value in values if value != default(key)] or [_other(key)]
    return any(_can_be(_AXES[axis], {**own, name: value}) for value in said)


def _other(key: str) -> Any:
    """A value that is not the default, for a family that has the default alone."""
    others = {
        "shift.severity": 1, "shift.seed": 1, "precision.per_channel": True, "precision.calibrator": "entropy",
        "precision.keep_float32": ["Gemm"], "precision.calibration_items": 5, "precision.calibration_levels": [1],
        "service.latency_spread": 1.0, "service.timeout_ms": 1.0, "service.retries": 1, "service.fallback": "last",
        "service.seed": 1,
    }  # fmt: skip
    return others[key]


def _can_be(axis: type[BaseModel], said: Mapping[str, Any]) -> bool:
    try:
        axis.model_validate(said)
    except (ValidationError, GapshiftError):
        return False
    return True
