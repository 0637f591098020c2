"""The summary as GitHub-flavoured Markdown, for a pull request or a job page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gapshift.reports.renderers import deployed, observability, power, reading, self_test, services, study, traffic
from gapshift.reports.renderers.html import HERE, environment_of
from gapshift.reports.renderers.page import GateRow, absent_cells, gate_rows, ungated
from gapshift.reports.renderers.regimes import regime_rows
from gapshift.reports.renderers.sections import calibration_words, execution_rows, facts
from gapshift.reports.renderers.view import (
    COLUMNS,
    LEVEL_KEYS,
    SYMBOLS,
    Json,
    answered,
    at,
    environment_rows,
    fixed,
    headline,
    interval,
    next_steps,
    reasons,
    rows,
    verdict_meaning,
    verdict_of,
    with_interval,
)

REASONS_SHOWN = 12
WORST_SHOWN = 20
"""How many of the cells that are not gated get a line."""
ROWS_SHOWN = 24
"""How many rows of a study's table are given; the page has them all."""
TRAFFIC_ROWS = 10
"""How many environments a table of other mixes shows."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


@dataclass(frozen=True)
class DropRow:
    """One cell's drops, in words."""

    bundle: str
    environment: str
    kind: str
    gated: bool
    drops: tuple[str, ...]
    tilt: str
    churn: str
    verdict: str


def render_markdown(summary: Json) -> str:
    """A run's summary as Markdown: all gated cells and the worst of the rest."""
    environments = environment_rows(summary)
    templates = environment_of(HERE, autoescape=False)
    templates.filters["md"] = escape
    templates.filters["claim_badge"] = study.claim_badge
    shown, left = drop_rows(summary)
    text = templates.get_template("report.md.j2").render(
        verdict=verdict_of(summary),
        symbol=SYMBOLS[verdict_of(summary)],
        headline=headline(summary),
        meaning=verdict_meaning(summary),
        reasons=reasons(summary)[:REASONS_SHOWN],
        next_steps=next_steps(summary),
        reasons_left=max(0, len(reasons(summary)) - REASONS_SHOWN),
        facts=facts(summary),
        notes=[str(note) for note in summary.get("notes") or ()],
        claims=study.claims(summary),
        claims_lead=study.CLAIMS_LEAD,
        study_notes=study.study_notes(summary),
        opening=study.opening(summary),
        chapters=[
            *reading.chapters(summary),
            *study.chapters(summary),
            *deployed.scores(summary),
            *traffic.chapters(summary, TRAFFIC_ROWS),
            *services.chapters(summary),
            *observability.observed(summary),
            *power.chapters(summary),
            *self_test.chapters(summary),
        ],
        rows_shown=ROWS_SHOWN,
        page="report.html",
        gate=gate_rows(environments, summary),
        passed=passed,
        ungated=ungated(environments),
        drops=shown,
        left=left,
        columns=COLUMNS,
        regimes=regime_rows(summary),
        formats=[
            row for row in execution_rows(environments, {}) if row.requested not in ("–", "float32") or not row.matches
        ],
        calibration=[(card, calibration_words(card)) for card in rows(summary, "calibration")],
        absent=absent_cells(environments),
        margin=summary.get("margin_pp"),
        alpha=summary.get("alpha"),
        sequential=reading.sequential(summary),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escape(value: object) -> str:
    r"""A value as inert Markdown text on one line.

    >>> escape("a|b <i>")
    'a\\|b \\<i\\>'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def passed(gate: Iterable[GateRow]) -> list[str]:
    """Names of the gated environments that hold."""
    return [row.name for row in gate if row.verdict == "PASS"]


def drop_rows(summary: Json) -> tuple[list[DropRow], int]:
    """Gated cells as they come, then the worst of the others, and how many were left out."""
    cells = rows(summary, "cells")
    gated = [cell for cell in cells if cell.get("gated")]
    rest = sorted((c for c in answered(cells) if not c.get("gated")), key=largest_drop, reverse=True)
    return [_drop_row(cell) for cell in [*gated, *rest[:WORST_SHOWN]]], max(0, len(rest) - WORST_SHOWN)


def largest_drop(cell: Json) -> float:
    """The largest drop over levels in pp; minus infinity where none was measured."""
    drops = (at(cell, "drop_pp", key) for key in LEVEL_KEYS)
    return max((drop.estimate for drop in drops if drop is not None), default=float("-inf"))


def _drop_row(cell: Json) -> DropRow:
    churn = at(cell, "churn", "all")
    floor = {str(level) for level in cell.get("floor") or ()}
    drops = (with_interval(at(cell, "drop_pp", key)) + (" (floor)" if key in floor else "") for key in COLUMNS)
    return DropRow(
        bundle=str(cell.get("bundle")),
        environment=str(cell.get("environment")),
        kind=str(cell.get("kind")),
        gated=bool(cell.get("gated")),
        drops=tuple(drops),
        tilt=with_interval(interval(cell.get("tilt_pp"))),
        churn="-" if churn is None else f"{fixed(100 * churn.estimate)}%",
        verdict=str(cell.get("verdict") or "ERROR") if cell.get("gated") else "not gated",
    )
