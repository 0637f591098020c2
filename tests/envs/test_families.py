"""Every family of text, audio and control: export, parity at two lengths, runtimes, number formats, execution truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from gapshift.envs.execution import truth
from gapshift.envs.runtimes import available, open_runtime
from gapshift.envs.runtimes.conformance import check_runtime
from gapshift.errors import EvaluationError, NotApplicableError, SkippedError
from gapshift.export.bundle import weights_digest
from gapshift.export.model_file import describe
from gapshift.export.parity import Parity, check_parity
from gapshift.export.precision import variant
from gapshift.export.stamp import check_against, read_contract, stamp
from gapshift.export.torch_onnx import to_onnx
from gapshift.schema import (
    AnyPreprocessing,
    AudioPreprocessing,
    Contract,
    ControlPreprocessing,
    Domain,
    ModelInterface,
    OutputKind,
    Precision,
    Runtime,
    TextPreprocessing,
)
from gapshift.train.checkpoint import save_checkpoint
from gapshift.train.models import FAMILIES, ModelSpec, build_spec
from gapshift.train.predict import scores
from gapshift.train.settings import TrainingSettings

TOKENS, LENGTH = 40, 12
CASES = ["lstm", "gru", "text-transformer", "audio-cnn", "audio-transformer", "controller"]
SPANS = ["lstm spans", "gru spans", "text-transformer spans"]
ALL = [*CASES, *SPANS]
AXIS: dict[Domain, int] = {"text": 1, "audio": 2, "control": 1}
PREPROCESSING: dict[Domain, AnyPreprocessing] = {
    "text": TextPreprocessing(max_length=LENGTH),
    "audio": AudioPreprocessing(mels=8),
    "control": ControlPreprocessing(window=6, offset=(0.0,) * 4, scale=(1.0,) * 4),
}
RUNTIMES = [
    Runtime(intra_op_threads=1),
    Runtime(engine="onnx-reference"),
    Runtime(engine="openvino", precision_hint="f32", intra_op_threads=1),
    Runtime(engine="opencv-dnn", intra_op_threads=1),
    Runtime(engine="torch", intra_op_threads=1),
]


def token_ids(rows: int, seed: int) -> NDArray[np.int64]:
    """Right-padded: row i keeps 4 to LENGTH tokens."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, TOKENS, (rows, LENGTH))
    return np.where(np.arange(LENGTH) < rng.integers(4, LENGTH + 1, (rows, 1)), ids, 0)


def inputs_of(domain: Domain, rows: int = 9, seed: int = 1) -> NDArray[Any]:
    if domain == "text":
        return token_ids(rows, seed)
    shape = (rows, 8, 40) if domain == "audio" else (rows, 6, 4)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@dataclass(frozen=True)
class Exported:
    model: nn.Module
    path: Path
    contract: Contract
    inputs: NDArray[Any]
    axis: int
    domain: Domain

    def cut(self) -> NDArray[Any]:
        size = self.inputs.shape[self.axis] * 2 // 3
        return np.ascontiguousarray(np.take(self.inputs, np.arange(size), axis=self.axis))


def contract_of(domain: Domain, spans: bool) -> Contract:
    kind: OutputKind = "spans" if spans else "actions" if domain == "control" else "logits"
    labels = ("start", "end") if spans else ("a", "b", "c")
    interface = ModelInterface(input="given", output="scores", output_kind=kind, labels=labels)
    return Contract(domain=domain, preprocessing=PREPROCESSING[domain], model=interface)


def exported_case(case: str, path: Path) -> Exported:
    """The model of a case in ``path``, in a folder like a study's: its checkpoint lies in ../checkpoints."""
    name, _, head = case.partition(" ")
    family = FAMILIES[name]
    inputs, contract = inputs_of(family.domain), contract_of(family.domain, head == "spans")
    spec = ModelSpec.model_validate(
        {
            "family": name,
            "shape": inputs.shape[1:],
            "classes": len(contract.model.labels),
            "width": 8,
            "vocabulary": TOKENS if family.domain == "text" else 0,
            "head": head or "classes",
        }
    )
    model, axis = build_spec(spec, seed=0), AXIS[family.domain]
    to_onnx(
        model,
        torch.from_numpy(inputs),
        path,
        input_name="given",
        output_name="scores",
        length_axis=axis,
        recurrent=family.recurrent,
    )
    stamp(path, contract, {"hashes": json.dumps({"weights": weights_digest(model)})})
    save_checkpoint(path.parent.parent / "checkpoints" / "model.pt", model, spec, TrainingSettings())
    return Exported(model, path, contract, inputs, axis, family.domain)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    made: dict[str, Exported] = {}

    def get(case: str) -> Exported:
        if case not in made:
            made[case] = exported_case(case, tmp_path_factory.mktemp("family") / "bundles" / "model.onnx")
        return made[case]

    return get


def test_every_sequence_family_is_here() -> None:
    assert set(CASES) == {family.name for family in FAMILIES.values() if family.sequence}


# ------------------------------------------------------------------------- export, parity


@pytest.mark.parametrize("case", ALL)
def test_export_keeps_batch_and_length_and_answers_as_the_network(
    case: str, exported: Callable[[str], Exported]
) -> None:
    it = exported(case)
    graph = describe(it.path)
    expected: list[int | None] = [None, *it.inputs.shape[1:]]
    expected[it.axis] = None
    assert graph.inputs[0].shape == tuple(expected)
    assert graph.inputs[0].dtype == it.inputs.dtype.name
    assert graph.outputs[0].shape == ((None, 2, None) if "spans" in case else (None, 3))
    check_against(it.contract, graph)
    assert b"stack_trace" not in it.path.read_bytes()  # it would hold paths of the machine that exported
    parity = check_parity(it.model, it.path, it.inputs, it.contract, length_axis=it.axis)
    whole = it.inputs.shape[it.axis]
    assert parity == Parity(9, parity.max_abs_difference, 0, (whole, whole * 2 // 3))
    assert parity.max_abs_difference < 2e-6


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
def test_many_recurrent_networks_of_one_process_keep_their_length(
    cell: type[nn.LSTM] | type[nn.GRU], tmp_path: Path
) -> None:
    for index in range(3):
        layer = cell(2, 3, batch_first=True)
        network = nn.Sequential(layer, _First())
        to_onnx(network, torch.zeros(2, 5, 2), tmp_path / f"{index}.onnx", length_axis=1, recurrent=True)
        contract = contract_of("control", spans=False).model_copy(
            update={"model": ModelInterface(input="input", output="logits", output_kind="actions", labels=tuple("abc"))}
        )
        check_parity(network, tmp_path / f"{index}.onnx", _walk(7), contract, length_axis=1)


class _First(nn.Module):
    """Of a recurrent layer's (states, last): the last state."""

    def forward(self, answer: tuple[torch.Tensor, Any]) -> torch.Tensor:
        return answer[0][:, -1]


def _walk(rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(4).normal(size=(rows, 5, 2)).astype(np.float32)


class _CountsInPython(nn.Module):
    """Works at every length; traced, it keeps the example's."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        ages = torch.arange(int(ids.shape[1])).float()
        return torch.stack([(ids.float() * ages).sum(1), -ids.float().sum(1)], dim=1)


def test_parity_finds_a_length_that_was_frozen_inside_the_graph(tmp_path: Path) -> None:
    network = nn.Sequential(_CountsInPython(), nn.Linear(2, 3))
    contract = contract_of("text", spans=False)
    to_onnx(
        network,
        torch.from_numpy(token_ids(2, 0)),
        tmp_path / "m.onnx",
        input_name="given",
        output_name="scores",
        length_axis=1,
        recurrent=True,
    )
    with pytest.raises(EvaluationError, match=r"m\.onnx fails on a batch of 1 inputs of \(8,\): .*Do not deploy"):
        check_parity(network, tmp_path / "m.onnx", token_ids(9, 0), contract, length_axis=1)


class _OneLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(LENGTH, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.score(ids.float())
        return logits


def test_a_network_of_one_length_is_not_exported_with_a_free_one(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"Cannot export _OneLength to ONNX \(opset 20, dynamic batch and length"):
        to_onnx(_OneLength(), torch.from_numpy(token_ids(2, 0)), tmp_path / "m.onnx", length_axis=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("port", "axis"), [("input", 1), ("output", 2)])
def test_a_frozen_length_is_named(port: str, axis: int, exported: Callable[[str], Exported], tmp_path: Path) -> None:
    it = exported("gru spans")
    loaded = onnx.load(it.path)
    getattr(loaded.graph, port)[0].type.tensor_type.shape.dim[axis].dim_value = LENGTH
    onnx.save(loaded, tmp_path / "frozen.onnx")
    with pytest.raises(EvaluationError, match=r"frozen\.onnx froze the length: \w+ \(None, .*12\)"):
        check_parity(it.model, tmp_path / "frozen.onnx", it.inputs, it.contract, length_axis=1)


def test_parity_of_spans_looks_at_starts_and_ends(exported: Callable[[str], Exported]) -> None:
    """The end alone differs, and a mask's -10,000 in the row's range does not make it a tie."""
    it = exported("gru spans")
    with pytest.raises(EvaluationError, match=r"answers \d of 9 items differently from the network \(first: item"):
        check_parity(_EndMoves(it.model), it.path, it.inputs, it.contract, length_axis=1)


class _EndMoves(nn.Module):
    """The best end falls to half a point below the second best."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(ids)
        top = logits.topk(2, dim=2)
        moved = logits[:, 1].scatter(1, top.indices[:, 1, :1], top.values[:, 1, 1:] - 0.5)
        return torch.stack([logits[:, 0], moved], dim=1)


def test_left_padded_texts_keep_their_tokens_when_cut(exported: Callable[[str], Exported]) -> None:
    it = exported("text-transformer")
    left = PREPROCESSING["text"].model_copy(update={"padding_side": "left"})
    ids = token_ids(9, 3)[:, ::-1].copy()
    ids[0, :-1] = 0
    contract = it.contract.model_copy(update={"preprocessing": left})
    assert check_parity(it.model, it.path, ids, contract, length_axis=1).lengths == (12, 8)


def test_a_single_step_has_no_second_length(exported: Callable[[str], Exported]) -> None:
    it = exported("controller")
    with pytest.raises(EvaluationError, match=r"length 2 or more to try a second one; got 1"):
        check_parity(it.model, it.path, it.inputs[:, :1], it.contract, length_axis=1)


def test_a_vocabulary_of_thousands_travels_in_the_file(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    it = exported("gru")
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"wörd{k}" for k in range(6000)))
    contract = it.contract.model_copy(update={"preprocessing": TextPreprocessing(vocabulary=words)})
    path = tmp_path / "m.onnx"
    path.write_bytes(it.path.read_bytes())
    stamp(path, contract)
    assert read_contract(path) == contract
    with open_runtime(RUNTIMES[0], path, contract) as session:
        assert session.predict(it.inputs).shape == (9, 3)


# ------------------------------------------------------------------------------- runtimes


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.engine)
@pytest.mark.parametrize("case", ALL)
def test_every_runtime_conforms_at_two_lengths(
    case: str, runtime: Runtime, exported: Callable[[str], Exported]
) -> None:
    try:
        available(runtime)
    except SkippedError as reason:
        pytest.skip(str(reason))
    it = exported(case)
    check_runtime(lambda: open_runtime(runtime, it.path, it.contract), it.inputs)
    with open_runtime(runtime, it.path, it.contract) as session:
        for inputs in (it.inputs, it.cut()):
            assert np.allclose(session.predict(inputs), scores(it.model, inputs), atol=1e-5)
        execution = truth(session, it.path, Precision(), runtime)
    assert (execution.requested, execution.executed, execution.matches) == ("float32", "float32", True)


# --------------------------------------------------------------------------------- formats

TRUTHS = {
    # What ONNX Runtime runs on a CPU; None: a model of this kind cannot be had in this format.
    ("float16", "*"): "float32",
    ("bfloat16-emulated", "lstm"): None,
    ("bfloat16-emulated", "gru"): None,
    ("bfloat16-emulated", "*"): "float32 arithmetic, bfloat16 rounding",
    ("int8-dynamic", "lstm"): "int8",
    ("int8-dynamic", "gru"): "float32 1 of 2 nodes, int8 1 of 2, GRU in float32",
    ("int8-dynamic", "text-transformer"): "int8 9 of 13 nodes, float32 4 of 13",
    ("int8-dynamic", "audio-cnn"): "int8",
    ("int8-dynamic", "audio-transformer"): "int8 10 of 14 nodes, float32 4 of 14",
    ("int8-dynamic", "controller"): "int8 10 of 14 nodes, float32 4 of 14",
    ("int8-qdq", "lstm"): "float32 1 of 2 nodes, int8 1 of 2, LSTM in float32",
    ("int8-qdq", "gru"): "float32 1 of 2 nodes, int8 1 of 2, GRU in float32",
    ("int8-qdq", "*"): "int8",
}
FORMATS = ["float16", "bfloat16-emulated", "int8-dynamic", "int8-qdq"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", ALL)
def test_a_variant_answers_nearly_as_the_model_and_says_what_ran(
    case: str, form: str, exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    it, precision, out = exported(case), Precision.model_validate({"format": form}), tmp_path / "variant.onnx"
    expected = TRUTHS.get((form, case.split()[0]), TRUTHS.get((form, "*")))
    calibration = [inputs_of(it.domain, rows=16, seed=seed) for seed in (5, 6)]
    if expected is None:
        with pytest.raises(NotApplicableError, match=r"to bfloat16-emulated: the graph has (LSTM|GRU), whose state"):
            variant(it.path, precision, out, calibration=calibration, input_name="given")
        assert not out.exists()
        return
    variant(it.path, precision, out, calibration=calibration, input_name="given")
    assert describe(out).inputs == describe(it.path).inputs
    assert describe(out).outputs[0].dtype == "float32"
    with open_runtime(RUNTIMES[0], out, it.contract) as session:
        for inputs in (it.inputs, it.cut()):
            _close(session.predict(inputs), scores(it.model, inputs))
        execution = truth(session, out, precision, RUNTIMES[0])
    assert (execution.executed, execution.matches) == (expected, form != "float16")


def _close(got: NDArray[Any], expected: NDArray[Any]) -> None:
    """Within 15% of the range of scores; what a mask covers stays covered."""
    seen = expected > -1000
    assert np.abs(got - expected)[seen].max() < 0.15 * np.ptp(expected[seen])
    assert (got[~seen] < -1000).all()


def test_the_embedding_is_quantised_too(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    out = tmp_path / "variant.onnx"
    variant(exported("gru").path, Precision(format="int8-dynamic"), out, calibration=None, input_name="given")
    stored = {tuple(t.dims): t.data_type for t in onnx.load(out).graph.initializer}
    assert stored[TOKENS, 8] == onnx.TensorProto.UINT8


def test_an_operator_that_the_reference_evaluator_lacks_is_skipped_by_name(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    it, out = exported("lstm"), tmp_path / "variant.onnx"
    variant(it.path, Precision(format="int8-dynamic"), out, calibration=None, input_name="given")
    with pytest.raises(SkippedError, match=r"cannot load variant\.onnx: it has no operator \S*DynamicQuantizeLSTM\."):
        open_runtime(Runtime(engine="onnx-reference"), out, it.contract)


def test_static_int8_of_texts_wants_one_length(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    mixed = [token_ids(4, 0), token_ids(4, 1)[:, :8]]
    with pytest.raises(EvaluationError, match=r"hold inputs of shapes \[\(8,\), \(12,\)\]\. Prepare all to one length"):
        variant(
            exported("gru").path,
            Precision(format="int8-qdq"),
            tmp_path / "q.onnx",
            calibration=mixed,
            input_name="given",
        )


def test_converting_leaves_nothing_in_the_working_directory(
    exported: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for form in ("int8-dynamic", "int8-qdq"):
        variant(
            exported("controller").path,
            Precision.model_validate({"format": form}),
            tmp_path / "out" / f"{form}.onnx",
            calibration=[inputs_of("control", rows=8)],
            input_name="given",
        )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
