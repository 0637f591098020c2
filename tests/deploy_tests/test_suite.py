"""The shipped suite on a user's model: ids, outcomes, JUnit, exit codes."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from gapshift import __version__

Run = Callable[..., Any]
SUITE = Path(__file__).parents[2] / "deploy_tests" / "test_deployment.py"
SAME = ("--environment", "onnxruntime-one-thread")


def test_one_test_per_environment_and_level(suite: Run) -> None:
    done = suite(*SAME, "-v")
    assert done.code == pytest.ExitCode.OK, done.out
    for level in range(1, 6):
        assert f"test_level[onnxruntime-one-thread-level{level}] PASSED" in done.out
    assert "test_verdict PASSED" in done.out
    assert "report: " in done.out
    assert done.out.count("onnxruntime-one-thread  equivalent  yes") == 1


def test_levels_that_are_asked_for_are_shown_and_all_are_judged(suite: Run, tmp_path: Path) -> None:
    done = suite("--environment", "scale-0-255", "--level", "5", "-v")
    assert "test_level[scale-0-255-level5] FAILED" in done.out
    assert "level4]" not in done.out
    summary = json.loads((tmp_path / "runs" / "check-digits-cnn-random-s0" / "summary.json").read_text("utf-8"))
    assert summary["holm_family"] == len(summary["cells"][0]["bands"])


def test_a_failing_deployment_fails_its_levels_and_the_run(suite: Run) -> None:
    done = suite("--environment", "scale-0-255")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert "6 failed" in done.out
    assert "Traceback" not in done.out


def test_what_is_not_gated_is_skipped_and_a_run_that_gates_nothing_is_no_failure_of_the_model(suite: Run) -> None:
    done = suite("--group", "mistake", "-rs")
    assert "reported, not gated" in done.out
    assert "1 error" in done.out  # the run's verdict is NO DATA
    assert " failed" not in done.out
    assert done.code == pytest.ExitCode.TESTS_FAILED


def test_a_named_deployment_that_cannot_apply_is_an_error_and_no_failure(suite: Run) -> None:
    done = suite("--environment", "bgr")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert "ERROR at setup of test_level[bgr-level1]" in done.out
    assert "NO DATA" in done.out
    assert "6 errors" in done.out
    assert " failed" not in done.out


def test_selecting_a_test_does_not_change_the_run(suite: Run) -> None:
    done = suite(*SAME, "--environment", "scale-0-255", "-k", "one-thread or verdict")
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 5 passed" in done.out  # the verdict knows of what was not selected


@pytest.mark.parametrize(
    ("policy", "outcome", "code"),
    [("fail", "6 failed", 1), ("warn", "6 passed, 6 warnings", 0), ("xfail", "6 xfailed", 0)],
)
def test_inconclusive_does_what_is_configured(suite: Run, policy: str, outcome: str, code: int) -> None:
    done = suite(*SAME, "--margin", "0.2", "--inconclusive", policy, "-W", "default")
    assert outcome in done.out
    assert done.code == code
    assert f"(inconclusive = '{policy}'" in done.out
    assert ("InconclusiveWarning: INCONCLUSIVE: " in done.out) == (policy == "warn")


def test_a_warning_that_is_an_error_is_a_failure(suite: Run) -> None:
    done = suite(*SAME, "--margin", "0.2", "--inconclusive", "warn", "-W", "error")
    assert done.code == pytest.ExitCode.TESTS_FAILED


def test_the_header_says_model_settings_and_machine(suite: Run) -> None:
    done = suite(*SAME, "-k", "verdict")
    assert f"gapshift {__version__}: model " in done.out
    assert "environments onnxruntime-one-thread, margin 2 pp, inconclusive: fail" in done.out
    assert "gapshift machine: " in done.out
    assert "onnxruntime 1." in done.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model", "m.onnx"), "model and data go together (--gapshift-model, --gapshift-data)"),
        (("--model", "m.onnx", "--data", "digits", "--margin", "-5"), "--gapshift-margin: Input should be greater"),
        (("--model", "m.onnx", "--data", "digits", "--margin", "nan"), "--gapshift-margin: Input should be "),
        (("--model", "m.onnx", "--data", "digits", "--level", "6"), "--gapshift-level.0: Input should be less than"),
        (("--model", "m.onnx", "--data", "digits", "--inconclusive", "pass"), "invalid choice: 'pass'"),
    ],
)
def test_bad_options_are_usage_errors(inside: Run, words: tuple[str, ...], text: str) -> None:
    done = inside(str(SUITE), *words)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert text in done.out
    assert "Traceback" not in done.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model", "m.onnx", "--data", "digits"), "m.onnx does not exist"),
        (("--environment", "int8-dinamic"), "Did you mean 'int8-dynamic'"),
        (("--baseline", "nowhere"), "The baseline nowhere has no summary.json"),
    ],
)
def test_what_cannot_be_planned_is_a_usage_error(
    inside: Run, model: tuple[str, ...], words: tuple[str, ...], text: str
) -> None:
    done = inside(str(SUITE), *model, *words)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert text in done.out
    assert "Traceback" not in done.out
    assert "collected" not in done.out


def test_a_checkouts_suite_is_one_too_beside_an_installed_gapshift(outside: Run, tmp_path: Path) -> None:
    copy = tmp_path / "deploy_tests"
    copy.mkdir()
    for name in ("__init__.py", "conftest.py", "test_deployment.py"):
        shutil.copy(SUITE.with_name(name), copy)
    done = outside("deploy_tests", "--model", "nosuch.onnx", "--data", "digits")
    assert done.code == pytest.ExitCode.USAGE_ERROR  # before anything was collected
    assert "nosuch.onnx does not exist" in done.out


def test_a_model_without_contract_is_told_of_pytests_own_option(inside: Run, tiny_study: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    loaded = onnx.load(tiny_study / "bundles" / "digits-cnn-random-s0.onnx")
    del loaded.metadata_props[:]
    onnx.save(loaded, bare)
    done = inside(str(SUITE), "--model", str(bare), "--data", "digits")
    assert "Give one with `--gapshift-contract FILE`" in done.out


def test_an_evaluation_that_fails_says_the_same_everywhere_and_shows_no_old_summary(suite: Run, tmp_path: Path) -> None:
    assert "report: " in suite(*SAME).out
    done = suite(*SAME, "--data", str(tmp_path / "nowhere"))
    assert done.code == pytest.ExitCode.TESTS_FAILED
    assert done.out.count("nowhere") >= 6
    assert "6 errors" in done.out
    assert "report: " not in done.out


def test_another_model_under_the_same_name_is_judged_anew(inside: Run, tiny_study: Path, tmp_path: Path) -> None:
    """The run folder is the same, and its old summary must not answer."""
    mine, judged = tmp_path / "mine.onnx", []
    for name in ("digits-cnn-random-s0", "digits-cnn-easy-only-s0"):
        mine.write_bytes((tiny_study / "bundles" / f"{name}.onnx").read_bytes())
        items = ("--items", str(tiny_study / "items.parquet"), "--allow-unlevelled")
        inside(str(SUITE), "--model", str(mine), "--data", "digits", *items, *SAME, "-k", "test_verdict")
        summary = json.loads((tmp_path / "runs" / "check-mine" / "summary.json").read_text(encoding="utf-8"))
        judged.append(summary["bundles"][0]["sha256"])
    assert judged[0] != judged[1]


def test_a_sequential_run_has_the_same_tests_and_refuses_what_nothing_would_decide(suite: Run) -> None:
    done = suite(*SAME, "--sequential", "-v")
    assert "test_level[onnxruntime-one-thread-level5] " in done.out
    assert "6 passed" in done.out
    assert "confidence sequence" in suite(*SAME, "--sequential", "--margin", "0.2").out
    done = suite(*SAME, "--sequential", "--group", "mistake")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert "--gapshift-sequential reads each level until it is decided" in done.out


def test_a_budget_judges_so_many_items(suite: Run, tmp_path: Path) -> None:
    suite(*SAME, "--budget", "300")
    summary = json.loads((tmp_path / "runs" / "check-digits-cnn-random-s0" / "summary.json").read_text("utf-8"))
    assert summary["items"]["judged"] <= 300


# ------------------------------------------------------------------------------- baselines


def test_a_baseline_lends_its_levels_and_stands_beside_todays_drops(
    inside: Run, suite: Run, model: tuple[str, ...], tmp_path: Path
) -> None:
    assert suite(*SAME, "--report", "then").code == 0
    words = (*model[:4], "--allow-unlevelled", *SAME, "--environment", "scale-0-255", "--baseline", "then")
    done = inside(str(SUITE), *words, "--report", "now", "-q")
    assert "gapshift baseline" not in done.out  # -q has no header,
    assert "baseline: then (PASS); same CPU features and library versions" in done.out  # so the summary says it
    assert "onnxruntime-one-thread  L1 0.0 (0.0)  L2 0.0 (0.0)" in done.out
    assert "scale-0-255             not in the baseline" in done.out
    levels = [json.loads((tmp_path / run / "summary.json").read_text("utf-8"))["items"] for run in ("then", "now")]
    assert levels[0] == levels[1]


def test_another_machine_is_named_in_header_and_junit(suite: Run, tmp_path: Path) -> None:
    suite(*SAME, "--report", "then")
    path = tmp_path / "then" / "summary.json"
    text = path.read_text("utf-8")
    version = json.loads(text)["cells"][0]["execution"]["versions"]["onnxruntime"]
    path.write_text(text.replace(f'"onnxruntime": "{version}"', '"onnxruntime": "1.2.3"'), "utf-8")
    done = suite(*SAME, "--baseline", "then", "--report", "now", "--junitxml", "junit.xml")
    told = f"WARNING: it ran elsewhere: onnxruntime 1.2.3 then, {version} now"
    assert f"gapshift baseline: then (PASS); {told}" in done.out
    assert told in (tmp_path / "junit.xml").read_text("utf-8")


def test_a_run_is_not_its_own_baseline(suite: Run) -> None:
    done = suite(*SAME, "--baseline", "then", "--report", "./then")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert "The baseline then has no" in done.out
    suite(*SAME, "--report", "then")
    done = suite(*SAME, "--baseline", "then", "--report", "./then")
    assert "is the folder that this run is written to" in done.out


# ----------------------------------------------------------------------------------- JUnit


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_junit_holds_each_level_and_the_run(suite: Run, tmp_path: Path, family: str) -> None:
    done = suite(*SAME, "--junitxml", "junit.xml", "-o", f"junit_family={family}")
    assert done.code == 0, done.out
    root = ET.parse(tmp_path / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    level = _properties(cases["test_level[onnxruntime-one-thread-level5]"])
    assert level["verdict"] == "PASS"
    assert level["drop_pp"] == "0.0"
    assert int(level["n"]) > 0
    (suite_element,) = root.iter("testsuite")
    facts = _properties(suite_element)
    assert facts["gapshift_verdict"] == "PASS"
    assert facts["gapshift_margin_pp"] == "2"
    assert "onnxruntime 1." in facts["gapshift_machine"]
    assert facts["gapshift_report"].endswith("report.html")


def _properties(element: ET.Element) -> dict[str, str]:
    found = element.find("properties")
    assert found is not None
    return {str(each.get("name")): str(each.get("value")) for each in found}
