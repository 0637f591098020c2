"""Comparing two files layer by layer, and blaming one: chains of small matrix products with one of them broken."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.envs.layers.compare import Comparison, Side, compare, differences_of
from gapshift.envs.layers.leaving import Leaving, leaving
from gapshift.envs.layers.matching import match
from gapshift.envs.layers.opened import OpenModel
from gapshift.envs.layers.tally import Tally
from gapshift.envs.layers.weights import constant
from gapshift.errors import EvaluationError
from gapshift.export.precision import variant
from gapshift.schema import Precision, Runtime

DEPTH, WIDTH = 5, 8
RUNTIME = Runtime(batch_size=16, intra_op_threads=1)
INPUTS = np.random.default_rng(7).normal(size=(80, WIDTH)).astype(np.float32)
LEVELS = np.arange(80) % 5 + 1


def chain(path: Path, batch: int | str = "n") -> Path:
    """Five matrix products with a Relu after each but the last: g0, r0, g1, ... logits."""
    rng = np.random.default_rng(3)
    nodes, weights, last = [], [], "input"
    for place in range(DEPTH):
        final = place == DEPTH - 1
        weight = rng.normal(0, 1.2 / np.sqrt(WIDTH / 2), size=(WIDTH, WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{place}"))
        weights.append(numpy_helper.from_array(rng.normal(0, 0.1, WIDTH).astype(np.float32), f"b{place}"))
        out = "logits" if final else f"g{place}"
        nodes.append(helper.make_node("Gemm", [last, f"w{place}", f"b{place}"], [out], name=f"product{place}"))
        last = out
        if not final:
            nodes.append(helper.make_node("Relu", [out], [f"r{place}"], name=f"relu{place}"))
            last = f"r{place}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, WIDTH]) for name in ("input", "logits")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def changed(source: Path, path: Path, name: str, change: Any) -> Path:
    """The file with one initializer changed."""
    model = onnx.load(str(source))
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), name))
            break
    else:
        pytest.fail(f"{source} has no {name}")
    onnx.save(model, path)
    return path


def compared(reference: Path, other: Path, inputs: NDArray[Any] = INPUTS, **settings: Any) -> Comparison:
    same = settings.pop("same_file", False)
    theirs = settings.pop("theirs", inputs)
    levels = np.arange(len(inputs)) % 5 + 1
    return compare(Side(reference, inputs, RUNTIME), Side(other, theirs, RUNTIME), levels, same_file=same, **settings)


def blamed(reference: Path, other: Path) -> Leaving:
    return leaving(compared(reference, other), OpenModel(reference), OpenModel(other))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers")


@pytest.fixture(scope="module")
def good(folder: Path) -> Path:
    return chain(folder / "good.onnx")


@pytest.fixture(scope="module")
def quantised(folder: Path, good: Path) -> Path:
    path = folder / "quantised.onnx"
    batches = [INPUTS[s : s + 16] for s in range(0, len(INPUTS), 16)]
    variant(good, Precision(format="int8-qdq"), path, calibration=batches, input_name="input")
    return path


# ---------------------------------------------------------------------------- blaming


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, DEPTH - 1),
    columns=st.tuples(st.integers(0, WIDTH - 2), st.integers(1, 3)),
    by=st.floats(0.05, 3.0),
    seed=st.integers(0, 9),
)
def test_a_corrupted_weight_block_is_named_wherever_it_is(
    folder: Path, good: Path, place: int, columns: tuple[int, int], by: float, seed: int
) -> None:
    begin, end = columns[0], min(sum(columns), WIDTH)

    def corrupt(weight: NDArray[Any]) -> NDArray[Any]:
        made = weight.copy()
        # no value may stay as it was, or the block would be a smaller one
        made[:, begin:end] += by * np.random.default_rng(seed).uniform(0.5, 1, size=made[:, begin:end].shape)
        return made

    bad = changed(good, folder / "bad.onnx", f"w{place}", corrupt)
    found = blamed(good, bad)
    assert found.blamed is not None
    assert found.blamed.layer.node == f"product{place}"
    assert found.first is not None
    assert found.first.layer.node == f"product{place}"
    assert found.blamed.inputs == 0
    assert [each.name for each in found.weights] == [f"w{place}"]
    assert found.weights[0].block == ((0, WIDTH - 1), (begin, end - 1))
    assert found.weights[0].outliers == (end - begin) * WIDTH


def test_a_weight_that_no_item_uses_is_found_by_itself(folder: Path, good: Path) -> None:
    """What it multiplies is zero for every item, so that no tensor differs."""
    without = changed(good, folder / "dead.onnx", "b1", lambda bias: np.where(np.arange(WIDTH) == 2, -100, bias))
    bad = changed(without, folder / "dead-bad.onnx", "w2", lambda w: np.where(np.arange(WIDTH)[:, None] == 2, 9, w))
    found = blamed(without, bad)
    assert (found.first, found.blamed) == (None, None)
    assert [(each.name, each.block) for each in found.weights] == [("w2", ((2, 2), (0, WIDTH - 1)))]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensor=st.sampled_from(["input", "r0", "r1", "r2", "r3"]), factor=st.sampled_from([0.05, 0.2, 0.4, 12.0, 40.0]))
def test_one_bad_scale_is_named_among_many_good_ones(
    folder: Path, good: Path, quantised: Path, tensor: str, factor: float
) -> None:
    bad = changed(quantised, folder / "bad-scale.onnx", f"{tensor}_scale", lambda scale: scale * factor)
    found = blamed(good, bad)
    assert found.blamed is not None
    assert (found.blamed.match.reference, found.blamed.match.stage) == (tensor, "quantised")
    assert found.scale is not None
    assert found.scale.step / found.scale.needed == pytest.approx(factor, rel=0.1)


def test_a_weight_scale_that_is_wrong_names_the_product_and_the_factor(
    folder: Path, good: Path, quantised: Path
) -> None:
    bad = changed(quantised, folder / "bad-weight.onnx", "w2_scale", lambda scale: scale * 3)
    found = blamed(good, bad)
    assert found.blamed is not None
    assert found.blamed.layer.node == "product2"
    assert found.weights[0].name == "w2"
    assert found.weights[0].factor == pytest.approx(3, rel=0.02)
    assert found.weights[0].beside < found.weights[0].error / 10


def test_rounding_everywhere_blames_nobody(good: Path, quantised: Path) -> None:
    found = blamed(good, quantised)
    assert found.blamed is None
    assert found.first is not None
    assert 1e-3 < found.typical < 0.05


@pytest.mark.parametrize("form", ["float16", "int8-dynamic", "int4-weights", "fp8-e4m3-emulated"])
def test_no_conversion_is_blamed_for_what_it_is(folder: Path, good: Path, form: Any) -> None:
    path = folder / f"{form}.onnx"
    variant(good, Precision(format=form), path, calibration=None, input_name="input")
    found = blamed(good, path)
    assert found.blamed is None
    assert found.first is not None
    assert {"r0", "r1", "r2", "r3"} <= {each.match.reference for each in compared(good, path).layers}


def test_the_same_file_on_the_same_inputs_leaves_nowhere(good: Path) -> None:
    comparison = compared(good, good, same_file=True)
    found = leaving(comparison, OpenModel(good), OpenModel(good))
    assert (found.first, found.blamed, found.given) == (None, None, False)
    assert len(comparison.layers) == 2 * DEPTH - 1
    assert all(each.own is None for each in comparison.layers)


def test_an_equal_copy_in_another_file_leaves_nowhere(folder: Path, good: Path) -> None:
    copy = changed(good, folder / "copy.onnx", "w0", lambda weight: weight)
    found = blamed(good, copy)
    assert (found.first, found.blamed) == (None, None)


def test_other_inputs_leave_from_the_first_layer_and_no_node_is_blamed(good: Path) -> None:
    comparison = compared(good, good, theirs=INPUTS + 0.5, same_file=True)
    found = leaving(comparison, OpenModel(good), OpenModel(good))
    assert found.given
    assert found.blamed is None
    assert found.first is not None
    assert found.first.layer.node == "product0"
    assert comparison.given.error == pytest.approx(0.5 / np.sqrt((INPUTS**2).mean()), rel=1e-4)


def test_non_finite_values_are_an_infinite_error(folder: Path, good: Path) -> None:
    bad = changed(good, folder / "nan.onnx", "b1", lambda bias: np.full_like(bias, np.nan))
    found = blamed(good, bad)
    assert found.blamed is not None
    assert found.blamed.layer.node == "product1"
    assert found.blamed.difference.error == float("inf")


# ---------------------------------------------------------------------------- comparing


def test_errors_are_those_of_the_whole_tensors(folder: Path, good: Path) -> None:
    bad = changed(good, folder / "shifted.onnx", "b0", lambda bias: bias + 0.25)
    first = compared(good, bad).layers[0]
    values = INPUTS @ _weight(good, "w0") + _weight(good, "b0")
    norm = np.sqrt((values.astype(np.float64) ** 2).sum())
    assert first.difference.error == pytest.approx(0.25 * np.sqrt(values.size) / norm, rel=1e-4)
    assert first.difference.largest == pytest.approx(0.25, rel=1e-4)
    assert first.difference.cosine == pytest.approx(
        float((values * (values + 0.25)).sum() / (norm * np.linalg.norm(values + 0.25))), rel=1e-4
    )
    assert first.difference.items == len(INPUTS)
    at_three = np.linalg.norm(np.full_like(values[LEVELS == 3], 0.25)) / np.linalg.norm(values[LEVELS == 3])
    assert first.difference.levels[3] == pytest.approx(at_three, rel=1e-4)


def _weight(path: Path, name: str) -> NDArray[Any]:
    value = constant(OpenModel(path), name)
    assert value is not None
    return value


def test_opening_in_parts_finds_the_same(folder: Path, good: Path) -> None:
    bad = changed(good, folder / "parts.onnx", "w2", lambda weight: weight * 1.5)
    whole, parts = compared(good, bad), compared(good, bad, budget=2 * 4 * WIDTH)
    assert whole.parts == 1
    assert parts.parts > 3
    assert [each.layer.tensor for each in whole.layers] == [each.layer.tensor for each in parts.layers]
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert one.difference.error == pytest.approx(other.difference.error, rel=1e-6, abs=1e-9)
        assert (one.own is None) == (other.own is None)
        assert one.own is None or other.own is None or one.own.error == pytest.approx(other.own.error, abs=1e-6)


def test_a_fixed_batch_is_filled_and_its_filling_not_counted(folder: Path) -> None:
    fixed = chain(folder / "fixed.onnx", batch=7)
    free = chain(folder / "free.onnx")
    bad = changed(fixed, folder / "fixed-bad.onnx", "w1", lambda weight: weight * 1.2)
    same = changed(free, folder / "free-bad.onnx", "w1", lambda weight: weight * 1.2)
    one, other = compared(fixed, bad, INPUTS[:17]), compared(free, same, INPUTS[:17])
    for mine, theirs in zip(one.layers, other.layers, strict=True):
        assert mine.difference.error == pytest.approx(theirs.difference.error, rel=1e-4, abs=1e-7)
        assert mine.difference.items == 17


class _Endless:
    """Inputs that are made as they are read."""

    dtype = np.dtype(np.float32)

    def __init__(self, n: int) -> None:
        self.shape = (n, WIDTH)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        return np.repeat(rows[:, np.newaxis].astype(np.float32) % 13, WIDTH, axis=1) / 13


def test_memory_does_not_grow_with_the_items(folder: Path, good: Path) -> None:
    bad = changed(good, folder / "memory.onnx", "w2", lambda weight: weight * 1.5)
    peaks = []
    for n in (200, 200, 2000):  # the first one also pays for what is loaded once
        rows, levels = _Endless(n), np.ones(n, dtype=np.int64)
        tracemalloc.start()
        comparison = compare(Side(good, rows, RUNTIME), Side(bad, rows, RUNTIME), levels, same_file=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert comparison.layers[0].difference.items == n
    assert peaks[2] < 1.1 * peaks[1]


def test_a_quantised_relu_is_matched_with_the_relu_and_its_product_with_the_product(
    good: Path, quantised: Path
) -> None:
    """The quantiser takes the Relu away and gives the product its name."""
    matching = match(OpenModel(good), OpenModel(quantised))
    stages = {(pair.reference, pair.stage): pair.layer for pair in matching.matches}
    assert stages["g1", "computed"].operator == "Gemm"
    assert stages["r1", "quantised"].operator == "DequantizeLinear"
    assert ("r1", "computed") not in stages
    assert ("input", "quantised") in stages
    assert stages["logits", "computed"].tensor == "logits_QuantizeLinear_Input"
    assert stages["logits", "quantised"].tensor == "logits"


def test_every_tensor_is_matched_or_listed(good: Path, quantised: Path) -> None:
    other = OpenModel(quantised)
    matching = match(OpenModel(good), other)
    listed = {layer.tensor for layer in matching.unmatched} | {pair.layer.tensor for pair in matching.matches}
    assert listed == set(other.layers)
    mine = {layer.tensor for layer in matching.unmatched_reference} | {pair.reference for pair in matching.matches}
    assert mine >= set(OpenModel(good).layers)


def test_constants_are_no_layers(quantised: Path) -> None:
    model = OpenModel(quantised)
    assert not [name for name in model.layers if name.startswith("w")]
    assert "w0_DequantizeLinear_Output" in model.constants


def test_equal_infinities_are_equal_and_others_are_not() -> None:
    masked = np.array([[1.0, -np.inf], [2.0, -np.inf]])
    tally = Tally()
    tally.add(masked, masked.copy(), np.ones(2, dtype=np.int64))
    assert tally.difference().error == 0
    tally.add(masked, np.array([[1.0, 3.0], [2.0, -np.inf]]), np.ones(2, dtype=np.int64))
    assert tally.difference().error == float("inf")


def test_masks_do_not_outweigh_what_is_not_masked() -> None:
    one = np.array([[1.0, 2.0, -1e4, -1e4]])
    found = differences_of(one, one + np.array([0.1, 0.0, 3.0, -3.0]), np.ones(1, dtype=np.int64))
    assert found.error == pytest.approx(0.1 / np.sqrt(5))
    unmasked = differences_of(one, one + np.array([0.1, 0.0, 3.0, 2e4]), np.ones(1, dtype=np.int64))
    assert unmasked.error > 1


def test_other_shapes_are_said_and_not_compared() -> None:
    found = differences_of(np.zeros((3, 2)), np.zeros((3, 4)), np.ones(3, dtype=np.int64))
    assert not found.same_shape
    assert found.error == float("inf")


def test_what_cannot_be_opened_says_so(folder: Path, good: Path) -> None:
    model = onnx.load(str(good))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Nothing", "nowhere"
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    onnx.save(model, folder / "unknown.onnx")
    with pytest.raises(EvaluationError, match=r"unknown\.onnx cannot be opened: .*Nothing"):
        compared(good, folder / "unknown.onnx")
