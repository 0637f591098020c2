"""ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, final

import onnx
from numpy.typing import NDArray

from gapshift.envs.runtimes.base import Session, interface_of
from gapshift.envs.runtimes.graph import COMPUTE_OPERATORS, ExecutedGraph, executed_nodes, roundings
from gapshift.errors import SkippedError
from gapshift.schema import Contract, Runtime

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
# float32 is asked for; CUDA's default would run convolutions in TF32.
_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}


@final
class OnnxRuntimeSession(Session):
    """One provider, sequential execution, threads that do not spin while they wait."""

    engine = "onnxruntime"

    def __init__(self, runtime: Runtime, model: Path, contract: Contract) -> None:
        super().__init__(interface_of(model, contract))
        self._runtime = runtime
        self._model = model
        self._session: Any = None

    @staticmethod
    def available(runtime: Runtime) -> None:
        known = _library().get_available_providers()
        if runtime.provider not in known:
            raise SkippedError(
                f"This ONNX Runtime has no {runtime.provider}; it has {', '.join(known)}. "
                "Set runtime.provider to one of these, or install the build of onnxruntime that has it."
            )

    def _open(self) -> None:
        self._session = self._create(_options(self._runtime))

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        takes = self.interface.input
        name = takes.name if takes else self._session.get_inputs()[0].name
        scores: NDArray[Any] = self._session.run([self.interface.output], {name: batch})[0]
        return scores

    def _close(self) -> None:
        self._session = None

    def _executed(self) -> ExecutedGraph:
        """A second session, made alike, writes down what it runs."""
        options = _options(self._runtime)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            options.optimized_model_filepath = str(path)
            session = self._create(options)
            optimized = onnx.load(str(path))
        providers, strays, how = _assignments(session, optimized, self._runtime.provider)
        return ExecutedGraph(
            nodes=executed_nodes(optimized),
            providers=providers,
            strays=strays,
            roundings=roundings(optimized),
            notes={"providers_from": how},
        )

    def _create(self, options: Any) -> Any:
        ort, provider = _library(), self._runtime.provider
        chosen = [(provider, _PROVIDER_OPTIONS.get(provider, {}))]
        session = ort.InferenceSession(str(self._model), options, providers=chosen, disable_fallback=1)
        running = session.get_providers()
        if provider not in running:
            raise SkippedError(
                f"{provider} did not start on this machine (no such device, or its libraries are missing); "
                f"only {', '.join(running)} did. Run `gapshift doctor` for what exists here."
            )
        return session


def _library() -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # a provider that cannot start is reported by SkippedError
    return onnxruntime


def _options(runtime: Runtime) -> Any:
    ort = _library()
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[runtime.optimization])
    options.log_severity_level = 4  # what fails is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
