"""``--self-test``: what decides is repeated beside the run, and the verdict asked of each repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gapshift.errors import SettingsError, WorkspaceError
from gapshift.flows.check import CheckRequest, check
from gapshift.flows.evaluate import evaluate_run
from gapshift.schema import DataSource
from gapshift.schema.repeats import FOLDER, SETTINGS
from gapshift.workspace import Workspace

MODEL = "digits-cnn-random-s0"


def _self_test(study: Path, out: Path) -> Any:
    names = ("int8-dynamic", "onnxruntime-one-thread")
    return evaluate_run(study, out, bundles=(MODEL,), environments=names, self_test=True)[0]


@pytest.fixture(scope="module")
def tested(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """One model in two named environments, with its self-test. Read it; do not change it."""
    out = tmp_path_factory.mktemp("self-test") / "out"
    return out, _self_test(tiny_study, out)


def test_the_reference_and_every_gated_environment_are_repeated(tested: tuple[Path, Any]) -> None:
    found = tested[1]["self_test"]
    assert [row["setting"] for row in found["alternatives"]] == [setting.name for setting in SETTINGS]
    assert found["not_repeated"] == 0
    repeated = {row["environment"]: row["repeated"] for row in found["cells"]}
    kept = 2  # the number of threads is its own
    assert repeated == {"training": 0, "int8-dynamic": 11, "onnxruntime-one-thread": 11 - kept}
    assert [row["repeated"] for row in found["references"]] == [11]
    assert not (tested[0] / FOLDER / "records" / f"{MODEL}--onnxruntime-one-thread.threads-4.parquet").exists()


def test_float32_repeats_and_dynamic_int8_need_not(tested: tuple[Path, Any]) -> None:
    found = tested[1]["self_test"]
    flips = {row["environment"]: row["flips"] for row in found["cells"]}
    assert found["references"][0]["flips"] == 0
    assert flips["onnxruntime-one-thread"] == 0
    ends = next(row for row in found["cells"] if row["environment"] == "int8-dynamic")["drop_range_pp"]["all"]
    assert (ends["low"] < ends["high"]) <= (flips["int8-dynamic"] > 0)


def test_what_the_repeats_changed_is_reported_beside_them(tested: tuple[Path, Any]) -> None:
    assert (tested[0] / FOLDER / "repeats.html").exists()
    assert "Would another repeat decide otherwise?" in (tested[0] / "report.html").read_text(encoding="utf-8")


def test_a_second_call_repeats_nothing_and_says_the_same(tested: tuple[Path, Any], tiny_study: Path) -> None:
    out, summary = tested
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*--*.parquet")}
    again = _self_test(tiny_study, out)
    assert again["self_test"] == summary["self_test"]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_folder_of_something_else_is_refused(tiny_study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = Workspace(out / FOLDER)
    other.write_plan(Workspace(tiny_study).read_plan())
    with pytest.raises(WorkspaceError, match="holds a run of `gapshift study`"):
        _self_test(tiny_study, out)


def test_a_sequential_run_has_no_self_test(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Leave one of --self-test and --sequential out"):
        CheckRequest(
            model=Path("m.onnx"), data=DataSource(source="digits"), out=tmp_path, self_test=True, sequential=True
        )


def test_a_check_tests_itself(tiny_study: Path, tmp_path: Path) -> None:
    """A model that lies elsewhere is repeated where it lies."""
    request = CheckRequest(
        model=tiny_study / "bundles" / f"{MODEL}.onnx",
        data=DataSource(source="digits"),
        items=tiny_study / "items.parquet",
        environments=("int8-dynamic",),
        out=tmp_path / "run",
        self_test=True,
    )
    summary, _ = check(request)
    assert [row["repeated"] for row in summary["self_test"]["cells"]] == [11]
    assert summary["self_test"]["not_repeated"] == 0


def test_a_sequential_evaluation_has_no_self_test(tiny_study: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Leave one of --self-test and --sequential out"):
        evaluate_run(tiny_study, tmp_path / "out", environments=("int8-dynamic",), sequential=True, self_test=True)
