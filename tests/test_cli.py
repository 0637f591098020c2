"""The command line as a user meets it: output, exit codes, errors without a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gapshift.cli import main

COMMANDS = (
    "demo", "study", "calibrate", "train", "export", "evaluate", "report", "plan", "observe", "check", "contract",
    "doctor",
)  # fmt: skip


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "--help")
    assert code == 0
    for command in (*COMMANDS, "envs"):
        assert f"\n  {command} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = _run(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"Usage: gapshift {command}")


def test_envs_list_json_is_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "envs", "list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert len(listed) >= 16
    assert {"name", "kind", "summary", "deviations", "groups"} <= set(listed[0])


def test_envs_show(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "envs", "show", "bgr")
    assert code == 0
    assert 'preprocessing.color = "BGR"' in out


def test_an_unknown_environment_is_a_usage_error_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(capsys, "envs", "show", "bgrr")
    assert code == 2
    assert "Did you mean 'bgr'" in err
    assert "Traceback" not in err


def test_debug_lets_the_traceback_through() -> None:
    from gapshift.errors import UnknownNameError

    with pytest.raises(UnknownNameError):
        main(["envs", "show", "bgrr", "--debug"])


def test_a_missing_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(capsys, "check", "model.onnx")
    assert code == 2
    assert "--data" in err


def test_doctor_json_names_the_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "doctor", "--json")
    assert code == 0
    assert json.loads(out)["runtimes"]["onnxruntime"] == "available"


def test_doctor_says_cpu_flags_in_words_and_which_providers_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    from gapshift.flows import doctor

    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(doctor, "fingerprint", lambda: {"cpu_flags": ["avx2", "avx512f"]})
    started = type("Session", (), {"get_providers": lambda _self: ["CPUExecutionProvider"]})
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_args, **_named: started())
    _, out, _ = _run(capsys, "doctor")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "cpu_flags avx2 avx512f" in lines
    assert "CUDAExecutionProvider compiled in, no device" in lines
    assert "CPUExecutionProvider available" in lines


def test_contract_prints_what_check_reads_back(
    capsys: pytest.CaptureFixture[str], tiny_study: Path, tmp_path: Path
) -> None:
    from gapshift.export.stamp import contract_from_toml, read_contract

    model = tiny_study / "bundles" / "digits-cnn-random-s0.onnx"
    code, out, _ = _run(capsys, "contract", str(model))
    (tmp_path / "contract.toml").write_text(out, encoding="utf-8")
    assert code == 0
    assert contract_from_toml(tmp_path / "contract.toml") == read_contract(model)


def test_report_and_evaluate_exit_0_when_they_completed(
    capsys: pytest.CaptureFixture[str], tiny_study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    code, printed, _ = _run(capsys, "evaluate", str(tiny_study), "--out", str(out), "-e", "onnxruntime-one-thread")
    assert code == 0
    assert str(out / "report.html") in printed
    code, printed, _ = _run(capsys, "report", str(out), "--json")
    assert code == 0
    assert json.loads(printed.splitlines()[-1])["schema_version"] == 1


def test_check_exits_with_its_verdict(capsys: pytest.CaptureFixture[str], tiny_study: Path, tmp_path: Path) -> None:
    model = str(tiny_study / "bundles" / "digits-cnn-random-s0.onnx")
    levels = str(tiny_study / "items.parquet")
    common = ("check", model, "--data", "digits", "--items", levels, "--allow-unlevelled")
    code, out, _ = _run(capsys, *common, "--group", "equivalent", "--out", str(tmp_path / "a"))
    assert (code, out.splitlines()[0].split()[0]) == (0, "PASS")
    code, out, _ = _run(capsys, *common, "-e", "scale-0-255", "--out", str(tmp_path / "b"))
    assert (code, out.splitlines()[0].split()[0]) == (1, "FAIL")
    code, out, _ = _run(capsys, *common, "-e", "bgr", "--out", str(tmp_path / "c"))
    assert (code, out.splitlines()[0].split()[0:2]) == (4, ["NO", "DATA"])


def test_check_of_no_onnx_file_exits_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = _run(capsys, "check", str(tmp_path / "none.onnx"), "--data", "digits")
    assert code == 2
    assert err.startswith("error: ")
    assert "none.onnx" in err


def test_calibrate_responses_ends_with_the_card(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ability, difficulty = rng.normal(size=(30, 1)), rng.normal(size=(1, 60))
    right = rng.random((30, 60)) < 1 / (1 + np.exp(difficulty - ability))
    lines = [",".join(["responder", *(f"item{i}" for i in range(60))])]
    lines += [",".join([f"r{row}", *map(str, values.astype(int))]) for row, values in enumerate(right)]
    (tmp_path / "responses.csv").write_text("\n".join(lines), encoding="utf-8")
    code, out, err = _run(
        capsys, "calibrate", "--responses", str(tmp_path / "responses.csv"), "--out", str(tmp_path / "out"), "--json"
    )
    card = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert (card["engine"], card["items"], card["responders"]) == ("em", 60, 30)
    assert (tmp_path / "out" / "items.parquet").exists()


def test_calibrate_wants_one_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = _run(capsys, "calibrate", "--out", str(tmp_path))
    assert code == 2
    assert "either --responses FILE or --data DIR" in err


def test_several_names_may_follow_one_environment_option(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(capsys, "check", "m.onnx", "--data", "digits", "--environment", "bgr", "int8-dynamik")
    assert code == 2
    assert "Unknown environment 'int8-dynamik'" in err
    code, _, err = _run(capsys, "check", "m.onnx", "bgr", "--data", "digits")
    assert code == 2
    assert "Unexpected argument 'bgr'" in err


def test_an_error_under_json_ends_in_a_line_that_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(capsys, "envs", "show", "bgrr", "--json")
    last = json.loads(out.splitlines()[-1])
    assert code == last["exit_code"] == 2
    assert "Unknown environment 'bgrr'" in last["error"]


@pytest.mark.parametrize("margin", ["nan", "0", "100", "-1", "many"])
def test_a_margin_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str], margin: str) -> None:
    code, _, err = _run(capsys, "check", "m.onnx", "--data", "digits", f"--margin={margin}")
    assert code == 2
    assert "--margin" in err


@pytest.mark.parametrize("option", ["--power", "--sample-rate", "--drop"])
def test_a_share_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str], option: str) -> None:
    code, _, err = _run(capsys, "observe", "run", option, "nan")
    assert code == 2
    assert f"'{option}': 'nan' is no number between 0 and 1" in err


def test_an_empty_source_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(capsys, "check", "m.onnx", "--data", "")
    assert code == 2
    assert "The data source is empty" in err


def test_a_check_is_evaluated_again(capsys: pytest.CaptureFixture[str], tiny_study: Path, tmp_path: Path) -> None:
    """Also one that withheld nothing for a quantiser; and a static one then says what it needs."""
    model, levels = str(tiny_study / "bundles" / "digits-cnn-random-s0.onnx"), str(tiny_study / "items.parquet")
    run, again = str(tmp_path / "run"), str(tmp_path / "again")
    _run(capsys, "check", model, "--data", "digits", "--items", levels, "-e", "onnxruntime-one-thread", "--out", run)
    code, out, _ = _run(capsys, "evaluate", run, "--out", again, "-e", "int8-qdq-per-tensor", "--json")
    (cell,) = json.loads(out.splitlines()[-1])["cells"]
    assert code == 0
    assert (cell["status"], cell["verdict"]) == ("error", "ERROR")
    assert "give --calibration-data DATA" in cell["reason"]


@pytest.mark.parametrize("name", ["none.parquet", "text.parquet"])
def test_a_levels_file_that_is_none_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tiny_study: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "text.parquet").write_text("no parquet", encoding="utf-8")
    model = str(tiny_study / "bundles" / "digits-cnn-random-s0.onnx")
    code, _, err = _run(
        capsys, "check", model, "--data", "digits", "--items", str(tmp_path / name), "--group", "equivalent"
    )
    assert code == 2
    assert name in err
    assert "gapshift calibrate" in err


@pytest.mark.parametrize("words", [("envs", "list"), ("envs", "diff", "bgr", "int8-dynamic"), ("repeat", "runs/x")])
def test_a_second_file_of_environments_is_refused(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """click would take the last one without a word."""
    files = ["--environment-file", str(tmp_path / "a.toml"), "--environment-file", str(tmp_path / "b.toml")]
    code, _, err = _run(capsys, *words, *files)
    assert code == 2
    assert "one file may be given; put all your environments into it" in err
