"""One test per environment and level, and one for the run: each reads the final verdict of the whole run."""

from __future__ import annotations

import pytest

from gapshift.deploy_tests.outcomes import report, skip_undecided, why
from gapshift.deploy_tests.results import GapshiftLevel, GapshiftRun

pytestmark = pytest.mark.gapshift


def test_level(gapshift_level: GapshiftLevel, gapshift_inconclusive: str) -> None:
    """The level passes in this environment, where it is gated; elsewhere its drop is reported."""
    skip_undecided(gapshift_level)
    report(gapshift_level.verdict, f"{gapshift_level.verdict}: {gapshift_level.reason}", gapshift_inconclusive)


def test_verdict(gapshift_verdict: GapshiftRun, gapshift_inconclusive: str) -> None:
    """The verdict over everything that is gated, which may say more than its levels do."""
    report(gapshift_verdict.verdict, why(gapshift_verdict), gapshift_inconclusive)
