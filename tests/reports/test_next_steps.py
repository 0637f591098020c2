"""What a run says to ask next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gapshift.cli import main
from gapshift.reports.judge import judge
from gapshift.reports.renderers.console import render_console

TWO = {"preprocessing.jpeg_quality": 10, "precision.format": "int8-dynamic"}


def _commands(summary: dict[str, Any]) -> list[str]:
    return [step["command"] for step in summary["next_steps"]]


def test_nothing_is_asked_of_a_run_that_passes(builder):
    summary, _ = builder.judged(builder.answers())
    assert summary["verdict"] == "PASS"
    assert summary["next_steps"] == []


def test_a_failure_under_several_deviations_is_taken_apart_and_located(builder):
    summary, _ = builder.judged(builder.answers(lost={5: 100}), environment={"deviations": TWO})
    assert _commands(summary) == [
        "gapshift explain RUN --environment env",
        "gapshift evaluate RUN --layers --environment env",
    ]
    assert summary["next_steps"][0]["question"] == "which of the 2 deviations does the damage?"
    assert "next: gapshift explain RUN --environment env" in render_console(summary)
    assert "next: gapshift explain runs/it --environment env" in render_console(summary, run="runs/it")


def test_a_single_deviation_has_nothing_to_take_apart(builder):
    one = {"precision.format": "int8-dynamic"}
    summary, _ = builder.judged(builder.answers(lost={5: 100}), environment={"deviations": one})
    assert _commands(summary) == ["gapshift evaluate RUN --layers --environment env"]


def test_the_worst_model_is_named_where_there_are_several(builder):
    builder.environment("env", "lossy", deviations=TWO)
    for name, lost in (("mild", 60), ("bad", 200)):
        builder.bundle(name)
        builder.cell("reference", builder.answers(), bundle=name)
        builder.cell("env", builder.answers(lost={4: lost}), bundle=name)
    summary = judge(builder.finish(deployments=("env",)))
    assert summary["verdict"] == "FAIL"
    assert _commands(summary)[0] == "gapshift explain RUN --environment env --bundle bad"


def test_where_training_and_reference_differ_the_reference_is_looked_into(builder):
    builder.training(builder.answers(lost={3: 100}))
    summary, _ = builder.judged(builder.answers())
    assert _commands(summary) == ["gapshift evaluate RUN --layers"]


def test_a_model_at_chance_may_be_fed_otherwise_than_in_training(builder, edit):
    builder.environment("off")
    records = builder.answers()
    wrong = edit(records, correct=np.zeros(len(records)))
    for cell in ("reference", "off"):
        builder.cell(cell, wrong)
    assert "gapshift evaluate RUN --layers" in _commands(judge(builder.finish()))


def test_what_is_undecided_is_planned(builder):
    summary, _ = builder.judged(builder.answers(lost={2: 12}))
    assert summary["verdict"] == "INCONCLUSIVE"
    assert _commands(summary) == ["gapshift plan RUN"]


def test_the_commands_are_commands(builder, tmp_path, capsys):
    """Each one gets as far as the run's folder."""
    builder.environment("env", "lossy", deviations=TWO)
    builder.environment("undecided", "lossy")
    builder.cell("reference", builder.answers())
    builder.cell("env", builder.answers(lost={5: 100}))
    builder.cell("undecided", builder.answers(lost={2: 12}))
    commands = _commands(judge(builder.finish(deployments=("env", "undecided"))))
    assert len(commands) == 3
    for command in commands:
        with pytest.raises(SystemExit):
            main([str(tmp_path / "none") if word == "RUN" else word for word in command.split()[1:]])
        assert "is not a run folder" in capsys.readouterr().err
