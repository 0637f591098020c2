"""Renderers as functions of the summary: HTML, Markdown, JUnit XML, the console, the files."""

from __future__ import annotations

import copy
import re
import runpy
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gapshift.errors import WorkspaceError
from gapshift.reports.renderers import render_all, render_console, render_html, render_junit, render_markdown
from gapshift.reports.renderers.page import heat_cell, step
from gapshift.reports.renderers.regimes import beside_study
from gapshift.reports.renderers.sections import calibration_words
from gapshift.reports.renderers.view import Interval, Json, interval, labels, verdict_meaning

MADE = runpy.run_path(str(Path(__file__).with_name("summaries.py")))
CSS = Path(render_html.__code__.co_filename).with_name("report.css")
VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE", "ERROR", "NO DATA")
RENDERERS: tuple[Callable[[Json], str], ...] = (render_html, render_markdown, render_junit, render_console)


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return MADE["study"]()


@pytest.fixture
def check() -> dict[str, Any]:
    return MADE["check"]()


@pytest.fixture
def single() -> dict[str, Any]:
    return MADE["single"]()


class Page(HTMLParser):
    """Tags with their attributes, and whether every element is closed in order."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


# ------------------------------------------------------------------------------- HTML


def test_page_is_one_well_formed_file_without_requests(study: dict[str, Any]) -> None:
    page = Page(render_html(study))
    assert page.open == []
    addresses = [v for _, attrs in page.tags for name, v in attrs.items() if name in ("src", "href", "action")]
    assert all(address is None or address.startswith(("#", "data:")) for address in addresses)
    assert "url(" not in CSS.read_text(encoding="utf-8")
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "iframe")]


def test_page_stays_under_500_kb_with_24_bundles_in_24_environments() -> None:
    summary = MADE["study"](seeds=6, extra=2)
    assert len(summary["cells"]) == 24 * 24
    assert len(render_html(summary).encode()) < 500_000


def test_every_table_header_has_a_scope_and_links_lead_somewhere(study: dict[str, Any]) -> None:
    page = Page(render_html(study))
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    ids = {attrs.get("id") for _, attrs in page.tags}
    targets = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert targets
    assert {str(target).removeprefix("#") for target in targets} <= ids


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdict_is_the_first_heading(study: dict[str, Any], verdict: str) -> None:
    text = render_html(study | {"verdict": verdict, "headline": None})
    first = re.search(r"<h\d[^>]*>(.*?)</h\d>", text)
    assert first is not None
    assert first[1].endswith(verdict)
    assert ("not a pass" in text) == (verdict in ("INCONCLUSIVE", "ERROR", "NO DATA"))


def test_headline_loses_the_verdict_that_already_stands_above_it(study: dict[str, Any]) -> None:
    text = render_html(study | {"headline": "FAIL: 1 of 5 cells fails."})
    assert '<p class="lead">1 of 5 cells fails.</p>' in text


def test_markup_in_names_and_reasons_is_escaped(check: dict[str, Any]) -> None:
    evil = "<script>alert(1)</script>"
    check["bundles"][0]["name"] = evil
    for cell in check["cells"]:
        cell |= {"bundle": evil, "environment": evil, "reason": evil}
    text = render_html(check | {"reasons": [evil], "headline": evil})
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_regime_names_are_escaped_inside_charts(study: dict[str, Any]) -> None:
    summary = copy.deepcopy(study)
    summary["regimes"][0]["regime"] = "<b>&"
    text = render_html(summary)
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text


def test_absent_sections_are_left_out(check: dict[str, Any]) -> None:
    text = render_html(check)
    assert 'id="regimes"' not in text
    assert 'id="levels"' not in text
    assert "no such provider" in text
    assert "No deployment was named" in text


def test_cells_show_the_drop_its_interval_and_its_colour() -> None:
    assert heat_cell(Interval(3.14, 2.0, 4.3), floor=False).css == "p3 b"
    assert heat_cell(Interval(3.14, 2.0, 4.3), floor=False).interval == "[2.0, 4.3]"
    assert heat_cell(Interval(-0.04, -1.0, 1.0), floor=False).text == "0.0"
    assert heat_cell(None, floor=False).text == "no data"


@pytest.mark.parametrize(
    ("drop", "css"), [(0.2, "z"), (-0.2, "z"), (0.3, "p1"), (-3.0, "n3"), (25.0, "p6"), (-99.0, "n6")]
)
def test_colour_diverges_from_white_at_zero(drop: float, css: str) -> None:
    assert step(drop) == css


def test_failing_level_and_items_needed_are_named(single: dict[str, Any]) -> None:
    text = render_html(single)
    assert "about 2,400 items would decide" in text
    assert "int8-dynamic: why INCONCLUSIVE" in text


def test_hyphens_in_names_stay_hyphens(single: dict[str, Any]) -> None:
    assert "int8−dynamic" not in render_html(single)


def test_positive_controls_say_whether_this_data_would_notice(study: dict[str, Any], single: dict[str, Any]) -> None:
    assert "would notice bgr-for-rgb, missing-normalisation, scale-0-255 (would FAIL)" in render_html(study)
    for cell in single["cells"]:
        cell["verdict"] = "PASS" if cell["environment"] == "bgr-for-rgb" else cell["verdict"]
    assert "would not surely notice bgr-for-rgb (would not FAIL)" in render_html(single)


def test_levels_judged_as_one_band_share_a_line(check: dict[str, Any]) -> None:
    check["cells"][0] |= {"levels": {"4": "FAIL", "5": "FAIL"}, "level_reasons": {"4": "lost", "5": "lost"}}
    assert "model, levels 4, 5: lost" in render_html(check)


def test_executed_format_that_is_not_the_requested_one_is_marked(study: dict[str, Any]) -> None:
    assert "≠ float32" in render_html(study)


def test_circular_levels_carry_a_warning(study: dict[str, Any]) -> None:
    assert "Circular:" not in render_html(study)
    assert "Circular:" in render_html(study | {"calibration": [study["calibration"][0] | {"circular": True}]})


def test_contrasts_of_the_whole_run_are_shown(study: dict[str, Any]) -> None:
    contrast = {"regimes": ["easy-only", "random"], "difference_pp": {"estimate": -3.0, "low": -4.0, "high": -2.0}}
    text = render_html(study | {"contrasts": [contrast | {"supported": None, "note": "few seeds"}]})
    assert "−3.0 [−4.0, −2.0] pp · few seeds" in text


def luminance(color: str) -> float:
    digits = color.removeprefix("#")
    digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


PAIRS = [
    ("ink", "card"), ("ink", "page"), ("ink", "head"), ("dim", "card"), ("dim", "page"), ("link", "page"),
    ("pass", "pass-bg"), ("fail", "fail-bg"), ("warn", "warn-bg"), ("none", "none-bg"), ("ink", "warn-bg"),
    ("fail", "card"), ("zi", "z"), *((f"c{i}", "card") for i in range(6)),
    *((("pj" if i > 4 else "pi"), f"{side}{i}") for side in "pnq" for i in range(1, 7)), ("pi", "q0"),
]  # fmt: skip


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "paper"), PAIRS)
def test_text_contrast_is_at_least_4_5(ink: str, paper: str, scheme: int) -> None:
    blocks = re.findall(r":root\{([^}]*--page[^}]*)\}", CSS.read_text(encoding="utf-8"))
    colors = dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", blocks[scheme]))
    light, dark = sorted((luminance(colors[ink]), luminance(colors[paper])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


# ---------------------------------------------------------------------- all renderers


@pytest.mark.parametrize("render", RENDERERS)
def test_an_empty_summary_is_an_error_and_not_a_pass(render: Callable[[Json], str]) -> None:
    text = render({})
    assert "ERROR" in text
    assert "PASS" not in re.sub(r"(?s)<(style|section id=\"words\").*", "", text)


@pytest.mark.parametrize("render", RENDERERS)
def test_an_unknown_verdict_is_an_error(render: Callable[[Json], str], check: dict[str, Any]) -> None:
    assert "ERROR" in render(check | {"verdict": "FINE"})


@pytest.mark.parametrize("render", RENDERERS)
def test_rendering_is_pure(render: Callable[[Json], str], study: dict[str, Any]) -> None:
    before = copy.deepcopy(study)
    assert render(study) == render(study)
    assert study == before


def test_values_that_are_not_finite_are_not_numbers() -> None:
    assert interval({"estimate": float("nan"), "low": 0, "high": 1}) is None
    assert interval({"estimate": 1, "low": float("-inf"), "high": None}) == Interval(1.0, None, None)
    assert interval(True) is None


def test_labels_hold_what_tells_groups_apart() -> None:
    assert labels([("vision", "a", "cnn", "random"), ("vision", "b", "cnn", "random")]) == ["random · a", "random · b"]
    assert labels([]) == []


def test_study_comparison_covers_every_position() -> None:
    places = [beside_study(Interval(v, v - 1, v + 1), (5.0, 10.0)) for v in (2, 5, 7, 10, 12)]
    assert places == ["below", "overlaps", "inside", "overlaps", "above"]


def test_calibration_in_words() -> None:
    words = " ".join(
        calibration_words({"items": 600, "responders": 8, "split_half": 0.7, "gated_bands": [[1, 2], [3], [4, 5]]})
    )
    assert "0.70: too low for five levels" in words
    assert "3 bands: 1–2, 3, 4–5" in words
    assert "came with the data" in " ".join(calibration_words({"items": 5, "responders": 0, "source": "level column"}))


# --------------------------------------------------------------------------- Markdown

RULE = "A drop is accuracy in the reference minus accuracy in the environment, on the same items."
CHECK_MARKDOWN = f"""\
# ∅ NO DATA

What was to be gated could not be judged on this machine with this data. This is not a pass.

- Level 5 is at the floor.

model: model · cells: 1 of 2 ran

Margin 2.0 pp, intervals 95%, alpha 0.05. {RULE}

## What was gated

- **NO DATA** ort-one-thread (equivalent; predictions must not change)
  - NO DATA model, levels 1, 2, 3, 4: no drop was measured
  - NO DATA model, level 5: at the floor: nothing left to lose; no drop was measured

Reported and not gated:

- lossy (a choice with a price): cuda (not run)

## Drops in percentage points

| bundle | environment | kind | L1 | L2 | L3 | L4 | L5 | all | tilt | churn | verdict |
|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|
| model | ort-one-thread | equivalent | - | - | - | - | - (floor) | - | - | - | NO DATA |

## Not run

| environment | status | bundles | reason |
|---|---|---|---|
| cuda | skipped | model | no such provider |
"""


def normalised(text: str) -> str:
    """Runs of spaces as one: column widths are no promise."""
    return re.sub(r"[ \t]+", " ", text)


def test_markdown_of_the_smallest_check(check: dict[str, Any]) -> None:
    assert normalised(render_markdown(check)) == normalised(CHECK_MARKDOWN)


def test_markdown_holds_all_gated_cells_and_the_worst_of_the_rest(study: dict[str, Any]) -> None:
    lines = render_markdown(study).splitlines()
    drops = [line for line in lines if re.match(r"\| [a-z-]+-s\d \|", line)]
    gated = sum(cell["gated"] for cell in study["cells"])
    assert len(drops) == gated + 20
    assert any("scale-0-255" in line for line in drops)
    assert {line.count(" | ") for line in drops} == {11}


def test_markdown_is_inert(check: dict[str, Any]) -> None:
    check["cells"][1]["reason"] = "<img src=x>|[a](b)\nnext"
    assert r"\<img src=x\>\|\[a\](b) next" in render_markdown(check)


# ---------------------------------------------------------------------------- console

CHECK_CONSOLE = """\
NO DATA
What was to be gated could not be judged on this machine with this data. This is not a pass.
 - Level 5 is at the floor.

model: model; cells: 1 of 2 ran

environment kind gated L1 L2 L3 L4 L5 tilt verdict
ort-one-thread equivalent yes - - - - -* - NO DATA
cuda lossy no - - - - - - skipped
Drops in percentage points; tilt = L5 - L1 where neither is at the floor; * at the floor; - not measured.
"""


def test_console_of_the_smallest_check(check: dict[str, Any]) -> None:
    assert normalised(render_console(check)) == CHECK_CONSOLE


def test_console_is_plain_ascii_in_a_pipe(study: dict[str, Any]) -> None:
    text = render_console(study)
    assert text.isascii()
    assert "\x1b" not in text
    assert text.splitlines()[0] == "FAIL"


def test_console_has_colour_and_keeps_its_width(study: dict[str, Any]) -> None:
    text = render_console(study, width=90, color=True)
    assert "\x1b[" in text
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()) <= 90


# ------------------------------------------------------------------------------ JUnit


def suites(summary: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(render_junit(summary))


def test_junit_counts_are_right(study: dict[str, Any]) -> None:
    root = suites(study)
    assert len(root) == 1 + 12
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[attribute]) == sum(case.find(tag) is not None for case in cases)
    assert int(root.attrib["tests"]) == sum(len(suite) for suite in root)


def outcomes(cell: dict[str, Any]) -> dict[str, str]:
    """Outcome per case of a summary with this one cell: the tag and its type."""
    root = suites({"verdict": "PASS", "cells": [cell]})
    found = {}
    for case in root[1]:
        result = next((child for child in case if child.tag != "properties"), None)
        found[case.attrib["name"]] = "passed" if result is None else f"{result.tag} {result.get('type', '')}".strip()
    return found


CELL = {"bundle": "m", "environment": "e", "kind": "lossy", "gated": True, "status": "ok"}


def test_junit_outcome_per_verdict() -> None:
    levels = dict(zip("12345", ("PASS", "FAIL", "ERROR", "INCONCLUSIVE", "NO DATA"), strict=True))
    assert outcomes(CELL | {"verdict": "FAIL", "levels": levels}) == {
        "level[e-level1]": "passed",
        "level[e-level2]": "failure FAIL",
        "level[e-level3]": "error ERROR",
        "level[e-level4]": "failure INCONCLUSIVE",
        "level[e-level5]": "error NO DATA",
    }


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"status": "error"}, "error ERROR"),
        ({"status": "skipped"}, "error NO DATA"),
        ({"status": "not_applicable"}, "skipped"),
        ({"status": "not_applicable", "verdict": "NO DATA"}, "error NO DATA"),
        ({"status": "ok"}, "error ERROR"),
        ({"status": "error", "gated": False}, "skipped"),
    ],
)
def test_junit_cells_without_levels_fail_closed(change: dict[str, Any], outcome: str) -> None:
    assert outcomes(CELL | change) == {"cell[e]": outcome}


def test_junit_verdict_that_no_level_explains_is_a_case_of_its_own() -> None:
    found = outcomes(CELL | {"verdict": "NO DATA", "levels": {"1": "PASS"}, "reason": "ran in float32"})
    assert found == {"cell[e]": "error NO DATA", "level[e-level1]": "passed"}


def test_junit_unknown_words_are_errors() -> None:
    assert outcomes(CELL | {"verdict": "PASS", "levels": {"1": "fine", "2": None}}) == {
        "level[e-level1]": "error ERROR",
        "level[e-level2]": "error ERROR",
    }


def test_junit_skips_what_is_not_gated_with_its_drop() -> None:
    drop = {"5": {"estimate": 3.0, "low": 1.0, "high": 5.0, "p_change": 0.01, "p_fail": 0.2}}
    cell = CELL | {
        "gated": False,
        "verdict": "FAIL",
        "levels": {"5": "FAIL"},
        "drop_pp": drop,
        "n_by_level": {"5": 600},
    }
    case = suites({"verdict": "PASS", "margin_pp": 2.0, "cells": [cell]})[1][0]
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "not gated (lossy): measured drop 3.0 [1.0, 5.0] pp"
    values = {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
    assert values["drop_pp"] == "3.000"
    assert values["interval_pp"] == "[1.000, 5.000]"
    assert (values["n"], values["margin_pp"], values["p_fail"]) == ("600", "2.0", "0.2")


def test_junit_replaces_characters_that_xml_forbids() -> None:
    cell = CELL | {
        "bundle": "a<b&\x00\x1b",
        "verdict": "FAIL",
        "levels": {"1": "FAIL"},
        "level_reasons": {"1": "\x07 <"},
    }
    suite = suites({"verdict": "FAIL", "cells": [cell]})[1]
    assert suite.attrib["name"] == "gapshift.a<b&��"
    failure = suite[0].find("failure")
    assert failure is not None
    assert failure.text == "� <"


@pytest.mark.parametrize("verdict", VERDICTS)
def test_junit_holds_the_run_verdict(check: dict[str, Any], verdict: str) -> None:
    case = suites(check | {"verdict": verdict})[0][0]
    assert (case.find("failure") is None and case.find("error") is None) == (verdict == "PASS")


# ------------------------------------------------------------------------------ files


def test_files_are_written_into_the_run(tmp_path: Path, check: dict[str, Any]) -> None:
    paths = render_all(tmp_path, check)
    assert {name: path.name for name, path in paths.items()} == {
        n: n for n in ("report.html", "report.md", "junit.xml")
    }
    assert paths["report.html"].read_text(encoding="utf-8") == render_html(check)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "report.html", "report.md"]


def test_a_folder_that_cannot_be_written_is_a_workspace_error(tmp_path: Path, check: dict[str, Any]) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(WorkspaceError, match="Cannot write"):
        render_all(tmp_path, check)


@pytest.mark.parametrize(("strict", "tag"), [(False, "skipped"), (True, "error")])
def test_a_level_left_out_at_the_floor_fails_a_strict_run_alone(study: dict[str, Any], strict: bool, tag: str) -> None:
    cell = next(cell for cell in study["cells"] if cell["gated"] and cell["verdict"] == "PASS")
    cell["levels"]["5"], cell["undecided_floor"] = "NO DATA", [5]
    cell["level_reasons"]["5"] = "floor: reference accuracy 11.7%, chance 10.0%, so nothing is left to lose"
    root = ElementTree.fromstring(render_junit(study | {"strict": strict}))
    name = f"level[{cell['environment']}-level5]"
    case = next(case for case in root.iter("testcase") if case.get("name") == name)
    found = case.find(tag)
    assert found is not None
    assert "floor" in str(found.get("message"))


def test_a_single_models_reference_accuracy_stands_on_the_console_and_in_markdown(check: dict[str, Any]) -> None:
    accuracy = {"all": 0.664, "1": 0.919, "2": 0.8, "3": 0.7, "4": 0.5, "5": 0.361}
    check["bundles"][0]["reference"] = {"accuracy": accuracy}
    for text in (render_console(check), render_markdown(check)):
        assert "reference accuracy: 66.4% (L1 92, L2 80, L3 70, L4 50, L5 36)" in text
    check["bundles"][0]["reference"] = {"accuracy": accuracy | {"all": None}}  # read until decided, level by level
    for text in (render_console(check), render_markdown(check)):
        assert "reference accuracy: L1 92, L2 80, L3 70, L4 50, L5 36 (% of what was read)" in text


def test_a_pass_claims_what_was_gated_and_no_more() -> None:
    cell = {"bundle": "m", "environment": "e", "gated": True, "verdict": "PASS"}
    equivalent = {"verdict": "PASS", "margin_pp": 2.0, "cells": [{**cell, "kind": "equivalent"}]}
    named = {"verdict": "PASS", "margin_pp": 2.0, "cells": [{**cell, "kind": "lossy"}]}
    assert "no setting that must change nothing changed a prediction" in render_markdown(equivalent)
    assert "every named deployment" not in render_markdown(equivalent)
    assert "every named deployment stays within 2 pp" in render_markdown(named)
    assert "no setting that must change" not in render_markdown(named)


def test_the_console_says_what_an_ungated_environment_would_be(check: dict[str, Any]) -> None:
    check["cells"] = [
        {"bundle": "m", "environment": "e", "kind": "lossy", "gated": False, "verdict": "FAIL", "status": "ok"}
    ]
    assert "not gated (would be FAIL)" in render_console(check)


def test_console_says_that_not_every_bundle_is_behind_a_mean(study: dict[str, Any]) -> None:
    n = len(study["bundles"])
    assert f"mean over {n} bundles;" in " ".join(render_console(study).split())
    study["cells"].pop()
    assert f"mean over those of {n} bundles that an environment applies to;" in " ".join(render_console(study).split())


def test_a_run_that_gated_nothing_is_told_what_to_do() -> None:
    ungated = {"verdict": "NO DATA", "cells": [{"gated": False, "kind": "stress"}]}
    assert verdict_meaning(ungated) == (
        "Nothing was gated: name what you deploy to with --environment. This is not a pass."
    )
    assert verdict_meaning({"verdict": "NO DATA", "cells": [{"gated": True}]}).startswith("What was to be gated could")
