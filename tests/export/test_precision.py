"""Precision variants of models exported as the project exports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from gapshift.errors import EvaluationError, ModelFileError
from gapshift.export.emulate import emulate_bfloat16
from gapshift.export.model_file import describe
from gapshift.export.precision import variant
from gapshift.export.torch_onnx import to_onnx
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
    Precision(format="bfloat16-emulated"),
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
    return f"{precision.format}-{'channel' if precision.per_channel else 'tensor'}-{precision.calibrator}"


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
    assert np.abs(got - expected).max() < 0.15 * np.ptp(expected)
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


def test_static_quantisation_of_a_fixed_batch(models: dict[str, Path], tmp_path: Path) -> None:
    fixed = onnx.load(str(models["cnn"]))
    for value in (fixed.graph.input[0], fixed.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(fixed, str(tmp_path / "fixed.onnx"))
    out = _write(tmp_path / "fixed.onnx", INT8[0], tmp_path / "out.onnx")
    assert describe(out).fixed_batch == 4
    assert np.allclose(_run(out, INPUTS[:4]), _run(models["cnn"])[:4], atol=0.05)


# --------------------------------------------------------------------------- emulation


def _gemm(weights: NDArray[np.float32]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _bf16(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def _hard_to_round(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Random values of many magnitudes, a third of them exactly half way between two bfloat16."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=shape) * np.exp2(rng.integers(-20, 20, shape))).astype(np.float32)
    bits = values.view(np.uint32)
    halves = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    return np.where(rng.random(shape) < 1 / 3, halves, bits).astype(np.uint32).view(np.float32)


def test_bfloat16_of_inputs_and_output_is_bit_equal() -> None:
    """With an identity for weights only the two roundings are left."""
    inputs = _hard_to_round((500, 8), seed=1)
    got = _run(emulate_bfloat16(_gemm(np.eye(8, dtype=np.float32))), inputs)
    assert np.array_equal(got.view(np.uint32), _bf16(inputs).view(np.uint32))
    assert not np.array_equal(got, inputs)


def test_bfloat16_of_weights_is_bit_equal() -> None:
    weights = _hard_to_round((8, 300), seed=2)
    got = _run(emulate_bfloat16(_gemm(weights)), np.eye(8, dtype=np.float32))
    assert np.array_equal(got.view(np.uint32), _bf16(weights).view(np.uint32))


def test_bfloat16_sums_in_float32_and_rounds_once() -> None:
    """Small integers: products and sums are exact in float32, so the result is one rounding."""
    rng = np.random.default_rng(3)
    x, w = (rng.integers(-60, 60, shape).astype(np.float32) for shape in ((64, 32), (32, 16)))
    assert np.array_equal(_run(emulate_bfloat16(_gemm(w)), x), _bf16(x @ w))


def test_bfloat16_rounds_each_tensor_once(models: dict[str, Path]) -> None:
    model = emulate_bfloat16(onnx.load(str(models["vit"])))
    rounded = [n.input[0] for n in model.graph.node if n.op_type == "Cast" and n.attribute[0].i == TensorProto.BFLOAT16]
    assert len(rounded) == len(set(rounded)) > 8


def test_emulation_leaves_its_argument_alone(models: dict[str, Path]) -> None:
    model = onnx.load(str(models["cnn"]))
    before = model.SerializeToString()
    emulate_bfloat16(model)
    assert model.SerializeToString() == before


# ------------------------------------------------------------------------------ errors


def test_static_quantisation_without_calibration(models: dict[str, Path], tmp_path: Path) -> None:
    for calibration in (None, [], [INPUTS[:0]]):
        with pytest.raises(EvaluationError) as caught:
            variant(models["cnn"], INT8[0], tmp_path / "q.onnx", calibration=calibration, input_name="input")
        assert str(caught.value) == (
            f"Cannot convert {models['cnn']} to int8-qdq: static int8 needs calibration batches and got none. "
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
    if precision.format in ("bfloat16-emulated", "int8-qdq"):
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
