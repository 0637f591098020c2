"""Which keys qualify another: the table grows with the nouns."""

from __future__ import annotations

import pytest

from gapshift.schema import Precision, Service, Shift
from gapshift.schema.qualifying import COMPANIONS, default, qualifies

BY_THEMSELVES = {
    "precision.format", "shift.corruption", "service.latency_ms", "service.error_rate", "service.stale_rate",
    "service.corruption_rate",
}  # fmt: skip
PRESENT = {
    "precision.format": "int8-qdq", "shift.corruption": "gaussian-noise", "service.latency_ms": 5.0,
    "service.error_rate": 0.1, "service.stale_rate": 0.1, "service.corruption_rate": 0.1,
}  # fmt: skip


def test_every_key_of_these_axes_stands_by_itself_or_has_companions() -> None:
    """A new field belongs to one of the two, or a search may leave it to a default that no family holds."""
    axes = {"precision": Precision, "shift": Shift, "service": Service}
    keys = {f"{axis}.{name}" for axis, noun in axes.items() for name in noun.model_fields}
    assert keys == BY_THEMSELVES | COMPANIONS.keys()
    assert not BY_THEMSELVES & COMPANIONS.keys()


@pytest.mark.parametrize("key", COMPANIONS)
def test_a_qualifying_key_means_something_beside_its_companions_alone(key: str) -> None:
    """Also where a family has its default alone."""
    assert qualifies(key, (default(key),), _companions(key))
    assert not qualifies(key, (default(key),), {"runtime.batch_size": 1})


def _companions(key: str) -> dict[str, object]:
    found: dict[str, object] = {companion: PRESENT[companion] for companion in COMPANIONS[key]}
    if key == "precision.keep_float32":
        found["precision.format"] = "float16"
    if "service.latency_ms" in found and key != "service.timeout_ms":  # latency alone changes no answer
        found["service.timeout_ms"] = 50.0
    return found
