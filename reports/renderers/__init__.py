"""Reports made from a run's summary alone: HTML, Markdown, JUnit XML and the console."""

from gapshift.reports.renderers.console import render_console
from gapshift.reports.renderers.html import render_html
from gapshift.reports.renderers.junit import render_junit
from gapshift.reports.renderers.markdown import render_markdown
from gapshift.reports.renderers.write import render_all

__all__ = ["render_all", "render_console", "render_html", "render_junit", "render_markdown"]
