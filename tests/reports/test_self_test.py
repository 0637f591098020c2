"""The run judged again with the answers of its repeats: which agree, which level decides, and what is no agreement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gapshift.reports.alternatives import ELSEWHERE
from gapshift.reports.judge import judge
from gapshift.reports.planned import read_run
from gapshift.reports.reasons import run_verdict
from gapshift.reports.renderers import render_console, render_html, render_markdown
from gapshift.reports.renderers.self_test import facts
from gapshift.reports.self_test import self_test_json
from gapshift.reports.verdicts import judge_cells
from gapshift.schema import REFERENCE_ENVIRONMENT, CellInfo, Environment, Execution, cell_basis
from gapshift.schema.repeats import FOLDER, SETTINGS, repeat_of
from gapshift.workspace import Workspace

ITEMS = "digest of the judged items"
LOSS = {5: 90}
"""15 pp of level 5."""
Build = Callable[..., tuple[Any, Workspace]]


@pytest.fixture
def repeated(builder: Any) -> Build:
    """A run with one named environment whose answers hold, and its repeats: ``other`` gives those of some settings."""

    def build(
        other: dict[str, Any] | None = None,
        references: dict[str, Any] | None = None,
        own: Any = None,
        environment: dict[str, Any] | None = None,
        leave_out: tuple[str, ...] = (),
        info: dict[str, Any] | None = None,
        **settings: Any,
    ) -> tuple[Any, Workspace]:
        held = builder.answers() if own is None else own
        builder.environment("int8", "lossy", **(environment or {}))
        builder.cell("reference", builder.answers())
        builder.cell("int8", held)
        workspace = builder.finish(deployments=("int8",), **settings)
        folder = Workspace(workspace.root / FOLDER)
        for setting in SETTINGS:
            answers = [(REFERENCE_ENVIRONMENT, (references or {}).get(setting.name, builder.answers()))]
            answers.append((builder.environments[0], (other or {}).get(setting.name, held)))
            for base, records in answers:
                if f"{base.name}.{setting.name}" not in leave_out:
                    _write(folder, builder, repeat_of(base, setting), records, info or {})
        return _judged(workspace), workspace

    return build


def _judged(workspace: Workspace) -> Any:
    """The verdict and the self-test, as in the summary."""
    run = read_run(workspace)
    cells = judge_cells(run.cells, run.rule, sum(len(cell.bands) for cell in run.cells if cell.gated))
    verdict = run_verdict(run.plan, cells)
    return {"verdict": verdict, "self_test": self_test_json(workspace, run, cells, verdict)}


def _write(folder: Workspace, builder: Any, environment: Environment, records: Any, info: dict[str, Any]) -> None:
    header = {
        "key": "k",
        "basis": cell_basis(builder.bundles[0], environment, ITEMS),
        "bundle": "m",
        "environment": environment.name,
        "execution": Execution(engine="onnxruntime", provider="CPUExecutionProvider"),
    }
    told = CellInfo(**(header | info))
    folder.write_cell(told, records if told.status == "ok" else None)


def _of(summary: Any, setting: str) -> Any:
    return next(row for row in summary["self_test"]["alternatives"] if row["setting"] == setting)


def test_a_run_without_repeats_has_no_self_test(builder: Any) -> None:
    summary, _ = builder.judged(builder.answers())
    assert summary["self_test"] is None
    assert "judged again" not in render_console(summary)
    assert "Would another repeat" not in render_html(summary)
    assert "Would another repeat" not in render_markdown(summary)


def test_repeats_to_the_bit_agree_and_prove_nothing(repeated: Build) -> None:
    summary = judge(repeated()[1])
    found = summary["self_test"]
    assert (found["same"], found["other"], found["not_repeated"]) == (len(SETTINGS), 0, 0)
    assert [row["flips"] for row in (*found["cells"], *found["references"])] == [0, 0]
    for text in (render_html(summary), render_markdown(summary)):
        assert "No prediction changes in any repeat of 2 cells." in text
        assert "agreement there says nothing about chance in the items" in text
    assert "judged again on repeats (11 alternative runs): 11 PASS" in render_console(summary)


def test_the_level_and_the_setting_that_decide_otherwise_are_named(repeated: Build, builder: Any) -> None:
    summary = judge(repeated({"order-2": builder.answers(lost=LOSS)})[1])
    found = summary["self_test"]
    assert (summary["verdict"], found["same"], found["other"]) == ("PASS", len(SETTINGS) - 1, 1)
    row = _of(summary, "order-2")
    assert (row["verdict"], row["outcome"]) == ("FAIL", "other")
    assert [(each["environment"], each["levels"], each["was"], each["verdict"]) for each in row["decides"]] == [
        ("int8", [5], "PASS", "FAIL")
    ]
    cell = found["cells"][0]
    assert (cell["flips"], cell["verdicts"]) == (90, {"PASS": 10, "FAIL": 1})
    assert cell["drop_range_pp"]["5"] == {"low": 0.0, "high": 15.0}
    assert cell["drop_range_pp"]["1"] == {"low": 0.0, "high": 0.0}
    said = "Under order-2 the run would be FAIL, decided by m in int8 at level 5 (PASS before)."
    assert said in render_markdown(summary)
    assert "10 PASS" in render_console(summary)


def test_the_reference_is_repeated_too(repeated: Build, builder: Any) -> None:
    """The environment holds; it is the reference that answers more rightly in another order."""
    better = builder.answers({1: 0.98, 2: 0.95, 3: 0.9, 4: 0.8, 5: 0.8})
    summary, _ = repeated(references={"batch-1": better})
    assert summary["verdict"] == "PASS"
    assert _of(summary, "batch-1")["verdict"] == "FAIL"
    assert summary["self_test"]["references"][0]["flips"] == 120


def test_a_failing_run_that_another_repeat_would_pass(repeated: Build, builder: Any) -> None:
    summary, _ = repeated({"threads-4": builder.answers()}, own=builder.answers(lost=LOSS))
    row = _of(summary, "threads-4")
    assert (summary["verdict"], row["verdict"], row["outcome"]) == ("FAIL", "PASS", "other")
    assert [(each["levels"], each["was"]) for each in row["decides"]] == [([5], "FAIL")]


def test_a_missing_repeat_is_no_agreement(repeated: Build) -> None:
    summary, _ = repeated(leave_out=("int8.order-1", "reference.batch-7"))
    found = summary["self_test"]
    assert (found["same"], found["not_repeated"]) == (len(SETTINGS) - 2, 2)
    assert _of(summary, "order-1")["missing_listed"] == [
        {"bundle": "m", "environment": "int8", "reason": "did not run"}
    ]
    assert _of(summary, "batch-7")["missing_listed"][0]["environment"] == "reference"
    assert facts(summary) == [("judged again on repeats (11 alternative runs)", "9 PASS, 2 not repeated")]


def test_a_failure_stands_whatever_else_is_missing(repeated: Build, builder: Any) -> None:
    summary, _ = repeated(
        {setting.name: builder.answers(lost=LOSS) for setting in SETTINGS},
        own=builder.answers(lost=LOSS),
        leave_out=("reference.order-1",),
    )
    assert summary["verdict"] == "FAIL"
    assert _of(summary, "order-1")["outcome"] == "not repeated"  # without a reference nothing fails
    assert _of(summary, "order-2")["outcome"] == "same"


@pytest.mark.parametrize("status", ["error", "skipped"])
def test_a_repeat_that_went_wrong_is_no_agreement(repeated: Build, status: str) -> None:
    summary, _ = repeated(info={"status": status, "reason": "no memory", "execution": None})
    assert summary["self_test"] is None  # nothing at all was repeated
    assert summary["verdict"] == "PASS"


def test_repeats_of_another_plan_are_not_used(repeated: Build) -> None:
    _, workspace = repeated()
    folder = Workspace(workspace.root / FOLDER)
    found = folder.read_cell("m", "int8.order-1")
    assert found is not None
    folder.write_cell(found[0].model_copy(update={"basis": "of another model"}), found[1])
    row = _of(_judged(workspace), "order-1")
    assert row["outcome"] == "not repeated"
    assert "made for another model, contract, environment or items" in row["missing_listed"][0]["reason"]


def test_repeats_of_other_libraries_are_not_used(repeated: Build) -> None:
    _, workspace = repeated()
    folder = Workspace(workspace.root / FOLDER)
    found = folder.read_cell("m", "int8.order-1")
    assert found is not None
    newer = Execution(engine="onnxruntime", provider="CPUExecutionProvider", versions={"onnxruntime": "9.9"})
    folder.write_cell(found[0].model_copy(update={"execution": newer}), found[1])
    row = _of(_judged(workspace), "order-1")
    assert (row["outcome"], row["missing_listed"][0]["reason"]) == ("not repeated", ELSEWHERE)


def test_what_an_environment_says_itself_it_keeps(repeated: Build, builder: Any) -> None:
    """An environment of one thread is not that environment with four; the reference varies all the same."""
    loses = {f"threads-{n}": builder.answers(lost=LOSS) for n in (1, 4)}
    summary, _ = repeated(loses, environment={"deviations": {"runtime.intra_op_threads": 1}})
    row = _of(summary, "threads-4")
    assert (row["outcome"], row["repeated"], row["fixed"]) == ("same", 1, 1)


def test_what_cannot_be_set_keeps_its_own_answers(repeated: Build) -> None:
    _, workspace = repeated()
    folder = Workspace(workspace.root / FOLDER)
    found = folder.read_cell("m", "int8.batch-7")
    assert found is not None
    folder.write_cell(found[0].model_copy(update={"status": "not_applicable", "reason": "batches of 1 alone"}))
    row = _of(_judged(workspace), "batch-7")
    assert (row["outcome"], row["repeated"], row["fixed"], row["missing"]) == ("same", 1, 1, 0)


def test_training_answers_are_not_repeated(repeated: Build, builder: Any) -> None:
    builder.training(builder.answers())
    summary, _ = repeated()
    found = summary["self_test"]
    assert found["same"] == len(SETTINGS)
    assert found["aside"] == ["the training side's answers are not repeated; they are set against each repeat of the "
                              "reference"]  # fmt: skip


def test_unreliable_levels_hold_an_alternative_run_back_as_they_hold_the_run(repeated: Build, builder: Any) -> None:
    builder.card = {"gated_bands": ((1, 2, 3, 4, 5),), "split_half": 0.4}
    summary, _ = repeated()
    assert summary["verdict"] == "INCONCLUSIVE"
    assert {row["verdict"] for row in summary["self_test"]["alternatives"]} == {"INCONCLUSIVE"}
    assert summary["self_test"]["same"] == len(SETTINGS)
