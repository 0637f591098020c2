"""The property tests in a session: one model that breaks two of them, each told by its own test."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gapshift.domains.prepare import prepare
from gapshift.domains.readers.digits import read_digits
from gapshift.export.stamp import stamp
from gapshift.schema import Contract, ModelInterface, Preprocessing, Resize

TESTS = Path(__file__).parents[2] / "deploy_tests" / "test_properties.py"


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


OWN = """
[environments.fog-4]
kind = "stress"
summary = "A fog of mine."
[environments.fog-4.deviations]
"shift.corruption" = "fog"
"shift.severity" = 4
"""


def _session(model: Path, items: Path, inside: Any, tmp_path: Path, *words: str) -> tuple[Any, dict[str, ET.Element]]:
    """What pytest said, and the cases of its JUnit by name."""
    done = inside(
        str(TESTS), "--model", str(model), "--data", "digits", "--gapshift-items", str(items),
        "--gapshift-allow-unlevelled", "--environment", "int8-dynamic", "--junitxml", "junit.xml", *words,
    )  # fmt: skip
    return done, {str(case.get("name")): case for case in ET.parse(tmp_path / "junit.xml").iter("testcase")}


def test_each_property_has_its_own_test_and_words(
    broken_model: Path, tiny_study: Path, inside: Any, tmp_path: Path
) -> None:
    (tmp_path / "gapshift.toml").write_text(OWN, encoding="utf-8")
    done, cases = _session(broken_model, tiny_study / "items.parquet", inside, tmp_path, "--environment", "fog-4")
    failed = {name: case.find("failure") for name, case in cases.items() if case.find("failure") is not None}
    assert set(failed) == {"test_batch_invariance", "test_confidence_order[int8-dynamic]"}, done.out
    assert "Item 'digits/" in _message(failed["test_batch_invariance"])
    assert "come in the other order" in _message(failed["test_confidence_order[int8-dynamic]"])
    assert "test_monotone_harm[fog]" in cases
    told = {each.get("name"): each.get("value") for each in cases["test_finite_outputs"].iter("property")}
    assert told["finite_up_to_scale"] == "1e+30"
    assert "Traceback" not in done.out
    assert not (tmp_path / ".hypothesis").exists()


def test_what_they_demand_stands_in_the_configuration(
    broken_model: Path, tiny_study: Path, inside: Any, tmp_path: Path
) -> None:
    (tmp_path / "gapshift.toml").write_text(
        "[pytest.properties]\ntolerance = 0.5\nconfidence_swapped = 0.9\nexamples = 3\n", encoding="utf-8"
    )
    done, cases = _session(broken_model, tiny_study / "items.parquet", inside, tmp_path)
    assert done.code == 0, done.out
    assert "test_monotone_harm[NOTSET]" in cases


def _message(failure: ET.Element | None) -> str:
    return str(failure.get("message")) if failure is not None else ""


def test_a_mistyped_demand_is_named_with_its_neighbours(broken_model: Path, inside: Any, tmp_path: Path) -> None:
    (tmp_path / "gapshift.toml").write_text("[pytest.properties]\nscales = 3\n", encoding="utf-8")
    done = inside(str(TESTS), "--model", str(broken_model), "--data", "digits")
    assert "'properties.scales'. Did you mean 'properties.scale'?" in done.out
    assert "Traceback" not in done.out
