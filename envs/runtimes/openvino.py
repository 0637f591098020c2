"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, final

from numpy.typing import NDArray

from gapshift.envs.runtimes.base import Session, interface_of
from gapshift.envs.runtimes.graph import COMPUTE_OPERATORS, ExecutedGraph
from gapshift.errors import SkippedError
from gapshift.export.model_file import read_model
from gapshift.schema import Contract, Runtime

_LAYERS = frozenset(
    [
        "Convolution",
        "Deconvolution",
        "FullyConnected",
        "MatMul",
        "ScaledDotProductAttention",
        "ScaledDotProductAttentionWithKVCache",
        "LSTMSequence",
        "GRUSequence",
        "RNNSeq",
        "RNNCell",
        "QKVProjection",
        "LLMMLP",
    ]
)
_FORMATS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "i8": "int8", "u8": "int8"}


@final
class OpenVinoSession(Session):
    """On the CPU, read by OpenVINO's own ONNX front end; one request at a time.

    ``latency`` compiles for one stream; with ``throughput`` OpenVINO decides how many streams share the threads, and
    ``executed`` names what it chose. Reading through ``Core`` sends no telemetry; only OpenVINO's conversion tools do.
    """

    engine = "openvino"
    heeds: ClassVar[frozenset[str]] = frozenset(["intra_op_threads", "precision_hint", "hint"])
    refusals = (
        (r"No conversion rule found for operations: ([^\n]+)", "operator {}"),
        (r"Unsupported operation of type: (\S+)", "operator {}"),
        (r"Conversion is failed for: ([^\n]+)", "conversion of operator {}"),
    )

    def __init__(self, runtime: Runtime, model: Path, contract: Contract) -> None:
        super().__init__(interface_of(model, contract))
        self._runtime = runtime
        self._model = model
        self._compiled: Any = None
        self._request: Any = None

    @staticmethod
    def available(runtime: Runtime) -> None:
        del runtime
        if importlib.util.find_spec("openvino") is None:
            raise SkippedError("OpenVINO is not installed here. Install it with `pip install gapshift[openvino]`.")

    def _open(self) -> None:
        import openvino

        core = openvino.Core()
        self._compiled = core.compile_model(core.read_model(str(self._model)), "CPU", _properties(self._runtime))
        self._request = self._compiled.create_infer_request()

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        takes = self.interface.input
        answers = self._request.infer({takes.name if takes else 0: batch})
        scores: NDArray[Any] = answers[self._compiled.output(self.interface.output)]
        return scores

    def _close(self) -> None:
        self._request = self._compiled = None

    def _executed(self) -> ExecutedGraph:
        layers = [_layer(operator) for operator in self._compiled.get_runtime_model().get_ordered_ops()]
        layers = [layer for layer in layers if layer["type"] not in ("Const", "Input", "Output")]
        compute = {node.name for node in read_model(self._model).graph.node if node.op_type in COMPUTE_OPERATORS}
        return ExecutedGraph(
            nodes=tuple(_compute_nodes(layers, compute)),
            providers={"CPU": len(layers)},
            # Its Cast to bfloat16 is another rounding: a quarter of normal random values
            # differ from nearest-even, so that an emulation in the graph is not kept.
            roundings=0,
            notes={
                "inference_precision": str(self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()),
                "streams": int(self._compiled.get_property("NUM_STREAMS")),
                "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            },
        )


def _properties(runtime: Runtime) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": runtime.intra_op_threads,
        "PERFORMANCE_HINT": runtime.hint.upper(),
    }
    if runtime.hint == "latency":
        properties["NUM_STREAMS"] = 1
    if runtime.precision_hint is not None:
        properties["INFERENCE_PRECISION_HINT"] = runtime.precision_hint
    return properties


def _layer(operator: Any) -> dict[str, str]:
    info = operator.get_rt_info()
    keys = {"type": "layerType", "precision": "runtimePrecision", "names": "originalLayersNames"}
    return {name: str(info[key].value) if key in info else "" for name, key in keys.items()}


def _compute_nodes(layers: list[dict[str, str]], compute: set[str]) -> Iterator[tuple[str, str]]:
    """Compute layers, and the matrix products that OpenVINO folded into a Subgraph."""
    for layer in layers:
        form = _FORMATS.get(layer["precision"], layer["precision"] or "unknown")
        if layer["type"] in _LAYERS:
            yield layer["type"], form
        elif layer["type"] == "Subgraph":
            folded = compute.intersection(layer["names"].split(","))
            yield from (("Subgraph", form) for _ in folded)
