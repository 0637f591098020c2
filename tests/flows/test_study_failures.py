"""What a study does when something breaks: an interruption, a broken loss, data that cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from gapshift.cli import main
from gapshift.errors import CalibrationError, DataError, TrainingError
from gapshift.flows.study import save_settings, study
from gapshift.records import read_items, write_items
from gapshift.train.keeping import Keeper
from gapshift.workspace import Workspace

LONGER = {"steps": 60}
"""The state of a training is looked at every 50 steps."""


def _weights(run: Path) -> dict[str, str]:
    logs = (run / "checkpoints").glob("*.json")
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["weights"] for path in logs}


def _trained(folder: Path, settings: Any) -> Path:
    save_settings(Workspace(folder), settings)
    study(Workspace(folder), until="train")
    return folder


@pytest.mark.parametrize("domain", ["text", "control"])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain: str
) -> None:
    settings = small(training=LONGER, regimes=["iid"]) if domain == "text" else _control(small)
    whole = _weights(_trained(tmp_path / "whole", settings))
    run, hold, stopped_at = tmp_path / "stopped", Keeper.hold, list[int]()

    def dying(self: Keeper, state: dict[str, Any]) -> None:
        hold(self, state)
        self.write()
        if state["step"] >= 50:
            stopped_at.append(state["step"])
            raise KeyboardInterrupt

    save_settings(Workspace(run), settings)
    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "hold", dying)
        with pytest.raises(KeyboardInterrupt):
            study(Workspace(run), until="train")
    assert stopped_at
    assert list((run / "checkpoints").glob("*.part"))
    seen = _first_steps(monkeypatch)
    study(Workspace(run), until="train")
    assert max(seen) == 50  # it went on from there, and did not begin again
    assert _weights(run) == whole
    assert not list((run / "checkpoints").glob("*.part"))


def _control(small: Any) -> Any:
    settings = small(training=LONGER, regimes=["iid"])
    tree = settings.model_dump(mode="json")
    tree["tasks"] = {
        "hill": {
            "domain": "control",
            "data": {"source": "mountaincar", "train_per_class": 20, "test_per_class": 20},
        }
    }
    return type(settings).model_validate(tree)


def _first_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that trainings go on from."""
    found, seen = Keeper.found, list[int]()

    def looking(self: Keeper) -> Any:
        state = found(self)
        seen.append(0 if state is None else state["step"])
        return state

    monkeypatch.setattr(Keeper, "found", looking)
    return seen


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_last_good_state(small: Any, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "run")
    save_settings(workspace, small(training={"learning_rate": 1e30}))
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step \d+ \(gru, width 4, learning rate 1e\+30"):
        study(workspace)
    (kept, *_) = sorted((workspace.root / "checkpoints").glob("*.part"))
    state = torch.load(kept, weights_only=True)["state"]
    assert all(torch.isfinite(weight).all() for weight in state["weights"].values())
    assert not list((workspace.root / "checkpoints").glob("*.pt"))
    assert not workspace.plan_path.exists()


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_inputs_that_are_not_finite_are_said(small: Any, tmp_path: Path) -> None:
    tree = small().model_dump(mode="json")
    tree["tasks"] = {
        "speech": {
            "domain": "audio",
            "data": {"source": "keywords", "train_per_class": 2, "test_per_class": 2},
            "preprocessing": {"duration": 0.8, "mean": 0.0, "std": 1e-300},
        }
    }
    workspace = Workspace(tmp_path / "run")
    save_settings(workspace, type(small()).model_validate(tree))
    with pytest.raises(TrainingError, match="Inputs hold non-finite values"):
        study(workspace)


def test_a_level_without_items_names_the_level_and_the_regime(small_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_study, run)
    table, cards = read_items(run / "items.parquet")
    rows = table.select(["level", "split"]).to_pylist()
    levels = [4 if row["level"] == 5 and row["split"] == "train" else row["level"] for row in rows]
    column = table.column_names.index("level")
    write_items(run / "items.parquet", table.set_column(column, "level", pa.array(levels, pa.int8())), cards)
    with pytest.raises(TrainingError, match=r"Level 5 has no training items, and regime 'hard-only' trains on it"):
        study(Workspace(run), until="train")
    assert read_items(run / "items.parquet")[0].num_rows == table.num_rows


def test_a_ladder_that_is_too_small_says_what_to_add(small: Any, tmp_path: Path) -> None:
    settings = small(calibration={"ladder": {"capacities": [4], "seeds": 1}})
    save_settings(Workspace(tmp_path / "run"), settings)
    with pytest.raises(CalibrationError, match=r"ladder of responders has 1 run; .* at least 2.*raise seeds"):
        study(Workspace(tmp_path / "run"))


def test_responders_that_all_answer_alike_are_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = ["responder," + ",".join(f"i{i}" for i in range(20)), *(f"r{row}" + ",1" * 20 for row in range(6))]
    (tmp_path / "same.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", "--responses", str(tmp_path / "same.csv"), "--out", str(tmp_path / "out")])
    assert stopped.value.code not in (0, None)
    err = capsys.readouterr().err
    assert "without right and wrong answers no item can be called harder than another" in err
    assert "Add weaker or stronger responders" in err
    assert not (tmp_path / "out" / "items.parquet").exists()


def test_splits_of_other_labels_are_said_before_anything_is_made(small: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "d.npz",
        images=rng.integers(0, 255, (40, 8, 8), dtype=np.uint8),
        labels=np.array([0, 1] * 10 + [0, 2] * 10),
        split=np.repeat(["train", "test"], 20),
    )
    tree = small().model_dump(mode="json")
    tree["tasks"] = {
        "d": {
            "data": {"source": str(tmp_path / "d.npz")},
            "preprocessing": {"color": "L", "resize": {"size": [8, 8]}, "mean": [0.5], "std": [0.5]},
        }
    }
    with pytest.raises(DataError, match=r"the label sets of its splits differ: .*1.* only in the train part"):
        save_settings(Workspace(tmp_path / "run"), type(small()).model_validate(tree))
    assert not (tmp_path / "run").exists()


def test_a_lost_lender_is_trained_again_and_its_borrowers_stay(small: Any, tmp_path: Path) -> None:
    tree = small(regimes=["random"]).model_dump(mode="json")
    tree["comparisons"] = {"transfer": {"width": 8, "steps": 2}}
    kind, run = type(small()), tmp_path / "run"
    _trained(run, kind.model_validate(tree))
    lent = "words-text-transformer-w8-on.words-text-transformer-w8-random-s0-s0"
    before = {path: path.stat().st_mtime_ns for path in (run / "checkpoints").glob("*.pt")}
    (run / "checkpoints" / "words-text-transformer-w8-random-s0.pt").unlink()
    study(Workspace(run), until="train")  # the same weights again: what borrowed them stays good
    assert (run / "checkpoints" / f"{lent}.pt").stat().st_mtime_ns == before[run / "checkpoints" / f"{lent}.pt"]
