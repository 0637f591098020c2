"""``gapshift plan``: with a run and without one, what it refuses, and what it needs to be told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gapshift.cli import main


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *words])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code, out, _ = _run(capsys, *words, "--json")
    return code, json.loads(out)


def test_an_assumed_churn_needs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "--items", "600", "--churn", "3", "--margin", "2")
    assert code == 0
    assert out.startswith("With nothing wrong, the whole run passes a margin of 2 pp with probability 21%.")
    assert "it takes 1,328 items a level" in " ".join(out.split())
    assert "Levels count as independent" in out


def test_environments_that_change_other_items_pass_less_often(capsys: pytest.CaptureFixture[str]) -> None:
    _, one = _json(capsys, "--items", "600", "--churn", "1")
    _, four = _json(capsys, "--items", "600", "--churn", "1", "--environments", "4")
    assert four["power"]["pass"]["estimate"] == pytest.approx(one["power"]["pass"]["estimate"] ** 4)
    assert four["power"]["pass_same_items"] == one["power"]["pass"]["estimate"]
    assert four["power"]["items_needed"] > one["power"]["items_needed"]
    assert four["power"]["family"] == 20


def test_levels_have_their_own_churn_and_items(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = _json(capsys, "--items", "200,200,400,800,1600", "--churn", "0,0,1,2,4", "--target", "0.5")
    levels = found["power"]["levels"]
    assert [row["n"] for row in levels] == [200, 200, 400, 800, 1600]
    assert [row["churn"] for row in levels] == [0.0, 0.0, 0.01, 0.02, 0.04]
    assert levels[0]["items_needed"] == 189
    assert found["power"]["target"] == 0.5


@pytest.mark.parametrize(("margin", "needed", "least"), [("2", 189, "3.7"), ("1", 381, "3.7")])
def test_a_margin_that_no_answers_could_certify_is_refused(
    capsys: pytest.CaptureFixture[str], margin: str, needed: int, least: str
) -> None:
    code, out, _ = _run(capsys, "--items", "100", "--churn", "0", "--margin", margin)
    assert code == 2
    assert " ".join(out.split()).startswith(
        f"A margin of {margin} pp cannot be certified with so few items: even where no answer changes it takes "
        f"{needed}, and there are 100 a level. Plan {needed} or more, or a margin above {least} pp."
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--items and --churn must be given: gapshift plan --items 600 --churn 3 --margin 2 --environments 4."),
        (("--items", "600"), "Without the folder of a run, --churn must be given"),
        (("--items", "600", "--churn", "3", "-e", "int8"), "--environment names one of a run's."),
        (("--items", "600", "--churn", "nan"), "nan is not from 0 to below 100."),
        (("--items", "600", "--churn", "100"), "100 is not from 0 to below 100."),
        (("--items", "0", "--churn", "3"), "0 is not from 1 to below 1e+07."),
        (("--items", "600,700", "--churn", "3"), "'600,700' holds 2 numbers; give one, or five for levels 1 to 5."),
        (("--items", "many", "--churn", "3"), "'many': give one number, or five for levels 1 to 5 (1,2,3,4,6)."),
    ],
)
def test_what_cannot_be_planned_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    code, _, err = _run(capsys, *words)
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_a_run_is_planned_at_its_own_churn(capsys: pytest.CaptureFixture[str], tiny_study: Path) -> None:
    code, found = _json(capsys, str(tiny_study), "--margin", "40")
    power, alarms = found["power"], found["false_alarms"]
    assert code == 0
    assert alarms["repeats"] == 1000
    assert power["margin_pp"] == pytest.approx(40)
    assert power["seconds"] > 0
    assert 0 <= power["pass"]["low"] <= power["pass"]["high"] <= 1


def test_a_run_s_items_and_environments_can_be_others(capsys: pytest.CaptureFixture[str], tiny_study: Path) -> None:
    code, few = _json(capsys, str(tiny_study), "--items", "20")
    assert code == 2
    assert "cannot be certified" in few["power"]["refused"]
    _, many = _json(capsys, str(tiny_study), "--items", "1000")
    assert many["power"]["refused"] == ""
    assert many["power"]["seconds"] > few["power"]["seconds"]
    environments = json.loads((tiny_study / "run.json").read_text(encoding="utf-8"))["environments"]
    lossy = [each["name"] for each in environments if each["kind"] == "lossy"]
    _, named = _json(capsys, str(tiny_study), "--items", "1000", "-e", lossy[0])
    assert named["power"]["family"] > many["power"]["family"]


def test_a_run_can_be_planned_at_a_churn_that_is_assumed(capsys: pytest.CaptureFixture[str], tiny_study: Path) -> None:
    words = (str(tiny_study), "--items", "1000", "-e", "int8-dynamic")
    _, calm = _json(capsys, *words, "--churn", "0.5")
    _, rough = _json(capsys, *words, "--churn", "0.5,1,2,4,8")
    assert "false_alarms" not in calm
    assert {row["churn"] for row in calm["power"]["levels"] if row["churn"]} == {0.005}
    assumed = dict(zip(range(1, 6), (0.005, 0.01, 0.02, 0.04, 0.08), strict=True))
    for row in rough["power"]["levels"]:  # a band's churn is the mean of its levels
        mean = sum(assumed[level] for level in row["levels"]) / len(row["levels"])
        assert row["churn"] in (None, pytest.approx(mean))
        assert not row["most"]
    held = [row["pass"]["estimate"] for row in rough["power"]["levels"] if row["pass"]]
    assert rough["power"]["pass"]["estimate"] == pytest.approx(math.prod(held))
    assert rough["power"]["pass"]["estimate"] < calm["power"]["pass"]["estimate"] <= 1
    assert rough["power"]["items_needed"] > calm["power"]["items_needed"]
    _, out, _ = _run(capsys, *words, "--churn", "0.5")
    assert "cry wolf" not in out


def test_run_time_is_that_of_the_reference_and_each_environment(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--items", "600", "--churn", "3", "--environments", "4")
    _, found = _json(capsys, *words, "--speed", "50")
    assert found["power"]["seconds"] == 5 * 5 * 600 / 50
    assert found["power"]["seconds_needed"] == 5 * 5 * found["power"]["items_needed"] / 50
    _, out, _ = _run(capsys, *words, "--speed", "50")
    assert "Its cells take about 5 min of inference, and about 14 min with those items." in " ".join(out.split())
    _, unknown = _json(capsys, *words)
    assert unknown["power"]["seconds"] is None


def test_a_run_says_what_it_found_in_words(capsys: pytest.CaptureFixture[str], tiny_study: Path) -> None:
    _, out, _ = _run(capsys, str(tiny_study))
    text = " ".join(out.split())
    assert "How often would this gate cry wolf? Of 1,000 redrawn runs with nothing wrong" in text
    assert "s of inference" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--speed", "100"), "The run's records say what --speed assumes. Leave out --speed, or the run."),
        (("--environments", "3"), "The run's records say what --environments assumes."),
        (("-e", "int9"), "Unknown environment 'int9'."),
    ],
)
def test_what_a_run_knows_itself_is_not_assumed(
    capsys: pytest.CaptureFixture[str], tiny_study: Path, words: tuple[str, ...], said: str
) -> None:
    code, _, err = _run(capsys, str(tiny_study), *words)
    assert code == 2
    assert said in err


def test_a_folder_without_a_run_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = _run(capsys, str(tmp_path))
    assert code != 0
    assert "run.json" in err
