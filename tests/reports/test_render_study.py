"""What the reports say of a study: claims, tasks, comparisons, several tasks of several domains."""

from __future__ import annotations

import copy
import re
import runpy
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from gapshift.reports.renderers import render_console, render_html, render_markdown
from gapshift.reports.renderers.charts import Series, width_chart
from gapshift.reports.renderers.comparisons import accuracy_cell, undeployed
from gapshift.reports.renderers.study import claims, console_lines
from gapshift.reports.renderers.tables import Cell, footnotes, some
from gapshift.reports.renderers.view import Interval, Json

HERE = Path(__file__).parent
MADE = runpy.run_path(str(HERE / "study_summaries.py"))
SINGLE = runpy.run_path(str(HERE / "summaries.py"))
TEXTS: tuple[Callable[[Json], str], ...] = (render_html, render_markdown)
RENDERERS = (*TEXTS, render_console)
CHAPTERS = ("claims", "tasks", "matrix", "controls", "transfer", "measures", "critical", "scores")


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return MADE["four_tasks"]()


@pytest.fixture
def changed(summary: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(summary)


@pytest.fixture(scope="module")
def page(summary: dict[str, Any]) -> str:
    return render_html(summary)


def section(page: str, key: str) -> str:
    """The words of one section of the page."""
    found = re.search(rf'(?s)<section id="{key}".*?</section>', page)
    assert found is not None, key
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found[0])).split())


def part(summary: dict[str, Any], key: str, **study: Any) -> str:
    """A section's words after a change to the study."""
    return section(render_html(summary | {"study": summary["study"] | study}), key)


# ----------------------------------------------------------------------------- claims


def test_claims_come_right_after_the_verdict(page: str) -> None:
    order = re.findall(r'<(?:header|section)[^>]*?(?:id="([^"]+)"|class="hero)', page)
    assert order[:4] == ["", "claims", "tasks", "gate"]


@pytest.mark.parametrize("render", TEXTS)
def test_every_claim_has_its_word_and_its_symbol(render: Callable[[Json], str], summary: dict[str, Any]) -> None:
    text = render(summary)
    for badge in ("✓ supported", "✗ not supported", "? cannot tell"):
        assert badge in text
    assert text.count("Claims are judged one by one at 95%") == 1


def test_evidence_is_folded_under_its_claim(page: str) -> None:
    cell = re.search(r"(?s)<th scope=\"row\">2b</th>.*?</tr>", page)
    assert cell is not None
    assert "<details><summary>Evidence" in cell[0]
    assert "objects · cnn: easy-only less iid at level 1 +3.1 [+1.0, +5.2] pp" in cell[0]


@pytest.mark.parametrize("word", [None, "", "SUPPORTED", "fine", 1])
def test_an_unknown_verdict_of_a_claim_supports_nothing(word: Any, changed: dict[str, Any]) -> None:
    for row in changed["study"]["claims"]:
        row["verdict"] = word
        row["tasks"] = []
    assert {claim.verdict for claim in claims(changed)} == {"cannot tell"}
    assert "✓ supported" not in render_html(changed)
    assert "supported" not in console_lines(changed)[0]


def test_how_claims_are_judged_is_said_on_the_page(page: str) -> None:
    assert "How claims are judged. Supported: in every learnable task." in section(page, "claims")


# ------------------------------------------------------------------------------ tasks


def test_tasks_say_whether_they_were_learnt(page: str) -> None:
    words = section(page, "tasks")
    assert "objects objects-data vision classes 66.0 [63.0, 69.0] 10.0 ✓ learnable 0.91" in words
    assert "12.0 [9.0, 15.0] 10.0 ✗ not learnable at this budget enters no claim –" in words
    assert "cart-pole cart-pole-data control episodes – – ? not known enters no claim 0.40" in words


def test_scale_is_a_symmetric_matrix_that_says_what_it_assumes(page: str) -> None:
    words = section(page, "tasks")
    assert words.count("0.71 rho 0.66, n = 8") == 10
    assert words.count("– unknown, n = 2") == 2
    assert "Levels across tasks are linked by recipe." in words


def test_absolute_levels_stand_under_the_scale(page: str) -> None:
    words = section(page, "tasks")
    assert (
        "a column is the same stretch of the linked scale in every table (b* cut at −1.50, −0.50, 0.50, 1.50)" in words
    )
    assert "share of items 10% 30% 40% 20% 0%" in words
    assert "iid 90.0 [87.0, 93.0] 80.0 [77.0, 83.0] 70.0 [67.0, 73.0] 60.0 [57.0, 63.0] no data" in words


# ------------------------------------------------------------------------ comparisons


def test_matrix_shows_every_number_on_its_colour(page: str) -> None:
    assert '<td class="c q6 own">97.0<i>[95.0, 99.0]</i></td>' in page
    assert section(page, "matrix").count("no data") == 2 * 5
    assert "Not trained: level-4." in section(page, "matrix")


@pytest.mark.parametrize(
    ("share", "css"), [(0.0, "q0"), (0.2, "q1"), (0.499, "q2"), (0.5, "q3"), (0.9, "q6"), (1, "q6")]
)
def test_accuracy_has_six_steps(share: float, css: str) -> None:
    assert accuracy_cell(Interval(share)).css == f"c {css}"


def test_recovery_without_a_value_is_undefined_with_its_reason(page: str) -> None:
    words = section(page, "matrix")
    assert "objects cnn 62.0 [42.0, 82.0] 10.0" in words
    assert "cart-pole controller undefined –" in words
    assert "Not trained: hard-only (cart-pole)." in words


def test_controls_leave_out_what_was_deployed(summary: dict[str, Any]) -> None:
    left = undeployed(summary, summary["study"])
    names = [(row["regime"], row["width"], row["shuffled"]) for row in left if row["task"] == "objects"]
    assert {regime for regime, width, shuffled in names if width == 16 and not shuffled} == set(MADE["CONTROLS"])
    assert ("curriculum", 32, 0.0) in names
    assert ("curriculum", 16, 0.3) in names


def test_all_regimes_are_controls_where_none_was_deployed(summary: dict[str, Any]) -> None:
    found = undeployed(summary | {"regimes": []}, summary["study"])
    assert found == summary["study"]["regimes"]


def test_shuffled_labels_are_compared_with_true_ones(page: str) -> None:
    words = section(page, "controls")
    assert "objects: curriculum cnn, width 16 30% −2.1 [−3.2, −1.0] 0.4 [−0.6, 1.4] 3" in words
    assert "No curriculum with the true levels to compare with (questions: curriculum)." in words


def test_widths_have_a_slope_and_a_chart(page: str) -> None:
    assert "objects: easy-only cnn −1.50 [−2.10, −0.90] parameters 3" in section(page, "controls")
    assert page.count('aria-label="G1 by parameters, objects · cnn"') == 1
    assert 'aria-label="G1 by width' not in page  # a chart without a point would show nothing


def test_width_chart_skips_what_is_unknown_and_escapes() -> None:
    series = [Series("<b>", (Interval(4.0, 3.0, 5.0), None)), Series("none", (None, None))]
    chart = width_chart(series, (1500.0, 2_000_000.0), "parameters", "G1 & size")
    assert "&lt;b&gt;" in chart
    assert "<b>" not in chart
    assert "1.5k" in chart
    assert "2M" in chart


def test_transfer_is_a_matrix_by_source_and_target(page: str) -> None:
    words = section(page, "transfer")
    assert "from to objects to questions to spoken-digits to cart-pole" in words
    assert "objects · 0.48 [0.18, 0.78] 0.48 [0.18, 0.78] undefined" in words
    assert "Undefined: the lower end of own trunk less random trunk is not above 5 pp" in words
    assert "curriculum 0.41 [0.21, 0.61] 9 of 12 random undefined 0 of 12" in words


def test_pairs_that_were_not_trained_are_not_called_undefined(summary: dict[str, Any]) -> None:
    one = [row for row in summary["study"]["transfer"] if (row["source"], row["target"]) != ("objects", "questions")]
    assert "not trained" in part(summary, "transfer", transfer=one)


def test_measures_say_which_findings_stay(page: str) -> None:
    words = section(page, "measures")
    assert "objects: el2n 0.61 [0.56, 0.66] 500 1 of 3 1 unknown" in words
    assert "easy-only less iid at level 1 el2n 3.0 [1.0, 5.0] −1.0 [−3.0, 1.0] ✗ no" in words
    assert "Fewer than 10 held-out items have this measure (objects: entropy)." in words


def test_critical_levels_and_those_that_have_none(page: str) -> None:
    words = section(page, "critical")
    assert "objects: 2 of 3 environments have a critical level environment easy-only hard-only" in words
    assert "level 4, 83% 6.2 [4.8, 7.6] pp" in words
    assert "float16 none none none none" in words


def test_agreement_gives_tau_and_the_least_certain_pair(page: str) -> None:
    words = section(page, "critical")
    assert "int8-dynamic 0.80 [0.65, 0.95] 12 97% easy-only – hard-only" in words
    assert "float16 – 4 –" in words
    assert "Tau needs 12 models, there are 4 (float16)." in words


def test_scores_and_open_loops_stand_only_where_there_are_any(page: str) -> None:
    words = section(page, "scores")
    assert "questions: F1, %" in words
    assert "cart-pole: mastered share, %" in words
    assert "cart-pole: open loop, % of steps" in words
    assert "objects" not in words
    assert "78.0 drop 3.0 [2.0, 4.0] pp" in words


# ----------------------------------------------------------------------------- absence


@pytest.mark.parametrize("study", [None, {}])
def test_without_a_study_nothing_of_it_is_shown(study: Any) -> None:
    found = SINGLE["study"]() | {"study": study}
    page, text = render_html(found), render_markdown(found)
    assert not any(f'id="{key}"' in page for key in CHAPTERS)
    assert "published study's claims" not in text
    assert console_lines(found) == []


@pytest.mark.parametrize("render", RENDERERS)
@pytest.mark.parametrize("key", sorted(MADE["study_part"]()))
def test_any_part_of_the_study_may_be_missing(render: Callable[[Json], str], key: str, summary: dict[str, Any]) -> None:
    light = summary | {"cells": [], "bundles": []}
    for absent in (None, []):
        assert render(light | {"study": summary["study"] | {key: absent}})


@pytest.mark.parametrize("render", RENDERERS)
def test_every_value_of_every_row_may_be_null(render: Callable[[Json], str], changed: dict[str, Any]) -> None:
    def emptied(value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return [emptied(each, depth) for each in value]
        if isinstance(value, dict) and depth:
            return {key: emptied(each, depth - 1) for key, each in value.items()}
        return value if isinstance(value, str) else None

    text = render(changed | {"study": emptied(changed["study"], 2)})
    assert "nan" not in text.lower().split()
    assert "None" not in text


def test_names_are_escaped_everywhere(changed: dict[str, Any]) -> None:
    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return f"<script>|{value}" if isinstance(value, str) else value

    found = changed | {"study": renamed(changed["study"])}
    assert "<script" not in render_html(found)
    assert not re.search(r"(?<!\\)<script", render_markdown(found))


# -------------------------------------------------------------------- several domains


def test_overviews_are_one_for_each_task_and_hold_its_environments_alone(page: str) -> None:
    tables = re.findall(r'(?s)<table class="heat mini">.*?</table>', page)
    assert len(tables) == 4
    assert ["jpeg-50" in table for table in tables] == [True, False, False, False]
    assert all('class="lv g">easy-only</th>' in table for table in tables)


def test_positive_controls_speak_for_each_task(changed: dict[str, Any]) -> None:
    for cell in changed["cells"]:
        if cell["environment"] == "scale-0-255":
            cell["verdict"] = "PASS" if cell["bundle"].startswith("cart-pole") else "FAIL"
    text = render_html(changed)
    assert "cart-pole: this data would not surely notice" in text
    assert "objects: this data would notice bgr-for-rgb" in text


def test_reference_accuracy_is_given_task_by_task(summary: dict[str, Any]) -> None:
    assert "reference accuracy: objects 57.8% to 72.4%; questions 57.8% to 72.4%" in render_console(summary)


def test_calibration_cards_are_one_for_each_task(page: str) -> None:
    words = section(page, "levels")
    assert "A guess is right with probability 0.10." in words
    assert "How reliable the levels are is not known." in words
    assert all(f"{task} 6,000 items" in words for task in MADE["TASKS"])


# -------------------------------------------------------------------- Markdown, console


def test_markdown_tables_have_as_many_cells_as_heads(summary: dict[str, Any]) -> None:
    width = 0
    for line in render_markdown(summary).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (width and cells) or cells == width, line
        width = cells


def test_markdown_folds_long_tables_and_counts_what_it_leaves_out(changed: dict[str, Any]) -> None:
    changed["study"]["transfer"] *= 2
    text = render_markdown(changed)
    assert "<details><summary>Accuracies behind the scores</summary>\n\n|" in text
    assert "24 more rows are in `report.html`." in text
    assert text.count("<details>") == text.count("</details>")


def test_console_names_claims_and_tasks_in_a_few_lines(summary: dict[str, Any]) -> None:
    assert console_lines(summary) == [
        "Claims: supported 2a, 6; not supported 2b, 3, 7; cannot tell 1, 2c, 2d, 4, 5, 8, 9",
        "Not learnable at this budget, in no claim: spoken-digits",
        "Learnable is not known, in no claim: cart-pole",
    ]
    assert all(line in render_console(summary) for line in console_lines(summary))
    assert render_console(summary).isascii()


# ------------------------------------------------------------------------------ tables


def test_footnotes_say_each_remark_once() -> None:
    rows = [("a", "few; no chance"), ("b", "few"), ("c", None), ("a", "few")]
    assert footnotes(rows) == ("Few (a, b).", "No chance (a).")
    assert footnotes([]) == ()


def test_long_lists_are_counted() -> None:
    assert some("abcde") == "a, b, c and 2 more"
    assert Cell("1.0", "[0.5, 1.5]").line == "1.0 [0.5, 1.5]"
    assert Cell("iid", "cnn").line == "iid (cnn)"


def test_a_scale_with_nearly_all_items_in_one_band_says_nothing(changed: dict[str, Any]) -> None:
    changed["study"]["absolute"][0]["items"] = {"1": 0.0, "2": 0.0, "3": 0.0, "4": 0.04, "5": 0.96}
    changed["study"]["scale"]["correlations"][0]["pearson"] = 0.31
    for render in TEXTS:
        text = render(changed).replace("\\", "")
        assert "objects: 96% of the held-out items lie at absolute level 5, nearly all in one band" in text
        assert "objects and questions: 0.31, low: do not compare level_abs between these two." in text


def test_the_console_names_tasks_with_unreliable_levels(changed: dict[str, Any]) -> None:
    changed["study"]["tasks"][0]["levels"] = "levels too unreliable (0.44)"
    assert "Levels too unreliable, in no claim: objects" in render_console(changed)
    assert "levels too unreliable: enters no claim" in render_html(changed)
