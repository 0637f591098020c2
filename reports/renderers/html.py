"""The report as one offline HTML file: no script, no request, readable in light, dark and print."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from gapshift.reports.renderers import (
    deployed,
    observability,
    page,
    power,
    reading,
    regimes,
    sections,
    self_test,
    services,
    study,
    traffic,
)
from gapshift.reports.renderers.view import (
    COLUMNS,
    Json,
    environment_rows,
    headline,
    margin,
    next_steps,
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
    templates.filters["claim_badge"] = study.claim_badge
    templates.filters["claim_css"] = study.claim_css
    style = Markup((HERE / "report.css").read_text(encoding="utf-8"))
    return templates.get_template("report.html.j2").render(
        style=style, columns=COLUMNS, **_verdict(summary), **_study(summary), **_body(summary)
    )


def _verdict(summary: Json) -> dict[str, object]:
    environments = environment_rows(summary)
    return {
        "verdict": verdict_of(summary),
        "meaning": verdict_meaning(summary),
        "headline": headline(summary),
        "reasons": reasons(summary),
        "next_steps": next_steps(summary),
        "notes": [str(note) for note in summary.get("notes") or ()],
        "noticed": page.noticed(summary, environments),
        "facts": sections.facts(summary),
        "deployments": [str(name) for name in summary.get("deployments") or ()],
        "gate": page.gate_rows(environments, summary),
        "ungated": page.ungated(environments),
        "margin": margin(summary),
        "alpha": summary.get("alpha"),
        "family": summary.get("holm_family"),
        "reading_rule": reading.rule(summary),
    }


def _study(summary: Json) -> dict[str, object]:
    return {
        "claims": study.claims(summary),
        "claims_lead": study.CLAIMS_LEAD,
        "study_notes": study.study_notes(summary),
        "opening": study.opening(summary),
        "chapters": [
            *reading.chapters(summary),
            *study.chapters(summary),
            *deployed.scores(summary),
            *traffic.chapters(summary),
            *services.chapters(summary),
            *observability.observed(summary),
            *power.chapters(summary),
            *self_test.chapters(summary),
        ],
    }


def _body(summary: Json) -> dict[str, object]:
    environments = environment_rows(summary)
    common = sections.common_versions(environments)
    return {
        "groups": page.heatmaps(summary, environments),
        "overviews": page.overviews(summary, environments),
        "bundle_maps": page.bundle_heatmaps(summary, environments),
        "charts": regimes.regime_charts(summary, {row.name for row in environments if row.kind == "mistake"}),
        "regimes": regimes.regime_rows(summary),
        "contrasts": regimes.contrasts(summary),
        "shifts": regimes.g1_shifts(summary),
        "calibration": [(card, sections.calibration_words(card)) for card in rows(summary, "calibration")],
        "common": common,
        "execution": sections.execution_rows(environments, common),
        "absent": page.absent_cells(environments),
        "churn": sections.churn_tables(summary, environments),
        "bundles": sections.bundle_rows(summary),
    }
