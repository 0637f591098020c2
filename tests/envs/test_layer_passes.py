"""Which of ONNX Runtime's passes changes a model's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gapshift.envs.layers import passes
from gapshift.envs.layers.passes import THRESHOLD, applied_passes, find_pass
from gapshift.errors import EvaluationError
from gapshift.schema import Runtime

RUNTIME = Runtime(batch_size=8, intra_op_threads=1)
LEVELS = np.ones(24, dtype=np.int64)


def _quotient(path: Path) -> Path:
    """(1 / a) * b, beside b: ONNX Runtime makes b / a of it, which overflows later."""
    nodes = [
        helper.make_node("Split", ["input"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Div", ["one", "a"], ["inverse"]),
        helper.make_node("Mul", ["inverse", "b"], ["quotient"]),
        helper.make_node("Concat", ["quotient", "b"], ["logits"], axis=1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("input", "logits")]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph(nodes, "quotient", ends[:1], ends[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return path


def _inputs(least: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(1, 2, 24) * least, rng.uniform(1, 2, 24) * least], axis=1).astype(np.float32)


def test_the_rule_that_changes_the_answers_is_named(tmp_path: Path) -> None:
    found = find_pass(_quotient(tmp_path / "quotient.onnx"), _inputs(1e-39), LEVELS, RUNTIME, "logits")
    assert found.level == "basic"
    assert found.restoring == ("DivMulFusion",)
    assert found.left["DivMulFusion"] <= THRESHOLD
    assert found.errors["basic"] > THRESHOLD
    assert found.applied[0] == "Level1_RuleBasedTransformer"


def test_the_same_model_without_overflow_has_nothing_to_find(tmp_path: Path) -> None:
    found = find_pass(_quotient(tmp_path / "quotient.onnx"), _inputs(1.0), LEVELS, RUNTIME, "logits")
    assert found.level is None
    assert found.restoring == ()
    assert max(found.errors.values()) < THRESHOLD


def _two_faults(path: Path) -> Path:
    """The quotient, and a convolution whose weight times the factor after it is next to nothing in float32."""
    nodes = [
        helper.make_node("Split", ["input"], ["a", "b", "c"], axis=1, num_outputs=3),
        helper.make_node("Div", ["one", "a"], ["inverse"]),
        helper.make_node("Mul", ["inverse", "b"], ["quotient"]),
        helper.make_node("Reshape", ["c", "as_picture"], ["picture"]),
        helper.make_node("Conv", ["picture", "weight"], ["convolved"]),
        helper.make_node("Mul", ["convolved", "factor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "as_column"], ["column"]),
        helper.make_node("Concat", ["quotient", "column"], ["logits"], axis=1),
    ]
    weights = {
        "one": np.ones(1, np.float32),
        "as_picture": np.array([-1, 1, 1, 1]),
        "weight": np.full((1, 1, 1, 1), 1e-30, np.float32),
        "factor": np.full((1, 1, 1), 1e-15, np.float32),
        "as_column": np.array([-1, 1]),
    }
    ends = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "faults", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_what_only_together_restores_is_named_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = np.concatenate([_inputs(1e-39), np.full((24, 1), 1e30, np.float32)], axis=1)
    path = _two_faults(tmp_path / "faults.onnx")
    names = ("ConstantFolding", "DivMulFusion", "ConvMulFusion")
    monkeypatch.setattr(passes, "applied_passes", lambda _path, _level: names)
    found = find_pass(path, inputs, LEVELS, RUNTIME, "logits")
    assert found.restoring == ()
    assert found.together == ("DivMulFusion", "ConvMulFusion")


def test_a_transformer_is_named_where_no_known_rule_of_it_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "_RULES", ("EliminateIdentity",))
    found = find_pass(_quotient(tmp_path / "quotient.onnx"), _inputs(1e-39), LEVELS, RUNTIME, "logits")
    assert found.restoring == ("Level1_RuleBasedTransformer",)


def test_nothing_that_can_be_disabled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "applied_passes", lambda _path, _level: ("ConstantFolding", "MatMulAddFusion"))
    found = find_pass(_quotient(tmp_path / "quotient.onnx"), _inputs(1e-39), LEVELS, RUNTIME, "logits")
    assert (found.level, found.restoring, found.together) == ("basic", (), ())


def test_a_level_applies_what_the_level_below_it_does(tmp_path: Path) -> None:
    path = _quotient(tmp_path / "quotient.onnx")
    assert applied_passes(path, "basic") == ("Level1_RuleBasedTransformer",)
    assert set(applied_passes(path, "basic")) <= set(applied_passes(path, "all"))


def test_a_model_that_cannot_be_loaded_has_no_passes(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EvaluationError, match=r"broken\.onnx cannot be loaded to list its passes: .+"):
        applied_passes(tmp_path / "broken.onnx", "all")
