"""Every runtime under the published conformance suite, and what sessions refuse."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.envs.runtimes import RUNTIMES, available, open_runtime
from gapshift.envs.runtimes.base import Interface, Session
from gapshift.envs.runtimes.conformance import CHECKS, check_runtime, small_classifier
from gapshift.envs.runtimes.graph import ExecutedGraph
from gapshift.envs.runtimes.scripted import ScriptedSession
from gapshift.errors import ContractError, EvaluationError, ModelFileError, SkippedError, UnknownNameError
from gapshift.export.model_file import TensorDescription
from gapshift.schema import Contract, Domain, ModelInterface, OutputKind, Runtime, TextPreprocessing

CASES = [
    Runtime(),
    Runtime(optimization="extended"),
    Runtime(optimization="basic", intra_op_threads=1),
    Runtime(optimization="disabled"),
    Runtime(execution="parallel", inter_op_threads=2),
    Runtime(arena=False),
    Runtime(engine="onnx-reference"),
    Runtime(engine="openvino", precision_hint="f32"),
    Runtime(engine="openvino", precision_hint="f32", hint="throughput"),
    Runtime(engine="openvino"),
    Runtime(engine="opencv-dnn"),
    Runtime(engine="opencv-dnn", intra_op_threads=1),
]
INPUTS = np.random.default_rng(7).normal(size=(7, 3, 8, 8)).astype(np.float32)


def _present(runtime: Runtime) -> Runtime:
    try:
        available(runtime)
    except SkippedError as reason:
        pytest.skip(str(reason))
    return runtime


def _name(runtime: Runtime) -> str:
    deviations = runtime.model_dump(exclude_defaults=True, exclude={"engine"})
    return "-".join(str(word) for word in (runtime.engine, *(f"{key}={value}" for key, value in deviations.items())))


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Contract]:
    path = tmp_path / "small.onnx"
    return path, small_classifier(path)


def _scores(runtime: Runtime, path: Path, contract: Contract, inputs: NDArray[Any] = INPUTS) -> NDArray[Any]:
    with open_runtime(runtime, path, contract) as session:
        return session.predict(inputs)


# ------------------------------------------------------------------------ every runtime


@pytest.mark.parametrize("runtime", CASES, ids=_name)
def test_runtime_conforms(runtime: Runtime, model: tuple[Path, Contract]) -> None:
    _present(runtime)
    check_runtime(lambda: open_runtime(runtime, *model), INPUTS)


def test_every_registered_runtime_is_under_the_suite() -> None:
    """torch wants a checkpoint: it is put to it in test_families."""
    assert {runtime.engine for runtime in CASES} | {"torch"} == set(RUNTIMES)


@pytest.mark.parametrize("runtime", [c for c in CASES if c != Runtime(engine="openvino")], ids=_name)
def test_float32_runtimes_agree(runtime: Runtime, model: tuple[Path, Contract]) -> None:
    assert np.allclose(_scores(_present(runtime), *model), _scores(Runtime(), *model), atol=1e-5)


@pytest.mark.parametrize("runtime", CASES, ids=_name)
@pytest.mark.parametrize("batch", [1, 4])
def test_fixed_batch_is_filled_and_cut(runtime: Runtime, batch: int, tmp_path: Path) -> None:
    """Seven items through a model that takes one or four at a time: the same seven answers."""
    _present(runtime)
    fixed, free = tmp_path / "fixed.onnx", tmp_path / "free.onnx"
    contract = small_classifier(fixed, batch=batch)
    small_classifier(free)
    with open_runtime(runtime, fixed, contract) as session:
        assert session.fixed_batch == batch
        scores = session.predict(INPUTS)
    assert scores.shape == (7, 5)
    assert np.allclose(scores, _scores(runtime, free, contract), atol=2e-3)


@pytest.mark.parametrize("runtime", CASES, ids=_name)
def test_nan_passes_through(runtime: Runtime, model: tuple[Path, Contract]) -> None:
    inputs = INPUTS.copy()
    inputs[2] = np.nan
    finite = np.isfinite(_scores(_present(runtime), *model, inputs)).all(axis=1)
    assert finite[[0, 1, 3, 4, 5, 6]].all()
    # A ReLU may turn NaN into 0: only runtimes that keep it are held to it here.
    if runtime.engine == "onnx-reference":
        assert not finite[2]


@pytest.mark.parametrize("runtime", CASES, ids=_name)
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 8, 9), (2, 8, 8, 3), (3, 8, 8)])
def test_shape_that_the_model_refuses(runtime: Runtime, shape: tuple[int, ...], model: tuple[Path, Contract]) -> None:
    with pytest.raises(EvaluationError) as caught:
        _scores(_present(runtime), *model, np.zeros(shape, np.float32))
    assert str(caught.value) == (
        f"small.onnx takes input 'input' of shape (any, 3, 8, 8) and was given {shape}. "
        "Set preprocessing.resize.size, layout and color in the contract to what it takes."
    )


@pytest.mark.parametrize("runtime", CASES, ids=_name)
def test_dtype_that_the_model_refuses(runtime: Runtime, model: tuple[Path, Contract]) -> None:
    with pytest.raises(EvaluationError, match=r"takes input 'input' as float32 and was given float64\. Set preproc"):
        _scores(_present(runtime), *model, INPUTS.astype(np.float64))


# ------------------------------------------------------------------- models and contracts


def test_contract_names_an_absent_input(model: tuple[Path, Contract]) -> None:
    path, contract = model
    wrong = contract.model_copy(update={"model": contract.model.model_copy(update={"input": "pixels"})})
    with pytest.raises(ContractError, match=r"names input 'pixels', and .*small\.onnx has input\. Set model\.input"):
        open_runtime(Runtime(), path, wrong)


def test_contract_names_an_absent_output(model: tuple[Path, Contract]) -> None:
    path, contract = model
    wrong = contract.model_copy(update={"model": contract.model.model_copy(update={"output": "scores"})})
    with pytest.raises(ContractError, match=r"names output 'scores', and .* has logits\. Set model\.output"):
        open_runtime(Runtime(), path, wrong)


def test_labels_that_do_not_match_the_scores(model: tuple[Path, Contract]) -> None:
    path, contract = model
    wrong = contract.model_copy(update={"model": contract.model.model_copy(update={"labels": ("a", "b")})})
    with pytest.raises(EvaluationError, match=r"of shape \(7, 5\); expected \(7, 2\), one score per class\. Check"):
        _scores(Runtime(), path, wrong)


def test_file_that_is_not_onnx(tmp_path: Path, model: tuple[Path, Contract]) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(ModelFileError, match=r"text\.onnx \(11 bytes\) is not an ONNX file"):
        open_runtime(Runtime(), path, model[1])


def test_model_of_two_inputs(tmp_path: Path, model: tuple[Path, Contract]) -> None:
    two = onnx.load(str(model[0]))
    two.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    onnx.save(two, str(tmp_path / "two.onnx"))
    with pytest.raises(ContractError, match=r"takes 2 inputs \(input, mask\); models of one input are supported"):
        open_runtime(Runtime(), tmp_path / "two.onnx", model[1])


# ------------------------------------------------------------------------------- absence


def test_provider_that_this_build_lacks() -> None:
    lacking = next(name for name in ort.get_all_providers() if name not in ort.get_available_providers())
    with pytest.raises(SkippedError, match=rf"has no {lacking}; it has .*CPUExecutionProvider.*\. Set runtime\.prov"):
        available(Runtime(provider=lacking))


def test_a_provider_s_name_with_a_typo_gets_its_neighbour() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown provider 'CUDAExecutionProvder'\. Did you mean 'CUDAExecut"):
        available(Runtime(provider="CUDAExecutionProvder"))


def test_the_provider_of_a_remote_service_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: listed)
    with pytest.raises(SkippedError, match=r"Azure\w+ cannot be used here: calls models over a network: not used"):
        available(Runtime(provider=listed[0]))


class _GivesWay:
    """A session as ONNX Runtime's GPU build makes it on a machine without the device."""

    def __init__(self, *_args: object, **named: Any) -> None:
        self.named = named

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


class _Raises:
    """A session of a provider whose libraries are missing, which may or may not give way to another."""

    def __init__(self, *_args: object, enable_fallback: int = 1, **_named: object) -> None:
        if not enable_fallback:
            raise RuntimeError("libcudnn.so.9: cannot open shared object file")

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("session", "why"), [(_GivesWay, "no device"), (_Raises, "no device or its libraries are missing")]
)
def test_a_provider_that_is_built_in_but_does_not_start_is_skipped(
    session: type, why: str, model: tuple[Path, Contract], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU build lists CUDA everywhere and would quietly run on the CPU instead."""
    cuda = "CUDAExecutionProvider"
    monkeypatch.setattr(ort, "get_available_providers", lambda: [cuda, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", session)
    with pytest.raises(SkippedError) as caught:
        open_runtime(Runtime(provider=cuda), *model)
    assert str(caught.value) == f"{cuda} cannot be used here: {why}. Run `gapshift doctor` for what does."


def test_a_provider_never_gives_way_to_another_for_one_model(
    model: tuple[Path, Contract], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts, but not for this model."""
    cuda = "CUDAExecutionProvider"
    monkeypatch.setattr(ort, "get_available_providers", lambda: [cuda, "CPUExecutionProvider"])
    monkeypatch.setattr("gapshift.envs.runtimes.onnxruntime.why_not", lambda _provider: None)
    with pytest.raises(EvaluationError, match=r"CUDAExecutionProvider"):
        open_runtime(Runtime(provider=cuda), *model)


def test_openvino_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SkippedError, match=r"OpenVINO is not installed here\. Install it with `pip install gapshift\["):
        available(Runtime(engine="openvino"))


def test_unknown_engine_is_named_with_its_neighbours() -> None:
    runtime = Runtime.model_construct(engine="onnxruntim")
    with pytest.raises(UnknownNameError, match=r"Unknown runtime 'onnxruntim'\. Did you mean 'onnxruntime'"):
        available(runtime)


def test_no_runtime_tries_the_network(model: tuple[Path, Contract], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a runtime opened a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    _scores(_present(Runtime(engine="openvino")), *model)


# ------------------------------------------------------------------------------ scripted


def _sums(batch: NDArray[Any]) -> NDArray[Any]:
    return np.stack([batch.sum(axis=(1, 2, 3)), batch.max(axis=(1, 2, 3))], axis=1)


def test_scripted_session_conforms() -> None:
    check_runtime(lambda: ScriptedSession(_sums, shape=(None, 3, 8, 8)), INPUTS)


def test_scripted_rows_are_dealt_in_order_and_again_after_open() -> None:
    rows = np.arange(8.0).reshape(4, 2)
    session = ScriptedSession(rows)
    for _ in range(2):
        with session:
            parts = [session.predict(np.zeros((n, 1))) for n in (1, 3)]
        assert np.array_equal(np.concatenate(parts), rows)


def test_scripted_session_runs_out_of_rows() -> None:
    with ScriptedSession([[0.0, 1.0]]) as session, pytest.raises(EvaluationError, match="holds 1 rows and row 2 was"):
        session.predict(np.zeros((2, 1)))


def test_scripted_nan_and_failures() -> None:
    failing = ScriptedSession(_sums, failures={1: RuntimeError("device lost")})
    with failing as session:
        assert np.isnan(session.predict(np.full((1, 1, 2, 2), np.nan))).all()
        with pytest.raises(EvaluationError, match=r"scripted failed on scripted with an input of .*: device lost\."):
            session.predict(INPUTS)


def test_scripted_refusal_to_open() -> None:
    with pytest.raises(EvaluationError, match="scripted cannot load scripted: no memory"):
        ScriptedSession(_sums, refuses=MemoryError("no memory")).open()


# ------------------------------------------------------------------ text, audio, control


def _scripted(answer: Any, shape: tuple[int | None, ...], domain: Domain, kind: OutputKind = "logits") -> Any:
    return lambda: ScriptedSession(answer, shape=shape, classes=2, domain=domain, output_kind=kind)


def _both_ends(ids: NDArray[Any]) -> NDArray[Any]:
    return np.stack([ids, -ids], axis=1).astype(np.float32)


TOKENS = np.random.default_rng(3).integers(0, 9, (7, 6))


def test_scripted_spans_conform_at_every_length() -> None:
    for inputs in (TOKENS, TOKENS[:, :4]):
        check_runtime(_scripted(_both_ends, (None, None), "text", "spans"), inputs)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            lambda ids: _both_ends(ids)[:, :, 1:],
            "spans",
            r"shape \(7, 2, 5\); expected \(7, 2, 6\), a start and an end",
        ),
        (lambda ids: _both_ends(ids)[:, 0], "spans", r"shape \(7, 6\); expected \(7, 2, 6\)"),
        (_both_ends, "logits", r"shape \(7, 2, 6\); expected \(7, 2\), one score per class\. Check model.output and"),
        (lambda ids: ids[:, :3] * 1.0, "actions", r"shape \(7, 3\); expected \(7, 2\), one score per action\."),
        (lambda ids: ids[:3, :2] * 1.0, "actions", r"shape \(3, 2\); expected \(7, 2\)"),
    ],
)
def test_answers_of_another_shape_are_refused(answer: Any, kind: OutputKind, message: str) -> None:
    with _scripted(answer, (None, None), "text", kind)() as session, pytest.raises(EvaluationError, match=message):
        session.predict(TOKENS)


@pytest.mark.parametrize(
    ("domain", "takes", "given", "keys"),
    [
        ("text", (None, 8), (2, 6), "preprocessing.max_length"),
        ("audio", (None, 40, 101), (2, 40, 99), "preprocessing.mels, duration, sample_rate, window_length and hop_"),
        ("control", (None, 4, 2), (2, 3, 2), "preprocessing.window"),
    ],
)
def test_a_misfit_names_the_domain_s_own_keys(
    domain: Domain, takes: tuple[int | None, ...], given: tuple[int, ...], keys: str
) -> None:
    with _scripted(_sums, takes, domain)() as session, pytest.raises(EvaluationError, match=f"Set {keys}.* in the con"):
        session.predict(np.zeros(given, np.float32))


@pytest.mark.parametrize(
    "runtime",
    [Runtime(), Runtime(engine="onnx-reference"), Runtime(engine="openvino"), Runtime(engine="opencv-dnn")],
    ids=_name,
)
def test_token_ids_are_narrowed_for_a_model_of_int32(runtime: Runtime, tmp_path: Path) -> None:
    path, contract = _counts_tokens(tmp_path / "m.onnx")
    with open_runtime(_present(runtime), path, contract) as session:
        assert session.predict(TOKENS).tolist() == [[row.sum(), row.max()] for row in TOKENS]
        with pytest.raises(EvaluationError, match=r"as int32 and was given float32\. Export the model with int64 or"):
            session.predict(TOKENS.astype(np.float32))


def _counts_tokens(path: Path) -> tuple[Path, Contract]:
    """ids (n, L) int32 -> the sum and the largest of every row."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["sums"]),
        helper.make_node("ReduceMax", ["real", "axis"], ["tops"]),
        helper.make_node("Concat", ["sums", "tops"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["n", "length"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([1]), "axis")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    interface = ModelInterface(input="ids", output="scores", labels=("sum", "top"))
    return path, Contract(domain="text", preprocessing=TextPreprocessing(max_length=6), model=interface)


# ------------------------------------------------------- the suite itself can tell failure


def _broken(answer: Any) -> Any:
    return lambda: ScriptedSession(answer, shape=(None, 3, 8, 8))


class _Drifting:
    """Answers differently every time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        self.calls += 1
        return _sums(batch) + self.calls


def _batch_dependent(batch: NDArray[Any]) -> NDArray[Any]:
    return _sums(batch) + len(batch)


def _writes_into_its_input(batch: NDArray[Any]) -> NDArray[Any]:
    batch += 1
    return np.zeros((len(batch), 2))


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (_Drifting(), "repeats_are_equal"),
        (_batch_dependent, "batches_may_be_split"),
        (_writes_into_its_input, "inputs_are_left_alone"),
        (lambda batch: _sums(batch) + np.inf, "finite_inputs_give_finite_scores"),
        (lambda batch: _sums(batch) + np.array_equal(batch[0], INPUTS[-1]), "a_row_s_place_does_not_matter"),
    ],
)
def test_conformance_suite_finds_a_broken_runtime(answer: Any, check: str) -> None:
    with pytest.raises(AssertionError, match=check):
        check_runtime(_broken(answer), INPUTS)


@final
class _Greedy(Session):
    """Sets things for the whole process, or counts how often it was opened."""

    engine = "greedy"

    def __init__(self, fault: str) -> None:
        super().__init__(Interface("greedy", TensorDescription("input", (None, 3, 8, 8), "float32"), "scores", 2))
        self._fault, self._opened, self._refused = fault, 0, 0
        self._open_now = _OPEN

    @staticmethod
    def available(runtime: Runtime) -> None:
        del runtime

    def _open(self) -> None:
        self._opened += 1
        self._open_now.append(self)

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        if self._fault == "threads":
            torch.set_num_threads(torch.get_num_threads() + 1)
        shift = {"shared": len(self._open_now) > 1, "reopened": self._opened > 1}.get(self._fault, 0)
        return _sums(batch) + shift

    def _close(self) -> None:
        self._open_now.remove(self)

    def _executed(self) -> ExecutedGraph:
        return ExecutedGraph(nodes=(), providers={"greedy": 1})


_OPEN: list[_Greedy] = []


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("shared", "two_sessions_do_not_disturb_each_other"),
        ("reopened", "reopening_gives_the_same_answers"),
        ("threads", r"the_process_is_left_as_it_was: .* torch\.get_num_threads: \d+ -> \d+"),
    ],
)
def test_conformance_suite_finds_what_a_session_does_to_others(fault: str, check: str) -> None:
    before = torch.get_num_threads()
    try:
        with pytest.raises(AssertionError, match=check):
            check_runtime(lambda: _Greedy(fault), INPUTS)
    finally:
        torch.set_num_threads(before)
        _OPEN.clear()


def test_conformance_suite_finds_a_session_that_accepts_any_rank() -> None:
    with pytest.raises(AssertionError, match="wrong_rank_is_refused"):
        check_runtime(lambda: ScriptedSession(lambda batch: np.zeros((len(batch), 2))), INPUTS)


def test_conformance_suite_wants_enough_rows() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        check_runtime(_broken(_sums), INPUTS[:2])
    assert len(CHECKS) == len({check.__name__ for check in CHECKS})


@pytest.mark.parametrize("runtime", CASES, ids=_name)
def test_a_model_with_its_weights_in_another_file_runs_alike(runtime: Runtime, model: tuple[Path, Contract]) -> None:
    _present(runtime)
    path, contract = model
    apart = path.with_name("apart.onnx")
    onnx.save_model(onnx.load(path), str(apart), save_as_external_data=True, location="apart.bin", size_threshold=0)
    with open_runtime(runtime, path, contract) as session:
        expected, executed = session.predict(INPUTS), session.executed()
    with open_runtime(runtime, apart, contract) as session:
        np.testing.assert_array_equal(session.predict(INPUTS), expected)
        assert session.executed() == executed
