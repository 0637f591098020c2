"""Power and false alarms on the page, in Markdown and on a terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gapshift.reports.renderers import render_html
from gapshift.reports.renderers.console import render_console
from gapshift.reports.renderers.markdown import render_markdown
from gapshift.reports.renderers.power import chapters, console_plan, facts

LOST = {1: 2, 2: 5, 3: 9, 4: 9, 5: 12}


@pytest.fixture
def summary(builder: Any) -> dict[str, Any]:
    found, _ = builder.judged(builder.answers(lost=LOST, gained=LOST), name="int8")
    return dict(found)


def test_the_rates_stand_beside_the_verdict_everywhere(summary: dict[str, Any]) -> None:
    hero = re.search(r'<header class="hero.*?</header>', render_html(summary), flags=re.DOTALL)
    assert hero is not None
    for text in (hero.group(), render_markdown(summary), render_console(summary)):
        assert "were nothing wrong, such a run would (redrawn)" in text
        assert "FAIL under 0.4%, not PASS " in text
        assert "were the margin lost at one level" in text


def test_the_page_says_what_the_run_can_decide(summary: dict[str, Any]) -> None:
    page = render_html(summary)
    section = re.search(r'<section id="power".*?</section>', page, flags=re.DOTALL)
    assert section is not None
    assert 'href="#power"' in page
    assert "How often would this gate cry wolf?" in section.group()
    assert "For 90% it takes" in section.group()
    assert section.group().count("<tr>") == 2 + 5 + 2
    assert "m in int8" in section.group()


def test_names_are_escaped(summary: dict[str, Any]) -> None:
    summary["power"]["levels"][0]["most"] = "<b>bold</b>"
    summary["false_alarms"]["aside"] = ["<i>aside</i>"]
    assert "<b>bold" not in render_html(summary)
    assert "<i>aside" not in render_html(summary)


def test_a_level_at_the_floor_shows_dashes_and_why(builder: Any) -> None:
    accuracy = {1: 0.98, 2: 0.9, 3: 0.7, 4: 0.5, 5: 0.1}
    builder.environment("int8", "lossy")
    builder.cell("reference", builder.answers(accuracy))
    builder.cell("int8", builder.answers(accuracy, lost={5: 30}, gained={5: 30}))
    from gapshift.reports.judge import judge

    found = judge(builder.finish(deployments=("int8",)))
    (chapter,) = chapters(found)
    table = chapter.parts[0].tables[0]
    assert [cell.text for cell in table.rows[4]][:3] == ["5", "–", "–"]
    assert table.notes == ("Not planned for at level 5: 1 of 1 cells at the floor of chance.",)


def test_a_summary_without_them_has_no_chapter() -> None:
    assert chapters({}) == []
    assert facts({"false_alarms": {"repeats": 0, "false_fail": None}}) == []


def test_a_terminal_gets_plain_text(summary: dict[str, Any]) -> None:
    text = console_plan(summary["power"], summary["false_alarms"])
    assert text.startswith("With nothing wrong, the whole run passes a margin of 2 pp with probability ")
    assert "–" not in text.splitlines()[4]
    assert "Of 1,000 redrawn runs with nothing wrong under 0.4% FAIL" in " ".join(text.split())


def test_an_equivalent_that_changes_has_no_number_of_items(builder: Any) -> None:
    found, _ = builder.judged(builder.answers(moved={3: 2}), kind="equivalent", named=False)
    text = " ".join(console_plan(found["power"], found["false_alarms"]).split())
    assert "No number of items is known to make that 90%: see the levels that have none." in text
    assert "Not planned for at level 3: 1 of 1 cells equivalent and yet changing predictions." in text


def test_items_in_groups_are_said_to_count_for_fewer(builder: Any) -> None:
    builder.group = lambda item: f"speaker-{int(item.rsplit('-', 1)[1]) % 60}"
    found, _ = builder.judged(builder.answers(lost={5: 2}), name="int8")
    (chapter,) = chapters(found)
    said = "Items of level 1, 2, 3, 4, 5 come in groups: they say as much as 69% of as many independent ones would."
    assert chapter.parts[0].tables[0].notes == (said,)
    assert f"  - {said}" in console_plan(found["power"], found["false_alarms"])
