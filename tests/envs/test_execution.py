"""Execution truth: what was asked for beside what really ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gapshift.envs.execution import truth
from gapshift.envs.runtimes import available, open_runtime
from gapshift.envs.runtimes.conformance import small_classifier
from gapshift.envs.runtimes.graph import ExecutedGraph, executed_nodes, roundings, stored_nodes
from gapshift.envs.runtimes.onnxruntime import OnnxRuntimeSession
from gapshift.envs.runtimes.scripted import ScriptedSession
from gapshift.errors import SkippedError
from gapshift.export.formats import EMULATED
from gapshift.export.precision import variant
from gapshift.export.rewrite import rewrite
from gapshift.schema import Contract, Execution, Graph, ModelInterface, Precision, Preprocessing, Resize, Runtime

CALIBRATION = [np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)]
REFERENCE = Runtime(engine="onnx-reference")
LEVELS = ["all", "extended", "basic", "disabled"]


def openvino(hint: str | None) -> Runtime:
    runtime = Runtime.model_validate({"engine": "openvino", "precision_hint": hint})
    try:
        available(runtime)
    except SkippedError as reason:
        pytest.skip(str(reason))
    return runtime


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Contract]:
    path = tmp_path / "model.onnx"
    return path, small_classifier(path)


def _truth(model: tuple[Path, Contract], precision: Precision, runtime: Runtime) -> Execution:
    out = model[0].with_name(f"{precision.format}.onnx")
    variant(model[0], precision, out, calibration=CALIBRATION, input_name="input")
    with open_runtime(runtime, out, model[1]) as session:
        return truth(session, out, precision, runtime)


def _said(execution: Execution) -> tuple[str, str, bool]:
    return execution.requested, execution.executed, execution.matches


# ----------------------------------------------------------------------- ONNX Runtime


@pytest.mark.parametrize("optimization", LEVELS)
def test_float32_is_float32(optimization: str, model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(), Runtime.model_validate({"optimization": optimization}))
    assert _said(execution) == ("float32", "float32", True)
    assert execution.providers == {"CPUExecutionProvider": 7}
    assert sum(execution.dtypes.pop("Gemm").values()) == 1
    assert [sum(counts.values()) for counts in execution.dtypes.values()] == [2]


def test_float16_on_the_cpu_runs_in_float32(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(format="float16"), Runtime())
    assert _said(execution) == ("float16", "float32", False)
    assert execution.dtypes == {"Conv": {"float32": 2}, "Gemm": {"float32": 1}}


def test_qdq_is_fused_to_integer_kernels(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(format="int8-qdq"), Runtime())
    assert _said(execution) == ("int8-qdq", "int8", True)
    assert execution.dtypes == {"QGemm": {"int8": 1}, "QLinearConv": {"int8": 2}}


def test_qdq_without_optimisation_runs_in_float32(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(format="int8-qdq"), Runtime(optimization="disabled"))
    assert _said(execution) == ("int8-qdq", "float32 with int8 weights and activations", False)


def test_qdq_that_fuses_in_part_says_how_many(model: tuple[Path, Contract]) -> None:
    """One convolution's result feeds the output unquantised: it cannot become an integer kernel."""
    path = model[0].with_name("int8-qdq.onnx")
    variant(model[0], Precision(format="int8-qdq"), path, calibration=CALIBRATION, input_name="input")
    _cut_quantizer_behind(path, "conv1")
    with open_runtime(Runtime(), path, model[1]) as session:
        execution = truth(session, path, Precision(format="int8-qdq"), Runtime())
    assert _said(execution) == (
        "int8-qdq",
        "int8 2 of 3 nodes, float32 with int8 weights and activations 1 of 3",
        False,
    )


def _cut_quantizer_behind(path: Path, conv: str) -> None:
    graph_model = onnx.load(str(path))
    graph = graph_model.graph
    result = next(node.output[0] for node in graph.node if node.name == conv)
    quantize = next(node for node in graph.node if node.op_type == "QuantizeLinear" and _feeds(graph, result, node))
    dequantize = next(node for node in graph.node if node.input[0] == quantize.output[0])
    for node in graph.node:
        node.input[:] = [quantize.input[0] if name == dequantize.output[0] else name for name in node.input]
    graph.node.remove(quantize)
    graph.node.remove(dequantize)
    onnx.save(graph_model, str(path))


def _feeds(graph: Any, result: str, quantize: Any) -> bool:
    names = {result} | {node.output[0] for node in graph.node if node.op_type == "Relu" and node.input[0] == result}
    return quantize.input[0] in names


def test_dynamic_int8(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(format="int8-dynamic"), Runtime())
    assert _said(execution) == ("int8-dynamic", "int8", True)
    assert execution.dtypes["ConvInteger"] == {"int8": 2}


EVERYWHERE = [*(Runtime.model_validate({"optimization": level}) for level in LEVELS), REFERENCE]


@pytest.mark.parametrize("runtime", EVERYWHERE, ids=lambda runtime: f"{runtime.engine}-{runtime.optimization}")
@pytest.mark.parametrize("form", EMULATED)
def test_an_emulation_says_so_and_keeps_its_roundings(
    form: str, runtime: Runtime, model: tuple[Path, Contract]
) -> None:
    execution = _truth(model, Precision.model_validate({"format": f"{form}-emulated"}), runtime)
    assert _said(execution) == (f"{form}-emulated", f"float32 arithmetic, {form} rounding", True)


@pytest.mark.parametrize("optimization", LEVELS)
def test_int4_weights_are_asked_for_with_float32_arithmetic(optimization: str, model: tuple[Path, Contract]) -> None:
    runtime = Runtime.model_validate({"optimization": optimization})
    execution = _truth(model, Precision(format="int4-weights"), runtime)
    assert _said(execution) == ("int4-weights", "float32 with int4 weights", True)
    assert {form for counts in execution.dtypes.values() for form in counts} == {"float32 with int4 weights"}


def test_a_packed_product_that_rounds_its_activations_is_no_weight_only_one(model: tuple[Path, Contract]) -> None:
    """ONNX Runtime's own fusion of DequantizeLinear and MatMul asks for accuracy level 4, which is int8."""
    nodes = [helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", accuracy_level=4, bits=4)]
    value = helper.make_tensor_value_info
    floats = [value("x", TensorProto.FLOAT, [2, 2])], [value("y", TensorProto.FLOAT, [2, 2])]
    formats = executed_nodes(helper.make_model(helper.make_graph(nodes, "g", *floats)))
    assert formats == (("MatMulNBits", "int8 with int4 weights"),)
    with ScriptedSession([[0.0]]) as session:
        session_graph = ExecutedGraph(formats, {"CPUExecutionProvider": 1})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ScriptedSession, "_executed", lambda _: session_graph)
            execution = truth(session, model[0], Precision(format="int4-weights"), Runtime())
    assert _said(execution) == ("int4-weights", "int8 with int4 weights", False)


def test_sixteen_bit_activations_run_in_float_between_their_pairs(model: tuple[Path, Contract]) -> None:
    for optimization in LEVELS:
        runtime = Runtime.model_validate({"optimization": optimization})
        execution = _truth(model, Precision(format="int16x8-qdq"), runtime)
        assert _said(execution) == ("int16x8-qdq", "float32 with int8 weights and int16 activations", False)


def test_float16_with_kept_operators_asks_for_the_rest(model: tuple[Path, Contract]) -> None:
    precision = Precision(format="float16", keep_float32=("Gemm",))
    execution = _truth(model, precision, REFERENCE)
    assert _said(execution) == ("float16", "float16 2 of 3 nodes, float32 1 of 3", True)
    assert _said(_truth(model, precision, Runtime())) == ("float16", "float32", False)


def test_emulation_of_weights_behind_an_identity(model: tuple[Path, Contract]) -> None:
    """Their rounding is folded into a constant before anything runs, and is kept all the same."""
    shared = onnx.load(str(model[0]))
    shared.graph.node.insert(0, helper.make_node("Identity", ["w1"], ["shared"], name="share"))
    next(node for node in shared.graph.node if node.name == "conv1").input[1] = "shared"
    onnx.save(shared, str(model[0]))
    for runtime in (Runtime(), REFERENCE):
        execution = _truth(model, Precision(format="bfloat16-emulated"), runtime)
        assert _said(execution) == ("bfloat16-emulated", "float32 arithmetic, bfloat16 rounding", True)


def test_emulation_that_is_optimised_away_does_not_match(
    model: tuple[Path, Contract], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ExecutedGraph((("Conv", "float32"),) * 3, {"CPUExecutionProvider": 5}, roundings=2)
    monkeypatch.setattr(OnnxRuntimeSession, "_executed", lambda _: graph)
    execution = _truth(model, Precision(format="bfloat16-emulated"), Runtime())
    assert _said(execution) == ("bfloat16-emulated", "float32 arithmetic, 2 of 6 bfloat16 roundings", False)


def test_model_given_in_float16_was_asked_for_nothing(model: tuple[Path, Contract]) -> None:
    """A file that comes in another format runs as given: what ran is named, nothing is missed."""
    path = model[0].with_name("half.onnx")
    variant(model[0], Precision(format="float16"), path, calibration=None, input_name="input")
    with open_runtime(Runtime(), path, model[1]) as session:
        execution = truth(session, path, Precision(), Runtime())
    assert _said(execution) == ("as given", "float32", True)


def test_machine_and_settings_are_recorded(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(), Runtime(intra_op_threads=1))
    assert execution.versions["onnxruntime"] not in ("", "absent")
    assert execution.settings["intra_op_threads"] == 1
    assert execution.settings["providers_from"] == "ONNX Runtime's assignment of nodes"
    assert Execution.model_validate_json(execution.model_dump_json()) == execution


def test_runtime_that_does_not_tell_is_guessed_and_says_so(
    model: tuple[Path, Contract], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = "onnxruntime.capi.onnxruntime_inference_collection.Session"
    monkeypatch.delattr(f"{session}.get_provider_graph_assignment_info")
    execution = _truth(model, Precision(), Runtime())
    assert execution.settings["providers_from"].startswith("a guess: ")
    assert set(execution.providers) == {"CPUExecutionProvider"}


def test_compute_nodes_on_another_provider_do_not_match(
    model: tuple[Path, Contract], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = ExecutedGraph((("Conv", "float32"),) * 3, {"CUDA": 5, "CPU": 2}, strays={"CPU": 2})
    monkeypatch.setattr(OnnxRuntimeSession, "_executed", lambda _: graph)
    execution = _truth(model, Precision(), Runtime())
    assert _said(execution) == ("float32", "float32, 2 nodes on CPU", False)
    assert execution.provider == "CUDA"


# --------------------------------------------------------------------------- OpenVINO


def test_openvino_default_is_named_and_told(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(), openvino(None))
    bf16 = {"avx512_bf16", "amx_bf16"} & set(execution.cpu_flags)
    assert _said(execution) == ("float32", "bfloat16" if bf16 else "float32", not bf16)


def test_openvino_float32_by_hint(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(), openvino("f32"))
    assert _said(execution) == ("float32", "float32", True)
    assert execution.dtypes == {"Convolution": {"float32": 2}, "FullyConnected": {"float32": 1}}


def test_openvino_float16_by_hint_is_what_ran(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(), openvino("f16"))
    assert execution.requested == "float16"
    assert execution.matches == (execution.executed == "float16")
    assert execution.executed in ("float16", "bfloat16", "float32")


def test_openvino_runs_static_int8(model: tuple[Path, Contract]) -> None:
    assert _said(_truth(model, Precision(format="int8-qdq"), openvino("f32"))) == ("int8-qdq", "int8", True)


def test_openvino_runs_dynamic_int8_in_float32(model: tuple[Path, Contract]) -> None:
    assert _said(_truth(model, Precision(format="int8-dynamic"), openvino("f32"))) == ("int8-dynamic", "float32", False)


def test_openvino_runs_a_bfloat16_file_as_its_processor_can(model: tuple[Path, Contract]) -> None:
    """Without bfloat16 instructions it runs in float32, and that is what is said."""
    execution = _truth(model, Precision(format="bfloat16"), openvino("bf16"))
    assert (execution.requested, execution.matches) == ("bfloat16", execution.executed == "bfloat16")
    bf16 = {"avx512_bf16", "amx_bf16"} & set(execution.cpu_flags)
    assert execution.executed == ("bfloat16" if bf16 else "float32")


def test_openvino_default_runs_float32_files_in_what_it_chooses_and_int4_must_not(model: tuple[Path, Contract]) -> None:
    """Weight-only asks for float32 arithmetic; the default's bfloat16 is another thing."""
    execution = _truth(model, Precision(format="int4-weights"), openvino(None))
    assert execution.matches == (execution.executed == "float32")


def test_openvino_does_not_keep_the_emulation(model: tuple[Path, Contract]) -> None:
    execution = _truth(model, Precision(format="bfloat16-emulated"), openvino("f32"))
    assert _said(execution) == ("bfloat16-emulated", "float32 arithmetic, 0 of 6 bfloat16 roundings", False)


# -------------------------------------------------------------------------- reference


def test_reference_evaluator_runs_bfloat16(model: tuple[Path, Contract]) -> None:
    assert _said(_truth(model, Precision(format="bfloat16"), REFERENCE)) == ("bfloat16", "bfloat16", True)


def test_reference_evaluator_runs_float16(model: tuple[Path, Contract]) -> None:
    assert _said(_truth(model, Precision(format="float16"), REFERENCE)) == ("float16", "float16", True)


def test_reference_evaluator_runs_qdq_in_float32(model: tuple[Path, Contract]) -> None:
    assert _said(_truth(model, Precision(format="int8-qdq"), REFERENCE)) == (
        "int8-qdq",
        "float32 with int8 weights and activations",
        False,
    )


def test_no_compute_node_is_no_match_for_a_format(model: tuple[Path, Contract]) -> None:
    with ScriptedSession([[0.0]]) as session:
        execution = truth(session, model[0], Precision(format="float16"), Runtime())
    assert _said(execution) == ("float16", "no compute nodes", False)


def test_roundings_inside_branches_are_asked_for_too(tmp_path: Path) -> None:
    """A runtime that takes them away (the script has none) runs another graph than the rewritten one."""
    value = helper.make_tensor_value_info
    inside = [helper.make_node("Softmax", ["x"], ["s"], name="softmax")]
    branch = helper.make_graph(inside, "branch", [], [value("s", TensorProto.FLOAT, None)])
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["flag"], to=TensorProto.BOOL),
            helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ["n", 3])],
        [value("y", TensorProto.FLOAT, ["n", 3])],
    )
    given, made = tmp_path / "given.onnx", tmp_path / "made.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(given))
    rewrite(given, Graph(softmax="float16"), made)
    assert roundings(onnx.load(str(made))) == 4
    interface = ModelInterface(input="x", output="y", output_kind="probabilities", labels=("a", "b", "c"))
    contract = Contract(preprocessing=Preprocessing(resize=Resize(size=(1, 1))), model=interface)
    with open_runtime(Runtime(), made, contract) as session:
        assert truth(session, made, Precision(), Runtime(), rounds=True).matches
    with ScriptedSession([[0.0]]) as session:
        execution = truth(session, made, Precision(), Runtime(), rounds=True)
    assert (execution.matches, execution.executed.split(", ")[1]) == (False, "0 of 4 roundings of the rewritten graph")


def test_float32_of_which_nothing_is_seen_is_no_float32(model: tuple[Path, Contract]) -> None:
    with ScriptedSession([[0.0]]) as session:
        execution = truth(session, model[0], Precision(), Runtime())
    assert _said(execution) == ("float32", "no compute nodes", False)


# ------------------------------------------------------------------------------ graphs


def test_types_follow_producers_where_none_is_declared() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Relu", ["half"], ["positive"]),
        helper.make_node("Transpose", ["positive"], ["turned"]),
        helper.make_node("MatMul", ["positive", "turned"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [2, 2])], [value("y", TensorProto.FLOAT, [2, 2])]
    )
    assert executed_nodes(helper.make_model(graph)) == (("MatMul", "float16"),)


def test_weights_alone_between_quantizers_are_not_int8() -> None:
    """Weight-only quantisation computes in float: one factor is never quantised."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["weights"]),
        helper.make_node("MatMul", ["x", "weights"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2, 2])],
        [value("y", TensorProto.FLOAT, [2, 2])],
        [
            numpy_helper.from_array(np.ones((2, 2), np.int8), "w"),
            numpy_helper.from_array(np.array(1, np.float32), "scale"),
        ],
    )
    assert stored_nodes(helper.make_model(graph)) == (("MatMul", "float32 with int8 weights"),)


def test_what_runs_inside_branches_is_named_too() -> None:
    """With the types of the tensors that a branch reads from around it."""
    value = helper.make_tensor_value_info

    def branch(name: str) -> onnx.GraphProto:
        inside = [helper.make_node("MatMul", ["half", "half"], [name])]
        return helper.make_graph(inside, name, [], [value(name, TensorProto.UNDEFINED, None)])

    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("one"), else_branch=branch("other")),
        helper.make_node("MatMul", ["x", "x"], ["z"]),
    ]
    square = [value(name, TensorProto.FLOAT, [2, 2]) for name in ("x", "z")]
    model = helper.make_model(helper.make_graph(nodes, "g", [square[0]], [square[1]]))
    assert executed_nodes(model) == (("MatMul", "float32"), ("MatMul", "float16"), ("MatMul", "float16"))


def test_products_of_two_activations_have_no_weights() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Transpose", ["d"], ["t"]),
        helper.make_node("MatMul", ["d", "t"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [2, 2])],
        [value("y", TensorProto.FLOAT, [2, 2])],
        [numpy_helper.from_array(np.float32(1), "scale"), numpy_helper.from_array(np.uint16(0), "zero")],
    )
    model = helper.make_model(graph)
    assert executed_nodes(model) == (("MatMul", "float32 with int16 activations"),)
    assert stored_nodes(model) == (("MatMul", "int16x8"),)
