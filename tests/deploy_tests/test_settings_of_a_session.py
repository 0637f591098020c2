"""Where a session's settings come from: the command line, gapshift.toml, pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapshift.deploy_tests.options import OPTIONS
from gapshift.deploy_tests.settings import PytestSettings, session_settings
from gapshift.envs.catalog import choose
from gapshift.errors import GapshiftError, SettingsError, UnknownNameError
from gapshift.settings import user_traffic

Run = Callable[..., Any]
SUITE = Path(__file__).parents[2] / "deploy_tests" / "test_deployment.py"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _write(text: str, name: str = "gapshift.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


FULL = """
[{prefix}pytest]
model = "models/m.onnx"
data = "digits"
environments = ["int8-dynamic", "mine"]
levels = [4, 5]
margin_pp = 1
budget = 500
sequential = true
strict = true
inconclusive = "xfail"
baseline = "../released"
[{prefix}environments.mine]
kind = "lossy"
summary = "Ours."
[{prefix}environments.mine.deviations]
"runtime.batch_size" = 3
[{prefix}traffic.night]
levels = {{5 = 1}}
"""


@pytest.mark.parametrize(("name", "prefix"), [("gapshift.toml", ""), ("pyproject.toml", "tool.gapshift.")])
def test_both_files_hold_the_same_tables(name: str, prefix: str, tmp_path: Path) -> None:
    _write(FULL.format(prefix=prefix), name)
    settings, where = session_settings({})
    assert where == f"{tmp_path / name} [{prefix}pytest]"
    assert settings == PytestSettings(
        model=str(tmp_path / "models" / "m.onnx"), data="digits", environments=("int8-dynamic", "mine"), levels=(4, 5),
        margin_pp=1, budget=500, sequential=True, strict=True, inconclusive="xfail",
        baseline=str(tmp_path / "../released"),
    )  # fmt: skip
    assert [each.name for each in choose(["mine"])] == ["mine"]
    assert [mix.name for mix in user_traffic()] == ["night"]


def test_the_nearest_folder_counts_and_its_paths_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write('[pytest]\nmodel = "m.onnx"\ndata = "eval/"')
    (tmp_path / "tests" / "deep").mkdir(parents=True)
    _write("[project]\nname = 'no settings of gapshift'", "tests/pyproject.toml")
    monkeypatch.chdir(tmp_path / "tests" / "deep")
    settings, _ = session_settings({})
    assert settings.model == str(tmp_path / "m.onnx")
    assert settings.data == str(tmp_path / "eval")


def test_a_name_stays_one_unless_something_lies_there(tmp_path: Path) -> None:
    _write('[pytest]\nmodel = "m.onnx"\ndata = "digits"')
    assert session_settings({})[0].data == "digits"
    (tmp_path / "digits").mkdir()
    assert session_settings({})[0].data == str(tmp_path / "digits")


def test_the_command_line_wins_key_by_key_and_its_paths_are_the_working_directorys() -> None:
    _write('[pytest]\nmodel = "m.onnx"\ndata = "digits"\nenvironments = ["a", "b"]\nmargin_pp = 3.5')
    settings, _ = session_settings({"environments": ["c"], "model": "x/n.onnx"})
    assert settings == PytestSettings(model="x/n.onnx", data="digits", environments=("c",), margin_pp=3.5)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            '[pytest]\nenvironment = ["x"]',
            UnknownNameError,
            r"gapshift.toml \[pytest\] 'environment'. Did you mean 'env",
        ),
        ("[pytest]\nmargin_pp = -1", SettingsError, r"\[pytest\]: margin_pp: Input should be greater than 0 \(got -1"),
        ("[pytest]\nmargin_pp = nan", SettingsError, r"margin_pp: Input should be .*\(got nan"),
        ('[pytest]\nmargin_pp = "2"', SettingsError, r"margin_pp: Input should be a valid number \(got '2'"),
        ("[pytest]\nlevels = [0]", SettingsError, r"levels.0: Input should be greater than or equal to 1 \(got 0"),
        ('[pytest]\nstrict = "no"', SettingsError, r"strict: Input should be a valid boolean \(got 'no'"),
        ("[pytest]\nbudget = 0", SettingsError, r"budget: Input should be greater than or equal to 1 \(got 0"),
        ('[pytest]\nenvironments = "a"', SettingsError, r"environments: Input should be a valid "),
        ('[pytest]\ninconclusive = "pass"', SettingsError, r"Input should be 'fail', 'warn' or 'xfail' \(got 'pass'"),
        ('[pytest]\nmodel = ""', SettingsError, r"model: String should have at least 1 character"),
        ('[pytest]\nmodel = "m.onnx"', SettingsError, r"model and data go together"),
        ("[pytets]\n", UnknownNameError, r"Unknown table in .*gapshift.toml 'pytets'. Did you mean 'pytest'"),
        ("pytest = 1", SettingsError, r"gapshift.toml: 'pytest' is not a table"),
        ("[pytest", SettingsError, r"gapshift.toml is not readable TOML"),
    ],
)
def test_mistakes_are_named(text: str, error: type[GapshiftError], message: str) -> None:
    _write(text)
    with pytest.raises(error, match=message):
        session_settings({})


def test_settings_in_both_files_are_refused() -> None:
    _write("[pytest]\n")
    _write("[tool.gapshift.pytest]\n", "pyproject.toml")
    with pytest.raises(SettingsError, match=r"both hold settings of gapshift\. Keep one"):
        session_settings({})


@pytest.mark.parametrize("text", ["[tool]\ngapshift = 3", "[tool.gapshift]\npytest = 3", "gapshift = ["])
def test_a_pyproject_whose_table_is_none_is_refused(text: str) -> None:
    _write(text, "pyproject.toml")
    with pytest.raises(SettingsError, match=r"pyproject\.toml"):
        session_settings({})


def test_a_pyproject_that_only_mentions_gapshift_holds_no_settings() -> None:
    _write('[project]\ndependencies = ["gapshift"]', "pyproject.toml")
    assert session_settings({}) == (PytestSettings(), "")


def test_every_option_is_a_key_and_the_other_way_round() -> None:
    assert [*(option.key for option in OPTIONS), "properties"] == list(PytestSettings.model_fields)


def test_a_mistake_is_a_usage_error_of_pytests(inside: Run) -> None:
    _write("[pytest]\nmargin = 2")
    done = inside(str(SUITE))
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert "[pytest] 'margin'. Did you mean 'margin_pp'?" in done.out
    assert "Traceback" not in done.out


def test_the_suite_runs_by_configuration_alone(inside: Run, tiny_study: Path, tmp_path: Path) -> None:
    relative = os.path.relpath(tiny_study, tmp_path)
    _write(
        f"""
        [tool.gapshift.pytest]
        model = "{relative}/bundles/digits-cnn-random-s0.onnx"
        data = "digits"
        items = "{relative}/items.parquet"
        environments = ["onnxruntime-one-thread"]
        allow_unlevelled = true
        report = "here"
        """,
        "pyproject.toml",
    )
    done = inside(str(SUITE), "-v")
    assert done.code == 0, done.out
    assert "test_level[onnxruntime-one-thread-level5] PASSED" in done.out
    assert f"(settings: {tmp_path / 'pyproject.toml'} [tool.gapshift.pytest])" in done.out
    assert (tmp_path / "here" / "report.html").exists()
