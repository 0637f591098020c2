"""The benchmarks run, at a size that measures nothing: figures are for people, these only keep them from rotting."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parent.parent / "benchmarks"
CPU = torch.device("cpu")


def _loaded(name: str) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@pytest.fixture(scope="module")
def training() -> Iterator[ModuleType]:
    yield from _loaded("training")


@pytest.fixture(scope="module")
def calibration() -> Iterator[ModuleType]:
    yield from _loaded("calibration")


@pytest.fixture(scope="module")
def evaluate() -> Iterator[ModuleType]:
    yield from _loaded("evaluate")


@pytest.fixture(scope="module")
def judging() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield from _loaded("judging")
    sys.modules.pop("judging_families", None)


@pytest.fixture(scope="module")
def sequential() -> Iterator[ModuleType]:
    yield from _loaded("sequential")


def test_what_sequential_reading_takes_is_measured(
    sequential: ModuleType, tiny_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequential.main(["--runs", "2", "--items", "300", "--run", str(tiny_study), "--environment", "int8-dynamic"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert lines[-1].startswith("margin 2 pp, drop 10 pp: ")


def test_every_promise_is_measured(judging: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    judging.main(["--runs", "2", "--json"])
    *table, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)
    assert len(rows) == len(table) - 2 > 100
    assert all(0 <= row["measured"] <= 1 for row in rows if row["unit"] == "%")
    assert {"Tango", "Holm over 240, the gate", "e-process, mean items", "sequential run: PASS"} <= {
        row["method"] for row in rows
    }


def test_many_design_effects_at_once_are_those_of_each(judging: ModuleType) -> None:
    from judging_families import design_effects

    rng = np.random.default_rng(1)
    lost, gained = rng.binomial(10, 0.05, (5, 20)), rng.binomial(4, 0.1, (5, 20))
    lost[0] = gained[0] = 0
    group = np.repeat(np.arange(20), 10)
    for k, found in enumerate(design_effects(lost, gained, 10).tolist()):
        d = np.concatenate([[1] * b + [-1] * c + [0] * (10 - b - c) for b, c in zip(lost[k], gained[k], strict=True)])
        clusters = judging.clustering(d, d != 0, group)
        assert clusters is not None
        assert found == pytest.approx(clusters.drop)


def test_every_case_trains_in_every_regime(
    training: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "QUICK", training.Budget(steps=2, repeats=2, batch=4))
    training.main(["--device", "cpu", "--quick", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [speed["regime"] for speed in found["speeds"]] == list(training.REGIMES) * len(training.CASES)
    assert {speed["case"].split(",")[0] for speed in found["speeds"]} >= {"cnn", "lstm", "audio-cnn", "controller"}
    assert all(0 < speed["least"] <= speed["ratio"] <= speed["most"] for speed in found["speeds"])
    assert found["loop_memory_mib"]["process"] > 10
    assert found["machine"]["torch"] == torch.__version__
    assert "study" not in found


def test_the_ratio_is_the_bare_loops_time_over_ours(training: ModuleType) -> None:
    seconds = {"bare": np.array([1.0, 2.0, 3.0]), "iid": np.array([2.0, 2.0, 2.0])}
    speed = training._speed("case", "iid", seconds, training.Budget(steps=10, repeats=3, batch=8))
    assert (speed.items_per_second, speed.ratio, speed.least, speed.most) == (40.0, 1.0, 0.5, 1.5)


def test_repeats_measure_every_loop_once(training: ModuleType) -> None:
    calls: list[str] = []
    loops = {name: lambda name=name: calls.append(name) for name in ("one", "two", "three")}
    seconds = training._in_turn(loops, CPU, repeats=2)
    assert calls == ["one", "two", "three", "one", "two", "three", "two", "three", "one"]
    assert {name: len(found) for name, found in seconds.items()} == {"one": 2, "two": 2, "three": 2}


def test_a_study_says_where_its_time_went(
    training: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.study
    monkeypatch.setattr(training, "study", lambda workspace, reporter: whole(workspace, reporter, "train"))
    settings = training.small_study()
    ladder = settings.calibration.ladder.model_copy(update={"capacities": (1, 2), "least_steps": 2, "epochs": 0.01})
    tiny = settings.model_copy(
        update={
            "regimes": ("random",),
            "training": settings.training.model_copy(update={"width": 2, "steps": 2}),
            "calibration": settings.calibration.model_copy(update={"ladder": ladder}),
        }
    )
    timed = training.timed_study(tiny, tmp_path / "run")
    assert list(timed.stages) == ["calibrate", "train", "other"]
    assert all(0 < timed.share(stage) < 1 for stage in timed.stages)
    assert sum(timed.stages.values()) == pytest.approx(timed.seconds)


def test_calibration_compares_with_the_oracle(
    calibration: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "ITEMS", 60)
    monkeypatch.setattr(calibration, "SPEED", ((8, 60, 10.0),))
    monkeypatch.setattr(sys, "argv", ["calibration.py", "--seeds", "1", "--py-irt-seeds", "0"])
    calibration.main()
    printed = capsys.readouterr().out
    assert printed.count("is behind the oracle by") == len(calibration.CASES)
    assert "em, 8 x 60" in printed
    assert "a shift of 1 is found" in printed


def test_evaluating_is_measured_against_the_loop(
    evaluate: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "QUICK", (48, 2, (20,)))
    monkeypatch.setattr(evaluate, "WIDTHS", (4,))
    evaluate.main(["--quick"])
    *table, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    (speed,), (memory,) = found["speeds"], found["memory"]
    assert found["ratio"] == round(speed["ratio"], 4)
    assert 0 < speed["least"] <= speed["ratio"] <= speed["most"]
    assert speed["seconds"]["answer"] >= speed["seconds"]["of answer: inference"] > 0
    assert 20 < memory["bare_mib"] < memory["evaluate_mib"]
    assert memory["above_mib"] == pytest.approx(memory["evaluate_mib"] - memory["bare_mib"], abs=0.06)
    assert any("bare loop" in line for line in table)


def test_a_pairs_ratio_is_the_loops_time_over_evaluates(evaluate: ModuleType) -> None:
    pairs = [{"bare": 1.0, "evaluate": 2.0}, {"bare": 3.0, "evaluate": 4.0}, {"bare": 1.0, "evaluate": 1.0}]
    speed = evaluate._speed(4, 100, pairs, {})
    assert (speed.ratio, speed.least, speed.most) == (0.75, 0.5, 1.0)
    assert (speed.bare, speed.evaluate) == (400.0, 200.0)
