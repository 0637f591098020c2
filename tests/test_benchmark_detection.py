"""The detection benchmark plants what it says, and the gate finds it; its figures are for people."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from gapshift.records import ITEM_SCHEMA, Records
from gapshift.schema import Bundle, Contract, DataSource, ModelInterface, Preprocessing, Resize, RunPlan, TaskPlan

FOLDER = Path(__file__).parent.parent / "benchmarks"
MODULES = ("detection_sets", "detection_faults", "detection_level", "detection")
PER_LEVEL = 600
CONTRACT = Contract(
    preprocessing=Preprocessing(resize=Resize(size=(4, 4)), mean=(0.5,), std=(0.2, 0.3, 0.4)),
    model=ModelInterface(input="input", output="logits", labels=tuple("abcdefghij")),
)


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's files, imported as its script imports them."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


def _answered(wrong: np.ndarray, label: np.ndarray) -> Records:
    """Answers that are right but where ``wrong``."""
    n = len(label)
    return Records(
        item_id=np.array([f"{k}" for k in range(n)]),
        label=label.astype(np.int32),
        prediction=np.where(wrong, (label + 1) % 10, label).astype(np.int32),
        confidence=np.full(n, 0.9),
        correct=np.where(wrong, 0.0, 1.0),
        gap=np.full(n, 0.5),
        status=np.full(n, "ok"),
    )


def _synthetic(sets: ModuleType, monkeypatch: pytest.MonkeyPatch) -> object:
    """Two models that are right on 80% of the items, and a conversion that changes 2% of the answers."""
    rng = np.random.default_rng(5)
    level = np.repeat(np.arange(1, 6), PER_LEVEL)
    label = np.arange(len(level)) % 10
    columns = {name: [None] * len(level) for name in ITEM_SCHEMA.names} | {
        "id": [f"{k}" for k in range(len(level))],
        "task": ["t"] * len(level),
        "level": level.tolist(),
        "label": label.tolist(),
    }
    bundles = tuple(Bundle(name=f"m{k}", path=f"m{k}.onnx", sha256=f"{k}", contract=CONTRACT, task="t") for k in (0, 1))
    answers = {}
    for bundle in bundles:
        before = rng.random(len(level)) < 0.2
        answers[bundle.name, "reference"] = _answered(before, label)
        answers[bundle.name, "int8-dynamic"] = _answered(before ^ (rng.random(len(level)) < 0.02), label)
    monkeypatch.setattr(sets.Task, "answers", lambda *_: sets.Answers(answers, {}))
    plan = RunPlan(
        command="study",
        tasks=(TaskPlan(name="t", data=DataSource(source="none")),),
        bundles=bundles,
        environments=(),
    )
    return sets.Task(plan, "t", bundles, None, pa.table(columns, schema=ITEM_SCHEMA), ())


def test_a_drop_at_level_5_is_predicted_found_and_named(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    level, sets = modules["detection_level"], modules["detection_sets"]
    monkeypatch.setattr(level, "EXCESS", (-1.0, 8.0))
    (row,) = level.one_level(_synthetic(sets, monkeypatch), sets.Size(seeds=3, whole=2), tmp_path)
    none, most = row["curve"]
    assert (row["items"], row["family"], row["planted_in"]) == (PER_LEVEL, 10, ["m0", "m1"])
    assert none["predicted_fail"] < 0.01 < 0.999 < most["predicted_fail"]
    assert (none["fail"]["estimate"], most["fail"]["estimate"]) == (0.0, 1.0)
    assert (none["level_5_named"], most["level_5_named"], most["another_level_fails"]) == (0, 3, 0)
    planted, nothing = row["whole"]
    assert (planted["fail"]["estimate"], planted["level_5_named"]) == (1.0, 2)
    assert (nothing["fail"]["estimate"], nothing["seeds"]) == (0.0, 3)
    assert row["stated"]["false_fail"]["estimate"] < 0.01


def test_answers_are_exchanged_and_struck_where_it_is_said(modules: dict[str, ModuleType]) -> None:
    sets, label = modules["detection_sets"], np.arange(200) % 10
    rng = np.random.default_rng(0)
    first, second = (_answered(rng.random(200) < share, label) for share in (0.2, 0.5))
    where = rng.random(200) < 0.5
    one, other = sets.swapped(first, second, where)
    np.testing.assert_array_equal(one.correct, np.where(where, second.correct, first.correct))
    np.testing.assert_array_equal(one.correct != other.correct, first.correct != second.correct)
    struck = sets.wrong(first, where, 10, rng)
    assert (struck.prediction[where] != struck.label[where]).all()
    np.testing.assert_array_equal(struck.correct, np.where(where, 0.0, first.correct))


def test_a_damaged_model_lost_one_block_of_one_layer(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    weights = np.arange(1, 201, dtype=np.float32).reshape(10, 20)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "b"], ["z"])]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 10])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 20])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.ones(20, np.float32), "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "model.onnx")
    for seed in range(3):
        modules["detection_faults"].damage(
            tmp_path / "model.onnx", tmp_path / "out.onnx", 0.05, np.random.default_rng(seed)
        )
        damaged, bias = (numpy_helper.to_array(t) for t in onnx.load(tmp_path / "out.onnx").graph.initializer)
        (gone,) = np.nonzero(damaged.reshape(-1) == 0)
        assert gone.tolist() == list(range(gone[0], gone[0] + 10))
        np.testing.assert_array_equal(np.where(damaged == 0, weights, damaged), weights)
        np.testing.assert_array_equal(bias, 1.0)


def test_a_wrong_mean_is_off_by_its_share_of_each_channels_deviation(modules: dict[str, ModuleType]) -> None:
    (fault,) = (fault for fault in modules["detection_faults"].FAULTS if fault.name == "wrong mean")
    assert fault.plant(None, CONTRACT, 0.5) == {"preprocessing.mean": pytest.approx([0.6, 0.65, 0.7])}


def test_faults_of_four_domains_are_planted_and_judged(
    modules: dict[str, ModuleType],
    four_study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(modules["detection"], "QUICK", modules["detection_sets"].Size(seeds=2, whole=1, items=(200,)))
    modules["detection"].main(["faults", "--quick", "--run", str(four_study)])
    *table, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["faults"]
    planted = {row["fault"] for row in rows if "left_out" not in row}
    names = {fault.name for fault in modules["detection_faults"].FAULTS}
    assert planted == names - {"BGR for RGB"} | {"nothing"}
    assert {row["left_out"] for row in rows if "left_out" in row} == {
        "the model takes grey images, which have no channel order"
    }
    again = [row for row in rows if row["strength"] == "the reference again"]
    assert len(again) == 4
    assert all(row["levels"]["cell"][seen]["estimate"] == 0.0 for row in again for seen in ("fail", "any_change"))
    assert all(0 <= row["fail_in_wide_family"]["estimate"] <= 1 for row in rows if "left_out" not in row)
    assert sum(line.startswith("| keywords | half-rate audio |") for line in table) == 2 * 3


def test_the_benchmarks_own_study_is_one(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    modules["detection"].paint(tmp_path / "painted.npz")
    with np.load(tmp_path / "painted.npz") as archive:
        images, labels = archive["images"], archive["labels"]
    assert images.shape == (1797, 8, 8, 3)
    inked = images[labels == 0].astype(float).mean(axis=(0, 1, 2))
    assert inked[0] > inked[2] + 10  # the ink of a nought is red
