"""Precision variants of models exported as the project exports them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from gapshift.envs.runtimes.graph import executed_nodes
from gapshift.errors import EvaluationError, ModelFileError, NotApplicableError
from gapshift.export.formats import EMULATED, rounded
from gapshift.export.model_file import describe
from gapshift.export.precision import variant
from gapshift.export.torch_onnx import to_onnx
from gapshift.export.weights import quantized_int4
from gapshift.schema import Precision

INPUTS = np.random.default_rng(9).normal(size=(11, 3, 16, 16)).astype(np.float32)
CALIBRATION = [
    np.random.default_rng(seed).normal(size=(n, 3, 16, 16)).astype(np.float32) for seed, n in ((1, 8), (2, 5))
]
INT8 = [
    Precision(format="int8-qdq", per_channel=per_channel, calibrator=calibrator)
    for per_channel in (False, True)
    for calibrator in ("minmax", "entropy", "percentile")
]
VARIANTS = [
    Precision(format="float32"),
    Precision(format="float16"),
    Precision(format="float16", keep_float32=("ReduceMean", "Softmax")),
    *(Precision.model_validate({"format": f"{form}-emulated"}) for form in EMULATED),
    Precision(format="int4-weights"),
    Precision(format="int16x8-qdq"),
    Precision(format="int16x8-qdq", per_channel=True, calibrator="percentile"),
    Precision(format="int8-dynamic"),
    Precision(format="int8-dynamic", per_channel=True),
    *INT8,
]


class SmallViT(nn.Module):
    """Patches of 4, one block with attention, mean over tokens."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 16, width) * 0.1)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.head = nn.Linear(width, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.position
        n, tokens, width = x.shape
        parts = self.qkv(self.before(x)).view(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, tokens, width))
        x = x + self.mlp(self.after(x))
        head: torch.Tensor = self.head(x.mean(1))
        return head


def _small_cnn() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32)):
        norm = nn.BatchNorm2d(after)
        norm.running_mean = torch.randn(after) * 0.1
        norm.running_var = torch.rand(after) + 0.5
        layers += [nn.Conv2d(before, after, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {"cnn": _small_cnn(), "vit": SmallViT()}
    for name, network in networks.items():
        to_onnx(network, torch.zeros(2, 3, 16, 16), folder / f"{name}.onnx")
        _stamp(folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in networks}


def _stamp(path: Path) -> None:
    model = onnx.load(str(path))
    helper.set_model_props(model, {"gapshift.contract": "kept"})
    onnx.save(model, str(path))


def _run(path: Path | onnx.ModelProto, inputs: NDArray[Any] = INPUTS) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    source = path.SerializeToString() if isinstance(path, onnx.ModelProto) else str(path)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    scores: NDArray[Any] = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return scores


def _write(source: Path, precision: Precision, out: Path) -> Path:
    variant(source, precision, out, calibration=CALIBRATION, input_name="input")
    return out


def _id(precision: Precision) -> str:
    kept = "-mixed" if precision.keep_float32 else ""
    return f"{precision.format}{kept}-{'channel' if precision.per_channel else 'tensor'}-{precision.calibrator}"


@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, p) for name in ("cnn", "vit") for p in VARIANTS if (name, p.calibrator) != ("vit", "entropy")],
    ids=lambda value: value if isinstance(value, str) else _id(value),
)
def test_variant_answers_like_the_model(
    name: str, precision: Precision, models: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Close to float32, dynamic in the batch, float32 outside, the metadata kept, and silent."""
    out = _write(models[name], precision, tmp_path / "sub" / "variant.onnx")
    described = describe(out)
    assert described.inputs == describe(models[name]).inputs
    assert (described.outputs[0].dtype, described.fixed_batch) == ("float32", None)
    assert described.metadata["gapshift.contract"] == "kept"
    expected, got = _run(models[name]), _run(out)
    coarse = precision.format.startswith(("int4", "fp8"))
    assert np.abs(got - expected).max() < (0.5 if coarse else 0.15) * np.ptp(expected)
    assert (np.array_equal(got, expected)) == (precision.format == "float32")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("precision", [p for p in VARIANTS if p.calibrator == "minmax"], ids=_id)
def test_variant_is_the_same_file_twice(precision: Precision, models: dict[str, Path], tmp_path: Path) -> None:
    first = _write(models["vit"], precision, tmp_path / "first.onnx")
    second = _write(models["vit"], precision, tmp_path / "second.onnx")
    assert first.read_bytes() == second.read_bytes()


def test_calibrators_find_different_ranges(models: dict[str, Path], tmp_path: Path) -> None:
    """The library's default entropy calibrator has one candidate and equals minmax; this one must not."""
    scores = [_run(_write(models["cnn"], p, tmp_path / f"{p.calibrator}.onnx")) for p in INT8[:3]]
    assert not np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[1], scores[2])


def test_per_channel_has_a_scale_per_channel(models: dict[str, Path], tmp_path: Path) -> None:
    def longest(precision: Precision) -> int:
        model = onnx.load(str(_write(models["cnn"], precision, tmp_path / "q.onnx")))
        return max(int(np.prod(t.dims)) for t in model.graph.initializer if t.name.endswith("_scale"))

    assert longest(INT8[0]) == 1
    assert longest(INT8[3]) == 32


def test_dynamic_scales_per_channel_need_a_matrix_product(tmp_path: Path) -> None:
    """The library gives convolutions one scale; said, where there is nothing else."""
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["y"]),
    ]
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 4, 4]), ("y", ["n", 4]))
    ]
    graph = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight])
    path = tmp_path / "conv.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), str(path))
    precision = Precision(format="int8-dynamic", per_channel=True)
    with pytest.raises(
        NotApplicableError, match=r"per_channel changes nothing: .* MatMul and Gemm .* Use int8-dynamic"
    ):
        variant(path, precision, tmp_path / "out.onnx", calibration=None, input_name="x")


def test_static_quantisation_of_a_fixed_batch(models: dict[str, Path], tmp_path: Path) -> None:
    fixed = onnx.load(str(models["cnn"]))
    for value in (fixed.graph.input[0], fixed.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(fixed, str(tmp_path / "fixed.onnx"))
    out = _write(tmp_path / "fixed.onnx", INT8[0], tmp_path / "out.onnx")
    assert describe(out).fixed_batch == 4
    assert np.allclose(_run(out, INPUTS[:4]), _run(models["cnn"])[:4], atol=0.05)


# ---------------------------------------------------------------------------- 16 bits


def _reference(path: Path, inputs: NDArray[Any] = INPUTS) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores: NDArray[Any] = ReferenceEvaluator(onnx.load(str(path))).run(None, {"input": inputs})[0]
    return scores


def _types(path: Path) -> set[int]:
    """Of the weights that are no shapes or axes."""
    return {t.data_type for t in onnx.load(str(path)).graph.initializer} - {TensorProto.INT64}


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_bfloat16_file_computes_in_bfloat16(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    """ONNX Runtime's CPU has no Conv for it; the standard's own evaluator runs it."""
    out = _write(models[name], Precision(format="bfloat16"), tmp_path / "b.onnx")
    described = describe(out)
    assert (described.inputs[0].dtype, described.outputs[0].dtype) == ("float32", "float32")
    assert described.metadata["gapshift.contract"] == "kept"
    assert _types(out) == {TensorProto.BFLOAT16}
    expected = _run(models[name])
    assert 0 < np.abs(_reference(out) - expected).max() < 0.05 * np.ptp(expected)
    with pytest.raises(Exception, match="Could not find an implementation for Conv"):
        _run(out)


def test_bfloat16_weights_are_rounded_from_float32(models: dict[str, Path], tmp_path: Path) -> None:
    """Not by way of float16, which would round twice and lose what is small."""
    tiny = onnx.load(str(models["cnn"]))
    weight = next(t for t in tiny.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(weight) * np.float32(1e-6)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(tiny, str(tmp_path / "tiny.onnx"))
    out = onnx.load(str(_write(tmp_path / "tiny.onnx", Precision(format="bfloat16"), tmp_path / "b.onnx")))
    stored = next(t for t in out.graph.initializer if t.name == weight.name)
    assert np.array_equal(numpy_helper.to_array(stored).astype(np.float32), rounded(values, "bfloat16"))


@pytest.mark.parametrize("form", ["float16", "bfloat16"])
def test_kept_operators_stay_in_float32(form: str, models: dict[str, Path], tmp_path: Path) -> None:
    precision = Precision.model_validate({"format": form, "keep_float32": ("MatMul", "Softmax")})
    out = onnx.load(str(_write(models["vit"], precision, tmp_path / "mixed.onnx")))
    formats = set(executed_nodes(out))
    assert formats == {("MatMul", "float32"), ("Conv", form), ("Gemm", form)}
    assert np.allclose(_reference(tmp_path / "mixed.onnx"), _run(models["vit"]), atol=0.05)


def test_kept_operator_that_the_graph_lacks(models: dict[str, Path], tmp_path: Path) -> None:
    precision = Precision(format="float16", keep_float32=("Softmax", "LSTM"))
    with pytest.raises(NotApplicableError) as caught:
        _write(models["cnn"], precision, tmp_path / "mixed.onnx")
    assert str(caught.value).startswith(
        f"Cannot convert {models['cnn']} to float16: precision.keep_float32 names LSTM, Softmax, and the graph has "
        "none of them. It has "
    )
    assert "Conv, " in str(caught.value)
    assert "name some of these, or leave keep_float32 out." in str(caught.value)


def test_kept_operator_that_does_not_exist(models: dict[str, Path], tmp_path: Path) -> None:
    precision = Precision(format="float16", keep_float32=("Softmax", "LayerNormalisation"))
    with pytest.raises(EvaluationError, match=r"Unknown operator type .*'LayerNormalisation'.*LayerNormalization"):
        _write(models["vit"], precision, tmp_path / "mixed.onnx")


# ------------------------------------------------------------------- quantised otherwise


def test_int4_weights_have_fifteen_values_a_channel(models: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(str(_write(models["cnn"], Precision(format="int4-weights"), tmp_path / "four.onnx")))
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    turned = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert len(turned) == 3  # two convolutions and the classifier
    for node in turned:
        whole = stored[node.input[0]].astype(int)
        assert (whole.min(), whole.max()) in {(-7, 7), (-7, 6), (-6, 7), (-7, 5), (-5, 7), (-4, 7), (-7, 4)}
        assert len(stored[node.input[1]]) == whole.shape[0]
    assert {name for name, _ in executed_nodes(model)} == {"Conv", "Gemm"}
    assert {kind for _, kind in executed_nodes(model)} == {"float32 with int4 weights"}
    assert not [t for t in model.graph.initializer if len(t.dims) > 1 and t.data_type == TensorProto.FLOAT]


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(*[st.integers(1, 5)] * 3), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.integers(0, 2),
)
def test_int4_is_off_by_half_a_step_at_most(values: NDArray[np.float32], axis: int) -> None:
    whole, scales = quantized_int4(values, axis)
    steps = scales.reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float64)
    assert np.abs(whole.astype(int)).max() <= 7
    assert (np.abs(whole.astype(np.float64) * steps - values) <= 0.5001 * steps).all()


def test_int4_matrix_products_are_the_librarys_and_keep_float32_activations(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """Without its accuracy level the library's fusion would round activations to int8."""
    model = onnx.load(str(_write(models["vit"], Precision(format="int4-weights"), tmp_path / "four.onnx")))
    packed = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    assert len(packed) == 4
    assert {a.i for node in packed for a in node.attribute if a.name == "accuracy_level"} == {1}


def test_int4_of_a_graph_without_constant_weights(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["input"], ["t"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["input", "t"], ["y"]),
        ],
        "square",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 3])],
    )
    source = tmp_path / "square.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(source))
    with pytest.raises(EvaluationError, match="no matrix operator at the graph's top level has a constant weight"):
        _write(source, Precision(format="int4-weights"), tmp_path / "four.onnx")


def test_sixteen_bit_activations_lose_less_than_eight(models: dict[str, Path], tmp_path: Path) -> None:
    """With the same weights; and the pairs are the standard's own operators."""

    def error(form: str) -> float:
        precision = Precision.model_validate({"format": form, "per_channel": True})
        out = _write(models["vit"], precision, tmp_path / f"{form}.onnx")
        assert {node.domain for node in onnx.load(str(out)).graph.node} == {""}
        return float(np.abs(_run(out) - _run(models["vit"])).mean())

    assert error("int16x8-qdq") < 0.9 * error("int8-qdq")  # what the weights lose stays
    types = _types(tmp_path / "int16x8-qdq.onnx")
    assert {TensorProto.UINT16, TensorProto.INT8} <= types
    assert TensorProto.UINT8 not in types


# ------------------------------------------------------------------------------ errors


def test_static_quantisation_without_calibration(models: dict[str, Path], tmp_path: Path) -> None:
    for calibration in (None, [], [INPUTS[:0]]):
        with pytest.raises(EvaluationError) as caught:
            variant(models["cnn"], INT8[0], tmp_path / "q.onnx", calibration=calibration, input_name="input")
        assert str(caught.value) == (
            f"Cannot convert {models['cnn']} to int8-qdq: static quantisation needs calibration batches and got none. "
            "Give items to calibrate on (--calibration-data), or use int8-dynamic, which needs none."
        )
    assert list(tmp_path.iterdir()) == []


def test_calibration_that_is_not_finite(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="hold values that are not finite"):
        variant(models["cnn"], INT8[0], tmp_path / "q", calibration=[INPUTS * np.nan], input_name="input")


def test_calibration_for_an_unknown_input(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="the model has no input 'pixels'; it has input"):
        variant(models["cnn"], INT8[0], tmp_path / "q", calibration=CALIBRATION, input_name="pixels")


def test_failure_of_the_library_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    wrong = [np.zeros((2, 1, 16, 16), np.float32)]
    with pytest.raises(EvaluationError, match=r"Cannot convert .*cnn\.onnx to int8-qdq: InvalidArgument: .*dimensions"):
        variant(models["cnn"], INT8[0], tmp_path / "q.onnx", calibration=wrong, input_name="input")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", [p for p in VARIANTS if p.format != "float32"], ids=_id)
def test_model_without_anything_to_convert(precision: Precision, tmp_path: Path) -> None:
    """No matrix operator: what would change nothing says so; float16 leaves a model that still runs."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["input", "axes"], ["y"], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    source = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(source))
    if precision.format.endswith(("emulated", "qdq", "weights")):
        with pytest.raises(EvaluationError, match=r"none of Conv, ConvTranspose, MatMul, Gemm at its .* Leave"):
            _write(source, precision, tmp_path / "out.onnx")
    elif precision.format == "int8-dynamic":
        with pytest.raises(EvaluationError, match=r"left every operator in its old format, .* Leave environments"):
            _write(source, precision, tmp_path / "out.onnx")
        assert not (tmp_path / "out.onnx").exists()
    else:
        assert np.allclose(_run(_write(source, precision, tmp_path / "out.onnx")), _run(source), atol=0.05)


def test_source_that_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        variant(tmp_path / "absent.onnx", VARIANTS[1], tmp_path / "o", calibration=None, input_name="input")


@pytest.mark.parametrize(
    ("form", "products"),
    [
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("int4-weights", "float32 with int4 weights"),
        ("int8-qdq", "float32 with int8 weights and activations"),
        ("int16x8-qdq", "float32 with int8 weights and int16 activations"),
    ],
)
def test_products_inside_a_model_s_own_functions_are_converted_too(form: str, products: str, tmp_path: Path) -> None:
    """No converter knows a model's own functions: some pass them over, some lose them."""
    body = [helper.make_node("MatMul", ["a", "w"], ["b"]), helper.make_node("MatMul", ["b", "w"], ["c"])]
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x", "w"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(np.eye(32, dtype=np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    twice = helper.make_function("own", "Twice", ["a", "w"], ["c"], body, opsets[:1])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=[twice]), str(tmp_path / "m.onnx"))
    inputs, out = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32), tmp_path / "v.onnx"
    precision = Precision.model_validate({"format": form})
    variant(tmp_path / "m.onnx", precision, out, calibration=[inputs], input_name="x")
    assert executed_nodes(onnx.load(str(out))) in [(("MatMul", products),) * 2, (("MatMulNBits", products),) * 2]
