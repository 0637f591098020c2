"""A user's own environments: gapshift.toml in the working directory, and any other file beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gapshift.cli import main
from gapshift.envs.catalog import axis_of, catalog, choose, own
from gapshift.errors import GapshiftError, SettingsError, UnknownNameError
from gapshift.flows.check import CheckRequest, check
from gapshift.flows.evaluate import evaluate_run
from gapshift.flows.study import planned_environments
from gapshift.flows.study_settings import EvaluationSettings, read_study
from gapshift.schema import DataSource

ENTRY = """
[environments.{name}]
kind = "lossy"
groups = ["ours"]
summary = "A place of ours."
[environments.{name}.deviations]
"runtime.batch_size" = {batch}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one environment in its gapshift.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gapshift.toml").write_text(ENTRY.format(name="mine", batch=3), encoding="utf-8")
    return tmp_path


def _file(folder: Path, text: str, name: str = "gapshift.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def _printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["envs", *words])
    assert not stopped.value.code
    return capsys.readouterr().out


def test_without_gapshift_toml_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert own() == {}
    _file(tmp_path, "")
    assert own() == {}


def test_gapshift_toml_is_known_wherever_environments_are_chosen(here: Path) -> None:
    assert [environment.name for environment in choose(["mine"])] == ["mine"]
    assert [environment.name for environment in choose(groups=["ours"])] == ["mine"]
    assert {environment.name for environment in choose()} == {*catalog(), "mine"}
    assert choose(["mine"], (), here / "gapshift.toml") == choose(["mine"])  # named as a file too: once


def test_both_files_may_be_given(here: Path) -> None:
    other = _file(here, ENTRY.format(name="theirs", batch=5), "theirs.toml")
    assert list(own(other)) == ["mine", "theirs"]
    with pytest.raises(
        SettingsError, match=r"gapshift\.toml and .*double\.toml both have an environment 'mine'; rename"
    ):
        own(_file(here, ENTRY.format(name="mine", batch=5), "double.toml"))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[environments", SettingsError, r"gapshift\.toml is not readable TOML"),
        (
            "[enviroments.mine]\n",
            UnknownNameError,
            r"Unknown table in .*gapshift\.toml 'enviroments'\. Did you mean 'env",
        ),
        (
            "environments = 3\n",
            SettingsError,
            r"gapshift\.toml: 'environments' is not a table; it holds \[environments\.NA",
        ),
        ("[environments]\nmine = 3\n", SettingsError, r"gapshift\.toml: 'mine' is not a table"),
        (ENTRY.format(name="bgr", batch=3), SettingsError, r"gapshift\.toml: the catalog has an environment 'bgr'"),
        (ENTRY.format(name="mine", batch=0), SettingsError, r"gapshift\.toml \[mine\]: runtime\.batch_size"),
        (
            ENTRY.format(name="mine", batch=3).replace("batch_size", "batchsize"),
            SettingsError,
            "Did you mean 'runtime.ba",
        ),
    ],
)
def test_a_broken_gapshift_toml_is_named(here: Path, text: str, error: type[GapshiftError], message: str) -> None:
    _file(here, text)
    with pytest.raises(error, match=message):
        choose(["bgr"])


@pytest.mark.usefixtures("here")
def test_list_show_and_diff_know_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert "mine" in _printed(capsys, "list", "--group", "ours")
    assert "runtime.batch_size = 3" in _printed(capsys, "show", "mine")
    assert json.loads(_printed(capsys, "diff", "mine", "onnxruntime-batch-1", "--json"))["different"] == {
        "runtime.batch_size": [3, 1]
    }


def test_check_and_evaluate_run_them(here: Path, tiny_study: Path) -> None:
    request = CheckRequest(
        model=tiny_study / "bundles" / "digits-cnn-random-s0.onnx",
        data=DataSource(source="digits"),
        out=here / "check",
        environments=("mine",),
        items=tiny_study / "items.parquet",
    )
    summary, _ = check(request)
    assert [(cell["environment"], cell["status"]) for cell in summary["cells"]] == [("mine", "ok")]
    summary, _ = evaluate_run(tiny_study, here / "again", environments=("mine",))
    assert {cell["environment"] for cell in summary["cells"]} - {"training"} == {"mine"}


@pytest.mark.usefixtures("here")
def test_a_study_names_them(tiny_study_file: Path) -> None:
    settings = read_study(tiny_study_file)
    named = settings.model_copy(update={"evaluation": EvaluationSettings(environments=("mine",))})
    assert [environment.name for environment in planned_environments(named)] == ["mine"]


def test_the_pytest_plugin_plans_them(here: Path, tiny_study: Path) -> None:
    import subprocess
    import sys

    suite = Path(__file__).parents[2] / "deploy_tests"
    model = tiny_study / "bundles" / "digits-cnn-random-s0.onnx"
    words = ["--collect-only", "-q", "-p", "no:cacheprovider", "--model", str(model), "--data", "digits"]
    command = [sys.executable, "-m", "pytest", str(suite), *words, "--environment", "mine"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert "test_level[mine-level5]" in done.stdout, done.stdout + done.stderr


# ------------------------------------------------------------------------------ gapshift envs list


def test_the_list_is_by_axis_with_a_count_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _printed(capsys, "list").splitlines()
    counts = dict(part.split() for part in lines[-1].partition(":")[0].split(", "))
    assert list(counts) == ["preprocessing", "graph", "precision", "runtime", "shift", "service", "compound"]
    assert sum(map(int, counts.values())) == len(catalog())
    assert lines[-1].endswith(f": {len(catalog())} in all")
    assert [line for line in lines if line in counts] == list(counts)
    assert int(counts["graph"]) == sum(axis_of(environment) == "graph" for environment in catalog().values())


def test_the_list_as_json_has_axes(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {entry["name"]: entry["axis"] for entry in json.loads(_printed(capsys, "list", "--json"))}
    assert (listed["bgr"], listed["mobile-int8"], listed["float16"]) == ("preprocessing", "compound", "precision")
    assert listed.keys() == catalog().keys()


def test_an_unknown_group_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["envs", "list", "--group", "mobil"])
    assert stopped.value.code == 2
    assert "Unknown environment group 'mobil'. Did you mean 'mobile'?" in capsys.readouterr().err
