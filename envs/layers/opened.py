"""A model with its intermediate tensors made outputs, and single layers of it cut out.

Nodes inside branches and loops are not opened; the node that holds them is one layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from gapshift.envs.runtimes.base import message
from gapshift.envs.runtimes.onnxruntime import session_options
from gapshift.errors import EvaluationError
from gapshift.export.conversion import inlined
from gapshift.export.model_file import read_model
from gapshift.schema import Runtime

GIVEN = "::given"
"""The end of a graph input's name that stands for a tensor fed from outside."""
Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """One tensor that a node makes from what the model is given.

    ``reads`` are the tensors among the node's inputs that depend on the model's input, ``constants`` the others.
    """

    tensor: str
    node: str
    operator: str
    reads: tuple[str, ...]
    constants: tuple[str, ...]


class OpenModel:
    """An ONNX file's graph, opened. Raises ModelFileError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = inlined(read_model(path))
        self.outputs = tuple(value.name for value in self.model.graph.output)

    @cached_property
    def constants(self) -> frozenset[str]:
        """Weights, and what is computed of them alone."""
        known = {tensor.name for tensor in self.model.graph.initializer}
        known |= {tensor.values.name for tensor in self.model.graph.sparse_initializer}
        for node in self.model.graph.node:
            holds_graph = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
            settled = node.op_type == "Constant" or (node.input and all(not n or n in known for n in node.input))
            if settled and not holds_graph:
                known.update(node.output)
        return frozenset(known)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Every tensor that depends on the model's input, by name, in topological order."""
        found: dict[str, Layer] = {}
        for node in self.model.graph.node:
            reads = tuple(name for name in node.input if name and name not in self.constants)
            constants = tuple(name for name in node.input if name in self.constants)
            for name in filter(None, node.output):
                if name not in self.constants:
                    found[name] = Layer(name, node.name or name, node.op_type, reads, constants)
        return found

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """What the model is given; weights that are declared as inputs too are none."""
        return tuple(value.name for value in self.model.graph.input if value.name not in self.constants)

    def exposing(self, tensors: Iterable[str]) -> onnx.ModelProto:
        """The model whose outputs are these tensors."""
        made = onnx.ModelProto()
        made.CopyFrom(self.model)
        del made.graph.output[:]
        known = {value.name: value for value in self.model.graph.output}
        made.graph.output.extend(known.get(name) or helper.make_empty_tensor_value_info(name) for name in tensors)
        return made

    def alone(self, tensors: Sequence[str], given: Mapping[str, int]) -> onnx.ModelProto:
        """The model whose nodes read the tensors in ``given`` from outside, cut down to what ``tensors`` need.

        ``given`` maps a tensor of the model to its ONNX element type; its input is called name + ``GIVEN``.
        """
        made = self.exposing(tensors)
        for node in made.graph.node:
            for place, name in enumerate(node.input):
                if name in given:
                    node.input[place] = name + GIVEN
        own = [value for value in made.graph.input if value.name not in given]
        del made.graph.input[:]
        made.graph.input.extend(own)
        _prune(made.graph, set(tensors))
        needed = sorted({name for node in made.graph.node for name in node.input if name.endswith(GIVEN)})
        made.graph.input.extend(
            helper.make_tensor_value_info(name, given[name.removesuffix(GIVEN)], None) for name in needed
        )
        return made


def _prune(graph: onnx.GraphProto, wanted: set[str]) -> None:
    """Take away nodes that no wanted tensor needs; what inner graphs read counts as needed."""
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted = wanted | set(node.input) | _captured(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    inputs = [value for value in graph.input if value.name in wanted]
    del graph.input[:]
    graph.input.extend(inputs)


def _captured(node: onnx.NodeProto) -> set[str]:
    """Every name that graphs inside a node read."""
    graphs = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]
    inner = [each for graph in graphs for each in graph.node]
    return {name for each in inner for name in (*each.input, *_captured(each))}


class OpenSession:
    """A made model in ONNX Runtime on the CPU. Raises EvaluationError where it cannot be loaded or run."""

    def __init__(self, model: onnx.ModelProto, runtime: Runtime, name: str) -> None:
        import onnxruntime

        self._name = name
        options = session_options(runtime)
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # whatever its library raises
            raise EvaluationError(f"{name} cannot be opened: {message(error)}") from error
        self.inputs = {value.name: value.type for value in self._session.get_inputs()}
        self.tensors = tuple(value.name for value in self._session.get_outputs())

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Every output by name; inputs that the model does not have are left out, token ids narrowed."""
        mine = {name: _as(value, self.inputs[name]) for name, value in feeds.items() if name in self.inputs}
        try:
            made = self._session.run(None, mine)
        except Exception as error:  # whatever its library raises
            raise EvaluationError(f"{self._name} failed, opened: {message(error)}") from error
        return {name: value for name, value in zip(self.tensors, made, strict=True) if isinstance(value, np.ndarray)}


_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def _as(value: NDArray[Any], kind: str) -> NDArray[Any]:
    wanted = _NUMPY.get(kind)
    return np.asarray(value if wanted is None else value.astype(wanted, copy=False), order="C")  # 0-d stays 0-d
