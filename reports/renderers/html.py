"""The report as one offline HTML file: no script, no request, readable in light, dark and print."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from gapshift.reports.renderers import page, regimes, sections
from gapshift.reports.renderers.view import (
    COLUMNS,
    Json,
    environment_rows,
    headline,
    margin,
    reasons,
    rows,
    verdict_meaning,
    verdict_of,
)

HERE = Path(__file__).parent


def environment_of(folder: Path, *, autoescape: bool) -> jinja2.Environment:
    """A Jinja environment in which an undefined name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_html(summary: Json) -> str:
    """A run's summary as one HTML page. Everything from the summary is escaped."""
    templates = environment_of(HERE, autoescape=True)
    templates.filters["badge"] = page.badge
    templates.filters["minus"] = page.minus
    style = Markup((HERE / "report.css").read_text(encoding="utf-8"))
    return templates.get_template("report.html.j2").render(
        style=style, columns=COLUMNS, **_verdict(summary), **_body(summary)
    )


def _verdict(summary: Json) -> dict[str, object]:
    environments = environment_rows(summary)
    return {
        "verdict": verdict_of(summary),
        "meaning": verdict_meaning(summary),
        "headline": headline(summary),
        "reasons": reasons(summary),
        "notes": [str(note) for note in summary.get("notes") or ()],
        "noticed": page.noticed(environments),
        "facts": sections.facts(summary),
        "deployments": [str(name) for name in summary.get("deployments") or ()],
        "gate": page.gate_rows(environments, summary),
        "ungated": page.ungated(environments),
        "margin": margin(summary),
        "alpha": summary.get("alpha"),
        "family": summary.get("holm_family"),
    }


def _body(summary: Json) -> dict[str, object]:
    environments = environment_rows(summary)
    common = sections.common_versions(environments)
    columns, shifts = regimes.g1_shifts(summary)
    return {
        "groups": page.heatmaps(summary, environments),
        "overview": page.overview(summary, environments),
        "bundle_maps": page.bundle_heatmaps(summary, environments),
        "charts": regimes.regime_charts(summary, {row.name for row in environments if row.kind == "mistake"}),
        "regimes": regimes.regime_rows(summary),
        "contrasts": regimes.contrasts(summary),
        "shift_regimes": columns,
        "shifts": shifts,
        "calibration": [(card, sections.calibration_words(card)) for card in rows(summary, "calibration")],
        "common": common,
        "execution": sections.execution_rows(environments, common),
        "absent": page.absent_cells(environments),
        "churn": sections.churn_rows(environments),
        "bundles": sections.bundle_rows(summary),
    }
