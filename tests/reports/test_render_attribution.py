"""The pages of an explanation: charts, tables, snippets, and nothing from the summary unescaped."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from gapshift.reports.attribution import Smallest
from gapshift.reports.combinations import Player
from gapshift.reports.renderers.attribution import console_attribution, lead, render_attribution, smallest
from gapshift.reports.renderers.view import Interval
from gapshift.reports.renderers.waterfall import Step, waterfall_chart

from .attributions import INT8, NAME, NEAREST, Combined, items, summary_of

VOID = ("meta", "link", "path", "rect", "circle", "br")


class _Balanced(HTMLParser):
    """Fails on a tag that is closed in the wrong place; collects what is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, _attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def found(builder: Any) -> Any:
    """Two deviations explained, the first of which fails alone; and their environment."""
    made = Combined(builder, (NEAREST, INT8))
    made.loses([NEAREST], items(5, 0, 30))
    made.loses([INT8], items(5, 30, 36))
    made.loses([NEAREST, INT8], items(5, 0, 42))
    return made, made.explained(smallest=Smallest(sets=(NEAREST.keys,), method="all combinations", judged=3))


def _summary(found: Any, *more: Any, **changes: Any) -> Any:
    made, one = found
    return summary_of(made.environment(one.whole, NAME), [one, *more], **changes)


def _pages(summary: Any) -> tuple[str, str]:
    pages = render_attribution(summary, "explain-edge")
    assert list(pages) == ["explain-edge.md", "explain-edge.html"]
    return pages["explain-edge.md"], pages["explain-edge.html"]


def test_the_page_has_a_waterfall_of_the_level_and_of_the_mean(found: Any) -> None:
    _, html = _pages(_summary(found))
    reader = _Balanced()
    reader.feed(html)
    assert reader.open == []
    assert reader.seen.count("svg") == 2
    assert "Drop at level 5, pp" in html
    assert "Drop over the mean of the levels, pp" in html
    assert "script" not in reader.seen
    assert not re.search(r"(?:src|href)=\"(?:http|//)", html)


def test_tables_say_alone_on_top_and_shares(found: Any) -> None:
    markdown, html = _pages(_summary(found))
    for text in ("Share of each deviation (Shapley), pp", "Drop with this deviation alone, pp", "verdict without it"):
        assert text in html
        assert text in markdown.replace("\\", "")
    shares = next(line for line in markdown.splitlines() if line.startswith("| all together"))
    assert "7.0" in shares
    assert "3 combinations that were measured" in html


def test_the_snippet_is_toml_on_page_and_terminal(found: Any) -> None:
    summary = _summary(found)
    ((words, snippet),) = smallest(summary)
    assert words == "m"
    tree = tomllib.loads(snippet)["environments"]["edge-smallest"]
    assert tree["deviations"] == {"preprocessing.resize.interpolation": "nearest"}
    for line in snippet.splitlines():
        assert f"    {line}" in console_attribution(summary)
    assert "environments.edge-smallest" in _pages(summary)[1]


def test_values_of_every_kind_are_toml(found: Any) -> None:
    made, one = found
    odd = Player(
        {"preprocessing.mean": [0.5, 0.25], "preprocessing.resize.antialias": False, "runtime.provider": 'a "b"'}
    )
    made.players = (odd,)
    cells = {odd.keys: one.cells[one.whole]}
    verdicts = {odd.keys: one.verdicts[one.whole]}
    one = replace(one, players=(odd,), cells=cells, verdicts=verdicts, smallest=Smallest(sets=(odd.keys,)))
    ((_, snippet),) = smallest(summary_of(made.environment(odd.keys, NAME), [one]))
    assert tomllib.loads(snippet)["environments"]["edge-smallest"]["deviations"] == odd.deviations


def test_models_with_the_same_smallest_part_share_a_snippet(found: Any) -> None:
    _, one = found
    second = replace(one, bundle="second")
    other = replace(one, bundle="third", smallest=Smallest(sets=(INT8.keys,)))
    summary = _summary(found, second, other)
    (first, one_toml), (last, other_toml) = smallest(summary)
    assert (first, last) == ("2 of 3 models: m, second", "1 of 3 models: third")
    assert "[environments.edge-smallest-1]" in one_toml
    assert "[environments.edge-smallest-2]" in other_toml
    assert lead(summary) == "The largest clear part, of 3 models: resize.interpolation = nearest in 3."
    assert "All models" in _pages(summary)[1]


def test_without_shares_there_is_no_chart(found: Any) -> None:
    _, html = _pages(_summary(found, shapley=False))
    assert "<svg" not in html
    assert "No shares: they were not asked for." in html


def test_what_was_not_measured_has_its_reason(found: Any) -> None:
    _, one = found
    absent = replace(one, players=(), problem=("skipped", "no such <accelerator>"), smallest=Smallest(reason="no"))
    markdown, html = _pages(summary_of(found[0].environment(one.whole, NAME), [absent]))
    assert "edge was not measured: skipped: no such &lt;accelerator&gt;" in html
    assert "no such \\<accelerator\\>" in markdown
    assert "Nothing could be measured." in console_attribution(
        summary_of(found[0].environment(one.whole, NAME), [absent])
    )


def test_what_is_left_out_or_counts_as_one_is_said(found: Any) -> None:
    _, one = found
    pair = Player(NEAREST.deviations, "alone it is refused")
    odd = replace(one, players=(pair, INT8), idle={"runtime.batch_size": "the model's reference has it already"})
    _, html = _pages(summary_of(found[0].environment(one.whole, NAME), [odd]))
    assert "Counted as one: resize.interpolation = nearest, since alone it is refused." in html
    assert "Left out: runtime.batch_size: the model&#39;s reference has it already." in html


def test_bars_begin_where_the_one_before_ended() -> None:
    steps = [Step("one & only", Interval(4.0, 3.0, 5.0)), Step("back", Interval(-1.5, -2.0, -1.0))]
    chart = str(waterfall_chart(steps, Interval(2.5, 1.0, 4.0), "Drop"))
    bars = [tuple(map(float, found)) for found in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart)]
    (first, wide), (second, narrow), (start, total) = bars
    assert second + narrow == pytest.approx(first + wide, abs=0.2)
    assert start == first
    assert total == pytest.approx(wide - narrow, abs=0.2)
    assert "one &amp; only" in chart
    assert re.findall(r'class="strong"[^>]*>([^<]+)<', chart) == ["+4.0", "−1.5", "+2.5"]
