"""What two environments, machines or runs differ in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gapshift.cli import main
from gapshift.errors import SettingsError, UnknownNameError, UsageError, WorkspaceError
from gapshift.flows.environment_diff import compare
from gapshift.records import read_cell, write_cell

MINE = """
[mine]
kind = "lossy"
summary = "A place of ours."
[mine.deviations]
"preprocessing.resize.interpolation" = "nearest"
"preprocessing.mean" = [0.1, 0.2, 0.3]
"runtime.batch_size" = 4
[theirs]
kind = "lossy"
summary = "A place of theirs."
[theirs.deviations]
"preprocessing.mean" = [0.1, 0.2, 0.4]
"runtime.batch_size" = 4
"precision.format" = "int8-dynamic"
"""
MACHINE: dict[str, Any] = {
    "machine": {"cpu": "one", "cpu_flags": ["avx", "avx2"], "cores": 2},
    "versions": {"onnxruntime": "1.24.0", "torch": "2.9.0"},
    "providers": {"CPUExecutionProvider": "available"},
}


def _json(path: Path, tree: Any) -> str:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return str(path)


def _printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["envs", "diff", *words])
    assert not stopped.value.code
    return capsys.readouterr().out


# --------------------------------------------------------------------------- environments


def test_environments_differ_key_by_key_and_values_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(MINE, encoding="utf-8")
    found = compare("mine", "theirs", file)
    assert found.as_json() == {
        "kind": "environment",
        "a": "mine",
        "b": "theirs",
        "only_in_a": {"preprocessing.resize.interpolation": "nearest"},
        "only_in_b": {"precision.format": "int8-dynamic"},
        "different": {"preprocessing.mean": [[0.1, 0.2, 0.3], [0.1, 0.2, 0.4]]},
    }


def test_the_reference_deviates_in_nothing() -> None:
    found = compare("reference", "bgr")
    assert (found.only_in_a, found.only_in_b, found.different) == ({}, {"preprocessing.color": "BGR"}, {})
    same = compare("bgr", "bgr")
    assert (same.only_in_a, same.only_in_b, same.different) == ({}, {}, {})


def test_differences_are_printed_in_readable_lines(capsys: pytest.CaptureFixture[str]) -> None:
    out = _printed(capsys, "onnxruntime-batch-1", "edge-camera")
    assert out.splitlines()[:2] == ["only in onnxruntime-batch-1", "  runtime.batch_size = 1"]
    assert '  precision.format = "int8-dynamic"' in out
    out = _printed(capsys, "jpeg-quality-50", "jpeg-quality-75")
    assert out == "in jpeg-quality-50 and in jpeg-quality-75\n  preprocessing.jpeg_quality = 50 and 75\n"
    assert _printed(capsys, "bgr", "bgr") == "bgr and bgr do not differ.\n"
    assert json.loads(_printed(capsys, "bgr", "reference", "--json"))["only_in_a"] == {"preprocessing.color": "BGR"}


# ------------------------------------------------------------------------------- machines


def test_machines_differ_in_names_of_lists_and_in_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = json.loads(json.dumps(MACHINE))
    other["machine"] |= {"cpu_flags": ["avx2", "avx", "amx_int8"], "cores": 4}
    other["versions"] = {"onnxruntime": "1.24.0", "torch": "2.13.0", "openvino": "2026.1"}
    a, b = _json(tmp_path / "a.json", MACHINE), _json(tmp_path / "b.json", other)
    found = compare(a, b)
    assert found.only_in_a == {}
    assert found.only_in_b == {"machine.cpu_flags": ["amx_int8"], "versions.openvino": "2026.1"}
    assert found.different == {"machine.cores": (2, 4), "versions.torch": ("2.9.0", "2.13.0")}
    assert "  machine.cpu_flags = amx_int8\n" in _printed(capsys, a, b)


def test_what_doctor_writes_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    path = tmp_path / "machine.json"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert compare(str(path), str(path)).as_json()["kind"] == "machine"


# ----------------------------------------------------------------------------------- runs


def test_runs_are_said_to_be_compared_in_what_ran_alone(tiny_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = _printed(capsys, str(tiny_study), str(tiny_study))
    assert out == "Compared: what ran in the cells that both have; not models, items or answers.\n"


def test_runs_differ_in_what_their_cells_say_ran(tiny_study: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(tiny_study, other)
    cell = sorted((other / "records").glob("*--reference.parquet"))[0]
    info, records = read_cell(cell)
    assert info.execution is not None
    ran = info.execution
    versions = {**ran.versions, "onnxruntime": "1.0"}
    changed = ran.model_copy(
        update={"executed": "bfloat16", "versions": versions, "cpu_flags": ("made_up",), "providers": {"Other": 3}}
    )
    write_cell(cell, info.model_copy(update={"execution": changed}), records)
    gone = sorted((other / "records").glob("*--onnxruntime-*.parquet"))
    for path in gone:
        path.unlink()
    found = compare(str(tiny_study), str(other))
    assert found.only_in_a == {}
    assert found.only_in_b == {"cpu_flags": ["made_up"], "providers": ["onnxruntime: Other"]}
    assert found.different == {
        f"executed.{info.bundle} in reference": ("float32", "bfloat16"),
        "versions.onnxruntime": (ran.versions["onnxruntime"], f"1.0, {ran.versions['onnxruntime']}"),
    }


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (
            "bgrr",
            "bgr",
            UnknownNameError,
            r"Unknown environment 'bgrr'\. Did you mean 'bgr'.* no file or folder of that",
        ),
        ("bgr", "machine.json", UsageError, r"bgr is an environment and machine\.json is a machine .*two of one kind"),
        ("run", "machine.json", WorkspaceError, "is not a run folder"),
        ("no.json", "machine.json", SettingsError, r"no\.json is not readable JSON: .*gapshift doctor --json"),
        (
            "list.json",
            "machine.json",
            SettingsError,
            r"list\.json is not what `gapshift doctor --json` writes: .*versions",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a: str, b: str, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _json(Path("machine.json"), MACHINE)
    _json(Path("list.json"), {"machine": []})
    Path("no.json").write_text("{", encoding="utf-8")
    Path("run").mkdir()
    with pytest.raises(error, match=message):
        compare(a, b)


def test_a_run_and_a_machine_are_of_two_kinds(tiny_study: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a run folder and .* is a machine"):
        compare(str(tiny_study), _json(tmp_path / "m.json", MACHINE))
