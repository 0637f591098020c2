"""Emulated number formats: each rounding bit for bit against NumPy and ml_dtypes, whatever optimises the graph."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.envs.runtimes.graph import roundings
from gapshift.errors import EvaluationError, NotApplicableError
from gapshift.export.emulate import emulate
from gapshift.export.formats import CAST_TO, EMULATED, rounded

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
WIDTH = 8
EXACT = {  # the largest finite value, the smallest denormal, significant bits
    "tf32": (float.fromhex("0x1.ffcp127"), 2.0**-136, 11),
    "bfloat16": (float(ml_dtypes.finfo(ml_dtypes.bfloat16).max), 2.0**-133, 8),
    "float16": (65504.0, 2.0**-24, 11),
    "fp8-e4m3": (448.0, 2.0**-9, 4),
    "fp8-e5m2": (57344.0, 2.0**-16, 3),
}


def _gemm(weights: NDArray[np.float32], opset: int = 20) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _session(model: onnx.ModelProto, level: str = "ORT_ENABLE_ALL") -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(model: onnx.ModelProto, inputs: NDArray[Any], level: str = "ORT_ENABLE_ALL") -> NDArray[Any]:
    scores: NDArray[Any] = _session(model, level).run(None, {"x": inputs})[0]
    return scores


def _alone(form: str) -> onnx.ModelProto:
    """Nothing but the rounding of ``x``: the graph of a product, cut before the product."""
    model = emulate(_gemm(np.eye(WIDTH, dtype=np.float32)), form)
    factor = next(node.input[0] for node in model.graph.node if node.op_type == "Gemm")
    kept = []
    for node in model.graph.node:
        if node.op_type == "Gemm":
            break
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.output[0].name = factor
    return model


SESSIONS = {(form, level): _session(_alone(form), level) for form in EMULATED for level in LEVELS}


def _by_definition(value: float, form: str) -> float:
    """Round to nearest even by exact arithmetic, sharing no code with what is tested."""
    largest, quantum, bits = EXACT[form]
    if not np.isfinite(value):
        return np.copysign(largest, value) if np.isinf(value) and form.startswith("fp8") else value
    exponent = np.frexp(abs(value))[1] if value else 0
    step = max(quantum, 2.0 ** (float(exponent) - bits))
    near = float(np.rint(value / step)) * step  # both exact: a power of two in float64
    if abs(near) <= largest:
        return near
    return float(np.copysign(largest if form.startswith("fp8") else np.inf, value))


def _same(got: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.bool_]:
    """Equal in value; the two zeros are equal, and so are NaNs of any bits."""
    return (got == expected) | (np.isnan(got) & np.isnan(expected))


def _everywhere(seed: int, n: int) -> NDArray[np.float32]:
    """Float32 of random bits, denormals, ties of every format and the ends of every range."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, n, dtype=np.uint32)
    denormal = rng.integers(0, 2**23, n, dtype=np.uint32)
    near_one = (rng.integers(100, 150, n, dtype=np.uint32) << 23) | rng.integers(0, 2**23, n, dtype=np.uint32)
    ties = [(near_one >> shift << shift) | np.uint32(1 << (shift - 1)) for shift in (13, 16, 20, 21)]
    huge = (np.uint32(254) << 23) | rng.integers(0, 2**23, n, dtype=np.uint32)
    ends = np.array([v * f for v, _, _ in EXACT.values() for f in (1, -1, 1.01, 0.999)], np.float64)
    with np.errstate(over="ignore"):
        ends = np.append(ends, [0.0, -0.0, np.inf, -np.inf, np.nan, 65519.99, 65520, 464, 61440]).astype(np.float32)
    return np.concatenate([np.concatenate([bits, denormal, near_one, huge, *ties]).view(np.float32), ends])


@pytest.mark.parametrize("form", EMULATED)
def test_numpy_rounds_as_the_definition_says(form: str) -> None:
    values = _everywhere(1, 300)
    expected = np.array([_by_definition(float(value), form) for value in values], np.float32)
    got = rounded(values, form)
    assert _same(got, expected).all(), values[~_same(got, expected)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("form", EMULATED)
def test_the_graph_rounds_as_numpy_does(form: str, level: str) -> None:
    values = _everywhere(2, 20_000)
    values = values[: len(values) // WIDTH * WIDTH].reshape(-1, WIDTH)
    (got,) = SESSIONS[form, level].run(None, {"x": values})
    assert _same(got, rounded(values, form)).all(), values[~_same(got, rounded(values, form))]
    assert not _same(got, values).all()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(EMULATED), st.sampled_from(LEVELS), st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8))
def test_any_bits_are_rounded_alike(form: str, level: str, bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)[None]
    (got,) = SESSIONS[form, level].run(None, {"x": values})
    assert _same(got, rounded(values, form)).all()
    assert _same(rounded(got, form), got).all()  # what is rounded stays


@pytest.mark.parametrize("form", EMULATED)
def test_the_sign_and_all_other_bits_are_equal_too(form: str) -> None:
    values = _everywhere(3, 2000)
    values = values[np.isfinite(values) & (rounded(values, form) != 0)]
    values = values[: len(values) // WIDTH * WIDTH].reshape(-1, WIDTH)
    (got,) = SESSIONS[form, "ORT_ENABLE_ALL"].run(None, {"x": values})
    assert np.array_equal(got.view(np.uint32), rounded(values, form).view(np.uint32))


# ------------------------------------------------------------------------ in a model


def _moderate(shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * np.exp2(rng.integers(-4, 4, shape))).astype(np.float32)


@pytest.mark.parametrize("form", EMULATED)
def test_weights_are_rounded_in_the_file(form: str) -> None:
    weights = _moderate((WIDTH, 300), 4)
    got = _run(emulate(_gemm(weights), form), np.eye(WIDTH, dtype=np.float32))
    assert np.array_equal(got, rounded(weights, form))


@pytest.mark.parametrize("form", EMULATED)
def test_sums_are_float32_and_the_result_is_rounded_once(form: str) -> None:
    """Eighths below four: products and sums are exact in float32. tf32 leaves the result alone."""
    rng = np.random.default_rng(5)
    x, w = (rng.integers(-3, 4, shape).astype(np.float32) / 2 for shape in ((64, 32), (32, 16)))
    product = (x @ w) if form == "tf32" else rounded(x @ w, form)
    assert np.array_equal(_run(emulate(_gemm(w), form), x), product)


@pytest.mark.parametrize("form", EMULATED)
def test_what_feeds_two_products_is_rounded_once(form: str) -> None:
    model = _gemm(np.eye(WIDTH, dtype=np.float32))
    model.graph.node[0].output[0] = "h"
    model.graph.node.append(helper.make_node("MatMul", ["h", "w"], ["a"]))
    model.graph.node.append(helper.make_node("MatMul", ["h", "w"], ["b"]))
    model.graph.node.append(helper.make_node("Add", ["a", "b"], ["y"]))
    # x, h, a and b; tf32 rounds the factors alone: x and h
    assert roundings(emulate(model, form)) == (2 if form == "tf32" else 4)


@pytest.mark.parametrize("form", EMULATED)
def test_the_argument_is_left_alone(form: str) -> None:
    model = _gemm(np.eye(WIDTH, dtype=np.float32))
    before = model.SerializeToString()
    emulate(model, form)
    assert model.SerializeToString() == before


def test_float16_overflows_and_fp8_saturates() -> None:
    x = np.full((1, WIDTH), 300.0, np.float32)
    weights = np.full((WIDTH, 1), 300.0, np.float32)
    assert _run(emulate(_gemm(weights), "float16"), x).item() == np.inf
    assert _run(emulate(_gemm(weights), "fp8-e4m3"), x).item() == 448
    assert _run(emulate(_gemm(weights), "fp8-e5m2"), x).item() == 57344
    assert _run(emulate(_gemm(weights), "bfloat16"), x).item() == rounded(np.float32([8 * 300 * 300]), "bfloat16")


@pytest.mark.parametrize("form", EMULATED)
def test_a_model_of_an_older_opset_is_raised(form: str) -> None:
    model = emulate(_gemm(np.eye(WIDTH, dtype=np.float32), opset=13), form)
    assert model.opset_import[0].version >= 19
    x = _moderate((5, WIDTH), 6)
    assert np.array_equal(_run(model, x), rounded(x, form))


def test_a_graph_without_products_has_nothing_to_round() -> None:
    model = _gemm(np.eye(WIDTH, dtype=np.float32))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Identity", ["x"], ["y"]))
    with pytest.raises(EvaluationError, match="none of Conv, ConvTranspose, MatMul, Gemm at its top level"):
        emulate(model, "tf32")


@pytest.mark.parametrize("form", EMULATED)
def test_recurrent_state_is_out_of_reach(form: str) -> None:
    model = _gemm(np.eye(WIDTH, dtype=np.float32))
    model.graph.node.append(helper.make_node("LSTM", ["y", "a", "b"], ["z"]))
    with pytest.raises(NotApplicableError, match=r"has LSTM, whose state is carried inside .* in float32"):
        emulate(model, form)


def test_products_inside_branches_are_out_of_reach() -> None:
    """Half an emulation is none."""
    model, inside = _gemm(np.eye(WIDTH, dtype=np.float32)), helper.make_node("MatMul", ["y", "w"], ["inside"])
    branch = helper.make_graph(
        [inside], "branch", [], [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    model.graph.node.append(helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch))
    with pytest.raises(NotApplicableError, match="the graph has MatMul inside If, Loop or Scan"):
        emulate(model, "bfloat16")


def test_all_formats_are_covered() -> None:
    assert set(EXACT) == set(EMULATED) == {"tf32", *CAST_TO}
