"""From verdicts to outcomes of tests, over summaries written by hand: no model runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapshift.deploy_tests import planning

Run = Callable[..., Any]
SUITE = Path(__file__).parents[2] / "deploy_tests" / "test_deployment.py"
LEVELS = ("1", "2", "3", "4", "5")


def _summary(verdict: str, levels: dict[str, str], **cell: Any) -> dict[str, Any]:
    bundle = {
        "name": "m", "task": "m", "sha256": "0", "domain": "vision", "regime": None, "seed": None, "family": None,
        "reference": {"status": "ok", "execution": None},
    }  # fmt: skip
    found = {
        "bundle": "m", "environment": "int8-dynamic", "kind": "lossy", "gated": True, "named": True, "verdict": verdict,
        "deviations": {}, "status": "ok", "reason": "why", "execution": None, "undecided_floor": [], "floor": [],
        "levels": levels, "level_reasons": {level: f"why {level}" for level in LEVELS},
        "bands": [[1], [2], [3], [4, 5]], "n_by_level": {}, "drop_pp": {}, "flips": {}, "churn": {},
        "reference_accuracy": {},
    }  # fmt: skip
    return {
        "verdict": verdict, "headline": f"{verdict}: said", "reasons": ["a reason"], "margin_pp": 2.0, "alpha": 0.05,
        "interval_level": 0.95, "strict": False, "allow_unlevelled": False, "bundles": [bundle], "tasks": [],
        "cells": [found | cell], "environments": [], "deployments": ["int8-dynamic"], "notes": [],
    }  # fmt: skip


@pytest.fixture
def judged(inside: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The shipped suite on a summary."""
    monkeypatch.setattr(planning, "planned_cells", lambda _settings: [("m", "int8-dynamic")])

    def run(summary: dict[str, Any], *words: str) -> Any:
        def evaluate(_settings: object, folder: Path) -> None:
            (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")

        monkeypatch.setattr(planning, "evaluate", evaluate)
        return inside(str(SUITE), "--model", "m.onnx", "--data", "d", "--environment", "int8-dynamic", *words)

    return run


@pytest.mark.parametrize(
    ("verdict", "outcome", "code"),
    [
        ("PASS", "6 passed", 0),
        ("FAIL", "6 failed", 1),
        ("INCONCLUSIVE", "6 failed", 1),
        ("ERROR", "6 errors", 1),
        ("NO DATA", "6 errors", 1),
        ("pass", "6 errors", 1),
        ("", "6 errors", 1),
    ],
)
def test_every_verdict_has_its_outcome(judged: Run, verdict: str, outcome: str, code: int) -> None:
    done = judged(_summary(verdict, dict.fromkeys(LEVELS, verdict)))
    assert outcome in done.out
    assert done.code == code
    assert (f"{verdict}: why 3" in done.out) == (code == 1)
    assert (f"{verdict}: levels 4-5 are judged as one band: why 5" in done.out) == (code == 1)
    assert (f"{verdict}: said\na reason" in done.out) == (code == 1)


def test_one_levels_error_is_no_failure_of_the_others(judged: Run) -> None:
    levels = dict.fromkeys(LEVELS, "PASS") | {"2": "FAIL", "3": "ERROR"}
    done = judged(_summary("FAIL", levels))
    assert "2 failed, 3 passed, 1 error" in done.out


@pytest.mark.parametrize("policy", ["fail", "warn", "xfail"])
@pytest.mark.parametrize("verdict", ["FAIL", "ERROR", "NO DATA"])
def test_no_policy_lets_anything_else_through(judged: Run, policy: str, verdict: str) -> None:
    done = judged(_summary(verdict, dict.fromkeys(LEVELS, verdict)), "--inconclusive", policy)
    assert done.code == 1
    assert " passed" not in done.out
    assert " xfailed" not in done.out


def test_a_floor_that_decides_nothing_is_skipped_and_a_strict_run_counts_it(judged: Run) -> None:
    levels = dict.fromkeys(LEVELS, "PASS") | {"5": "NO DATA"}
    floor = {"floor": [5], "undecided_floor": [5]}
    done = judged(_summary("PASS", levels, **floor), "-rs")
    assert "5 passed, 1 skipped" in done.out
    assert "floor: NO DATA: levels 4-5 are judged as one band: why 5" in done.out
    done = judged(_summary("NO DATA", levels, **floor) | {"strict": True}, "--gapshift-strict")
    assert "4 passed, 2 errors" in done.out


def test_what_is_not_gated_is_skipped_whatever_it_got(judged: Run) -> None:
    done = judged(_summary("NO DATA", dict.fromkeys(LEVELS, "ERROR"), gated=False), "-rs")
    assert "5 skipped, 1 error" in done.out
    assert "reported, not gated: ERROR: why 1" in done.out


def test_a_planned_cell_that_the_run_does_not_have_is_an_error(judged: Run) -> None:
    done = judged(_summary("PASS", dict.fromkeys(LEVELS, "PASS"), environment="other"))
    assert done.code == 1
    assert "Unknown environment of m in this run 'int8-dynamic'" in done.out
    assert "5 errors" in done.out
