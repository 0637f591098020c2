"""Emulated formats beside a GPU that has them: within a tolerance, and how many predictions differ.

A device adds in other orders and may truncate to tf32 where the emulation rounds, so that bits are not compared.
For y = Σ x·w with R² = Σ (x·w)² the two may differ by SPREAD · R (factors rounded otherwise, sums in shorter
registers: errors of either sign) and by ONE_STEP · |y| (a result near the middle between two values of the format
goes to the other one; truncated factors make every product smaller).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.export.emulate import emulate
from gapshift.export.formats import rounded

ROWS, INNER, CLASSES = 2048, 256, 16
# Truncation to tf32 moves each of two factors by up to 2^-10: six standard deviations of that, and its mean. Sums of
# 8-bit products keep 13 bits or more.
SPREAD = {"tf32": 2.0**-9, "bfloat16": 2.0**-15, "float16": 2.0**-15, "fp8-e4m3": 2.0**-7}
ONE_STEP = {"tf32": 2.0**-9, "bfloat16": 2.0**-7, "float16": 2.0**-10, "fp8-e4m3": 2.0**-3}
Values = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _precise_sums() -> Iterator[None]:
    """What is not under test at its most exact, and put back."""
    before = torch.get_float32_matmul_precision()
    half = torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    yield
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = half
    torch.set_float32_matmul_precision(before)


def _inputs() -> tuple[Values, Values]:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(ROWS, INNER)), rng.normal(size=(INNER, CLASSES)) / 16
    return x.astype(np.float32), w.astype(np.float32)


def _emulated(form: str, x: Values, w: Values) -> Values:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INNER])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(w, "w")],
    )
    model = emulate(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), form)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    scores: Values = session.run(None, {"x": x})[0]
    return scores


def _on_the_device(form: str, x: Values, w: Values, device: str = "cuda") -> Values:
    a, b = torch.from_numpy(x).to(device), torch.from_numpy(w).to(device)
    if form == "tf32":
        torch.set_float32_matmul_precision("high")
        return (a @ b).cpu().numpy()
    if form == "fp8-e4m3":
        one = torch.ones((), device=device)
        short = a.to(torch.float8_e4m3fn), b.t().contiguous().to(torch.float8_e4m3fn).t()
        wide = torch._scaled_mm(*short, scale_a=one, scale_b=one, out_dtype=torch.float32)
        return rounded(wide.cpu().numpy(), form)
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}[form]
    return (a.to(dtype) @ b.to(dtype)).float().cpu().numpy()


def _compare(form: str, on_the_device: Callable[[str, Values, Values], Values]) -> float:
    """Asserts that the two lie within the tolerance; returns the share of rows whose prediction differs."""
    x, w = _inputs()
    mine, its = _emulated(form, x, w), on_the_device(form, x, w)
    bound = SPREAD[form] * np.sqrt((x**2) @ (w**2)) + ONE_STEP[form] * np.maximum(np.abs(mine), np.abs(its))
    over = np.abs(mine - its) > bound
    assert not over.any(), (
        f"{over.sum()} of {over.size} beyond the tolerance, off by up to {np.abs(mine - its)[over].max()}"
    )
    turned = mine.argmax(1) != its.argmax(1)
    top = np.sort(mine, axis=1)
    assert (top[turned, -1] - top[turned, -2] <= 2 * bound[turned].max(1)).all()  # near ties alone
    return float(turned.mean())


@pytest.mark.parametrize("form", list(SPREAD))
def test_a_device_is_matched_within_the_tolerance(
    form: str, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    least = {"fp8-e4m3": (8, 9)}.get(form, (8, 0))
    if torch.cuda.get_device_capability() < least:
        pytest.skip(f"{torch.cuda.get_device_name()} has no {form}")
    share = _compare(form, _on_the_device)
    record_property(f"{form}: share of predictions that differ", share)
    with capsys.disabled():
        print(f"\n{torch.cuda.get_device_name()}, {form}: {share:.2%} of {ROWS} predictions differ from the emulation")
    assert share < 0.05


# ------------------------------------------------ the comparison itself, which needs no device


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_a_processor_is_matched_too(form: str) -> None:
    """torch's own short products on the CPU, through the same comparison."""
    assert _compare(form, lambda form, x, w: _on_the_device(form, x, w, "cpu")) < 0.05


@pytest.mark.parametrize("form", list(SPREAD))
def test_the_tolerance_is_narrower_than_what_is_emulated(form: str) -> None:
    """A device that did not round at all, or rounded twice as coarsely, is not taken for one that does."""
    coarse = {"tf32": "bfloat16", "bfloat16": "fp8-e4m3", "float16": "bfloat16", "fp8-e4m3": "fp8-e5m2"}[form]
    with pytest.raises(AssertionError, match="beyond the tolerance"):
        _compare(form, lambda _, x, w: _emulated(coarse, x, w))
    if form in ("bfloat16", "float16"):
        with pytest.raises(AssertionError, match="beyond the tolerance"):
            _compare(form, lambda _, x, w: x @ w)
