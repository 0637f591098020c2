"""Repeating a run's answers with other threads, batches and orders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapshift.cli import main
from gapshift.errors import UnknownNameError, WorkspaceError
from gapshift.flows.repeat import repeat_run
from gapshift.schema.repeats import SETTINGS
from gapshift.workspace import Workspace

MODEL = "digits-cnn-random-s0"


@pytest.fixture(scope="module")
def repeats(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The reference and int8-dynamic of one model, repeated. Read it; do not change it."""
    out = tmp_path_factory.mktemp("repeat") / "out"
    summary, _ = repeat_run(tiny_study, out, environments=("reference", "int8-dynamic"), bundles=(MODEL,))
    return out, summary


def _entry(summary: Any, environment: str) -> Any:
    return next(entry for entry in summary["repeated"] if entry["environment"] == environment)


def test_every_setting_runs_and_nothing_is_absent(repeats: tuple[Path, Any]) -> None:
    _, summary = repeats
    assert summary["absent"] == []
    for name in ("reference", "int8-dynamic"):
        found = [row["setting"] for row in _entry(summary, name)["settings"]]
        assert found == [setting.name for setting in SETTINGS]


def test_float32_repeats_bit_for_bit(repeats: tuple[Path, Any]) -> None:
    entry = _entry(repeats[1], "reference")
    assert entry["causes"]["repetition"]["bitwise"] is True
    assert entry["flips"]["all"]["k"] == entry["tie_flips"]["all"]


def test_dynamic_int8_depends_on_who_shares_a_batch(repeats: tuple[Path, Any]) -> None:
    """Its activations' scale is that of a whole batch."""
    causes = _entry(repeats[1], "int8-dynamic")["causes"]
    assert causes["order"]["bitwise"] is False
    assert causes["order"]["largest_difference"] > 1e-4
    assert causes["batch"]["bitwise"] is False
    assert causes["repetition"]["bitwise"] is True
    assert causes["repetition"]["flips"]["all"]["k"] == 0


def test_raw_outputs_are_kept_in_the_items_order(repeats: tuple[Path, Any]) -> None:
    workspace = Workspace(repeats[0])
    assert len(list((workspace.root / "outputs").glob("*.npy"))) == 2 * (len(SETTINGS) + 1)
    _, reference = workspace.read_cell(MODEL, "reference") or pytest.fail("no reference")
    info, shuffled = workspace.read_cell(MODEL, "int8-dynamic.order-1") or pytest.fail("no repeat")
    assert (shuffled.item_id != reference.item_id).any()
    told = dict(zip(shuffled.item_id.tolist(), shuffled.prediction.tolist(), strict=True))
    outputs = np.load(workspace.outputs_path(MODEL, "int8-dynamic.order-1", info.key))
    assert outputs.argmax(axis=1).tolist() == [told[item] for item in reference.item_id.tolist()]


def test_a_second_call_runs_nothing_and_says_the_same(repeats: tuple[Path, Any], tiny_study: Path) -> None:
    out, summary = repeats
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    again, _ = repeat_run(tiny_study, out, environments=("reference", "int8-dynamic"), bundles=(MODEL,))
    assert again == summary
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_outputs_that_are_gone_are_made_again(repeats: tuple[Path, Any], tiny_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(repeats[0], out)
    gone = sorted((out / "outputs").glob("*order-2*.npy"))[0]
    before = gone.read_bytes()
    gone.unlink()
    repeat_run(tiny_study, out, environments=("reference", "int8-dynamic"), bundles=(MODEL,))
    assert gone.read_bytes() == before


def test_without_names_the_reference_and_the_named_deployments_are_repeated(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_study, run)
    plan = Workspace(run).read_plan()
    Workspace(run).write_plan(plan.model_copy(update={"deployments": ("onnxruntime-one-thread",)}))
    summary, paths = repeat_run(run, bundles=(MODEL,))
    assert summary["environments"] == ["reference", "onnxruntime-one-thread"]
    assert summary["notes"] == ["onnxruntime-one-thread says itself what threads-1 would set; not repeated so."]
    assert {path.parent for path in paths.values()} == {run / "repeats"}


def test_control_has_no_outputs_and_an_open_loop(four_study: Path, tmp_path: Path) -> None:
    names = [bundle.name for bundle in Workspace(four_study).read_plan().bundles if bundle.domain == "control"]
    summary, _ = repeat_run(four_study, tmp_path / "out", environments=("int8-dynamic",), bundles=tuple(names[:1]))
    entry = _entry(summary, "int8-dynamic")
    assert not (tmp_path / "out" / "outputs").exists()
    assert entry["largest_difference"] is None
    same = [row for row in entry["settings"] if row["cause"] == "repetition"]
    assert [row["open_loop_change"] for row in same] == [0.0, 0.0]


def test_environments_of_ones_own_are_known_by_name(
    tiny_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = '[environments.mine]\nkind = "lossy"\nsummary = "s"\ndeviations = {"preprocessing.lowercase" = false}'
    (tmp_path / "gapshift.toml").write_text(own, encoding="utf-8")
    summary, _ = repeat_run(tiny_study, tmp_path / "out", environments=("mine",), bundles=(MODEL,))
    assert summary["environments"] == ["mine"]
    assert {row["status"] for row in summary["absent"]} == {"not_applicable"}


# ------------------------------------------------------------------------------ errors


def test_names_that_do_not_exist_get_the_nearest(tiny_study: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'int8-dynamic'"):
        repeat_run(tiny_study, tmp_path / "out", environments=("int8-dynamik",))
    with pytest.raises(UnknownNameError, match=MODEL):
        repeat_run(tiny_study, tmp_path / "out", bundles=(f"{MODEL}x",))


def test_a_folder_of_something_else_is_refused(tiny_study: Path, repeats: tuple[Path, Any]) -> None:
    with pytest.raises(WorkspaceError, match="holds a run of `gapshift study`"):
        repeat_run(tiny_study, tiny_study)
    with pytest.raises(WorkspaceError, match="holds repeats already"):
        repeat_run(repeats[0])


def test_repeats_of_other_models_are_not_mixed(tiny_study: Path, repeats: tuple[Path, Any], tmp_path: Path) -> None:
    out = tmp_path / "copy"
    shutil.copytree(repeats[0], out)
    plan = Workspace(out).read_plan()
    other = plan.bundles[0].model_copy(update={"sha256": "0" * 64})
    Workspace(out).write_plan(plan.model_copy(update={"bundles": (other,)}))
    with pytest.raises(WorkspaceError, match=rf"holds repeats of other models or items \({MODEL}\)"):
        repeat_run(tiny_study, out, bundles=(MODEL,))


def test_the_command_ends_in_json(
    tiny_study: Path, repeats: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["repeat", str(tiny_study), "--out", str(repeats[0]), "--bundle", MODEL, "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "-e", "reference", "-e", "int8-dynamic"])
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == json.loads(json.dumps(repeats[1]))
    assert "digits-cnn-random-s0 in int8-dynamic: " in told.err
