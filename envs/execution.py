"""Execution truth: what was asked for and what really ran."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from gapshift.envs.machine import cpu_flags, versions
from gapshift.envs.runtimes.base import Session
from gapshift.envs.runtimes.graph import ExecutedGraph, roundings, stored_nodes
from gapshift.export.model_file import read_model
from gapshift.schema import Execution, Precision, Runtime

_HINTS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_RECURRENT = ("LSTM", "GRU", "RNN", "RNNSeq", "RNNCell", "LSTMSequence", "GRUSequence")
_EMULATED = "-emulated"
_NODE_FORMATS = {"int8-dynamic": "int8", "int8-qdq": "int8", "int16x8-qdq": "int16x8"}
"""The format of compute nodes that a requested one stands for, where the words differ."""


def truth(
    session: Session, variant_path: Path, precision: Precision, runtime: Runtime, *, rounds: bool = False
) -> Execution:
    """What an open session runs, beside what ``precision`` and ``runtime`` ask for.

    ``matches`` is False when a node that the file holds in the requested format runs in
    another, when an emulation's roundings were optimised away, or when compute nodes
    run on a provider other than the asked one. A quantised format asks for its integer
    arithmetic: what ran in float between DequantizeLinear and QuantizeLinear does not
    match. A weight-only format and an emulation ask for float32 arithmetic, on rounded
    weights and on rounded values. With format float32 a file that holds other formats is
    run as given: nothing was asked for there. A float32 file that OpenVINO without a hint runs in
    bfloat16 does not match. Where float32 was asked for and none
    of the file's compute nodes is found again, it does not match. ``rounds`` says that the file
    was rewritten to round somewhere, which a runtime may optimise away too.
    """
    model = read_model(variant_path)
    graph, stored = session.executed(), Counter(form for _, form in stored_nodes(model))
    requested, matches = _request(precision, runtime, stored, graph)
    executed = _summary(graph.formats()) + _recurrent(precision, graph)
    if precision.format.endswith(_EMULATED):
        form, asked = precision.format.removesuffix(_EMULATED), roundings(model)
        matches = matches and graph.roundings >= asked
        executed = f"{executed} arithmetic, {_kept(form, graph.roundings, asked)}"
    elif rounds and graph.roundings < (asked := roundings(model)):
        matches = False
        executed += f", {graph.roundings} of {asked} roundings of the rewritten graph"
    if graph.strays:
        matches = False
        executed += "".join(f", {count} nodes on {name}" for name, count in sorted(graph.strays.items()))
    return Execution(
        engine=session.engine,
        provider=_provider(session, graph),
        providers=dict(graph.providers),
        dtypes=graph.dtypes(),
        requested=requested,
        executed=executed,
        matches=matches,
        versions=versions("gapshift", "onnxruntime", "onnx", "openvino", "opencv", "torch", "numpy"),
        cpu_flags=cpu_flags(),
        settings=runtime.model_dump(mode="json") | {"fixed_batch": session.fixed_batch} | dict(graph.notes),
    )


def _request(precision: Precision, runtime: Runtime, stored: Counter[str], graph: ExecutedGraph) -> tuple[str, bool]:
    """The format asked for, and whether every node that could run in it does."""
    if precision.format == "int4-weights" or precision.format.endswith(_EMULATED):
        return precision.format, _in_float32(graph.formats())
    if precision.format != "float32":
        return precision.format, _ran(graph.formats(), stored, _NODE_FORMATS.get(precision.format, precision.format))
    if set(stored) - {"float32"}:
        return "as given", True
    if runtime.engine == "openvino" and runtime.precision_hint is not None:
        wanted = _HINTS[runtime.precision_hint]
        return wanted, _all(wanted, stored, graph)
    return "float32", _all("float32", stored, graph)


def _all(wanted: str, stored: Counter[str], graph: ExecutedGraph) -> bool:
    """Whether what runs is ``wanted`` alone; nothing found, where the file computes something, says nothing."""
    return set(graph.formats()) <= {wanted} and bool(graph.nodes or not stored)


def _ran(executed: Counter[str], stored: Counter[str], wanted: str) -> bool:
    """No more nodes ran in other formats than the file holds in others.

    Counted this way round since fusion may join nodes, and never splits one.
    """
    others = executed.total() - executed[wanted]
    return stored[wanted] > 0 and executed[wanted] > 0 and others <= stored.total() - stored[wanted]


def _in_float32(executed: Counter[str]) -> bool:
    """Whether all arithmetic is float32, whatever its weights are stored in."""
    return executed.total() > 0 and all(form.split(" with ")[0] == "float32" for form in executed)


def _kept(form: str, found: int, asked: int) -> str:
    return f"{form} rounding" if found >= asked else f"{found} of {asked} {form} roundings"


def _summary(formats: Counter[str]) -> str:
    """``int8 9 of 21 nodes, float32 12 of 21``; the format alone where there is one."""
    if len(formats) <= 1:
        return next(iter(formats), "no compute nodes")
    total = formats.total()
    (first, count), *rest = formats.most_common()
    return f"{first} {count} of {total} nodes" + "".join(f", {form} {n} of {total}" for form, n in rest)


def _recurrent(precision: Precision, graph: ExecutedGraph) -> str:
    """Names recurrent operators that the format left out: one of them is most of a network's work."""
    emulated = precision.format.endswith(_EMULATED)
    wanted = "float32" if emulated else _NODE_FORMATS.get(precision.format, precision.format)
    left = sorted({(name, form) for name, form in graph.nodes if name in _RECURRENT and form != wanted})
    return "".join(f", {name} in {form}" for name, form in left if len(graph.formats()) > 1)


def _provider(session: Session, graph: ExecutedGraph) -> str:
    """The provider that runs most nodes."""
    return max(graph.providers, key=lambda name: graph.providers[name], default=session.engine)
