"""The end of a session: the run's verdict, its drops per level, where its report lies."""

from __future__ import annotations

import pytest

from gapshift.deploy_tests.results import GapshiftRun


def write_summary(terminal: pytest.TerminalReporter, run: GapshiftRun) -> None:
    """The section ``gapshift``; also under pytest-xdist and with -q."""
    from gapshift.reports.renderers.console import render_console

    terminal.section("gapshift")
    terminal.write_line(render_console(run.summary, width=max(100, terminal._tw.fullwidth), color=False))
    terminal.write_line(f"report: {run.report}")
