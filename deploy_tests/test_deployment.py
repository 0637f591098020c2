"""One test per environment and level, and one for the run: each reads the final verdict of the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gapshift.deploy_tests.plugin import Judged, find_cell

pytestmark = pytest.mark.gapshift


def test_level(gapshift_judged: Judged, gapshift_run: Mapping[str, Any], request: pytest.FixtureRequest) -> None:
    """The level passes in this environment, where it is gated; elsewhere its drop is reported."""
    cell = find_cell(gapshift_run, gapshift_judged.bundle, gapshift_judged.environment)
    level = str(gapshift_judged.level)
    verdict, reason = cell["levels"][level], cell["level_reasons"][level]
    # Not by record_property, which warns wherever the JUnit family is xunit2.
    request.node.user_properties.extend(_properties(gapshift_run, cell, level).items())
    if verdict == "PASS" and cell["gated"]:
        return
    if not cell["gated"] or _undecided_floor(gapshift_run, cell, level):
        pytest.skip(f"{'floor' if cell['gated'] else 'reported, not gated'}: {verdict}: {reason}")
    pytest.fail(f"{verdict}: {reason}", pytrace=False)


def test_verdict(gapshift_run: Mapping[str, Any]) -> None:
    """The verdict over everything that is gated, which may say more than its levels do."""
    if gapshift_run["verdict"] != "PASS":
        pytest.fail("\n".join([f"{gapshift_run['verdict']}:", *gapshift_run["reasons"]]), pytrace=False)


def _undecided_floor(run: Mapping[str, Any], cell: Mapping[str, Any], level: str) -> bool:
    """A level left out at the floor has no say of its own, unless the run is strict: ``test_verdict`` speaks for it."""
    return int(level) in cell["undecided_floor"] and not run["strict"]


def _properties(run: Mapping[str, Any], cell: Mapping[str, Any], level: str) -> dict[str, object]:
    drop = cell["drop_pp"][level] or {}
    return {
        "bundle": cell["bundle"],
        "environment": cell["environment"],
        "level": level,
        "kind": cell["kind"],
        "gated": cell["gated"],
        "verdict": cell["levels"][level],
        "n": cell["n_by_level"][level],
        "margin_pp": run["margin_pp"],
        "drop_pp": drop.get("estimate"),
        "drop_low_pp": drop.get("low"),
        "drop_high_pp": drop.get("high"),
        "p_fail": drop.get("p_fail"),
    }
