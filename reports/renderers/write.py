"""The files that a run folder gets."""

from __future__ import annotations

from pathlib import Path

from gapshift.records import write_text
from gapshift.reports.renderers.html import render_html
from gapshift.reports.renderers.junit import render_junit
from gapshift.reports.renderers.markdown import render_markdown
from gapshift.reports.renderers.view import Json

_RENDERERS = {"report.html": render_html, "report.md": render_markdown, "junit.xml": render_junit}


def render_all(workspace_root: Path, summary: Json) -> dict[str, Path]:
    """Write ``report.html``, ``report.md`` and ``junit.xml`` atomically; returns their paths by file name.

    Raises WorkspaceError where the folder cannot be written.
    """
    texts = {name: render(summary) for name, render in _RENDERERS.items()}
    for name, text in texts.items():
        write_text(workspace_root / name, text)
    return {name: workspace_root / name for name in texts}
