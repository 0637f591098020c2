"""The ways to start the shipped suite, each in a process of its own."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xmlschema

Run = Callable[..., Any]
FOLDER = Path(__file__).parents[2] / "deploy_tests"
SCHEMA = Path(__file__).with_name("junit.xsd")
BOTH = ("--environment", "onnxruntime-one-thread", "--environment", "scale-0-255", "-k", "test_level or test_verdict")


def _cases(path: Path) -> dict[str, dict[str, str]]:
    """Each test's outcome and properties, of a file that the schema holds valid."""
    xmlschema.validate(path, SCHEMA)
    found = {}
    for case in ET.parse(path).iter("testcase"):
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        properties = {str(each.get("name")): str(each.get("value")) for each in case.iter("property")}
        found[str(case.get("name"))] = {"outcome": outcome, **properties}
    return found


def test_the_folder_under_two_workers_says_what_one_would(outside: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    done = outside(str(FOLDER), *model, *BOTH, "-n", "2", "-W", "error", "--junitxml", "junit.xml")
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.out
    assert "6 failed, 5 passed" in done.out
    assert "gapshift machine: " in done.out
    assert "report: " in done.out  # the controller has no fixtures, and sums up all the same
    journal = (tmp_path / "runs" / "check-digits-cnn-random-s0" / "journal.jsonl").read_text(encoding="utf-8")
    assert journal.count('"event": "evaluate"') == 1
    cases = _cases(tmp_path / "junit.xml")
    assert len(cases) == 11
    assert cases["test_level[onnxruntime-one-thread-level5]"]["outcome"] == "passed"
    harmed = cases["test_level[scale-0-255-level5]"]
    assert (harmed["outcome"], harmed["verdict"], harmed["gated"]) == ("failure", "FAIL", "True")
    assert float(harmed["drop_low_pp"]) > 2
    facts = {each.get("name"): each.get("value") for each in ET.parse(tmp_path / "junit.xml").iter("property")}
    assert facts["gapshift_verdict"] == "FAIL"


def test_the_installed_package_from_another_folder_takes_the_short_options(
    outside: Run, model: tuple[str, ...], tmp_path: Path
) -> None:
    short = [word.replace("--gapshift-", "--") for word in model]
    done = outside("--pyargs", "gapshift.deploy_tests", *short, *BOTH, "--level", "5", "-q", "--junitxml", "junit.xml")
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.out
    assert "2 failed, 1 passed" in done.out
    assert sorted(_cases(tmp_path / "junit.xml")) == [
        "test_level[onnxruntime-one-thread-level5]", "test_level[scale-0-255-level5]", "test_verdict"
    ]  # fmt: skip
    assert (tmp_path / "runs" / "check-digits-cnn-random-s0" / "report.html").exists()
