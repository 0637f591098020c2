"""The suite that users run: ids, verdicts, JUnit, exit codes; in a pytest of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "deploy_tests"


def _pytest(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *words]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "140"}
    )


@pytest.fixture(scope="module")
def model(tiny_study: Path) -> tuple[str, ...]:
    """Options for the tiny study's model on the digits, with its own levels."""
    return (
        "--model", str(tiny_study / "bundles" / "digits-cnn-random-s0.onnx"), "--data", "digits",
        "--gapshift-items", str(tiny_study / "items.parquet"), "--gapshift-allow-unlevelled",
    )  # fmt: skip


def test_one_test_per_environment_and_level_with_properties(model: tuple[str, ...], tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    done = _pytest(
        str(SUITE), *model, "--environment", "onnxruntime-one-thread", "--junitxml", str(junit), "-rA", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout
    for level in range(1, 6):
        assert f"test_level[onnxruntime-one-thread-level{level}]" in done.stdout
    cases = {case.get("name"): case for case in ET.parse(junit).iter("testcase")}
    properties = {
        p.get("name"): p.get("value") for p in cases["test_level[onnxruntime-one-thread-level5]"].iter("property")
    }
    assert properties["verdict"] == "PASS"
    assert properties["drop_pp"] == "0.0"
    assert "report: " in done.stdout


def test_junit_properties_stand_in_every_family(model: tuple[str, ...], tmp_path: Path) -> None:
    for family in ("xunit1", "xunit2"):
        junit = tmp_path / f"{family}.xml"
        done = _pytest(
            str(SUITE), *model, "--environment", "onnxruntime-one-thread", "--junitxml", str(junit),
            "-o", f"junit_family={family}", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert 'name="drop_pp"' in junit.read_text(encoding="utf-8")


def test_a_model_without_contract_is_told_of_pytests_own_option(
    tiny_study: Path, model: tuple[str, ...], tmp_path: Path
) -> None:
    bare = tmp_path / "bare.onnx"
    loaded = onnx.load(tiny_study / "bundles" / "digits-cnn-random-s0.onnx")
    del loaded.metadata_props[:]
    onnx.save(loaded, bare)
    done = _pytest(str(SUITE), "--model", str(bare), *model[2:], cwd=tmp_path)
    assert "Give one with `--gapshift-contract FILE`" in done.stdout


def test_a_failing_deployment_fails_its_levels_and_the_run(model: tuple[str, ...], tmp_path: Path) -> None:
    done = _pytest(str(SUITE), *model, "--environment", "scale-0-255", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "margin" in done.stdout
    assert "6 failed" in done.stdout


def test_what_is_not_gated_is_skipped_with_its_drop(model: tuple[str, ...], tmp_path: Path) -> None:
    done = _pytest(str(SUITE), *model, "--gapshift-group", "mistake", "-rs", cwd=tmp_path)
    assert "reported, not gated" in done.stdout
    assert done.returncode == 1  # nothing was gated, so the run's verdict is NO DATA
    assert "NO DATA" in done.stdout


def test_a_named_deployment_that_cannot_apply_is_no_pass(model: tuple[str, ...], tmp_path: Path) -> None:
    done = _pytest(str(SUITE), *model, "--environment", "bgr", cwd=tmp_path)
    assert done.returncode == 1
    assert "NO DATA" in done.stdout


def test_selecting_a_test_does_not_change_the_run(model: tuple[str, ...], tmp_path: Path) -> None:
    done = _pytest(
        str(SUITE), *model, "--environment", "onnxruntime-one-thread", "--environment", "scale-0-255",
        "-k", "test_verdict", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "1 failed" in done.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model", "m.onnx"), "model and data go together (--gapshift-model, --gapshift-data)"),
        (
            ("--model", "m.onnx", "--data", "digits", "--gapshift-margin", "-5"),
            "--gapshift-margin: Input should be greater than 0 (got -5.0)",
        ),
        (("--model", "m.onnx", "--data", "digits"), "m.onnx does not exist"),
    ],
)
def test_usage_errors_name_the_mend(words: tuple[str, ...], text: str, tmp_path: Path) -> None:
    done = _pytest(str(SUITE), *words, cwd=tmp_path)
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "plugin.py" not in done.stdout


def test_two_workers_evaluate_once(model: tuple[str, ...], tmp_path: Path) -> None:
    done = _pytest(str(SUITE), *model, "--environment", "onnxruntime-one-thread", "-n", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    journal = (tmp_path / "runs" / "check-digits-cnn-random-s0" / "journal.jsonl").read_text(encoding="utf-8")
    assert journal.count('"event": "evaluate"') == 1


def test_the_plugin_registers_options_under_one_prefix_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own():\n    pass\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "--gapshift-model" in done.stdout
    assert "\n  --model" not in done.stdout


def test_another_model_under_the_same_name_is_judged_anew(
    model: tuple[str, ...], tiny_study: Path, tmp_path: Path
) -> None:
    """The run folder is the same, and its old summary must not answer."""
    mine = tmp_path / "mine.onnx"
    options = ("--model", str(mine), *model[2:], "--environment", "onnxruntime-one-thread", "-k", "test_verdict")
    judged = []
    for name in ("digits-cnn-random-s0", "digits-cnn-easy-only-s0"):
        mine.write_bytes((tiny_study / "bundles" / f"{name}.onnx").read_bytes())
        _pytest(str(SUITE), *options, cwd=tmp_path)
        summary = json.loads((tmp_path / "runs" / "check-mine" / "summary.json").read_text(encoding="utf-8"))
        judged.append(summary["bundles"][0]["sha256"])
    assert judged[0] != judged[1]


def test_a_session_that_could_not_judge_shows_no_old_summary(model: tuple[str, ...], tmp_path: Path) -> None:
    common = (*model[:2], *model[4:], "--environment", "onnxruntime-one-thread")
    good = _pytest(str(SUITE), *common, "--data", "digits", cwd=tmp_path)
    bad = _pytest(str(SUITE), *common, "--data", str(tmp_path / "nowhere"), cwd=tmp_path)
    assert "report: " in good.stdout
    assert "report: " not in bad.stdout
    assert "nowhere" in bad.stdout
    assert bad.returncode == 1
