"""Which of ONNX Runtime's graph optimisations changes a model's answers.

The model runs at every optimisation level. From the first level whose outputs differ from the unoptimised ones, each
transformer that this ONNX Runtime says it applied is disabled in turn (``disabled_optimizers``); those that restore
the unoptimised outputs are named. Names come from its own log, in a process of its own, and each is verified so.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.services import Rows
from gapshift.envs.layers.tally import Tally
from gapshift.envs.runtimes.base import message
from gapshift.envs.runtimes.onnxruntime import session_options
from gapshift.errors import EvaluationError
from gapshift.export.model_file import describe
from gapshift.schema import Runtime

THRESHOLD = 1e-4
"""Outputs whose normalised error is below this are the same: optimised float32 differs by about 5e-6."""
LEVELS = ("basic", "extended", "all")
_SECONDS = 300
_APPLIED = re.compile(r"GraphTransformer (\S+) modified: 1 ")
_RULES = (
    "EliminateIdentity", "EliminateSlice", "UnsqueezeElimination", "EliminateDropout", "ExpandElimination",
    "CastElimination", "PreShapeNodeElimination", "NoopElimination", "DivMulFusion", "FuseReluClip", "GemmSumFusion",
    "GemmTransposeFusion", "NotWhereFusion", "ConvAddFusion", "ConvMulFusion", "ConvBNFusion", "PadFusion",
    "MatmulBNFusion", "ClipQuantRewrite", "ReluQuantRewrite", "LabelEncoderFusion", "CastChainElimination",
    "ConcatSliceElimination",
)  # fmt: skip
"""What a ``..._RuleBasedTransformer`` is made of; ONNX Runtime's log does not tell which of them it applied."""
_LOGGED = """
import sys, onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 1
options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, sys.argv[2])
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""
_NAMES = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}


@dataclass(frozen=True)
class Passes:
    """``errors``: each level's normalised error of the output against the unoptimised one. ``level`` is the first
    over ``THRESHOLD`` (None: no level is), ``applied`` the transformers that it brings, ``restoring`` those of which
    each alone, disabled, restores the answers. Where no single one does, ``together`` do, if any."""

    errors: Mapping[str, float]
    changed: Mapping[str, float]
    level: str | None = None
    applied: tuple[str, ...] = ()
    restoring: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    left: Mapping[str, float] = field(default_factory=dict)


def find_pass(path: Path, inputs: Rows, levels: NDArray[np.int64], runtime: Runtime, output: str) -> Passes:
    """Find the level and the transformer that change a model's ``output`` on ``inputs`` (n, ...).

    Raises EvaluationError where the model cannot run, or ONNX Runtime does not say what it applied.
    """
    trial = _Trial(path, inputs, levels, runtime, output)
    found = {level: trial.against_plain(level) for level in LEVELS}
    errors = {level: error for level, (error, _) in found.items()}
    changed = {level: share for level, (_, share) in found.items()}
    level = next((level for level in LEVELS if errors[level] > THRESHOLD), None)
    if level is None:
        return Passes(errors, changed)
    before = LEVELS[LEVELS.index(level) - 1] if level != LEVELS[0] else None
    applied = _new(path, level, before)
    left = {name: trial.against_plain(level, (name,))[0] for name in applied}
    left |= {rule: trial.against_plain(level, (rule,))[0] for rule in _rules(left)}
    restoring = _most_specific([name for name, error in left.items() if error <= THRESHOLD])
    together = () if restoring else _together(trial, level, applied)
    return Passes(errors, changed, level, applied, restoring, together, left)


def applied_passes(path: Path, level: str) -> tuple[str, ...]:
    """The transformers that changed the model's graph at an optimisation level, in order, each once.

    Raises EvaluationError where ONNX Runtime cannot load the model.
    """
    command = [sys.executable, "-c", _LOGGED, str(path), _NAMES[level]]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise EvaluationError(f"Loading {path.name} took more than {_SECONDS} s; its passes stay unknown.") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise EvaluationError(f"{path.name} cannot be loaded to list its passes: {''.join(last)}")
    return tuple(dict.fromkeys(_APPLIED.findall(done.stderr.decode(errors="replace"))))


def _new(path: Path, level: str, before: str | None) -> tuple[str, ...]:
    """What a level applies, those first that the level below it does not."""
    mine = applied_passes(path, level)
    known = set(applied_passes(path, before)) if before else set()
    return (*(name for name in mine if name not in known), *(name for name in mine if name in known))


def _rules(left: Mapping[str, float]) -> Sequence[str]:
    """The rules to try: where a transformer made of them restores the answers."""
    return _RULES if any(name.endswith("_RuleBasedTransformer") and e <= THRESHOLD for name, e in left.items()) else ()


def _most_specific(names: list[str]) -> tuple[str, ...]:
    """Without the transformer that is made of rules, where one of its rules is named."""
    rules = [name for name in names if name in _RULES]
    return tuple(name for name in names if not (rules and name.endswith("_RuleBasedTransformer")))


def _together(trial: _Trial, level: str, applied: tuple[str, ...]) -> tuple[str, ...]:
    """A set of transformers of which none can be left out, and which together restore the answers; empty if all of
    them do not."""
    if len(applied) < 2 or trial.against_plain(level, applied)[0] > THRESHOLD:
        return ()
    kept = list(applied)
    for name in applied:
        fewer = [other for other in kept if other != name]
        if fewer and trial.against_plain(level, fewer)[0] <= THRESHOLD:
            kept = fewer
    return tuple(kept)


class _Trial:
    """One model under several sets of optimisations, against itself without any."""

    def __init__(self, path: Path, inputs: Rows, levels: NDArray[np.int64], runtime: Runtime, output: str) -> None:
        self._path, self._inputs, self._levels, self._output = path, inputs, levels, output
        self._runtime = runtime
        self._fixed = describe(path).fixed_batch
        self._plain = self._session("disabled", ())

    def against_plain(self, level: str, disabled: Collection[str] = ()) -> tuple[float, float]:
        """The output's normalised error against the unoptimised one, and the share of items whose highest score is
        another's."""
        session, tally, changed = self._session(level, disabled), Tally(), 0
        for inputs, levels in self._batches():
            mine, theirs = (self._run(each, inputs)[: len(levels)] for each in (self._plain, session))
            tally.add(mine, theirs, levels)
            changed += int((mine.argmax(axis=-1) != theirs.argmax(axis=-1)).reshape(len(levels), -1).any(axis=1).sum())
        return tally.difference().error, changed / max(len(self._levels), 1)

    def _batches(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        size = self._fixed or self._runtime.batch_size
        for begin in range(0, len(self._levels), size):
            rows = np.arange(begin, min(begin + size, len(self._levels)))
            filled = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows))]) if self._fixed else rows
            yield self._inputs[filled], self._levels[rows]

    def _session(self, level: str, disabled: Collection[str]) -> Any:
        import onnxruntime

        options = session_options(self._runtime.model_copy(update={"optimization": level}))
        try:
            return onnxruntime.InferenceSession(
                str(self._path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
            )
        except Exception as error:  # whatever its library raises
            raise EvaluationError(f"{self._path.name} cannot be loaded: {message(error)}") from error

    def _run(self, session: Any, inputs: NDArray[Any]) -> NDArray[Any]:
        takes = session.get_inputs()[0]
        narrowed = inputs.astype(np.int32) if takes.type == "tensor(int32)" else inputs
        made: NDArray[Any] = session.run([self._output], {takes.name: np.ascontiguousarray(narrowed)})[0]
        return made
