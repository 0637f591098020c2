"""Evaluating a run's bundles again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gapshift.envs.catalog import catalog
from gapshift.errors import DataError, SettingsError, UnknownNameError, WorkspaceError
from gapshift.flows.evaluate import environments_for_run, evaluate_run
from gapshift.flows.judging import report_again
from gapshift.flows.reporting import Silent
from gapshift.schema import takes
from gapshift.workspace import Workspace

TIMINGS = ("seconds", "seconds_needed", "items_per_second")


def without_timings(value: Any) -> Any:
    """A summary with everything that a clock decides taken out."""
    if isinstance(value, dict):
        return {key: without_timings(inner) for key, inner in value.items() if key not in TIMINGS}
    return [without_timings(inner) for inner in value] if isinstance(value, list) else value


def _summary(run: Path) -> Any:
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def test_the_same_plan_elsewhere_gives_the_same_summary(tiny_study: Path, tmp_path: Path) -> None:
    evaluate_run(tiny_study, tmp_path / "again")
    assert without_timings(_summary(tmp_path / "again")) == without_timings(_summary(tiny_study))


def test_an_evaluation_killed_between_cells_ends_up_the_same(
    tiny_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write, written = tmp_path / "killed", Workspace.write_cell, []

    def dying(self: Workspace, info: Any, records: Any = None) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(info.environment)
        write(self, info, records)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "write_cell", dying)
        with pytest.raises(KeyboardInterrupt):
            evaluate_run(tiny_study, out)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "records").glob("*.parquet")}
    assert len(stamps) == 7
    evaluate_run(tiny_study, out)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert without_timings(_summary(out)) == without_timings(_summary(tiny_study))


def test_named_environments_are_gated_and_run_alone(tiny_study: Path, tmp_path: Path) -> None:
    summary, _ = evaluate_run(tiny_study, tmp_path / "named", environments=("resize-bicubic",))
    cells = [cell for cell in summary["cells"] if cell["environment"] != "training"]
    assert {cell["environment"] for cell in cells} == {"resize-bicubic"}
    assert all(cell["gated"] and cell["named"] for cell in cells)


def test_a_typo_gets_the_nearest_name(tiny_study: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resize-bicubic'"):
        evaluate_run(tiny_study, tmp_path / "typo", environments=("resize-bicubik",))


def test_a_mix_that_no_task_has_is_found_before_any_cell_runs(
    tiny_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gapshift.toml").write_text("[traffic.night.labels]\n17 = 1", encoding="utf-8")
    with pytest.raises(UnknownNameError, match="label of the traffic mix 'night': '17'"):
        evaluate_run(tiny_study, tmp_path / "out")
    assert not (tmp_path / "out" / "records").exists()


def test_a_missing_model_is_said(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_study, run)
    (run / "bundles" / "digits-cnn-random-s0.onnx").unlink()
    with pytest.raises(WorkspaceError, match=r"digits-cnn-random-s0\.onnx is gone; put it back"):
        evaluate_run(run, tmp_path / "out")


def test_moved_data_is_said(tiny_study: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        evaluate_run(tiny_study, tmp_path / "out", data=str(tmp_path / "nowhere"))


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="is not a run folder"):
        evaluate_run(tmp_path, tmp_path / "out")


def test_another_plan_does_not_replace_the_runs_report(tiny_study: Path) -> None:
    before = (tiny_study / "summary.json").read_bytes()
    with pytest.raises(WorkspaceError, match=r"was planned otherwise .* Give another folder with --out"):
        evaluate_run(tiny_study, tiny_study, environments=("resize-bicubic",))
    assert (tiny_study / "summary.json").read_bytes() == before


def test_another_run_is_not_overwritten(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "other"
    shutil.copytree(tiny_study, run)
    plan = Workspace(run).read_plan()
    Workspace(run).write_plan(plan.model_copy(update={"bundles": plan.bundles[:1]}))
    with pytest.raises(WorkspaceError, match="holds another run"):
        evaluate_run(tiny_study, run)


def test_a_groups_evaluation_keeps_the_runs_deployments_gated(tiny_study: Path, tmp_path: Path) -> None:
    evaluate_run(tiny_study, tmp_path / "named", environments=("int8-dynamic",))
    summary, _ = evaluate_run(tmp_path / "named", tmp_path / "group", groups=("precision",))
    gated = {cell["environment"] for cell in summary["cells"] if cell["gated"]}
    assert gated == {"int8-dynamic", "training"}


def test_groups_mean_those_of_the_runs_domains(tiny_study: Path) -> None:
    plan = Workspace(tiny_study).read_plan()
    every = {environment.name for environment in environments_for_run(plan, (), ("all",), None)}
    assert every == {name for name, environment in catalog().items() if takes("vision", environment)}
    named = {environment.name for environment in environments_for_run(plan, ("text-cased",), ("all",), None)}
    assert named == every | {"text-cased"}
    with pytest.raises(SettingsError, match="No environment of the group text is for vision models"):
        environments_for_run(plan, (), ("text",), None)


def test_a_report_made_again_weighs_by_the_mixes_of_now(
    tiny_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_study, run)
    monkeypatch.chdir(tmp_path)
    Path("gapshift.toml").write_text("[traffic.night]\nlevels = {4 = 1, 5 = 2}\n", encoding="utf-8")
    summary, _ = report_again(Workspace(run), Silent())
    assert "night" in {mix["name"] for mix in summary["traffic"]}
    planned = Workspace(run).read_plan()
    Path("gapshift.toml").write_text("[traffic.night.labels]\nteh = 1\n", encoding="utf-8")
    with pytest.raises(UnknownNameError, match="label of the traffic mix 'night': 'teh'"):
        report_again(Workspace(run), Silent())
    assert Workspace(run).read_plan() == planned


def test_named_bundles_are_evaluated_alone(tiny_study: Path, tmp_path: Path) -> None:
    known = [bundle.name for bundle in Workspace(tiny_study).read_plan().bundles]
    names = (known[0], known[-1])
    chosen = evaluate_run(tiny_study, tmp_path / "two", bundles=names, environments=("onnxruntime-batch-1",))[0]
    assert {cell["bundle"] for cell in chosen["cells"]} == set(names) < set(known)
    plan = Workspace(tmp_path / "two").read_plan()
    assert [bundle.name for bundle in plan.bundles] == list(names)
    assert {run.name for run in plan.runs} == set(names)
    assert {path.stem for path in (tmp_path / "two" / "bundles").glob("*.onnx")} == set(names)


def test_a_part_of_a_run_does_not_replace_its_report(tiny_study: Path, tmp_path: Path) -> None:
    name = Workspace(tiny_study).read_plan().bundles[0].name
    before = (tiny_study / "summary.json").read_bytes()
    with pytest.raises(WorkspaceError, match=r"planned otherwise \(its bundles, .* Give another folder with --out"):
        evaluate_run(tiny_study, tiny_study, bundles=(name,))
    assert (tiny_study / "summary.json").read_bytes() == before
    with pytest.raises(UnknownNameError, match=rf"Unknown bundle '{name}0'\. Did you mean '{name}'"):
        evaluate_run(tiny_study, tmp_path / "out", bundles=(f"{name}0",))
    assert not (tmp_path / "out").exists()
