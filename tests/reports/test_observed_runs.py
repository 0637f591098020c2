"""Observability of whole runs: which cells are shown, what the summary and the page hold, what is a problem."""

from __future__ import annotations

import numpy as np
import pytest

from gapshift.errors import UnknownNameError
from gapshift.reports.judge import judge
from gapshift.reports.observability import Question, headline, observation, observe_cell, select
from gapshift.reports.planned import read_run
from gapshift.reports.renderers.html import render_html
from gapshift.reports.renderers.markdown import render_markdown

N = 600
"""Items a level."""


def _run(builder, *environments, **settings):
    builder.cell("reference", builder.answers())
    for name, kind, lost in environments:
        builder.environment(name, kind)
        builder.cell(name, builder.answers(lost=lost))
    return builder.finish(**settings)


def test_the_summary_holds_the_named_deployments_and_the_page_shows_them(builder) -> None:
    summary = judge(_run(builder, ("phone", "lossy", {5: 60}), ("other", "lossy", {5: 30}), deployments=("phone",)))
    (cell,) = summary["observability"]["cells"]
    assert (cell["bundle"], cell["environment"]) == ("m", "phone")
    assert {line["level"] for line in cell["lines"]} == {"all", "5"}
    assert summary["observability"]["drops_pp"] == [2.0, 5.0]
    page, text = render_html(summary), render_markdown(summary)
    assert "What monitoring would notice" in page
    assert "Requests until noticed in phone" in page
    assert "| top-1-with-labels (predicted class, labels) |" in text


def test_models_of_several_tasks_share_no_table(builder) -> None:
    for bundle, task in (("a", "signs"), ("b", "faces")):
        builder.bundle(bundle, task=task)
        builder.cell("reference", builder.answers(), bundle)
        builder.cell("phone", builder.answers(lost={5: 60}), bundle)
    builder.environment("phone", "lossy")
    page = render_html(judge(builder.finish(deployments=("phone",))))
    assert "Requests until noticed in phone, signs" in page
    assert "Requests until noticed in phone, faces" in page


def test_without_a_named_deployment_the_page_is_silent(builder) -> None:
    summary = judge(_run(builder, ("phone", "lossy", {5: 60})))
    assert summary["observability"]["cells"] == []
    assert "What monitoring would notice" not in render_html(summary)


def test_a_cell_that_cannot_be_judged_is_a_problem(builder) -> None:
    builder.environment("gone", "lossy")
    builder.cell("gone", None, status="skipped", reason="no such provider")
    run = read_run(_run(builder, ("phone", "lossy", {5: 60})))
    cells = {cell.environment.name: observe_cell(cell, Question()) for cell in run.cells}
    assert cells["gone"].problem == "skipped: no such provider"
    assert cells["gone"].lines == ()
    assert cells["phone"].problem == ""


def test_a_cell_with_broken_records_is_a_problem(builder, edit) -> None:
    builder.environment("torn", "lossy")
    builder.cell("torn", edit(builder.answers(), keep=slice(0, 100)))
    run = read_run(_run(builder))
    assert "have no record" in observe_cell(run.cells[0], Question()).problem


def test_missing_confidences_are_counted(builder, edit) -> None:
    broken = np.zeros(5 * N, dtype=bool)
    broken[:3] = True
    builder.environment("env", "lossy")
    builder.cell("env", edit(builder.answers(lost={5: 60}), status="nan_output", where=broken))
    run = read_run(_run(builder))
    notes = observe_cell(run.cells[0], Question()).notes
    assert f"3 of {5 * N} items lack a confidence on one side; tests of confidences leave it out" in notes


def test_select_takes_what_is_named_or_what_drops_most(builder) -> None:
    builder.bundle("a")
    builder.bundle("b")
    for name, kind, drops in (("mild", "lossy", (5, 9)), ("hard", "lossy", (60, 50)), ("bug", "mistake", (200, 200))):
        builder.environment(name, kind)
        for bundle, lost in zip("ab", drops, strict=True):
            builder.cell(name, builder.answers(lost={5: lost}), bundle)
    for bundle in "ab":
        builder.cell("reference", builder.answers(), bundle)
    run = read_run(builder.finish())

    def chosen(environments=(), bundles=()):
        cells, notes = select(run, environments, bundles)
        return [(cell.bundle.name, cell.environment.name) for cell in cells], notes

    assert chosen()[0] == [("a", "hard")]
    assert chosen()[1][0].startswith("No deployment is named")
    assert chosen(("mild",))[0] == [("b", "mild")]
    assert chosen(("mild",), ("a", "b")) == ([("a", "mild"), ("b", "mild")], [])
    with pytest.raises(UnknownNameError, match=r"Unknown environment 'mlid'\. Did you mean 'mild'\? .*no other"):
        chosen(("mlid",))
    with pytest.raises(UnknownNameError, match="Unknown bundle 'c'"):
        chosen((), ("c",))


def test_the_headline_is_one_sentence(builder) -> None:
    run = read_run(_run(builder, ("phone", "lossy", {5: 60})))
    (cell,) = observation(run.cells, Question())["cells"]
    assert cell["headline"].startswith("A drop of 5 pp at level 5 is noticed, at power 0.8, after about ")
    assert "requests with full-with-labels; " in cell["headline"]
    assert headline((), (), 0.8) == "No records to observe."
