"""The report in a real browser: it fits the screen, asks for nothing, and says its verdict first."""

from __future__ import annotations

import importlib
import os
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gapshift.reports.renderers import render_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
MADE = runpy.run_path(str(HERE / "summaries.py")) | runpy.run_path(str(HERE / "study_summaries.py"))
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
EXECUTABLE = next((path for name in NAMES if (path := shutil.which(name))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = pytest.mark.skipif(
    EXECUTABLE is None and not os.environ.get("CI"), reason="no Chromium on the PATH; CI must have one"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    name = "playwright.sync_api"
    sync_api = importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=EXECUTABLE, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module", params=["study", "single", "check", "four_tasks"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / f"{request.param}.html"
    path.write_text(render_html(MADE[request.param]()), encoding="utf-8")
    return path


def opened(browser: Browser, report: Path, width: int) -> tuple[Page, list[str], list[str]]:
    """The page at a width, what it asked for, and what it complained of."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    return page, requests, complaints


@pytest.mark.parametrize("width", [1280, 390])
def test_report_fits_the_screen_and_asks_for_nothing(browser: Browser, report: Path, width: int) -> None:
    page, requests, complaints = opened(browser, report, width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    page.close()


def test_verdict_is_the_first_thing_on_the_first_screen(browser: Browser, report: Path) -> None:
    page, _, _ = opened(browser, report, 390)
    first = page.locator("h1, h2, h3").first
    assert first.evaluate("node => node.tagName") == "H1"
    assert any(word in first.inner_text() for word in ("FAIL", "NO DATA"))
    assert first.evaluate("node => node.getBoundingClientRect().bottom") < 200
    page.close()


def test_environment_names_stay_in_sight_while_a_table_scrolls(browser: Browser, report: Path) -> None:
    page, _, _ = opened(browser, report, 390)
    head = page.locator("#drops .scroll tbody th").first
    before = head.bounding_box()
    page.evaluate("document.querySelector('#drops .scroll').scrollLeft = 200")
    after = head.bounding_box()
    assert before is not None
    assert after is not None
    assert after["x"] == pytest.approx(before["x"], abs=1)
    page.close()
