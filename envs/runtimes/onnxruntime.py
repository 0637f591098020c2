"""ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from gapshift.envs.runtimes.base import Session, interface_of
from gapshift.envs.runtimes.graph import COMPUTE_OPERATORS, ExecutedGraph, executed_nodes, roundings
from gapshift.errors import NotApplicableError, SkippedError, UnknownNameError
from gapshift.schema import Contract, Runtime

_CPU = "CPUExecutionProvider"
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
_UNTRIED = {"AzureExecutionProvider": "calls models over a network: not used here"}


@final
class OnnxRuntimeSession(Session):
    """One provider and threads that do not spin while they wait. What the provider has no kernel for falls to the
    CPU provider, node by node, and ``executed`` names it; a provider never gives way to another as a whole."""

    engine = "onnxruntime"
    heeds: ClassVar[frozenset[str]] = frozenset(
        ["provider", "optimization", "intra_op_threads", "inter_op_threads", "execution", "arena"]
    )
    refusals = (
        (r"Could not find an implementation for (\S+) node", "operator {}"),
        (r"(\S+?)\(-?\d+\) is not a registered function/op", "operator {}"),
        (r"No Op registered for (\S+) with domain_version of (\d+)", "operator {} in opset {}"),
        (r"Type '([^']+)' of input parameter \S+ of operator \((\S+)\)", "operator {1} for {0}"),
        (r"Opset (\d+) is under development.* domain (\S+) is till opset (\d+)", "opset {} of {} (its newest is {})"),
        (r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", "IR version {} (its newest is {})"),
    )

    def __init__(self, runtime: Runtime, model: Path, contract: Contract) -> None:
        super().__init__(interface_of(model, contract))
        self._runtime = runtime
        self._model = model
        self._session: Any = None

    @staticmethod
    def available(runtime: Runtime) -> None:
        provider = runtime.provider
        known, built = _library().get_all_providers(), _library().get_available_providers()
        if provider not in (*known, *built):
            raise UnknownNameError("provider", provider, (*known, *built), "Set runtime.provider to one of these.")
        if provider not in built:
            raise SkippedError(
                f"This ONNX Runtime has no {provider}; it has {', '.join(built)}. "
                "Set runtime.provider to one of these, or install the build of onnxruntime that has it."
            )
        problem = None if provider == _CPU else why_not(provider)
        if problem:
            raise SkippedError(f"{provider} cannot be used here: {problem}. Run `gapshift doctor` for what does.")

    def _open(self) -> None:
        if self._runtime.inter_op_threads != 1 and self._runtime.execution == "sequential":
            raise NotApplicableError(
                f"runtime.inter_op_threads = {self._runtime.inter_op_threads} means nothing while nodes run one after "
                "another; set runtime.execution = parallel as well"
            )
        self._session = self._create(session_options(self._runtime))

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        takes = self.interface.input
        name = takes.name if takes else self._session.get_inputs()[0].name
        scores: NDArray[Any] = self._session.run([self.interface.output], {name: batch})[0]
        return scores

    def _close(self) -> None:
        self._session = None

    def _executed(self) -> ExecutedGraph:
        """A second session, made alike, writes down what it runs."""
        options = session_options(self._runtime)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            options.optimized_model_filepath = str(path)
            session = self._create(options)
            # Weights that the model keeps in a file of their own stay there; operators and types are all that is read.
            optimized = onnx.load(str(path), load_external_data=False)
        providers, strays, how = _assignments(session, optimized, self._runtime.provider)
        return ExecutedGraph(
            nodes=executed_nodes(optimized),
            providers=providers,
            strays=strays,
            roundings=roundings(optimized),
            notes={"providers_from": how},
        )

    def _create(self, options: Any) -> Any:
        runtime = self._runtime
        chosen = [(runtime.provider, _provider_options(runtime))]
        # Where a provider fails the Python class would quietly make a session of another one.
        session = _library().InferenceSession(str(self._model), options, providers=chosen, enable_fallback=0)
        session.disable_fallback()  # and so would a later run
        if runtime.provider not in session.get_providers():
            raise SkippedError(
                f"{runtime.provider} gave way to {', '.join(session.get_providers())} for {self.interface.model}. "
                "Run `gapshift doctor` for what exists here."
            )
        return session


def why_not(provider: str) -> str | None:
    """Why ONNX Runtime cannot start a session with a provider that is compiled in; None where it can.

    A build for a device lists its provider on every machine.
    """
    if provider in _UNTRIED:
        return _UNTRIED[provider]
    try:
        session = _library().InferenceSession(identity(), providers=[provider], enable_fallback=0)
    except Exception:  # noqa: BLE001  whatever a provider's library raises: it does not start
        return "no device or its libraries are missing"
    return None if provider in session.get_providers() else "no device"


def identity() -> bytes:
    """The smallest model that a session can be made of."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return made


def _library() -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # a provider that cannot start is reported by SkippedError
    return onnxruntime


def _provider_options(runtime: Runtime) -> Mapping[str, str]:
    """float32 and the runtime's threads, for providers that would take others."""
    threads = str(runtime.intra_op_threads)
    return {
        "CUDAExecutionProvider": {"use_tf32": "0"},  # its default would run convolutions in TF32
        "OpenVINOExecutionProvider": {"device_type": "CPU", "precision": "FP32", "num_of_threads": threads},
        "XnnpackExecutionProvider": {"intra_op_num_threads": threads},  # it has a pool of its own
    }.get(runtime.provider, {})


def session_options(runtime: Runtime) -> Any:
    """ONNX Runtime's session options for a runtime's settings; threads do not spin, nothing is logged."""
    ort = _library()
    options = ort.SessionOptions()
    modes = {"sequential": ort.ExecutionMode.ORT_SEQUENTIAL, "parallel": ort.ExecutionMode.ORT_PARALLEL}
    options.execution_mode = modes[runtime.execution]
    options.intra_op_num_threads = runtime.intra_op_threads
    options.inter_op_num_threads = runtime.inter_op_threads
    options.enable_cpu_mem_arena = options.enable_mem_pattern = runtime.arena
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[runtime.optimization])
    options.log_severity_level = 4  # what fails is raised
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    return options


def _assignments(session: Any, optimized: onnx.ModelProto, asked: str) -> tuple[dict[str, int], dict[str, int], str]:
    """Nodes per provider, compute nodes per provider other than ``asked``, and where this is from."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):  # before 1.24
        guess = {session.get_providers()[0]: len(optimized.graph.node)}
        return guess, {}, "a guess: this ONNX Runtime does not tell, so all nodes are counted to its first provider"
    providers: Counter[str] = Counter()
    strays: Counter[str] = Counter()
    for part in parts:
        operators = [node.op_type for node in part.get_nodes()]
        providers[part.ep_name] += len(operators)
        if part.ep_name != asked:
            strays[part.ep_name] += sum(operator in COMPUTE_OPERATORS for operator in operators)
    return dict(providers), dict(+strays), "ONNX Runtime's assignment of nodes"
