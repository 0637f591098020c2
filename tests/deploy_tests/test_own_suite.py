"""A user's own suite: fixtures, ``assert_level_drop``, and a session that uses nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
OWN = """
import pytest
from gapshift.deploy_tests import assert_level_drop

pytestmark = pytest.mark.gapshift


def test_run(gapshift_run):
    assert gapshift_run.verdict == "FAIL"
    assert gapshift_run.report.exists()
    assert gapshift_run.cell("onnxruntime-one-thread").verdict == "PASS"


def test_cell(gapshift_cell):
    assert gapshift_cell("onnxruntime-one-thread", level=5).drop_pp["estimate"] == 0
    assert gapshift_cell("scale-0-255").deviations == {"preprocessing.scale": 1.0}


def test_items(gapshift_model, gapshift_items, gapshift_run):
    assert gapshift_model.path.exists()
    assert gapshift_model.contract.domain == gapshift_items.domain
    assert len(gapshift_items) == gapshift_run.summary["items"]["judged"]


def test_sound(gapshift_run):
    assert_level_drop(gapshift_run, environment="onnxruntime-one-thread", level=5, below=2.0)


def test_harmed(gapshift_cell):
    assert_level_drop(gapshift_cell("scale-0-255"), level=1, below=2.0)


def test_unknown(gapshift_cell):
    gapshift_cell("scale-0-265")
"""
CHOSEN = """
import pytest
from gapshift.deploy_tests import assert_level_drop


@pytest.mark.gapshift(environment="onnxruntime-one-thread", level=5)
def test_one(gapshift_level):
    assert_level_drop(gapshift_level, below=2.0)


@pytest.mark.gapshift(level=4)
def test_each_environment(gapshift_level):
    assert gapshift_level.n > 0
"""
PLAIN = "def test_own():\n    pass\n"
HEAVY = ("torch", "onnxruntime", "onnx", "numpy", "pydantic", "scipy", "pyarrow", "filelock", "tomllib")


def _write(folder: Path, text: str, name: str = "test_own.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return name


def test_fixtures_and_the_claim_of_a_level(inside: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    own = _write(tmp_path, OWN)
    named = ("--gapshift-environment", "onnxruntime-one-thread", "--gapshift-environment", "scale-0-255")
    done = inside(own, *model, *named)
    assert "2 failed, 4 passed" in done.out
    assert "AssertionError: digits-cnn-random-s0 in scale-0-255, level 1: a drop below 2 pp is not shown" in done.out
    assert "deviations  preprocessing.scale = 1.0" in done.out
    assert "asserting.py" not in done.out  # the traceback ends at the user's own line
    assert "Did you mean 'scale-0-255'" in done.out
    assert "report: " in done.out


def test_a_session_whose_folder_another_one_took_says_so(inside: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    text = """
from gapshift.deploy_tests.session import judged_once
def test_own(gapshift_run):
    judged_once(gapshift_run.folder, "another", lambda: None)
"""
    done = inside(_write(tmp_path, text), *model, "--gapshift-environment", "onnxruntime-one-thread")
    assert done.code == pytest.ExitCode.OK
    assert "is another session's: it judged there since" in done.out
    assert "report: " not in done.out


def test_a_marker_chooses_the_levels_that_a_test_is_made_for(
    inside: Run, model: tuple[str, ...], tmp_path: Path
) -> None:
    own = _write(tmp_path, CHOSEN)
    named = ("--gapshift-environment", "onnxruntime-one-thread", "--gapshift-environment", "scale-0-255")
    done = inside(own, *model, *named, "-v")
    assert done.code == 0, done.out
    assert {line.split("::")[1].split()[0] for line in done.out.splitlines() if "PASSED" in line} == {
        "test_one[onnxruntime-one-thread-level5]",
        "test_each_environment[onnxruntime-one-thread-level4]",
        "test_each_environment[scale-0-255-level4]",
    }


@pytest.mark.parametrize(
    ("words", "fixture", "told"),
    [
        ('environment="scale-0-265"', "gapshift_level", "Did you mean 'scale-0-255'"),
        ("level=6", "gapshift_level", "Unknown level of this run '6'"),
        ("margin=2", "gapshift_level", "Unknown argument of the marker gapshift 'margin'"),
        ('"scale-0-255"', "gapshift_level", "the marker gapshift takes keywords"),
        ("level=5", "gapshift_run", "the marker's level choose what gapshift_level is"),
    ],
)
def test_a_marker_that_names_nothing_is_refused(
    inside: Run, model: tuple[str, ...], tmp_path: Path, words: str, fixture: str, told: str
) -> None:
    text = f"import pytest\n@pytest.mark.gapshift({words})\ndef test_own({fixture}):\n    pass\n"
    done = inside(_write(tmp_path, text), *model, "--gapshift-environment", "scale-0-255")
    assert done.code == pytest.ExitCode.INTERRUPTED
    assert told in done.out


def test_a_run_that_nobody_configured_is_an_error_that_says_how(inside: Run, tmp_path: Path) -> None:
    for fixture in ("gapshift_run", "gapshift_level"):
        done = inside(_write(tmp_path, f"def test_own({fixture}):\n    pass\n", f"test_{fixture}.py"))
        assert "1 error" in done.out
        assert (
            "No model is named. Give --gapshift-model and --gapshift-data, or `model` and `data` in [pytest]"
            in done.out
        )


def test_an_option_of_the_users_own_stays_their_own(inside: Run, model: tuple[str, ...], tmp_path: Path) -> None:
    _write(tmp_path, "def pytest_addoption(parser):\n    parser.addoption('--model', default='mine')\n", "conftest.py")
    suite = ("--pyargs", "gapshift.deploy_tests.test_deployment", "--environment", "onnxruntime-one-thread")
    done = inside(*suite, *model, "--model", "theirs", "--collect-only", "-q")
    assert done.code == 0, done.out
    assert "test_level[onnxruntime-one-thread-level5]" in done.out
    done = inside(*suite, "--model", "theirs", "--data", "digits")
    assert "Only data was given" in done.out


def test_a_session_without_gapshift_gets_nothing_and_loads_nothing(outside: Run, tmp_path: Path) -> None:
    _write(tmp_path, PLAIN)
    loaded = f"{set(HEAVY)!r} & set(sys.modules)"
    _write(tmp_path, f"import sys\ndef pytest_unconfigure():\n    print('loaded', *({loaded}))\n", "conftest.py")
    done = outside("-s", "--strict-markers", "-W", "error")
    assert done.code == 0, done.out
    assert "gapshift-" in done.out  # the plugin is loaded, by its entry point
    assert "gapshift " not in done.out  # and says nothing
    assert done.out.splitlines()[-1] == "loaded"


def test_elsewhere_options_have_a_prefix_and_the_plugin_can_be_left_out(outside: Run, tmp_path: Path) -> None:
    _write(tmp_path, PLAIN)
    said = outside("--help")
    assert "--gapshift-model=ONNX" in said.out
    assert "\n  --model" not in said.out
    done = outside("-p", "no:gapshift", "-W", "error")
    assert done.code == 0
    assert "gapshift" not in done.out.partition("plugins:")[0]
