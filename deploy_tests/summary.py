"""The end of a session: the run's verdict, its drops per level, where its report lies; and the same for JUnit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapshift.deploy_tests.baseline import Baseline, then_and_now
from gapshift.deploy_tests.header import baseline_line
from gapshift.deploy_tests.machine import fingerprint
from gapshift.deploy_tests.results import GapshiftCell, GapshiftRun

_MOST_ROWS = 40
_POLICIES = {"fail": "fails its test", "warn": "passes with a warning", "xfail": "is an expected failure"}


def write_summary(
    terminal: pytest.TerminalReporter, run: GapshiftRun, inconclusive: str, baseline: Baseline | None
) -> None:
    """The section ``gapshift``; also under pytest-xdist and with -q."""
    from gapshift.reports.renderers.console import render_console

    terminal.section("gapshift")
    width = max(120, terminal.config.get_terminal_writer().fullwidth)
    folder = shlex.quote(str(run.folder))
    terminal.write_line(render_console(run.summary, run=folder, width=width, color=False))
    for line in (*_policy(run, inconclusive), *_baseline(run, baseline)):
        terminal.write_line(line)
    terminal.write_line(f"report: {run.report}")


def write_replaced(terminal: pytest.TerminalReporter, folder: Path) -> None:
    """The section ``gapshift``, where another session has judged in this one's folder before its end."""
    terminal.section("gapshift")
    terminal.write_line(
        f"Each test read this session's own verdict. What lies in {folder} now is another session's: it judged there "
        "since. Give sessions that run at once folders of their own with --gapshift-report."
    )


def suite_properties(run: GapshiftRun, baseline: Baseline | None) -> dict[str, str]:
    """Facts of the whole run for JUnit's ``testsuite``."""
    found = {
        "gapshift_verdict": run.verdict,
        "gapshift_margin_pp": f"{run.margin_pp:g}",
        "gapshift_models": ", ".join(f"{each['name']} {each['sha256']}" for each in run.summary["bundles"]),
        "gapshift_machine": fingerprint(),
        "gapshift_report": str(run.report),
    }
    return found | ({"gapshift_baseline": baseline_line(baseline)} if baseline else {})


def _policy(run: GapshiftRun, inconclusive: str) -> Iterator[str]:
    undecided = any(
        cell["gated"] and "INCONCLUSIVE" in (cell["verdict"], *cell["levels"].values()) for cell in run.summary["cells"]
    )
    if undecided or run.verdict == "INCONCLUSIVE":
        yield f"INCONCLUSIVE {_POLICIES[inconclusive]} (inconclusive = {inconclusive!r}; fail, warn or xfail)"


def _baseline(run: GapshiftRun, baseline: Baseline | None) -> Iterator[str]:
    if baseline is None:
        return
    cells = [GapshiftCell(cell, run) for cell in run.summary["cells"] if cell["gated"] or cell["named"]]
    yield f"baseline: {baseline_line(baseline)}"
    yield "Drops now (and then), in percentage points:"
    yield from (f"  {line}" for line in then_and_now(baseline, cells[:_MOST_ROWS]))
    if len(cells) > _MOST_ROWS:
        yield f"  and {len(cells) - _MOST_ROWS} more cells in report.html"
