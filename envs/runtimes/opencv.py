"""OpenCV DNN on the CPU."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import onnx
from numpy.typing import NDArray

from gapshift.envs.runtimes.base import Interface, Session, interface_of, message
from gapshift.envs.runtimes.graph import ExecutedGraph
from gapshift.errors import ModelFileError, SkippedError
from gapshift.export.model_file import read_model
from gapshift.schema import Contract, Runtime

_ENGINES = {"new": "ENGINE_NEW", "classic": "ENGINE_CLASSIC"}
_LAYERS = ("Attention", "Conv", "Deconvolution", "Einsum", "Gemm", "GRU", "InnerProduct", "LSTM", "MatMul", "RNN")
"""How the names of layers that compute begin: Conv2, ConvolutionInt8, LSTM2, …"""
_LENGTH = 32
"""Of a free axis, in the trial that a network is given when it is opened."""


@final
class OpenCvSession(Session):
    """OpenCV 5's new graph engine, or its classic one where the new one cannot run the model.

    A network may be read and still not run, so that opening it includes a trial on zeros. The CPU target computes in
    float32 whatever the file holds (a product beyond float16's range stays finite in a float16 model), but for
    layers that it names Int8.
    """

    engine = "opencv-dnn"
    heeds: ClassVar[frozenset[str]] = frozenset(["intra_op_threads"])

    def __init__(self, runtime: Runtime, model: Path, contract: Contract) -> None:
        super().__init__(interface_of(model, contract))
        self._threads = runtime.intra_op_threads
        self._path = model
        self._net: Any = None
        self._chosen = ""

    @staticmethod
    def available(runtime: Runtime) -> None:
        del runtime
        if importlib.util.find_spec("cv2") is None:
            raise SkippedError("OpenCV is not installed here. Install it with `pip install opencv-python-headless`.")

    def _open(self) -> None:
        model, trial = self._model(), _trial(self.interface)
        failures: dict[str, str] = {}
        for name in _engines():
            try:
                net = _read(model, name)
                with _threads(self._threads):
                    _forward(net, trial, [self.interface.output])
            except _error() as error:
                failures[name] = message(error)
                continue
            self._net, self._chosen = net, name
            return
        raise SkippedError(self._stopped(model, trial, failures))

    def _predict(self, batch: NDArray[Any]) -> NDArray[Any]:
        with _threads(self._threads):
            return _forward(self._net, batch, [self.interface.output])

    def _close(self) -> None:
        self._net = None

    def _executed(self) -> ExecutedGraph:
        kinds = [self._net.getLayer(name).type for name in self._net.getLayerNames()]
        return ExecutedGraph(
            nodes=tuple((kind, "int8" if "Int8" in kind else "float32") for kind in kinds if kind.startswith(_LAYERS)),
            providers={"CPU": len(kinds)},
            roundings=0,  # how its Cast rounds is nowhere said
            notes={"dnn_engine": self._chosen},
        )

    def _model(self) -> onnx.ModelProto:
        """Raises ModelFileError for a file that is broken; an operator that the standard lacks is none."""
        try:
            return read_model(self._path)
        except ModelFileError as error:
            found = re.search(r"No Op registered for (\S+)", str(error))
            if found is None:
                raise
            raise SkippedError(
                f"{self.engine} cannot run {self.interface.model}: it has no operator {found[1]}."
            ) from error

    def _stopped(self, model: onnx.ModelProto, trial: NDArray[Any], failures: dict[str, str]) -> str:
        name = next(iter(failures))

        def runs(part: onnx.ModelProto, output: str) -> bool:
            try:
                _forward(_read(part, name), trial, [output])
            except _error():
                return False
            return True

        node = first_that_fails(model, runs)
        said = " ".join(f"Its {engine} engine: {text}" for engine, text in failures.items())
        return (
            f"{self.engine} cannot run {self.interface.model}: it stops at operator {node.op_type} "
            f"({node.name or node.output[0]}). {said}"
        )


def first_that_fails(model: onnx.ModelProto, runs: Callable[[onnx.ModelProto, str], bool]) -> onnx.NodeProto:
    """The node of a graph that does not run with which it first fails, by bisection over its beginnings.

    ``runs`` is given a model that ends with one of the nodes, and the name of its output.
    """
    nodes = model.graph.node
    good, bad = 0, len(nodes)  # the first `good` nodes run, the first `bad` do not
    while bad - good > 1:
        middle = (good + bad) // 2
        if runs(*_beginning(model, middle)):
            good = middle
        else:
            bad = middle
    return nodes[bad - 1]


def _beginning(model: onnx.ModelProto, count: int) -> tuple[onnx.ModelProto, str]:
    """The model's first nodes, and the name of what they give (as float32, which every caller can fetch)."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[count:]
    del part.graph.output[:]
    last, given = next(name for name in part.graph.node[-1].output if name), "_beginning"
    part.graph.node.append(onnx.helper.make_node("Cast", [last], [given], to=onnx.TensorProto.FLOAT))
    # A shape is required, and not looked at.
    part.graph.output.append(onnx.helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, []))
    return part, given


def _engines() -> tuple[str, ...]:
    """OpenCV before 5 has one, and no name for it."""
    return tuple(_ENGINES) if hasattr(_cv2().dnn, "ENGINE_NEW") else ("classic",)


def _read(model: onnx.ModelProto, engine: str) -> Any:
    """A network, through a file: given bytes, OpenCV 5.0 takes its new engine whatever it is asked for."""
    dnn = _cv2().dnn
    chosen = getattr(dnn, _ENGINES[engine], None)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        onnx.save(model, path)
        net = dnn.readNetFromONNX(path) if chosen is None else dnn.readNetFromONNX(path, chosen)
    if net.empty():
        raise _error()("the model cannot be read")
    return net


def _forward(net: Any, batch: NDArray[Any], outputs: list[str]) -> NDArray[Any]:
    net.setInput(np.ascontiguousarray(batch))
    scores: NDArray[Any] = net.forward(outputs)[0]
    return scores


def _trial(interface: Interface) -> NDArray[Any]:
    takes = interface.input
    assert takes is not None  # interface_of describes it
    first, *others = takes.shape or (None,)
    shape = (first or 1, *(size or _LENGTH for size in others))
    return np.zeros(shape, "float32" if takes.dtype == "unknown" else takes.dtype)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """OpenCV's threads are the process's: put back afterwards, and untouched where they fit (a change takes 1 ms)."""
    cv2 = _cv2()
    before = cv2.getNumThreads()
    if before == count:
        yield
        return
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _error() -> type[Exception]:
    error: type[Exception] = _cv2().error
    return error


def _cv2() -> Any:
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what fails is raised
    return cv2
