"""The property tests in a pytest of their own: one model that breaks two of them, told in one session."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gapshift.domains.prepare import prepare
from gapshift.domains.readers.digits import read_digits
from gapshift.export.stamp import stamp
from gapshift.schema import Contract, ModelInterface, Preprocessing, Resize

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def broken_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Least squares on the digits, with a hundredth of the batch's mean in each answer, and one weight, of a pixel
    that is always empty, so large that int8 has no step left for the others."""
    data = read_digits()
    contract = Contract(
        preprocessing=Preprocessing(color="L", resize=Resize(size=(8, 8))),
        model=ModelInterface(input="input", output="logits", labels=data.classes),
    )
    inputs = np.stack([prepare(data.raw(row), contract.preprocessing).reshape(-1) for row in range(len(data))])
    assert not inputs[:, 0].any()
    targets = np.eye(10)[[item.label for item in data.items]] * 10
    weight = np.linalg.lstsq(inputs, targets, rcond=None)[0].astype(np.float32)
    weight[0, 0] = 1e5
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "weight"], ["own"], name="product"),
        helper.make_node("ReduceMean", ["own", "rows"], ["mean"], name="mean"),
        helper.make_node("Mul", ["mean", "little"], ["share"], name="share"),
        helper.make_node("Add", ["own", "share"], ["logits"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "broken",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in
         {"weight": weight, "rows": np.array([0]), "little": np.float32(0.01)}.items()],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("broken") / "broken.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    stamp(path, contract)
    return path


def test_each_property_has_its_own_test_and_words(broken_model: Path, tiny_study: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[fog-on-fog]\nkind = "stress"\nsummary = "s"\n[fog-on-fog.deviations]\n"shift.corruption" = "fog"\n'
        '"shift.severity" = 4\n',
        encoding="utf-8",
    )
    words = [
        str(ROOT / "deploy_tests"), "--model", str(broken_model), "--data", "digits", "--gapshift-items", str(tiny_study / "items.parquet"),
        "--gapshift-allow-unlevelled", "--environment", "int8-dynamic", "--environment", "fog-on-fog",
        "--gapshift-environment-file", "own.toml", "--junitxml", "junit.xml", "-k", "test_properties",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "140"},
    )  # fmt: skip
    cases = {str(case.get("name")): case for case in ET.parse(tmp_path / "junit.xml").iter("testcase")}
    failed = {name: case.find("failure") for name, case in cases.items() if case.find("failure") is not None}
    assert set(failed) == {"test_batch_invariance", "test_confidence_order[int8-dynamic]"}, done.stdout
    assert "Item 'digits/" in str(failed["test_batch_invariance"].get("message"))
    assert "come in the other order" in str(failed["test_confidence_order[int8-dynamic]"].get("message"))
    assert "test_monotone_harm[fog]" in cases
    told = {each.get("name"): each.get("value") for each in cases["test_finite_outputs"].iter("property")}
    assert told["finite_up_to_scale"] == "1e+30"
    assert "Traceback" not in done.stdout
    assert not (tmp_path / ".hypothesis").exists()
