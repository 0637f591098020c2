"""Quantities as the plain values of ``summary.json``: E = {"estimate", "low", "high"}, or null."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gapshift.reports.statistics import Estimate
from gapshift.reports.study.quantity import Quantity

Json = dict[str, Any]
E = dict[str, float] | None
SEEDS_TO_SUPPORT = 5
SEEDS_TO_REFUTE = 3


def pp(value: Quantity | Estimate | None, level: float) -> E:
    """In percentage points."""
    estimate = _estimate(value, level)
    return None if estimate is None else estimate.scaled(100).as_json()


def share(value: Quantity | Estimate | None, level: float) -> E:
    """A share, whose interval ends at 0 and 1."""
    estimate = _estimate(value, level)
    found = None if estimate is None else estimate.as_json()
    return found and {name: min(max(each, 0.0), 1.0) for name, each in found.items()}


def _estimate(value: Quantity | Estimate | None, level: float) -> Estimate | None:
    return value.estimate(level) if isinstance(value, Quantity) else value


def note(seeds: int, problems: Sequence[str] = ()) -> str:
    """What a reader must know of a row: few seeds, and what is wrong."""
    few = [f"{seeds} seed{'s' * (seeds != 1)}: fewer than five, nothing is called supported"]
    notes = few if seeds < SEEDS_TO_SUPPORT else []
    notes += ["one seed: the intervals cover the items alone"] if seeds == 1 else []
    return "; ".join([*notes, *dict.fromkeys(problems)])
