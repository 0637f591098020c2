"""A study end to end: stages, resumption, settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gapshift.errors import DataError, SettingsError, UnknownNameError, WorkspaceError
from gapshift.export.stamp import read_contract, read_stamp
from gapshift.flows.data import study_splits
from gapshift.flows.reporting import Silent
from gapshift.flows.study import read_settings, save_settings, study
from gapshift.flows.study_settings import read_study
from gapshift.records import read_items, write_items
from gapshift.schema import DataSource
from gapshift.workspace import Workspace


def _summary(run: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def test_a_study_leaves_everything_that_it_promises(tiny_study: Path) -> None:
    for name in ("run.json", "items.parquet", "summary.json", "report.html", "report.md", "junit.xml"):
        assert (tiny_study / name).stat().st_size > 0
    summary = _summary(tiny_study)
    assert {bundle["name"] for bundle in summary["bundles"]} == {
        f"digits-cnn-{regime}-s{seed}" for regime in ("easy-only", "random") for seed in range(3)
    }
    environments = {cell["environment"] for cell in summary["cells"]}
    assert environments == {"training", "onnxruntime-one-thread", "resize-nearest", "int8-dynamic", "bgr"}
    assert {row["regime"] for row in summary["regimes"]} == {"easy-only", "random"}


def test_the_zero_control_changes_no_prediction(tiny_study: Path) -> None:
    for cell in _summary(tiny_study)["cells"]:
        if cell["environment"] == "training":
            flips = cell["flips"]
            assert flips["right_to_wrong"]["all"] == flips["wrong_to_right"]["all"] == 0, cell["bundle"]


def test_bgr_of_grey_digits_is_not_applicable_with_its_reason(tiny_study: Path) -> None:
    cells = [cell for cell in _summary(tiny_study)["cells"] if cell["environment"] == "bgr"]
    assert {cell["status"] for cell in cells} == {"not_applicable"}
    assert all(cell["reason"] for cell in cells)
    assert not any(cell["gated"] for cell in cells)


def test_bundles_carry_contract_regime_training_and_hashes(tiny_study: Path) -> None:
    path = tiny_study / "bundles" / "digits-cnn-easy-only-s0.onnx"
    stamped = read_stamp(path)
    assert read_contract(path).preprocessing.resize.size == (12, 12)
    assert stamped["regime"] == "easy-only"
    assert json.loads(stamped["training"])["steps"] == 40
    assert set(json.loads(stamped["hashes"])) >= {"weights", "training"}


def test_levels_are_common_to_training_and_test_items(tiny_study: Path) -> None:
    table, cards = read_items(tiny_study / "items.parquet")
    levels = table.to_pandas().groupby("split")["level"].value_counts().unstack(0)
    assert set(levels.columns) == {"train", "test"}
    total = levels.sum(axis=1)
    assert total.max() - total.min() <= 1
    assert cards[0].items == len(table) == 1797


def test_a_finished_study_does_nothing_twice(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "again"
    shutil.copytree(tiny_study, run)
    before = {
        path: path.stat().st_mtime_ns
        for folder in ("checkpoints", "bundles", "records")
        for path in (run / folder).iterdir()
    }
    study(Workspace(run))
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_study_stopped_while_training_goes_on(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    shutil.copytree(tiny_study, run)
    (run / "checkpoints" / "digits-cnn-random-s2.pt").unlink()
    kept = (run / "checkpoints" / "digits-cnn-random-s1.pt").stat().st_mtime_ns
    study(Workspace(run), until="train")
    assert (run / "checkpoints" / "digits-cnn-random-s2.pt").exists()
    assert (run / "checkpoints" / "digits-cnn-random-s1.pt").stat().st_mtime_ns == kept


def test_another_study_does_not_overwrite_this_one(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "taken"
    run.mkdir()
    shutil.copy(tiny_study / "study.json", run)
    other = read_settings(Workspace(run)).model_copy(update={"seed": 99})
    with pytest.raises(
        WorkspaceError, match=r"holds a study with other settings \(seed: 3 there, 99 here\)\. Give anoth"
    ):
        save_settings(Workspace(run), other)


def test_changed_settings_are_named_to_the_third_and_then_counted(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "taken"
    run.mkdir()
    shutil.copy(tiny_study / "study.json", run)
    old = read_settings(Workspace(run))
    training = old.training.model_copy(update={"steps": 41, "width": 8, "batch_size": 16})
    other = old.model_copy(update={"name": "else", "training": training})
    with pytest.raises(WorkspaceError) as raised:
        save_settings(Workspace(run), other)
    text = str(raised.value)
    assert 'name: "tiny" there, "else" here' in text
    assert text.count(" there, ") == 3
    assert "; and 1 more). Give another folder with --out; responders that are finished are taken from" in text
    assert "delete" not in text


def test_a_study_says_beforehand_what_there_is_to_do(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "again"
    shutil.copytree(tiny_study, run)
    told: list[str] = []

    class Notes(Silent):
        def stage(self, name: str) -> None:
            told.append(name)

        def note(self, text: str) -> None:
            told.append(text)

    study(Workspace(run), Notes())
    assert told[0] == "9 models (6 exported), 8 responder networks a task, 30 cells"
    assert told[1] == "calibrate"
    cells = [e for e in Workspace(run).journal() if e["event"] == "evaluate"][-1]["cells"]
    assert cells == 30


def test_a_folder_without_a_study_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="Make one with `gapshift study`"):
        study(Workspace(tmp_path))


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("seeds = 2", SettingsError, r"seeds: .*greater than or equal to 3 \(got 2\)"),
        ('regimes = ["easy"]', SettingsError, r"Unknown regime 'easy'.*Did you mean 'easy-only'"),
        ("sede = 1", UnknownNameError, r"Unknown key in .*sede.*Did you mean 'seed'"),
        ('name = "No Spaces"', SettingsError, r"name: String should match pattern"),
    ],
)
def test_bad_settings_name_key_value_and_what_is_valid(
    tiny_study_file: Path, tmp_path: Path, line: str, kind: type[Exception], text: str
) -> None:
    key = line.split(" ")[0]
    kept = [old for old in tiny_study_file.read_text(encoding="utf-8").splitlines() if not old.startswith(f"{key} =")]
    path = tmp_path / "study.toml"
    path.write_text("\n".join([line, *kept]), encoding="utf-8")
    with pytest.raises(kind, match=text):
        read_study(path)


def test_an_unknown_deployment_gets_the_nearest_names(tiny_study_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(tiny_study_file.read_text(encoding="utf-8") + 'deployments = ["int8-dynamc"]\n', encoding="utf-8")
    with pytest.raises(UnknownNameError, match="Did you mean 'int8-dynamic'"):
        save_settings(Workspace(tmp_path / "run"), read_study(path))
    assert not (tmp_path / "run").exists()


def test_settings_of_data_that_is_not_there_claim_no_folder(tiny_study_file: Path, tmp_path: Path) -> None:
    settings = read_study(tiny_study_file)
    task = settings.tasks["digits"].model_copy(update={"data": DataSource(source="digitz")})
    wrong = settings.model_copy(update={"tasks": {"digits": task}})
    with pytest.raises(DataError, match="'digitz' does not exist"):
        save_settings(Workspace(tmp_path / "run"), wrong)
    assert not (tmp_path / "run").exists()


def test_splits_depend_on_ids_and_seed_alone() -> None:
    source = DataSource(source="digits", train_fraction=0.3)
    _, first, _ = study_splits(source, 0)
    _, again, _ = study_splits(source, 0)
    _, other, _ = study_splits(source, 1)
    assert first == again
    assert first != other
    assert abs(list(first.values()).count("train") - 0.3 * 1797) < 10


def test_lost_items_are_rated_again(tiny_study: Path, tmp_path: Path) -> None:
    run = tmp_path / "lost"
    shutil.copytree(tiny_study, run)
    before = read_items(run / "items.parquet")[0]
    (run / "items.parquet").unlink()
    study(Workspace(run), until="calibrate")
    assert read_items(run / "items.parquet")[0].equals(before)


def test_other_levels_train_again(tiny_study: Path, tmp_path: Path) -> None:
    """Levels decide what a regime sees: models of other levels are not reused."""
    run = tmp_path / "relevelled"
    shutil.copytree(tiny_study, run)
    table, cards = read_items(run / "items.parquet")
    position = table.column_names.index("level")
    turned = pa.array([6 - level for level in table["level"].to_pylist()], pa.int8())
    write_items(run / "items.parquet", table.set_column(position, "level", turned), cards)
    before = (run / "checkpoints" / "digits-cnn-easy-only-s0.pt").stat().st_mtime_ns
    study(Workspace(run), until="train")
    assert (run / "checkpoints" / "digits-cnn-easy-only-s0.pt").stat().st_mtime_ns != before


def _npz(path: Path, splits: dict[str, int]) -> DataSource:
    total = sum(splits.values())
    rng = np.random.default_rng(0)
    np.savez(
        path,
        images=rng.integers(0, 255, (total, 8, 8), dtype=np.uint8),
        labels=np.arange(total) % 2,
        split=np.repeat(list(splits), list(splits.values())),
    )
    return DataSource(source=str(path))


def test_a_validation_split_is_held_out_where_there_is_no_test(tmp_path: Path) -> None:
    dataset, roles, _ = study_splits(_npz(tmp_path / "d.npz", {"train": 30, "val": 20}), 0)
    assert {item.split for item in dataset.items if roles[item.id] == "test"} == {"val"}
    assert {item.split for item in dataset.items if roles[item.id] == "train"} == {"train"}


def test_splits_of_other_names_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the splits a, b; a study needs train and one of test, val"):
        study_splits(_npz(tmp_path / "d.npz", {"a": 30, "b": 20}), 0)


def test_a_limit_takes_as_many_of_every_class(tmp_path: Path) -> None:
    source = _npz(tmp_path / "d.npz", {"train": 30, "test": 20}).model_copy(update={"train_per_class": 5})
    dataset, roles, _ = study_splits(source, 0)
    chosen = [item.label for item in dataset.items if roles[item.id] == "train"]
    assert sorted(chosen) == [0] * 5 + [1] * 5
