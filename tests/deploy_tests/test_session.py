"""One evaluation for all workers, whatever happens to the first of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gapshift.deploy_tests.session import ATTEMPTS, NotJudgedError, judged_in, judged_once
from gapshift.errors import DataError

DIES = """
import os, sys
from pathlib import Path
from gapshift.deploy_tests.session import judged_once
judged_once(Path(sys.argv[1]), "s", lambda: os._exit(9))
"""


class Evaluation:
    """Writes a summary, and counts how often it was asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.times = folder, 0

    def __call__(self) -> None:
        self.times += 1
        (self.folder / "summary.json").write_text(json.dumps({"verdict": "PASS", "time": self.times}), "utf-8")


def _die(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, str(folder)], check=False)
    assert done.returncode == 9


def test_a_session_evaluates_once_and_the_next_one_again(tmp_path: Path) -> None:
    evaluate = Evaluation(tmp_path)
    assert [judged_once(tmp_path, "s", evaluate).summary["time"] for _ in range(3)] == [1, 1, 1]
    assert judged_once(tmp_path, "t", evaluate).summary["time"] == 2
    assert judged_in(tmp_path, "s") is None  # its run was replaced
    assert judged_in(tmp_path, "t") is not None
    assert judged_once(tmp_path, "s", evaluate).summary["time"] == 3  # and is made again for a late worker


def test_an_error_is_said_to_every_worker_alike(tmp_path: Path) -> None:
    told = []

    def evaluate() -> None:
        told.append("asked")
        raise DataError("no data; see --items")

    for _ in range(3):
        with pytest.raises(NotJudgedError, match="no data; see --gapshift-items"):
            judged_once(tmp_path, "s", evaluate)
    assert told == ["asked"]
    assert judged_in(tmp_path, "s") is None


def test_a_fault_reaches_who_evaluated_as_it_is_and_the_others_as_text(tmp_path: Path) -> None:
    def evaluate() -> None:
        raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError):
        judged_once(tmp_path, "s", evaluate)
    with pytest.raises(NotJudgedError, match=r"(?s)Traceback.*ZeroDivisionError: a fault"):
        judged_once(tmp_path, "s", evaluate)


def test_a_worker_that_dies_lets_the_next_one_go_on(tmp_path: Path) -> None:
    _die(tmp_path)
    assert judged_once(tmp_path, "s", Evaluation(tmp_path)).verdict == "PASS"


def test_nobody_dies_of_the_same_evaluation_for_ever(tmp_path: Path) -> None:
    for _ in range(ATTEMPTS):
        _die(tmp_path)
    evaluate = Evaluation(tmp_path)
    for _ in range(2):
        with pytest.raises(NotJudgedError, match=f"begun {ATTEMPTS} times and each time the process died"):
            judged_once(tmp_path, "s", evaluate)
    assert evaluate.times == 0


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(NotJudgedError, match=r"Cannot write to .*Give another folder with --gapshift-report"):
        judged_once(tmp_path / "file", "s", Evaluation(tmp_path))
