"""Explaining an environment whose culprit is known."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gapshift.cli import main
from gapshift.envs.catalog import load
from gapshift.errors import SettingsError, UnknownNameError, UsageError, WorkspaceError
from gapshift.flows.explain import explain_run
from gapshift.workspace import Workspace

MODEL = "digits-cnn-random-s0"
OWN = """
[planted]
kind = "lossy"
summary = "A wrong mean is the culprit; 8-bit weights and small batches stand beside it."
[planted.deviations]
"precision.format" = "int8-dynamic"
"preprocessing.mean" = [0.9]
"runtime.batch_size" = 4

[harmless]
kind = "equivalent"
summary = "Nothing that matters."
[harmless.deviations]
"runtime.batch_size" = 4
"runtime.intra_op_threads" = 1

[served]
kind = "stress"
summary = "Slow, and with orientation ignored where pictures have none."
[served.deviations]
"service.seed" = 1
"service.timeout_ms" = 40.0
"service.latency_ms" = 40.0
"preprocessing.exif_orientation" = "ignored"
"runtime.batch_size" = 16

[many]
kind = "lossy"
summary = "One of nine is the culprit."
[many.deviations]
"runtime.batch_size" = 4
"runtime.intra_op_threads" = 1
"runtime.arena" = false
"runtime.order" = 1
"runtime.optimization" = "basic"
"precision.format" = "int8-dynamic"
"preprocessing.mean" = [0.9]
"preprocessing.resize.interpolation" = "bicubic"
"service.stale_rate" = 0.01

[broken]
kind = "lossy"
summary = "Contradicts the contract."
[broken.deviations]
"preprocessing.resize.library" = "opencv"
"runtime.batch_size" = 4
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("own") / "own.toml"
    file.write_text(OWN, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def planted(tiny_study: Path, own: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Path]]:
    """The planted environment explained for one model. Read it; do not change it."""
    out = tmp_path_factory.mktemp("explain") / "out"
    summary, paths = explain_run(tiny_study, "planted", out, bundles=(MODEL,), environment_file=own)
    return out, summary, paths


def _events(out: Path) -> dict[str, str]:
    told = (event for event in Workspace(out).journal() if event["event"] in ("cell", "shared"))
    return {event["environment"]: event["event"] for event in told}


def _names(entry: Any) -> list[str]:
    return [player["name"] for player in entry["players"]]


def test_the_culprit_has_the_largest_share(planted: tuple[Path, Any, dict[str, Path]]) -> None:
    (entry,) = planted[1]["explained"]
    shares = {player["name"]: player["share_pp"][entry["level"]] for player in entry["players"]}
    assert list(shares) == ["precision.format = int8-dynamic", "mean = [0.9]", "runtime.batch_size = 4"]
    assert shares["mean = [0.9]"]["low"] > 10
    assert sum(share["estimate"] for share in shares.values()) == pytest.approx(
        entry["drop_pp"][entry["level"]]["estimate"], abs=1e-9
    )
    assert "come from mean = [0.9]" in entry["finding"]


def test_the_smallest_part_that_fails_is_the_culprit(planted: tuple[Path, Any, dict[str, Path]]) -> None:
    (entry,) = planted[1]["explained"]
    assert (entry["verdict"], entry["smallest"]["method"]) == ("FAIL", "all combinations")
    assert [one["deviations"] for one in entry["smallest"]["sets"]] == [{"preprocessing.mean": [0.9]}]
    verdicts = {tuple(row["names"]): row["verdict"] for row in entry["combinations"]}
    assert len(verdicts) == 7
    assert {verdict for names, verdict in verdicts.items() if "mean = [0.9]" in names} == {"FAIL"}


def test_cells_of_the_run_are_shared(planted: tuple[Path, Any, dict[str, Path]]) -> None:
    out, summary, _ = planted
    events = _events(out)
    assert {name for name, event in events.items() if event == "shared"} == {"reference", "planted.1"}
    assert summary["cells"] == {"needed": 7, "run": 6, "shared": 1}


def test_a_second_call_runs_nothing_and_says_the_same(
    planted: tuple[Path, Any, dict[str, Path]], tiny_study: Path, own: Path
) -> None:
    out, summary, _ = planted
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    again, _ = explain_run(tiny_study, "planted", out, bundles=(MODEL,), environment_file=own)
    assert again == summary
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_the_pages_stand_beside_the_cells(planted: tuple[Path, Any, dict[str, Path]]) -> None:
    out, summary, paths = planted
    assert list(paths) == ["explain-planted.json", "explain-planted.md", "explain-planted.html"]
    assert json.loads(paths["explain-planted.json"].read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    assert paths["explain-planted.html"].read_text(encoding="utf-8").count("<svg") == 2
    assert {path.parent for path in paths.values()} == {out}


def test_the_snippet_is_an_environment(planted: tuple[Path, Any, dict[str, Path]], tmp_path: Path) -> None:
    text = planted[2]["explain-planted.md"].read_text(encoding="utf-8")
    snippet = text.split("```toml\n")[1].split("```")[0]
    file = tmp_path / "gapshift.toml"
    file.write_text(snippet, encoding="utf-8")
    (found,) = load(file).values()
    assert (found.name, found.kind) == ("planted-smallest", "lossy")
    assert (
        found.deviations
        == {"preprocessing.mean": [0.9]}
        == tomllib.loads(snippet)["environments"][found.name]["deviations"]
    )


def test_without_shares_each_alone_and_all_but_each_are_enough(tiny_study: Path, own: Path, tmp_path: Path) -> None:
    """Over eight deviations there are no shares either; delta debugging finds the culprit."""
    summary, _ = explain_run(tiny_study, "many", tmp_path / "out", bundles=(MODEL,), environment_file=own)
    (entry,) = summary["explained"]
    assert len(entry["players"]) == 9
    assert entry["shares_missing"].startswith("9 deviations have 512 combinations")
    assert entry["smallest"]["method"] == "delta debugging"
    assert [one["deviations"] for one in entry["smallest"]["sets"]] == [{"preprocessing.mean": [0.9]}]
    assert summary["cells"]["needed"] == 19


def test_no_shapley_leaves_the_other_combinations_out(tiny_study: Path, own: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_study, tmp_path / "run")
    summary, paths = explain_run(run, "served", shapley=False, environment_file=own, bundles=(MODEL,))
    assert {path.parent for path in paths.values()} == {run / "explain"}
    (entry,) = summary["explained"]
    assert entry["players"][0]["share_pp"]["all"] is None


def test_what_cannot_stand_alone_is_one_player_and_what_does_nothing_is_set_aside(
    tiny_study: Path, own: Path, tmp_path: Path
) -> None:
    """Latency needs its time-out by the schema, the seed needs them by what the cells show."""
    summary, _ = explain_run(tiny_study, "served", tmp_path / "out", bundles=(MODEL,), environment_file=own)
    (entry,) = summary["explained"]
    (player,) = entry["players"]
    assert set(player["deviations"]) == {"service.seed", "service.timeout_ms", "service.latency_ms"}
    assert "service.seed = 1 alone is not applicable: " in player["why_together"]
    idle = {row["deviation"]: row["reason"] for row in entry["idle"]}
    assert idle["runtime.batch_size"] == "the model's reference has it already"
    assert idle["preprocessing.exif_orientation"].startswith("without it every answer is the same")
    assert "It deviates in one thing alone" in entry["finding"]


def test_all_models_side_by_side_and_nothing_to_fail(tiny_study: Path, own: Path, tmp_path: Path) -> None:
    summary, _ = explain_run(tiny_study, "harmless", tmp_path / "out", environment_file=own)
    models = [bundle.name for bundle in Workspace(tiny_study).read_plan().bundles]
    assert [entry["bundle"] for entry in summary["explained"]] == models
    for entry in summary["explained"]:
        assert "no damage to attribute" in entry["finding"]
        assert entry["smallest"]["sets"] == []
        assert entry["smallest"]["reason"].startswith("it does not FAIL at this run's gate (")


def test_what_contradicts_a_contract_is_not_measured(tiny_study: Path, own: Path, tmp_path: Path) -> None:
    summary, paths = explain_run(tiny_study, "broken", tmp_path / "out", bundles=(MODEL,), environment_file=own)
    (entry,) = summary["explained"]
    assert (entry["status"], entry["players"]) == ("not_applicable", [])
    assert entry["finding"].startswith("broken was not measured: not applicable: it contradicts the model's contract")
    assert "does not antialias" in entry["finding"]
    assert "broken was not measured" in paths["explain-broken.html"].read_text(encoding="utf-8")


# ------------------------------------------------------------------------------ errors


def test_names_and_folders_that_do_not_serve(tiny_study: Path, own: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'planted'"):
        explain_run(tiny_study, "plantet", tmp_path / "out", environment_file=own)
    with pytest.raises(UnknownNameError, match=MODEL):
        explain_run(tiny_study, "int8-dynamic", tmp_path / "out", bundles=(f"{MODEL}x",))
    with pytest.raises(UsageError, match=r"reference deviates in nothing: there is no damage to explain"):
        explain_run(tiny_study, "reference", tmp_path / "out")
    with pytest.raises(SettingsError, match=r"mel-htk sets .*which no model of this run can have \(its domains: v"):
        explain_run(tiny_study, "mel-htk", tmp_path / "out")
    with pytest.raises(WorkspaceError, match="holds a run of `gapshift study`"):
        explain_run(tiny_study, "int8-dynamic", tiny_study)


def test_the_command_ends_in_json(
    planted: tuple[Path, Any, dict[str, Path]], tiny_study: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, summary, _ = planted
    words = ["explain", str(tiny_study), "-e", "planted", "--environment-file", str(own), "--out", str(out), "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--bundle", MODEL])
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == json.loads(json.dumps(summary))
    assert "What did the damage: planted" in told.err
    assert "planted deviates in 3 things: 7 combinations over 1 model" in told.err
    assert '"preprocessing.mean" = [0.9]' in told.err
