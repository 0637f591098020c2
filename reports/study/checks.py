"""What one interval says about one statement, and what several of them say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gapshift.reports.statistics import Estimate
from gapshift.reports.study.quantity import Quantity
from gapshift.reports.study.values import SEEDS_TO_REFUTE, SEEDS_TO_SUPPORT

Verdict = Literal["supported", "not supported", "cannot tell"]
Truth = Literal["yes", "no", "open"]
INFINITY = float("inf")


@dataclass(frozen=True)
class Check:
    """One statement about one number: it lies in a range.

    ``truth`` is *yes* where the whole interval lies inside, *no* where it lies wholly outside, and
    *open* otherwise, or where the number is unknown, or the seeds are too few for that answer.
    ``missing`` names what was not there.
    """

    truth: Truth
    evidence: str
    missing: bool = False


def absent(what: str) -> Check:
    """A statement about models that are missing."""
    return Check("open", f"missing: {what}", missing=True)


def inside(name: str, value: Quantity | None, low: float, high: float, level: float) -> Check:
    """Whether a quantity lies between two ends, all as fractions; the evidence is in percentage points."""
    if value is None:
        return absent(name)
    return in_range(name, value.estimate(level), len(value.seeds), low, high)


def in_range(name: str, estimate: Estimate | None, seeds: int, low: float, high: float, unit: str = " pp") -> Check:
    """The same of an estimate over so many seeds; it is scaled by 100 where ``unit`` is pp."""
    if estimate is None or not estimate.finite:
        return absent(f"{name} (undefined, or its answers cannot be used)")
    shown = estimate.scaled(100) if unit == " pp" else estimate
    text = f"{name} {shown.estimate:+.1f} [{shown.low:+.1f}, {shown.high:+.1f}]{unit}"
    if unit != " pp":
        text = f"{name} {shown.estimate:+.2f} [{shown.low:+.2f}, {shown.high:+.2f}]{unit}"
    truth: Truth = "open"
    if low < estimate.low and estimate.high < high:
        truth = "yes"
    elif estimate.high <= low or estimate.low >= high:
        truth = "no"
    return _with_enough_seeds(truth, text, seeds)


def _with_enough_seeds(truth: Truth, text: str, seeds: int) -> Check:
    needed = {"yes": SEEDS_TO_SUPPORT, "no": SEEDS_TO_REFUTE, "open": 0}[truth]
    if seeds >= needed:
        return Check(truth, f"{text} ({seeds} seeds)")
    few = "fewer than five seeds" if truth == "yes" else "fewer than three seeds"
    return Check("open", f"{text} ({seeds} seed{'s' * (seeds != 1)}: {few})")


def positive(name: str, value: Quantity | None, level: float) -> Check:
    """Whether a quantity lies above zero."""
    return inside(name, value, 0.0, INFINITY, level)


def negative(name: str, value: Quantity | None, level: float) -> Check:
    """Whether a quantity lies below zero."""
    return inside(name, value, -INFINITY, 0.0, level)


def all_of(checks: Sequence[Check], refuted: bool) -> tuple[Verdict, str]:
    """A conjunction: ``refuted`` with regard to the number of its parts, or supported by all of them.

    Nothing without parts. That some part is refuted by itself alone is said, and refutes nothing.
    """
    evidence = "; ".join(check.evidence for check in checks)
    alone = any(check.truth == "no" for check in checks)
    if refuted:
        return "not supported", evidence
    if checks and all(check.truth == "yes" for check in checks):
        return "supported", evidence
    return "cannot tell", f"{evidence}; refuted alone, not as one of {len(checks)} statements" if alone else evidence
