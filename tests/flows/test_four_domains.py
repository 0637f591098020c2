"""A study of four domains with every comparison, and what is done with its models afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapshift.cli import main
from gapshift.errors import DataError
from gapshift.flows.check import CheckRequest, check
from gapshift.flows.evaluate import evaluate_run
from gapshift.flows.levels import CalibrationSettings
from gapshift.records import read_items
from gapshift.schema import DataSource
from gapshift.settings import validate
from gapshift.train.measures import read_measures
from gapshift.train.settings import LadderSettings
from gapshift.workspace import Workspace

TASKS = {"digits": "cnn", "sentiment": "gru", "keywords": "audio-cnn", "cartpole": "controller"}
DOMAINS = {"digits": "vision", "sentiment": "text", "keywords": "audio", "cartpole": "control"}
KEYWORDS = ("yes", "no")
"""As many sounds as a check can be tried on in a second."""
REGIMES = ("easy-only", "random")
LADDER = {
    "capacities": [4, 8],
    "data_fractions": [1.0],
    "seeds": 1,
    "checkpoints": [1.0],
    "epochs": 1.0,
    "least_steps": 10,
}


def _summary(run: Path) -> Any:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def _model(run: Path, task: str) -> Path:
    return run / "bundles" / f"{task}-{TASKS[task]}-random-s0.onnx"


def test_every_task_is_planned_and_every_run_says_what_it_is(four_study: Path) -> None:
    plan = Workspace(four_study).read_plan()
    assert [task.name for task in plan.tasks] == list(TASKS)
    assert {run.task: run.domain for run in plan.runs} == DOMAINS
    assert len({run.name for run in plan.runs}) == len(plan.runs)
    assert {run.regime for run in plan.runs} >= {"iid", "anti-curriculum", "size-control", "level-3-only", "curriculum"}
    assert {run.shuffled for run in plan.runs} == {0.0, 0.3}
    assert {run.width for run in plan.runs} == {4, 8}
    lenders = {run.trunk_from for run in plan.runs if run.trunk_from}
    assert "random" in lenders
    assert lenders - {"random"} <= {run.name for run in plan.runs}
    assert all(run.parameters > 0 for run in plan.runs)


def test_only_the_regimes_become_bundles(four_study: Path) -> None:
    expected = {
        f"{task}-{family}-{regime}-s{s}" for task, family in TASKS.items() for regime in REGIMES for s in range(3)
    }
    plan = Workspace(four_study).read_plan()
    assert {run.name for run in plan.runs if run.exported} == expected
    assert {bundle.name for bundle in plan.bundles} == expected
    assert {path.stem for path in (four_study / "bundles").glob("*.onnx")} == expected


def test_every_trained_model_has_answers_to_all_that_it_is_asked(four_study: Path) -> None:
    workspace = Workspace(four_study)
    table, _ = read_items(workspace.items_path)
    items: dict[tuple[str, str], set[str]] = {}
    for row in table.select(["task", "split", "id"]).to_pylist():
        items.setdefault((row["task"], row["split"]), set()).add(row["id"])
    for run in workspace.read_plan().runs:
        stored = workspace.read_answers(run.name)
        assert stored is not None, run.name
        asked = items[run.task, "test"] | (set() if run.trunk_from else items[run.task, "train"])
        assert set(stored[1].item_id) == asked, run.name
        assert len(stored[1]) == len(asked)
        assert np.isfinite(stored[1].correct).all()


def test_every_task_has_its_card_with_the_same_recipes(four_study: Path) -> None:
    table, cards = read_items(four_study / "items.parquet")
    assert {card.task for card in cards} == set(TASKS)
    recipes = [set(card.abilities) for card in cards]
    assert len(recipes[0]) == 4
    assert all(names == recipes[0] for names in recipes)
    assert set(table["task"].to_pylist()) == set(TASKS)


def test_chance_is_given_where_it_is_not_the_majoritys_share(four_study: Path) -> None:
    table, _ = read_items(four_study / "items.parquet")
    for row in table.select(["task", "chance"]).to_pylist():
        if row["task"] == "cartpole":
            assert 0 <= row["chance"] <= 1
        else:
            assert row["chance"] is None


def test_other_measures_of_difficulty_are_kept_for_every_task(four_study: Path) -> None:
    found = read_measures(four_study / "measures.parquet").to_pandas()
    names = found.groupby("task")["measure"].unique().apply(set).to_dict()
    assert set(names) == set(TASKS)
    assert all("held-out inconsistency" in measures for measures in names.values())
    assert {"length", "rarity", "early error norm"} <= names["sentiment"]
    assert "early error norm" not in names["cartpole"]  # an episode has no vector of errors


def test_the_summary_has_all_comparisons(four_study: Path) -> None:
    study = _summary(four_study)["study"]
    keys = (
        *(
            "absolute",
            "notes",
            "tasks",
            "scale",
            "measures",
            "matrix",
            "regimes",
            "shuffled",
            "transfer",
            "transfer_mean",
        ),
        *("widths", "recovery", "critical", "agreement", "claims"),
    )
    assert set(study) == set(keys)
    assert all(study[key] for key in keys)
    assert {row["task"] for row in study["tasks"]} == set(TASKS)
    verdicts = {row["verdict"] for row in study["claims"]}
    assert verdicts <= {"supported", "not supported", "cannot tell"}


def test_the_zero_control_changes_no_prediction_in_any_domain(four_study: Path) -> None:
    cells = [cell for cell in _summary(four_study)["cells"] if cell["environment"] == "training"]
    assert len(cells) == 24
    for cell in cells:
        assert cell["flips"]["right_to_wrong"]["all"] == cell["flips"]["wrong_to_right"]["all"] == 0, cell["bundle"]


def test_environments_meet_the_models_of_their_domain(four_study: Path) -> None:
    summary = _summary(four_study)
    domains = {bundle["name"]: bundle["domain"] for bundle in summary["bundles"]}
    met = {(domains[cell["bundle"]], cell["environment"]) for cell in summary["cells"]}
    assert met - {(domain, "training") for domain in domains.values()} == {
        *((domain, "int8-dynamic") for domain in ("vision", "text", "audio", "control")),
        ("vision", "resize-nearest"),
        ("text", "text-truncated-16"),
        ("audio", "features-not-normalised"),
        ("control", "sensor-bias"),
    }
    assert {cell["status"] for cell in summary["cells"]} == {"ok"}


def test_the_report_names_every_task(four_study: Path) -> None:
    page = (four_study / "report.html").read_text(encoding="utf-8")
    assert all(task in page for task in TASKS)


# ------------------------------------------------------------------ its models afterwards


@pytest.mark.parametrize(
    ("task", "classes", "environment"),
    [
        ("sentiment", None, "text-truncated-16"),
        ("keywords", KEYWORDS, "features-not-normalised"),
        ("cartpole", None, "sensor-bias"),
    ],
)
def test_a_model_of_any_domain_is_checked_alone(
    four_study: Path, tmp_path: Path, task: str, classes: tuple[str, ...] | None, environment: str
) -> None:
    request = CheckRequest(
        model=_model(four_study, task),
        data=DataSource(source=task, classes=classes),
        out=tmp_path / "run",
        environments=("int8-dynamic", environment),
        calibration=CalibrationSettings(cross_check=False, ladder=validate(LadderSettings, LADDER, "ladder")),
        allow_unlevelled=True,
    )
    summary, _ = check(request)
    assert {cell["environment"]: cell["status"] for cell in summary["cells"]} == {
        "int8-dynamic": "ok",
        environment: "ok",
    }
    assert all(cell["gated"] for cell in summary["cells"])
    assert summary["headline"].startswith(f"{summary['verdict']}")
    (card,) = summary["calibration"]
    assert (card["engine"], card["circular"]) == ("em", False)


@pytest.mark.parametrize("data", ["digits", "cartpole", "passages"])
def test_data_of_another_kind_is_said_before_its_labels(four_study: Path, tmp_path: Path, data: str) -> None:
    request = CheckRequest(_model(four_study, "sentiment"), DataSource(source=data), tmp_path / "run")
    with pytest.raises(DataError, match=rf"model of domain text that answers by classes.*{data} is .* data answered"):
        check(request)


def test_a_model_is_not_checked_on_data_of_another_domain(four_study: Path, tmp_path: Path) -> None:
    request = CheckRequest(_model(four_study, "cartpole"), DataSource(source="sentiment"), tmp_path / "run")
    with pytest.raises(DataError, match=r"model of domain control that answers by episodes.*sentiment is text data"):
        check(request)


def test_check_with_the_studys_own_levels_exits_by_its_verdict(
    capsys: pytest.CaptureFixture[str], four_study: Path, tmp_path: Path
) -> None:
    words = ["check", str(_model(four_study, "keywords")), "--data", "keywords", "-e", "int8-dynamic"]
    words += ["--items", str(four_study / "items.parquet"), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2  # the study rated a part of the data
    assert "evaluated ones are not among them" in capsys.readouterr().err


def test_a_run_of_several_tasks_is_evaluated_again(four_study: Path, tmp_path: Path) -> None:
    summary, _ = evaluate_run(four_study, tmp_path / "again", environments=("onnxruntime-one-thread",))
    cells = [cell for cell in summary["cells"] if cell["environment"] == "onnxruntime-one-thread"]
    assert len(cells) == 24
    assert {cell["status"] for cell in cells} == {"ok"}
    assert summary["study"]["transfer"] == _summary(four_study)["study"]["transfer"]
    assert summary["study"]["measures"] == _summary(four_study)["study"]["measures"]


def test_moved_data_of_one_task_among_several_is_named_with_its_task(four_study: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tasks digits, sentiment, keywords, cartpole.*--data TASK=PATH"):
        evaluate_run(four_study, tmp_path / "a", data=str(tmp_path))
    with pytest.raises(DataError, match="nowhere"):
        evaluate_run(four_study, tmp_path / "b", data=f"keywords={tmp_path / 'nowhere'}")
    with pytest.raises(Exception, match=r"keyword.*Did you mean 'keywords'"):
        evaluate_run(four_study, tmp_path / "c", data=f"keyword={tmp_path}")


def test_a_part_of_a_run_leaves_out_mixes_that_weigh_what_it_has_not(
    four_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gapshift.toml").write_text("[traffic.calls.labels]\nyes = 1\n[traffic.hard.levels]\n5 = 1", "utf-8")
    named = {"bundles": (_model(four_study, "digits").stem,), "environments": ("onnxruntime-batch-1",)}
    summary, _ = evaluate_run(four_study, tmp_path / "out", **named)
    assert [mix["name"] for mix in summary["traffic"] if mix["weights"]] == ["hard"]
    assert (
        "Left out: the traffic mixes calls, which weigh what the chosen models' tasks do not have." in summary["notes"]
    )
