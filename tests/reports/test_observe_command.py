"""`gapshift observe`: what it prints, its options, its errors."""

from __future__ import annotations

import json

import pytest

from gapshift.cli import main


@pytest.fixture
def run(builder):
    """A run whose environment ``phone`` loses 10 pp at level 5."""
    builder.environment("phone", "lossy")
    builder.cell("reference", builder.answers())
    builder.cell("phone", builder.answers(lost={5: 60}))
    return str(builder.finish().root)


@pytest.fixture
def command(capsys):
    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["observe", *words])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def test_the_table_holds_every_policy_and_level(run, command) -> None:
    code, out, _ = command(run)
    assert code == 0
    assert out.startswith("m in phone: A drop of 5 pp at level 5 is noticed, at power 0.8, after about 8,300 requests")
    assert "A drop of 2 pp:\npolicy" in out
    (line,) = (line for line in out.split("A drop of 5 pp:")[1].splitlines() if line.startswith("top-1-with-labels"))
    assert line.split()[-2:] == ["8.3k", "(3.1k)"]
    assert "level 5" in out
    assert "No deployment is named" in out
    assert all(ord(character) < 128 for character in out)


def test_json_is_one_line_with_exact_numbers(run, command) -> None:
    code, out, err = command(run, "--json", "--drop", "5", "--level", "5", "--policy", "late-labels")
    result = json.loads(out)
    (line,) = result["cells"][0]["lines"]
    assert code == 0
    assert (line["policy"], line["drop_pp"], line["level"], line["shape"]) == ("late-labels", 5.0, "5", "scaled")
    assert line["overall"]["requests"] == line["overall"]["logged"] + 10_000
    assert "m in phone" in err


def test_a_policy_of_ones_own(run, command) -> None:
    words = ("--log", "top-1", "--labels", "--sample-rate", "0.1", "--label-delay", "50", "--json")
    _, out, _ = command(run, *words, "--drop", "5", "--level", "5")
    result = json.loads(out)
    assert [policy["name"] for policy in result["policies"]] == ["yours"]
    seen = result["cells"][0]["lines"][0]["overall"]
    assert seen["requests"] == pytest.approx(10 * seen["logged"] + 50, abs=1)


def test_options_imply_what_they_need(run, command) -> None:
    (policy,) = json.loads(command(run, "--decimals", "3", "--label-delay", "0", "--json")[1])["policies"]
    assert (policy["outputs"], policy["decimals"], policy["labels"]) == ("rounded-confidence", 3, True)


def test_simulated_power_and_false_alarms_are_shown(run, command) -> None:
    _, out, _ = command(run, "--simulate", "200", "--drop", "5", "--level", "5", "--policy", "top-1-with-labels")
    assert "false alarms" in out
    assert "%" in out.split("top-1-with-labels")[-1]


def test_errors_name_what_is_valid(run, command) -> None:
    code, _, err = command(run, "--policy", "late-lables")
    assert code == 2
    assert "Unknown logging policy 'late-lables'. Did you mean 'late-labels'" in err
    assert "Or compose one with --log." in err
    code, _, err = command(run, "--decimals", "2", "--log", "top-1")
    assert (code, err) == (
        2, "error: --decimals rounds a confidence, and --log top-1 logs none rounded. Leave one out.\n"
    )  # fmt: skip
    assert command(run, "--environment", "fone")[0] == 2
    assert command(run, "--drop", "0")[0] == 2
    assert command(run, "--sample-rate", "1.5")[0] == 2


def test_a_folder_that_is_no_run_is_an_error(tmp_path, command) -> None:
    code, _, err = command(str(tmp_path))
    assert code == 4
    assert "run.json" in err
