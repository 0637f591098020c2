"""Rewrites of a graph against independent computations with the other setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch.nn import functional

from gapshift.errors import EvaluationError, ModelFileError, NotApplicableError
from gapshift.export.graph_part import parts_of
from gapshift.export.rewrite import rewrite
from gapshift.schema import Graph

Values = NDArray[Any]


def _make(
    nodes: Sequence[NodeProto],
    shape: Sequence[int | str],
    constants: dict[str, Values] | None = None,
    opset: int = 20,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model from x to y, whose dimensions it leaves open."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim
    dims = [f"d{place}" for place, _ in enumerate(inferred)] or ["d0", "d1"]  # two where an operator is not ONNX's
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", kind, dims))
    helper.set_model_props(model, {"gapshift.contract": "kept"})
    return model


def _save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    onnx.save(model, str(path))
    return path


def _rewrite(folder: Path, model: onnx.ModelProto, **keys: Any) -> onnx.ModelProto:
    rewrite(_save(folder, model), Graph(**keys), folder / "out" / "r.onnx")
    return onnx.load(str(folder / "out" / "r.onnx"))


def _run(model: onnx.ModelProto, x: Values, level: str = "ORT_ENABLE_ALL") -> Values:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def _random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _node(operator: str, takes: str, gives: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, takes.split(), gives.split(), name=f"{operator.lower()}_{gives}", **attributes)


def _operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


# -------------------------------------------------------------------------------- pooling


@pytest.mark.parametrize("ceil", [True, False])
def test_max_pool_rounds_the_other_way(tmp_path: Path, ceil: bool) -> None:
    pool = _node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=int(not ceil))
    made = _rewrite(tmp_path, _make([pool], ["n", 2, 8, 10]), max_pool="ceil" if ceil else "floor")
    x = _random(3, 2, 8, 10)
    expected = functional.max_pool2d(torch.from_numpy(x), 3, 2, 1, ceil_mode=ceil).numpy()
    np.testing.assert_array_equal(_run(made, x), expected)
    assert expected.shape[2:] == ((5, 6) if ceil else (4, 5))


def test_windows_that_fit_exactly_are_said_to_change_nothing(tmp_path: Path) -> None:
    pool = _node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2])
    with pytest.raises(NotApplicableError, match=r"max_pool = ceil changes nothing: .* the windows fit exactly"):
        _rewrite(tmp_path, _make([pool], ["n", 2, 8, 8]), max_pool="ceil")
    assert not (tmp_path / "out" / "r.onnx").exists()


def test_pools_of_unknown_size_are_rewritten(tmp_path: Path) -> None:
    pool = _node("MaxPool", "x", "y", kernel_shape=[2], strides=[2])
    made = _rewrite(tmp_path, _make([pool], ["n", 2, "frames"]), max_pool="ceil")
    assert _run(made, _random(1, 2, 7)).shape == (1, 2, 4)


def test_shapes_that_a_later_node_cannot_take_are_an_error_that_names_it(tmp_path: Path) -> None:
    pool = _node("MaxPool", "x", "p", kernel_shape=[2, 2], strides=[2, 2])
    weights = {"w": _random(2 * 3 * 3, 4), "b": _random(4)}
    head = [_node("Flatten", "p", "f"), helper.make_node("Gemm", ["f", "w", "b"], ["y"], name="head")]
    with pytest.raises(
        EvaluationError, match=r"m\.onnx \(graph\.max_pool = ceil\): .*node name: head.* between 18 and 32"
    ):
        _rewrite(tmp_path, _make([pool, *head], ["n", 2, 7, 7], weights), max_pool="ceil")
    head = [_node("Reshape", "p shape", "r"), _node("MatMul", "r w", "y")]
    weights = {"w": _random(18, 4), "shape": np.array([-1, 18])}
    with pytest.raises(EvaluationError, match=r"op_type:Reshape, node name: reshape_r"):
        _rewrite(tmp_path, _make([pool, *head], ["n", 2, 7, 7], weights), max_pool="ceil")


@pytest.mark.parametrize("counted", [True, False])
def test_average_pool_counts_padding_or_not(tmp_path: Path, counted: bool) -> None:
    pool = _node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=int(not counted))
    name = "padding-counted" if counted else "padding-excluded"
    made = _rewrite(tmp_path, _make([pool], ["n", 2, 6, 6]), average_pool=name)
    x = _random(3, 2, 6, 6)
    expected = functional.avg_pool2d(torch.from_numpy(x), 3, 1, 1, count_include_pad=counted).numpy()
    np.testing.assert_allclose(_run(made, x), expected, rtol=1e-5, atol=1e-6)


def test_average_pools_without_padding_are_said_to_stay(tmp_path: Path) -> None:
    for attributes in (
        {"strides": [1, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ):  # the latter needs none for even sizes
        pool = _node("AveragePool", "x", "y", kernel_shape=[2, 2], **attributes)
        with pytest.raises(NotApplicableError, match=r"average_pool = padding-counted changes nothing: .* padding"):
            _rewrite(tmp_path, _make([pool], ["n", 2, 6, 6]), average_pool="padding-counted")


# ------------------------------------------------------------------------------- resizing


def _upsampling(scale: float = 1.7, opset: int = 20, **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="up", **attributes)
    return _make([node], ["n", 2, 5, 6], {"scales": np.array([1, 1, scale, scale], np.float32)}, opset=opset)


_TORCH_WRITES = {"cubic_coeff_a": -0.75, "nearest_mode": "floor", "antialias": 0, "exclude_outside": 0}
"""What torch's exporter writes for every mode."""


@pytest.mark.parametrize(
    ("keys", "torch_s"),
    [
        ({"resize_mode": "cubic"}, {"mode": "bicubic", "align_corners": False}),
        ({"resize_coordinates": "align_corners"}, {"mode": "bilinear", "align_corners": True}),
        ({"resize_mode": "cubic", "resize_coordinates": "align_corners"}, {"mode": "bicubic", "align_corners": True}),
        ({"resize_mode": "nearest", "resize_coordinates": "asymmetric"}, {"mode": "nearest"}),
    ],
)
def test_resize_becomes_torch_s_other_mode(tmp_path: Path, keys: dict[str, str], torch_s: dict[str, Any]) -> None:
    model = _upsampling(mode="linear", coordinate_transformation_mode="half_pixel", **_TORCH_WRITES)
    made, x = _rewrite(tmp_path, model, **keys), _random(2, 2, 5, 6)
    expected = functional.interpolate(torch.from_numpy(x), scale_factor=1.7, recompute_scale_factor=False, **torch_s)
    np.testing.assert_allclose(_run(made, x), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_attributes_of_another_mode_go(tmp_path: Path) -> None:
    model = _upsampling(0.6, mode="cubic", antialias=1, cubic_coeff_a=-0.5, exclude_outside=1)
    (node,) = _rewrite(tmp_path, model, resize_mode="nearest").graph.node
    assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == {
        "mode": b"nearest",
        "nearest_mode": b"round_prefer_floor",
    }
    (node,) = _rewrite(tmp_path, _upsampling(mode="linear"), resize_mode="cubic").graph.node
    assert {a.name: helper.get_attribute_value(a) for a in node.attribute} == {"mode": b"cubic", "cubic_coeff_a": -0.75}


def test_another_grid_that_gives_the_same_neighbours_is_said(tmp_path: Path) -> None:
    model = _upsampling(2.0, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    with pytest.raises(
        NotApplicableError, match=r"resize_coordinates = half_pixel changes nothing: .* every Resize node"
    ):
        _rewrite(tmp_path, model, resize_coordinates="half_pixel")


def test_resize_of_an_old_opset_has_no_such_settings(tmp_path: Path) -> None:
    model = _make([_node("Resize", "x s", "y")], ["n", 2, 5, 6], {"s": np.array([1, 1, 2, 2], np.float32)}, opset=10)
    with pytest.raises(NotApplicableError, match="no such settings before opset 11; the file's is 10"):
        _rewrite(tmp_path, model, resize_mode="linear")


# -------------------------------------------------------------------------- normalisation


def _affine(channels: int, seed: int = 1) -> dict[str, Values]:
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(size=channels) for name in ("scale", "shift", "mean")}
    return {
        **{k: v.astype(np.float32) for k, v in values.items()},
        "var": rng.uniform(0.2, 3, channels).astype(np.float32),
    }


def _normalized(before: NodeProto, **attributes: Any) -> list[NodeProto]:
    return [before, _node("BatchNormalization", "h scale shift mean var", "y", **attributes)]


_FOLDABLE = {
    "conv": ([_node("Conv", "x w b", "h", group=2, pads=[1, 1])], (4, 9), {"w": (6, 2, 3), "b": (6,)}),
    "conv without bias": ([_node("Conv", "x w", "h")], (4, 6, 6), {"w": (6, 4, 2, 2)}),
    "transposed": ([_node("ConvTranspose", "x w b", "h", group=2, strides=[2])], (4, 7), {"w": (4, 3, 3), "b": (6,)}),
    "transposed, one group": ([_node("ConvTranspose", "x w", "h")], (4, 5, 5), {"w": (4, 6, 2, 2)}),
    "gemm": ([_node("Gemm", "x w b", "h", transB=1, alpha=0.5, beta=3.0)], (4,), {"w": (6, 4), "b": (6,)}),
    "gemm, one bias": ([_node("Gemm", "x w b", "h", beta=2.0)], (4,), {"w": (4, 6), "b": (1,)}),
    "gemm without bias": ([_node("Gemm", "x w", "h")], (4,), {"w": (4, 6)}),
    "matmul": ([_node("MatMul", "x w", "h")], (4,), {"w": (4, 6)}),
}


@pytest.mark.parametrize("case", _FOLDABLE)
@given(seed=st.integers(0, 2**32 - 1), epsilon=st.sampled_from([1e-5, 1e-3, 0.1]))
@settings(max_examples=8, deadline=None)
def test_folded_normalisation_equals_the_normalisation(
    tmp_path_factory: pytest.TempPathFactory, case: str, seed: int, epsilon: float
) -> None:
    (before,), shape, weights = _FOLDABLE[case]
    constants = {name: _random(*dims, seed=seed + n) for n, (name, dims) in enumerate(weights.items())}
    model = _make(_normalized(before, epsilon=epsilon), ["n", *shape], constants | _affine(6, seed))
    made, x = _rewrite(tmp_path_factory.mktemp("fold"), model, batch_norm="folded"), _random(3, *shape, seed=seed)
    assert "BatchNormalization" not in _operators(made)
    assert not {"scale", "shift", "mean", "var", "w", "b"} & {tensor.name for tensor in made.graph.initializer}
    expected = _run(model, x, "ORT_DISABLE_ALL")  # which folds nothing itself
    assert not np.allclose(expected, 0)
    np.testing.assert_allclose(_run(made, x), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("nodes", "shape", "reason"),
    [
        ([_node("Relu", "x", "h")], (6, 5), "what comes before it is Relu"),
        ([_node("MatMul", "x w", "h")], (6, 4), "does not give a matrix"),
        ([_node("Conv", "x k", "h"), _node("Relu", "h", "z")], (4, 5), r"Conv 'conv_h' is read elsewhere too"),
        ([_node("Relu", "x", "v"), _node("MatMul", "x v", "h")], (6,), "are no constants"),
    ],
)
def test_what_cannot_be_folded_is_said(
    tmp_path: Path, nodes: list[NodeProto], shape: tuple[int, ...], reason: str
) -> None:
    norm = _node("BatchNormalization", "h scale shift mean var", "y")
    constants = {"w": _random(4, 4), "k": _random(6, 4, 2)}
    used = {name: values for name, values in constants.items() if any(name in node.input for node in nodes)}
    model = _make([*nodes, norm], [6, *shape] if shape == (6,) else ["n", *shape], used | _affine(6))
    with pytest.raises(NotApplicableError, match=rf"no BatchNormalization node of its 1 can be folded .*{reason}"):
        _rewrite(tmp_path, model, batch_norm="folded")


def test_normalisation_by_a_batch_s_own_mean_is_not_folded(tmp_path: Path) -> None:
    conv = _node("Conv", "x w", "h")
    norm = helper.make_node(
        "BatchNormalization", ["h", "scale", "shift", "mean", "var"], ["y", "m", "v"], training_mode=1
    )
    model = _make([conv, norm], ["n", 4, 5], {"w": _random(6, 4, 2)} | _affine(6))
    with pytest.raises(NotApplicableError, match="own mean and variance"):
        _rewrite(tmp_path, model, batch_norm="folded")


def _epsilon_models() -> dict[str, tuple[onnx.ModelProto, Any]]:
    torch_affine = {name: torch.from_numpy(values) for name, values in _affine(4).items()}
    scale, shift, mean, var = (torch_affine[name] for name in ("scale", "shift", "mean", "var"))
    pick = {name: _affine(4)[name] for name in ("scale", "shift")}
    return {
        "batch": (
            _make([_node("BatchNormalization", "x scale shift mean var", "y")], ["n", 4, 4], _affine(4)),
            lambda x: functional.batch_norm(x, mean, var, scale, shift, eps=0.05),
        ),
        "layer": (
            _make([_node("LayerNormalization", "x scale shift", "y", epsilon=1e-6)], ["n", 4, 4], pick),
            lambda x: functional.layer_norm(x, (4,), scale, shift, eps=0.05),
        ),
        "group": (
            _make([_node("GroupNormalization", "x scale shift", "y", num_groups=2)], ["n", 4, 4], pick, opset=21),
            lambda x: functional.group_norm(x, 2, scale, shift, eps=0.05),
        ),
        "instance": (
            _make([_node("InstanceNormalization", "x scale shift", "y")], ["n", 4, 4], pick),
            lambda x: functional.instance_norm(x, weight=scale, bias=shift, eps=0.05),
        ),
    }


@pytest.mark.parametrize("kind", ["batch", "layer", "group", "instance"])
def test_normalisation_gets_another_epsilon(tmp_path: Path, kind: str) -> None:
    model, expected = _epsilon_models()[kind]
    x = _random(3, 4, 4) * 0.3
    made = _rewrite(tmp_path, model, normalization_epsilon=0.05)
    np.testing.assert_allclose(_run(made, x), expected(torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5)
    assert np.abs(_run(made, x) - _run(model, x)).max() > 1e-3


def test_the_same_epsilon_is_said(tmp_path: Path) -> None:
    model, _ = _epsilon_models()["instance"]  # it does not write its epsilon, which is 1e-5
    with pytest.raises(
        NotApplicableError, match=r"normalization_epsilon = 1e-05: every normalisation of its 1 has that"
    ):
        _rewrite(tmp_path, model, normalization_epsilon=1e-5)


# ----------------------------------------------------------------------------------- GELU

_ROOT, _SCALE, _CUBE = math.sqrt(2), math.sqrt(2 / math.pi), 0.044715
_SCALARS = {"root": _ROOT, "over": 1 / _ROOT, "one": 1.0, "half": 0.5, "scale": _SCALE, "cube": _CUBE, "three": 3.0}
_ERF = {
    "torch, traced": "Div x root a|Erf a b|Add b one c|Mul x c d|Mul d half y",
    "torch, captured": "Div x root a|Erf a b|Add b one c|Mul half c d|Mul x d y",
    "transformers": "Mul x half h|Div x root a|Erf a b|Add one b c|Mul h c y",
    "tensorflow": "Mul x over a|Erf a b|Add b one c|Mul x half h|Mul c h y",
}
_TANH = {
    "torch, traced": (
        "Mul x x p|Mul x p q|Mul cube q r|Add x r s|Mul scale s t|Tanh t u|Add one u v|Mul x v w|Mul half w y"
    ),
    "torch, captured": "Pow x three p|Mul cube p r|Add x r s|Mul scale s t|Tanh t u|Add u one v|Mul half v w|Mul x w y",
    "factored": (
        "Mul x x p|Mul cube p q|Add q one r|Mul x scale s|Mul s r t|Tanh t u|Add u one v|Mul x half h|Mul h v y"
    ),
}


def _written_out(text: str, opset: int, dtype: type = np.float32) -> onnx.ModelProto:
    nodes = []
    for line in text.split("|"):
        operator, *names = line.split()
        nodes.append(_node(operator, " ".join(names[:-1]), names[-1]))
    used = {name for node in nodes for name in node.input}
    constants = {name: np.asarray(value, dtype) for name, value in _SCALARS.items() if name in used}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return _make(nodes, ["n", 5], constants, opset=opset, kind=kind)


def _gelu(x: Values, approximate: str) -> Values:
    return functional.gelu(torch.from_numpy(x).double(), approximate=approximate).numpy()


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("form", [*(f"erf {key}" for key in _ERF), *(f"tanh {key}" for key in _TANH)])
def test_a_gelu_written_out_gets_its_other_form(tmp_path: Path, form: str, opset: int) -> None:
    kind, _, key = form.partition(" ")
    model = _written_out((_ERF if kind == "erf" else _TANH)[key], opset)
    other, approximate = ("tanh", "tanh") if kind == "erf" else ("exact", "none")
    made, x = _rewrite(tmp_path, model, gelu=other), np.linspace(-4, 4, 50, dtype=np.float32).reshape(10, 5)
    np.testing.assert_allclose(_run(made, x), _gelu(x, approximate), atol=2e-6)
    assert np.abs(_run(made, x) - _run(model, x)).max() > 1e-4
    assert ("Gelu" in _operators(made)) == (opset >= 20)
    assert {"Erf", "Tanh"} & set(_operators(made)) == (
        set() if opset >= 20 else {"Erf" if other == "exact" else "Tanh"}
    )
    with pytest.raises(NotApplicableError, match=f"every GELU of its 1 is {other} already"):
        _rewrite(tmp_path, made, gelu=other)


@pytest.mark.parametrize(("written", "asked", "approximate"), [("none", "tanh", "tanh"), ("tanh", "exact", "none")])
def test_the_gelu_operator_gets_its_other_form(tmp_path: Path, written: str, asked: str, approximate: str) -> None:
    model = _make([_node("Gelu", "x", "y", approximate=written)], ["n", 5])
    x = _random(4, 5)
    np.testing.assert_allclose(_run(_rewrite(tmp_path, model, gelu=asked), x), _gelu(x, approximate), atol=2e-6)


@pytest.mark.parametrize(
    ("operator", "inputs", "asked", "becomes"),
    [
        ("Gelu", "x", "tanh", "FastGelu"),
        ("BiasGelu", "x b", "tanh", "FastGelu"),
        ("FastGelu", "x", "exact", "Gelu"),
        ("FastGelu", "x b", "exact", "BiasGelu"),
    ],
)
def test_onnx_runtime_s_fused_gelu_gets_its_other_form(
    tmp_path: Path, operator: str, inputs: str, asked: str, becomes: str
) -> None:
    biased = {"b": _random(5, seed=3)} if "b" in inputs else {}
    node = _node(operator, inputs, "y", domain="com.microsoft")
    made = _rewrite(tmp_path, _make([node], ["n", 5], biased, domains=["com.microsoft"]), gelu=asked)
    x = _random(4, 5)
    assert _operators(made) == [becomes]
    expected = _gelu(x + biased.get("b", np.float32(0)), "tanh" if asked == "tanh" else "none")
    np.testing.assert_allclose(_run(made, x), expected, atol=5e-5)  # FastGelu's own tanh is rounded


def test_half_precision_constants_are_recognised_and_stay_half(tmp_path: Path) -> None:
    made = _rewrite(tmp_path, _written_out(_ERF["torch, captured"], 17, np.float16), gelu="tanh")
    x = np.linspace(-4, 4, 50).astype(np.float16).reshape(10, 5)
    assert {tensor.data_type for tensor in made.graph.initializer} == {TensorProto.FLOAT16}
    np.testing.assert_allclose(_run(made, x), _gelu(x.astype(np.float32), "tanh"), atol=5e-3)


@pytest.mark.parametrize(
    "text",
    [
        "Div x root a|Erf a b|Add b one c|Mul half c y",  # the normal distribution's function
        "Mul x half a|Tanh a b|Add b one c|Mul half c d|Mul x d y",  # x sigmoid(x)
        "Tanh x y",
    ],
)
def test_other_functions_of_erf_and_tanh_are_let_be(tmp_path: Path, text: str) -> None:
    for asked in ("tanh", "exact"):
        with pytest.raises(
            NotApplicableError, match=r"graph\.gelu = \w+: the graph has none of what this changes: Gelu"
        ):
            _rewrite(tmp_path, _written_out(text, 17), gelu=asked)


# -------------------------------------------------------------------------------- softmax


def _half(values: Values) -> Values:
    return values.astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("level", ["ORT_ENABLE_ALL", "ORT_ENABLE_BASIC", "ORT_DISABLE_ALL"])
def test_softmax_is_rounded_to_half_precision_whatever_the_optimiser_does(tmp_path: Path, level: str) -> None:
    nodes = [_node("MatMul", "x w", "s"), _node("Softmax", "s", "p", axis=-1), _node("MatMul", "p v", "y")]
    weights = {"w": _random(6, 7) * 5, "v": np.eye(7, dtype=np.float32)}
    made, x = _rewrite(tmp_path, _make(nodes, ["n", 6], weights), softmax="float16"), _random(8, 6)
    scores = torch.from_numpy(_half(x @ weights["w"]))
    result = _run(made, x, level)
    np.testing.assert_array_equal(result, _half(result))
    np.testing.assert_allclose(result, functional.softmax(scores, dim=-1).numpy(), rtol=1e-3, atol=1e-6)
    assert np.abs(result - _run(_make(nodes, ["n", 6], weights), x, level)).max() > 1e-4


def test_softmax_that_is_half_already_is_said(tmp_path: Path) -> None:
    model = _make([_node("Softmax", "x", "y")], ["n", 6], kind=TensorProto.FLOAT16)
    with pytest.raises(NotApplicableError, match="no Softmax node of its 1 takes float32"):
        _rewrite(tmp_path, model, softmax="float16")


# --------------------------------------------------------------- together, inside, and wrong


def test_several_rewrites_compose(tmp_path: Path) -> None:
    nodes = [
        _node("Conv", "x w", "h"),
        _node("BatchNormalization", "h scale shift mean var", "n"),
        _node("MaxPool", "n", "p", kernel_shape=[2], strides=[2]),
        _node("Gelu", "p", "g"),
        _node("Softmax", "g", "y", axis=1),
    ]
    model = _make(nodes, ["batch", 4, 6], {"w": _random(6, 4, 2)} | _affine(6))
    keys = {"batch_norm": "folded", "normalization_epsilon": 0.1, "max_pool": "ceil", "gelu": "tanh"}
    made, x = _rewrite(tmp_path, model, **keys, softmax="float16"), _random(3, 4, 6)
    t = {name: torch.from_numpy(values) for name, values in ({"w": _random(6, 4, 2)} | _affine(6)).items()}
    h = functional.batch_norm(
        functional.conv1d(torch.from_numpy(x), t["w"]), t["mean"], t["var"], t["scale"], t["shift"], eps=0.1
    )
    h = functional.gelu(functional.max_pool1d(h, 2, 2, ceil_mode=True), approximate="tanh")
    np.testing.assert_allclose(_run(made, x), h.half().float().softmax(1).half().numpy(), rtol=2e-3, atol=1e-5)
    assert {prop.key: prop.value for prop in made.metadata_props} == {"gapshift.contract": "kept"}
    onnx.checker.check_model(made, full_check=True)


def test_one_rewrite_of_several_that_finds_nothing_is_named(tmp_path: Path) -> None:
    model = _make([_node("Gelu", "x", "y")], ["n", 5])
    with pytest.raises(NotApplicableError, match=r"^graph\.softmax = float16: the graph has none .*: Softmax nodes$"):
        _rewrite(tmp_path, model, gelu="tanh", softmax="float16")


def test_branches_and_functions_are_rewritten_too(tmp_path: Path) -> None:
    def branch(name: str, node: NodeProto) -> onnx.GraphProto:
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
        )

    choice = helper.make_node(
        "If",
        ["flag"],
        ["c"],
        then_branch=branch("t", _node("Gelu", "x", "t")),
        else_branch=branch("e", _node("Tanh", "x", "e")),
    )
    function = helper.make_function(
        "own", "Act", ["a"], ["b"], [_node("Gelu", "a", "b")], [helper.make_opsetid("", 20)]
    )
    model = _make(
        [choice, helper.make_node("Act", ["c"], ["y"], domain="own")],
        ["n", 5], {"flag": np.array(True)}, functions=[function], domains=["own"],
    )  # fmt: skip
    made, x = _rewrite(tmp_path, model, gelu="tanh"), _random(4, 5)
    np.testing.assert_allclose(_run(made, x), _gelu(_gelu(x, "tanh").astype(np.float32), "tanh"), atol=1e-5)
    assert len(parts_of(made)) == 3


def test_a_branch_reads_what_stands_around_it(tmp_path: Path) -> None:
    """A constant of the outer graph is one inside; and a tensor that a branch reads is not folded away."""
    norm = helper.make_node("BatchNormalization", ["h", "scale", "shift", "mean", "var"], ["n"], name="norm")
    out = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    inside = helper.make_graph([_node("Relu", "h", "r")], "t", [], out)
    other = helper.make_graph(
        [_node("Relu", "n", "r2")], "e", [], [helper.make_tensor_value_info("r2", TensorProto.FLOAT, None)]
    )
    nodes = [
        _node("Conv", "x w", "h"),
        norm,
        helper.make_node("If", ["flag"], ["y"], then_branch=inside, else_branch=other),
    ]
    constants = {"w": _random(6, 4, 2), "flag": np.array(True)} | _affine(6)
    with pytest.raises(NotApplicableError, match="'norm': Conv 'conv_h' is read elsewhere too"):
        _rewrite(tmp_path, _make(nodes, ["n1", 4, 5], constants), batch_norm="folded")
    body = helper.make_graph([_node("Conv", "x w", "h"), norm, _node("Relu", "n", "r")], "t", [], out)
    nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body)]
    model = _make(nodes, ["n1", 4, 5], constants)
    made, x = _rewrite(tmp_path, model, batch_norm="folded"), _random(2, 4, 5)
    np.testing.assert_allclose(_run(made, x), _run(model, x), rtol=1e-4, atol=1e-5)
    assert "BatchNormalization" not in {node.op_type for part in parts_of(made) for node in part.graph.node}


def test_what_could_not_be_inferred_before_is_not_the_rewrite_s_fault(tmp_path: Path) -> None:
    """A file whose own sizes contradict its batch is rewritten; whether it runs, the runtime says."""
    nodes = [_node("Gelu", "x", "g"), _node("Reshape", "g shape", "r"), _node("Add", "r b", "y")]
    model = _make(nodes, ["n", 5], {"shape": np.array([3, 5]), "b": _random(3, 5)})
    np.testing.assert_allclose(_run(_rewrite(tmp_path, model, gelu="tanh"), _random(3, 5)).shape, (3, 5))


def test_a_broken_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        rewrite(tmp_path / "m.onnx", Graph(gelu="tanh"), tmp_path / "r.onnx")


def test_the_same_file_comes_out_every_time(tmp_path: Path) -> None:
    model = _written_out(_ERF["torch, traced"], 17)
    one = _rewrite(tmp_path, model, gelu="tanh").SerializeToString(deterministic=True)
    assert one == _rewrite(tmp_path, model, gelu="tanh").SerializeToString(deterministic=True)
