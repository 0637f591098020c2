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
_NODE_FORMATS = {"int8-dynamic": "int8", "int8-qdq": "int8", "bfloat16-emulated": "float32"}


def truth(session: Session, variant_path: Path, precision: Precision, runtime: Runtime) -> Execution:
    """What an open session runs, beside what ``precision`` and ``runtime`` ask for.

    ``matches`` is False when a node that the file holds in the requested format runs in
    another, when an emulation's roundings were optimised away, or when compute nodes
    run on a provider other than the asked one. With format float32 a file that holds
    other formats is run as given, and OpenVINO without a hint chooses for itself:
    nothing was asked for there, so that both match, whatever ran being named.
    """
    model = read_model(variant_path)
    graph, stored = session.executed(), Counter(form for _, form in stored_nodes(model))
    requested, matches = _request(precision, runtime, stored, graph)
    executed = _summary(graph.formats()) + _recurrent(precision, graph)
    if precision.format == "bfloat16-emulated":
        kept = _kept(graph, roundings(model))
        matches, executed = matches and kept == "bfloat16 rounding", f"{executed} arithmetic, {kept}"
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
        versions=versions("gapshift", "onnxruntime", "onnx", "openvino", "numpy"),
        cpu_flags=cpu_flags(),
        settings=runtime.model_dump(mode="json") | {"fixed_batch": session.fixed_batch} | dict(graph.notes),
    )


def _request(precision: Precision, runtime: Runtime, stored: Counter[str], graph: ExecutedGraph) -> tuple[str, bool]:
    """The format asked for, and whether every node that could run in it does."""
    if precision.format != "float32":
        return precision.format, _ran(graph.formats(), stored, _NODE_FORMATS.get(precision.format, precision.format))
    if set(stored) - {"float32"}:
        return "as given", True
    if runtime.engine == "openvino":
        if runtime.precision_hint is None:
            return "openvino default", True
        wanted = _HINTS[runtime.precision_hint]
        return wanted, set(graph.formats()) <= {wanted}
    return "float32", set(graph.formats()) <= {"float32"}


def _ran(executed: Counter[str], stored: Counter[str], wanted: str) -> bool:
    """No more nodes ran in other formats than the file holds in others.

    Counted this way round since fusion may join nodes, and never splits one.
    """
    others = executed.total() - executed[wanted]
    return stored[wanted] > 0 and executed[wanted] > 0 and others <= stored.total() - stored[wanted]


def _kept(graph: ExecutedGraph, asked: int) -> str:
    if graph.roundings >= asked:
        return "bfloat16 rounding"
    return f"{graph.roundings} of {asked} bfloat16 roundings"


def _summary(formats: Counter[str]) -> str:
    """``int8 9 of 21 nodes, float32 12 of 21``; the format alone where there is one."""
    if len(formats) <= 1:
        return next(iter(formats), "no compute nodes")
    total = formats.total()
    (first, count), *rest = formats.most_common()
    return f"{first} {count} of {total} nodes" + "".join(f", {form} {n} of {total}" for form, n in rest)


def _recurrent(precision: Precision, graph: ExecutedGraph) -> str:
    """Names recurrent operators that the format left out: one of them is most of a network's work."""
    wanted = _NODE_FORMATS.get(precision.format, precision.format)
    left = sorted({(name, form) for name, form in graph.nodes if name in _RECURRENT and form != wanted})
    return "".join(f", {name} in {form}" for name, form in left if len(graph.formats()) > 1)


def _provider(session: Session, graph: ExecutedGraph) -> str:
    """The provider that runs most nodes."""
    return max(graph.providers, key=lambda name: graph.providers[name], default=session.engine)
