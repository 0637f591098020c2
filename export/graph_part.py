"""One graph of an ONNX model as rewrites see it: who makes a tensor, who reads it, what is constant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

DEFAULT_DOMAIN = ("", "ai.onnx")


class Part:
    """The whole graph, or a branch or body (If, Loop, Scan) inside a node of another, ``outer``.

    Tensors of the outer graphs can be read by their names, as ONNX has it. Changing the graph through
    ``replace``, ``constant`` and ``forget`` keeps its nodes in topological order.
    """

    def __init__(self, graph: onnx.GraphProto, model: onnx.ModelProto, taken: set[str], outer: Part | None) -> None:
        self.graph = graph
        self.model = model
        self._taken = taken
        self._outer = outer
        self._producers: dict[str, onnx.NodeProto] | None = None

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return max((entry.version for entry in self.model.opset_import if entry.domain in DEFAULT_DOMAIN), default=0)

    def nodes(self, *operators: str) -> list[onnx.NodeProto]:
        """ONNX's own nodes of these types, in order."""
        return [node for node in self.graph.node if node.domain in DEFAULT_DOMAIN and node.op_type in operators]

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node of this graph that makes a tensor."""
        if self._producers is None:
            self._producers = {output: node for node in self.graph.node for output in node.output if output}
        return self._producers.get(name)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes of this graph that read a tensor, themselves or in a graph inside them."""
        return [node for node in self.graph.node if name in _read(node)]

    def is_read(self, name: str) -> bool:
        """Whether anything still needs a tensor, the graph's result included."""
        return any(value.name == name for value in self.graph.output) or bool(self.readers(name))

    def value(self, name: str) -> NDArray[Any] | None:
        """A constant's values, wherever in this graph or around it they stand; None for what is computed."""
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return np.asarray(numpy_helper.to_array(tensor))
        node = self.producer(name)
        if node is None:
            return self._outer.value(name) if self._outer and not self._is_input(name) else None
        if node.op_type == "Identity":
            return self.value(node.input[0])
        return _constant(node) if node.op_type == "Constant" else None

    def _is_input(self, name: str) -> bool:
        return any(value.name == name for value in self.graph.input)

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """A tensor's shape where inference found its rank, None for each dimension that is not known."""
        value = self._declared(name)
        if value is not None and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
        constant = self.value(name)
        return None if constant is None else constant.shape

    def element_type(self, name: str) -> int:
        """A tensor's element type (TensorProto's number; 0 where it is not known)."""
        value = self._declared(name)
        if value is not None:
            return int(value.type.tensor_type.elem_type)
        constant = self.value(name)
        return 0 if constant is None else int(helper.np_dtype_to_tensor_dtype(constant.dtype))

    def _declared(self, name: str) -> onnx.ValueInfoProto | None:
        own = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        found = next((value for value in own if value.name == name), None)
        return found if found is not None or self._outer is None else self._outer._declared(name)

    # ------------------------------------------------------------------------- changing it

    def fresh(self, name: str) -> str:
        """``name``, or a longer one where the model has it already."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def constant(self, values: NDArray[Any], name: str) -> str:
        """Adds a constant to this graph; gives its name, which begins with ``name``."""
        name = self.fresh(name)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def replace(self, node: onnx.NodeProto, others: Iterable[onnx.NodeProto]) -> None:
        """Puts ``others`` in a node's place and takes away what only the node needed."""
        unneeded, place = list(node.input), self._place(node)
        del self.graph.node[place]
        for offset, other in enumerate(others):
            self.graph.node.insert(place + offset, other)
        self._producers = None
        self.forget(unneeded)

    def forget(self, names: Iterable[str]) -> None:
        """Takes away constants and nodes whose results nobody reads any more, beginning with these tensors."""
        for name in names:
            if not name or self._is_input(name) or self.is_read(name):
                continue
            for tensor in [tensor for tensor in self.graph.initializer if tensor.name == name]:
                self.graph.initializer.remove(tensor)
            node = self.producer(name)
            if node is not None and not any(self.is_read(output) for output in node.output):
                unneeded = list(node.input)
                del self.graph.node[self._place(node)]
                self._producers = None
                self.forget(unneeded)

    def _place(self, node: onnx.NodeProto) -> int:
        return next(place for place, other in enumerate(self.graph.node) if other.output == node.output)


def parts_of(model: onnx.ModelProto) -> list[Part]:
    """A model's graph and every graph inside its nodes, outer ones first."""
    return list(_walk(model.graph, model, _names(model.graph), None))


def _walk(graph: onnx.GraphProto, model: onnx.ModelProto, taken: set[str], outer: Part | None) -> Iterator[Part]:
    part = Part(graph, model, taken, outer)
    yield part
    for inner in inner_graphs(graph):
        yield from _walk(inner, model, taken, part)


def inner_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a graph's own nodes: branches and bodies of If, Loop and Scan."""
    for node in graph.node:
        yield from _graphs(node)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _read(node: onnx.NodeProto) -> set[str]:
    """What a node reads, names that graphs inside it take from around them included."""
    names = set(node.input)
    for graph in _graphs(node):
        names |= {value.name for value in graph.output}
        names = names.union(*(_read(inner) for inner in graph.node))
    return names


def _names(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    names |= {name for node in graph.node for name in (*node.input, *node.output, node.name)}
    return names.union(*(_names(inner) for inner in inner_graphs(graph)))


def _constant(node: onnx.NodeProto) -> NDArray[Any] | None:
    """A Constant node's values; None for text and sparse ones."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return np.asarray(numpy_helper.to_array(attribute.t))
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(helper.get_attribute_value(attribute), np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(helper.get_attribute_value(attribute), np.int64)
    return None


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """A node's attribute, text as str."""
    found = next((each for each in node.attribute if each.name == name), None)
    value = default if found is None else helper.get_attribute_value(found)
    return value.decode() if isinstance(value, bytes) else value


def with_attributes(node: onnx.NodeProto, changes: dict[str, Any]) -> onnx.NodeProto:
    """A copy of a node with attributes set; None takes one away, back to ONNX's default."""
    copy = onnx.NodeProto.FromString(node.SerializeToString())
    kept = [each for each in copy.attribute if each.name not in changes]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    copy.attribute.extend(helper.make_attribute(key, value) for key, value in changes.items() if value is not None)
    return copy
