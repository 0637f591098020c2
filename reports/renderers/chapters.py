"""A page of its own beside a run's: a title, what was found, and chapters; as HTML and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup

from gapshift.reports.renderers import page
from gapshift.reports.renderers.html import HERE, environment_of
from gapshift.reports.renderers.markdown import ROWS_SHOWN, escape


def render_chapters(name: str, values: Mapping[str, object], template: str = "chapters") -> dict[str, str]:
    """``NAME.html`` and ``NAME.md``, by file name.

    ``values``: title, lead, lines (the findings), notes, chapters and words (small print), and what a ``template`` of
    its own asks for beside them.
    """
    markdown = environment_of(HERE, autoescape=False)
    markdown.filters["md"] = escape
    html = environment_of(HERE, autoescape=True)
    html.filters["minus"], html.filters["badge"] = page.minus, page.badge
    style = Markup((HERE / "report.css").read_text(encoding="utf-8"))
    text = markdown.get_template(f"{template}.md.j2").render(rows_shown=ROWS_SHOWN, page=f"{name}.html", **values)
    return {
        f"{name}.md": re.sub(r"\n{3,}", "\n\n", text).strip() + "\n",
        f"{name}.html": html.get_template(f"{template}.html.j2").render(style=style, **values),
    }
