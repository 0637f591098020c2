"""Cells of runtimes that cannot run a model: skipped with what stopped them, broken files errors, the rest intact."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from gapshift.domains.base import Pixels
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.envs.runtimes import open_runtime
from gapshift.envs.runtimes.conformance import small_classifier
from gapshift.envs.runtimes.opencv import first_that_fails
from gapshift.errors import EvaluationError, ModelFileError, NotApplicableError, SkippedError
from gapshift.export.bundle import weights_digest
from gapshift.export.model_file import describe, sha256
from gapshift.export.stamp import stamp
from gapshift.export.torch_onnx import to_onnx
from gapshift.schema import (
    Bundle,
    CellInfo,
    Contract,
    Environment,
    Item,
    ModelInterface,
    Preprocessing,
    Resize,
    Runtime,
)
from gapshift.train.checkpoint import save_checkpoint
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.settings import TrainingSettings
from gapshift.workspace import Workspace

ITEMS = 6
INPUTS = np.random.default_rng(5).normal(size=(5, 3, 8, 8)).astype(np.float32)
ENGINES: dict[str, dict[str, Any]] = {
    "openvino": {"runtime.engine": "openvino", "runtime.precision_hint": "f32"},
    "reference-evaluator": {"runtime.engine": "onnx-reference"},
    "opencv": {"runtime.engine": "opencv-dnn"},
    "one-thread": {"runtime.intra_op_threads": 1},
}
OK = "ok"


def _unchanged(model: onnx.ModelProto) -> None:
    """A model that every runtime runs."""


def _custom_domain(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type, model.graph.node[1].domain = "NoSuchOperator", "nowhere"
    model.opset_import.append(helper.make_opsetid("nowhere", 1))


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Reluu"


def _opset_too_new(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def _ir_too_new(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def _bfloat16(model: onnx.ModelProto, opset: int = 22) -> None:
    graph = model.graph
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    graph.node[0].input[0], graph.node[-1].output[0] = "rounded", "scores"
    graph.node.insert(0, helper.make_node("Cast", ["input"], ["rounded"], name="down", to=TensorProto.BFLOAT16))
    graph.node.append(helper.make_node("Cast", ["scores"], ["logits"], name="up", to=TensorProto.FLOAT))
    model.opset_import[0].version = opset


def _bfloat16_before_opset_22(model: onnx.ModelProto) -> None:
    _bfloat16(model, 20)


def _dangling(model: onnx.ModelProto) -> None:
    model.graph.node[3].input[0] = "nothing"


LEAVE = "Leave this runtime or format out, or export the model with operators that it has."
CASES: dict[str, tuple[Callable[[onnx.ModelProto], None], dict[str, tuple[str, str]]]] = {
    "good": (_unchanged, dict.fromkeys(("reference", *ENGINES), (OK, ""))),
    "custom-domain": (
        _custom_domain,
        {
            "reference": ("skipped", f"onnxruntime cannot load M: it has no operator nowhere:NoSuchOperator. {LEAVE}"),
            "one-thread": ("skipped", f"onnxruntime cannot load M: it has no operator nowhere:NoSuchOperator. {LEAVE}"),
            "openvino": ("skipped", f"openvino cannot load M: it has no operator nowhere.NoSuchOperator. {LEAVE}"),
            "reference-evaluator": (
                "skipped",
                f"onnx-reference cannot load M: it has no operator nowhere:NoSuchOperator. {LEAVE}",
            ),
            "opencv": ("skipped", "opencv-dnn cannot run M: it stops at operator NoSuchOperator (relu0). Its "),
        },
    ),
    "unknown-operator": (
        _unknown_operator,
        {
            "reference": ("skipped", f"onnxruntime cannot load M: it has no operator Reluu in opset 20. {LEAVE}"),
            "openvino": ("skipped", f"openvino cannot load M: it has no operator Reluu-20. {LEAVE}"),
            "reference-evaluator": ("skipped", f"onnx-reference cannot load M: it has no operator Reluu. {LEAVE}"),
            "opencv": ("skipped", "opencv-dnn cannot run M: it has no operator Reluu."),
        },
    ),
    "opset-99": (
        _opset_too_new,
        {
            "reference": ("skipped", "onnxruntime cannot load M: it has no opset 99 of ai.onnx (its newest is "),
            "openvino": (OK, ""),  # these three read it as the newest that they know
            "reference-evaluator": (OK, ""),
            "opencv": (OK, ""),
        },
    ),
    "ir-99": (
        _ir_too_new,
        {
            "reference": ("skipped", "onnxruntime cannot load M: it has no IR version 99 (its newest is "),
            "openvino": ("error", "M is not a valid ONNX model: Your model ir_version 99 is higher than the checker's"),
        },
    ),
    "bfloat16": (
        _bfloat16,
        {
            "reference": ("skipped", f"onnxruntime cannot load M: it has no operator Conv(22). {LEAVE}"),
            "openvino": (OK, ""),
            "reference-evaluator": (OK, ""),
            "opencv": ("skipped", "opencv-dnn cannot run M: it stops at operator Cast (down). Its new engine: OpenCV"),
        },
    ),
    "bfloat16-20": (
        _bfloat16_before_opset_22,
        {
            "reference": (
                "skipped",
                f"onnxruntime cannot load M: it has no operator Conv for tensor(bfloat16). {LEAVE}",
            ),
            "openvino": (OK, ""),
        },
    ),
    "dangling": (
        _dangling,
        {
            "reference": ("error", "onnxruntime cannot load M: [ONNXRuntimeError] : 2 : INVALID_ARGUMENT : "),
            "openvino": ("error", "openvino cannot load M: Exception from "),
            "reference-evaluator": ("error", "M is not a valid ONNX model: Nodes in a graph must be topologically so"),
            "opencv": ("error", "M is not a valid ONNX model: Nodes in a graph must be topologically sorted"),
        },
    ),
    "cut-short": (
        _unchanged,
        dict.fromkeys(("reference", *ENGINES), ("error", "M (4000 bytes) is not an ONNX file, or it is cut short: ")),
    ),
}
EXPECTED = [
    pytest.param(bundle, environment, *outcome, id=f"{bundle}-{environment}")
    for bundle, (_, outcomes) in CASES.items()
    for environment, outcome in outcomes.items()
]


def _bundle(folder: Path, name: str, spoil: Callable[[onnx.ModelProto], None]) -> Bundle:
    path = folder / f"{name}.onnx"
    contract = small_classifier(path)
    model = onnx.load(str(path))
    spoil(model)
    onnx.save(model, str(path))
    if name == "cut-short":
        path.write_bytes(path.read_bytes()[:4000])
    return Bundle(name=name, path=str(path), sha256=_digest(path), contract=contract)


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except ModelFileError:
        return "0" * 64


def _pixels() -> Pixels:
    rng = np.random.default_rng(0)
    items = [Item(f"i{row}", row % 5) for row in range(ITEMS)]
    return Pixels("d", tuple("abcde"), items, rng.integers(0, 256, (ITEMS, 8, 8, 3), dtype=np.uint8))


def _environments(deviations: dict[str, dict[str, Any]]) -> tuple[Environment, ...]:
    return tuple(
        Environment(name=name, kind="equivalent", summary="s", deviations=each) for name, each in deviations.items()
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Every model under every engine, in one matrix."""
    folder = tmp_path_factory.mktemp("cells")
    bundles = tuple(_bundle(folder, name, spoil) for name, (spoil, _) in CASES.items())
    workspace = Workspace(folder / "run")
    evaluate(workspace, Matrix(bundles, _environments(ENGINES), {"task": TaskItems(_pixels())}), debug=True)
    return workspace


def _cell(workspace: Workspace, bundle: str, environment: str) -> tuple[CellInfo, int]:
    found = workspace.read_cell(bundle, environment)
    assert found is not None, (bundle, environment)
    return found[0], len(found[1])


@pytest.mark.parametrize(("bundle", "environment", "status", "reason"), EXPECTED)
def test_a_runtime_that_cannot_run_a_model_says_what_stopped_it(
    bundle: str, environment: str, status: str, reason: str, run: Workspace
) -> None:
    """A runtime lacks something: skipped. The file is broken: an error."""
    info, records = _cell(run, bundle, environment)
    said = re.sub(rf"\S*{bundle}\.onnx", "M", info.reason)
    assert (info.status, said[: len(reason)]) == (status, reason)
    assert records == (ITEMS if status == OK else 0)


def test_no_cell_takes_another_with_it(run: Workspace) -> None:
    assert len(list(run.records.iterdir())) == len(CASES) * (1 + len(ENGINES))
    reference, others = _scores(run, "good", "reference"), [_scores(run, "good", name) for name in ENGINES]
    assert all(each == reference for each in others)


def _scores(workspace: Workspace, bundle: str, environment: str) -> list[int]:
    found = workspace.read_cell(bundle, environment)
    assert found is not None
    return [int(prediction) for prediction in found[1].prediction]


# ------------------------------------------------------------------- the operator, by bisection


@pytest.mark.parametrize("stops", range(7))
def test_the_node_that_stops_a_runtime_is_found(stops: int, tmp_path: Path) -> None:
    small_classifier(tmp_path / "m.onnx")
    model = onnx.load(str(tmp_path / "m.onnx"))
    asked: list[int] = []

    def runs(part: onnx.ModelProto, output: str) -> bool:
        count = len(part.graph.node) - 1  # the last one hands out what the others made
        asked.append(count)
        assert part.graph.node[-1].input[0] == model.graph.node[count - 1].output[0]
        assert [given.name for given in part.graph.output] == [output]
        return count <= stops

    assert first_that_fails(model, runs).name == model.graph.node[stops].name
    assert len(asked) <= 3
    assert len(model.graph.node) == 7


# -------------------------------------------------------------------------- settings in vain


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"hint": "throughput"},
            "runtime.hint = throughput means nothing to onnxruntime, which heeds arena, batch_size, execution, "
            "inter_op_threads, intra_op_threads, optimization, order, provider",
        ),
        (
            {"engine": "openvino", "optimization": "basic", "arena": False},
            "runtime.optimization = basic, runtime.arena = False means nothing to openvino, which heeds batch_size, "
            "hint, intra_op_threads, order, precision_hint",
        ),
        (
            {"engine": "onnx-reference", "intra_op_threads": 1},
            "runtime.intra_op_threads = 1 means nothing to onnx-reference, which heeds batch_size, order",
        ),
        (
            {"inter_op_threads": 2},
            "runtime.inter_op_threads = 2 means nothing while nodes run one after another; set runtime.execution = "
            "parallel as well",
        ),
    ],
)
def test_a_setting_that_an_engine_lacks_is_never_passed_over(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    contract = small_classifier(tmp_path / "m.onnx")
    with pytest.raises(NotApplicableError) as caught:
        open_runtime(Runtime.model_validate(settings), tmp_path / "m.onnx", contract)
    assert str(caught.value) == reason


# ------------------------------------------------------------------ what a session makes of them


def test_openvino_names_the_streams_and_threads_that_it_chose(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    contract = small_classifier(tmp_path / "m.onnx")
    for hint, threads in (("latency", 1), ("latency", 2), ("throughput", 2)):
        runtime = Runtime.model_validate({"engine": "openvino", "hint": hint, "intra_op_threads": threads})
        with open_runtime(runtime, tmp_path / "m.onnx", contract) as session:
            notes = session.executed().notes
        assert notes["threads"] <= threads
        assert notes["streams"] == (1 if hint == "latency" else notes["streams"])
        assert 1 <= notes["streams"] <= threads


def test_onnxruntime_is_given_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    made: list[Any] = []
    real = ort.InferenceSession

    def session(path: str, options: Any, **named: Any) -> Any:
        made.append((options, named))
        return real(path, options, **named)

    monkeypatch.setattr(ort, "InferenceSession", session)
    contract = small_classifier(tmp_path / "m.onnx")
    runtime = Runtime(execution="parallel", inter_op_threads=3, intra_op_threads=1, arena=False, optimization="basic")
    with open_runtime(runtime, tmp_path / "m.onnx", contract):
        options, named = made[0]
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.inter_op_num_threads, options.intra_op_num_threads) == (3, 1)
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert named["enable_fallback"] == 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_opencv_runs_with_the_threads_that_are_asked_for(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, met = small_classifier(tmp_path / "m.onnx"), []
    before = cv2.getNumThreads()
    with open_runtime(Runtime(engine="opencv-dnn", intra_op_threads=threads), tmp_path / "m.onnx", contract) as session:
        monkeypatch.setattr(
            "gapshift.envs.runtimes.opencv._forward",
            lambda _net, batch, _outputs: met.append(cv2.getNumThreads()) or np.zeros((len(batch), 5), np.float32),
        )
        session.predict(INPUTS)
    assert met == [threads]
    assert cv2.getNumThreads() == before


def test_opencv_names_the_engine_that_runs_the_model(tmp_path: Path) -> None:
    contract = small_classifier(tmp_path / "m.onnx")
    with open_runtime(Runtime(engine="opencv-dnn"), tmp_path / "m.onnx", contract) as session:
        graph = session.executed()
    assert graph.notes == {"dnn_engine": "new" if hasattr(cv2.dnn, "ENGINE_NEW") else "classic"}
    assert graph.formats() == {"float32": 3}


# --------------------------------------------------------------------------------------- torch


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contract, torch.nn.Module]:
    """A folder like a study's: one exported network, its checkpoint beside it."""
    folder = tmp_path_factory.mktemp("study")
    spec = ModelSpec(family="cnn", shape=(3, 8, 8), classes=5, width=4)
    network, path = build_spec(spec, seed=1), folder / "bundles" / "net.onnx"
    contract = Contract(
        preprocessing=Preprocessing(resize=Resize(size=(8, 8))),
        model=ModelInterface(input="input", output="logits", labels=tuple("abcde")),
    )
    path.parent.mkdir()
    to_onnx(network, torch.from_numpy(INPUTS), path, input_name="input", output_name="logits")
    stamp(path, contract, {"hashes": json.dumps({"weights": weights_digest(network)})})
    save_checkpoint(folder / "checkpoints" / "net.pt", network, spec, TrainingSettings())
    return folder, contract, network


@pytest.fixture
def study(exported: tuple[Path, Contract, torch.nn.Module], tmp_path: Path) -> tuple[Path, Contract, torch.nn.Module]:
    """Its own copy for each test: the network's file, contract and network."""
    folder, contract, network = exported
    shutil.copytree(folder, tmp_path / "study")
    return tmp_path / "study" / "bundles" / "net.onnx", contract, network


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_runs_the_network_that_was_exported(
    threads: int, study: tuple[Path, Contract, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, contract, network = study
    met: list[int] = []
    before = torch.get_num_threads()
    with open_runtime(Runtime(engine="torch", intra_op_threads=threads), path, contract) as session:
        scores, graph = session.predict(INPUTS), session.executed()
        monkeypatch.setattr(
            type(network), "forward", lambda _self, given: met.append(torch.get_num_threads()) or given[:, 0, 0, :5]
        )
        session.predict(INPUTS)
    assert met == [threads]
    assert torch.get_num_threads() == before
    monkeypatch.undo()
    assert np.allclose(scores, network.eval()(torch.from_numpy(INPUTS)).detach().numpy(), atol=1e-5)
    assert set(graph.nodes) == {("Conv2d", "float32"), ("Linear", "float32")}
    assert graph.notes["float32_matmul_precision"] == "highest"


def test_torch_without_a_checkpoint_says_where_it_looked(study: tuple[Path, Contract, torch.nn.Module]) -> None:
    path, contract, _ = study
    wanted = path.parent.parent / "checkpoints" / "net.pt"
    wanted.unlink()
    with pytest.raises(SkippedError) as caught:
        open_runtime(Runtime(engine="torch"), path, contract)
    assert str(caught.value) == (
        f"net.onnx has no checkpoint ({wanted} does not exist). torch runs the networks of a study, in the study's own "
        "folder; leave this environment out for other models."
    )


def test_torch_refuses_a_checkpoint_of_other_weights(study: tuple[Path, Contract, torch.nn.Module]) -> None:
    path, contract, _ = study
    spec = ModelSpec(family="cnn", shape=(3, 8, 8), classes=5, width=4)
    save_checkpoint(path.parent.parent / "checkpoints" / "net.pt", build_spec(spec, seed=2), spec, TrainingSettings())
    with pytest.raises(EvaluationError, match=r"net\.pt holds other weights than net\.onnx was exported from\. Put"):
        open_runtime(Runtime(engine="torch"), path, contract)


def test_torch_wants_the_digest_that_ties_a_checkpoint_to_a_file(
    study: tuple[Path, Contract, torch.nn.Module],
) -> None:
    path, contract, _ = study
    stamp(path, contract)
    assert "gapshift.hashes" not in describe(path).metadata
    with pytest.raises(SkippedError, match=r"net\.onnx carries no digest of its weights \(gapshift\.hashes\), so that"):
        open_runtime(Runtime(engine="torch"), path, contract)


def test_torch_is_not_applicable_to_a_converted_file(study: tuple[Path, Contract, torch.nn.Module]) -> None:
    path, contract, _ = study
    deviations = {
        "torch": {"runtime.engine": "torch"},
        "torch-int8": {"runtime.engine": "torch", "precision.format": "int8-dynamic"},
    }
    bundle = Bundle(name="net", path="bundles/net.onnx", sha256=_digest(path), contract=contract)
    workspace = Workspace(path.parent.parent)
    evaluate(workspace, Matrix((bundle,), _environments(deviations), {"task": TaskItems(_pixels())}), debug=True)
    assert _cell(workspace, "net", "torch")[0].status == "ok"
    assert _scores(workspace, "net", "torch") == _scores(workspace, "net", "reference")
    info, records = _cell(workspace, "net", "torch-int8")
    assert (info.status, records) == ("not_applicable", 0)
    assert info.reason == ("torch runs the checkpoint as trained; precision or graph deviations change the ONNX file")
