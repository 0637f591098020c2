"""From a verdict to what pytest says of a test."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from gapshift.deploy_tests.words import InconclusiveWarning

if TYPE_CHECKING:
    from gapshift.deploy_tests.results import GapshiftLevel, GapshiftRun

_JUDGED = ("PASS", "FAIL", "INCONCLUSIVE")


def was_judged(verdict: str) -> bool:
    """False for ERROR, NO DATA and a word that nobody knows: what was not judged is no failure of the model."""
    return verdict in _JUDGED


def why(run: GapshiftRun) -> str:
    """A run's verdict with all its reasons."""
    headline = str(run.summary["headline"]).removeprefix(f"{run.verdict}: ")
    return "\n".join([f"{run.verdict}: {headline}", *run.reasons])


def report(verdict: str, text: str, inconclusive: str) -> None:
    """PASS passes, INCONCLUSIVE does what the configuration says, everything else fails."""
    if verdict == "PASS":
        return
    if verdict == "INCONCLUSIVE" and inconclusive == "warn":
        warnings.warn(InconclusiveWarning(text), stacklevel=2)
        return
    if verdict == "INCONCLUSIVE" and inconclusive == "xfail":
        pytest.xfail(text)
    pytest.fail(text, pytrace=False)


def skip_undecided(level: GapshiftLevel) -> None:
    """Skip a level on which no verdict rests, with what was measured."""
    if not level.decides:
        why = "floor" if level.cell.gated else "reported, not gated"
        pytest.skip(f"{why}: {level.verdict}: {level.reason}")


def properties(level: GapshiftLevel) -> dict[str, object]:
    """A level's numbers for JUnit."""
    cell, drop = level.cell, level.drop_pp or {}
    return {
        "bundle": cell.bundle,
        "environment": cell.environment,
        "level": level.key,
        "kind": cell.summary["kind"],
        "gated": cell.gated,
        "verdict": level.verdict,
        "n": level.n,
        "lost": level.lost,
        "gained": level.gained,
        "reference_accuracy": level.reference_accuracy,
        "margin_pp": cell.run.margin_pp,
        "drop_pp": drop.get("estimate"),
        "drop_low_pp": drop.get("low"),
        "drop_high_pp": drop.get("high"),
        "p_fail": drop.get("p_fail"),
    }
