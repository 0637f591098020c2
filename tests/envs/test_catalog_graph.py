"""Environments that rewrite the graph, through the runner: another file, another cell, other answers; or a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gapshift.domains.base import Dataset, Pixels
from gapshift.envs.catalog import catalog, select
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.export.model_file import sha256
from gapshift.schema import (
    Bundle,
    Contract,
    Environment,
    Item,
    ModelInterface,
    Preprocessing,
    Resize,
)
from gapshift.workspace import Workspace

SIDE = 22
CLASSES = ("a", "b", "c")
GRAPH = tuple(e for e in catalog().values() if any(key.startswith("graph.") for key in e.deviations))


def _node(operator: str, takes: list[str], gives: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, takes, [gives], name=gives, **attributes)


def _every_kind() -> list[onnx.NodeProto]:
    """What rewrites change, in either form, one after the other."""
    pool: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2]}
    mean: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return [
        _node("Conv", ["input", "w"], "conv", pads=[1, 1, 1, 1]),
        _node("BatchNormalization", ["conv", "scale", "shift", "mean", "var"], "norm"),
        _node("Gelu", ["norm"], "gelu"),
        _node("Gelu", ["gelu"], "gelu-tanh", approximate="tanh"),
        _node("MaxPool", ["gelu-tanh"], "down", **pool),
        _node("MaxPool", ["down"], "down-up", ceil_mode=1, **pool),
        _node("AveragePool", ["down-up"], "average", **mean),
        _node("AveragePool", ["average"], "counted", count_include_pad=1, **mean),
        _node("Softmax", ["counted"], "weights", axis=-1),
        _node("Resize", ["weights", "", "scales"], "linear", mode="linear"),
        _node("Resize", ["linear", "", "scales"], "nearest", mode="nearest"),
        _node("Mul", ["nearest", "nearest"], "squared"),
        _node("GlobalAveragePool", ["squared"], "pooled"),
        _node("Flatten", ["pooled"], "flat"),
        _node("Gemm", ["flat", "head"], "logits"),
    ]


def _model(path: Path, nodes: list[onnx.NodeProto]) -> Path:
    rng = np.random.default_rng(0)
    values = {
        "w": rng.normal(size=(6, 3, 3, 3)) * 0.02, "scale": rng.uniform(1, 2, 6), "shift": rng.normal(size=6) - 3,
        "mean": rng.normal(size=6) * 0.1, "var": rng.uniform(0.01, 0.1, 6), "scales": np.array([1, 1, 1.7, 1.7]),
        "head": rng.normal(size=(6, 3)) * 20,
    }  # fmt: skip
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "every-kind",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items() if name in read],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def _bundle(path: Path) -> Bundle:
    how = Preprocessing(resize=Resize(size=(SIDE, SIDE)), mean=(0.5,), std=(0.25,))
    contract = Contract(preprocessing=how, model=ModelInterface(input="input", output="logits", labels=CLASSES))
    return Bundle(name=path.stem, path=str(path), sha256=sha256(path), contract=contract)


def _data(n: int = 12) -> Dataset:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
    return Pixels("d", CLASSES, [Item(f"i{row:03d}", row % 3) for row in range(n)], images)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The whole axis on a model with every kind of node, in either form."""
    folder = tmp_path_factory.mktemp("graph")
    workspace = Workspace(folder / "run")
    matrix = Matrix((_bundle(_model(folder / "m.onnx", _every_kind())),), GRAPH, {"task": TaskItems(_data())})
    evaluate(workspace, matrix)
    return workspace


def test_the_axis_is_a_group() -> None:
    assert select(groups=["graph"]) == GRAPH
    assert {key for e in GRAPH for key in e.deviations} == {
        "graph.batch_norm", "graph.normalization_epsilon", "graph.gelu", "graph.softmax", "graph.max_pool",
        "graph.average_pool", "graph.resize_mode", "graph.resize_coordinates",
    }  # fmt: skip


@pytest.mark.parametrize("environment", GRAPH, ids=lambda e: e.name)
def test_every_rewrite_runs_another_file_and_answers_otherwise(run: Workspace, environment: Environment) -> None:
    cells = [run.read_cell("m", name) for name in (environment.name, "reference")]
    assert cells[0] is not None
    assert cells[1] is not None
    (info, records), (reference, expected) = cells
    assert (info.status, info.reason) == ("ok", "")
    assert info.key != reference.key
    assert info.execution is not None
    assert info.execution.executed == "float32"
    assert (records.confidence != expected.confidence).any()
    if environment.kind == "equivalent":
        np.testing.assert_allclose(records.confidence, expected.confidence, rtol=1e-3)
        assert records.prediction.tolist() == expected.prediction.tolist()


def test_each_has_a_file_of_its_own(run: Workspace) -> None:
    files = sorted((run.root / "variants").glob("*.onnx"))
    assert len(files) == len(GRAPH)
    assert len({path.read_bytes() for path in files}) == len(GRAPH)


def test_a_model_without_any_of_it_says_what_was_looked_for(tmp_path: Path) -> None:
    nodes = [_node("Conv", ["input", "w"], "conv"), _node("GlobalAveragePool", ["conv"], "pooled")]
    nodes += [_node("Flatten", ["pooled"], "flat"), _node("Gemm", ["flat", "head"], "logits")]
    workspace = Workspace(tmp_path / "run")
    evaluate(workspace, Matrix((_bundle(_model(tmp_path / "m.onnx", nodes)),), GRAPH, {"task": TaskItems(_data())}))
    for environment in GRAPH:
        cell = workspace.read_cell("m", environment.name)
        assert cell is not None
        assert cell[0].status == "not_applicable"
        assert any(f"{key} = " in cell[0].reason for key in environment.deviations)
        assert "the graph has none of what this changes: " in cell[0].reason
    assert not (workspace.root / "variants").exists()


def test_rewriting_and_quantising_compose(tmp_path: Path) -> None:
    """The quantised file is made from the rewritten one, so that the two environments differ."""
    both = Environment(
        name="both", kind="lossy", summary="s",
        deviations={"graph.max_pool": "ceil", "precision.format": "int8-dynamic"},
    )  # fmt: skip
    alone = Environment(name="alone", kind="lossy", summary="s", deviations={"precision.format": "int8-dynamic"})
    workspace = Workspace(tmp_path / "run")
    bundle = _bundle(_model(tmp_path / "m.onnx", _every_kind()))
    evaluate(workspace, Matrix((bundle,), (both, alone), {"task": TaskItems(_data())}))
    cells = [workspace.read_cell("m", name) for name in ("both", "alone")]
    assert [cell and cell[0].status for cell in cells] == ["ok", "ok"]
    one, other = (cell[1].confidence for cell in cells if cell)
    assert (one != other).any()
