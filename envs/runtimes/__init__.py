"""Runtimes: each in its file, all in RUNTIMES, all under ``conformance.check_runtime``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gapshift.envs.runtimes.base import Session
from gapshift.envs.runtimes.onnxruntime import OnnxRuntimeSession
from gapshift.envs.runtimes.openvino import OpenVinoSession
from gapshift.envs.runtimes.reference import ReferenceSession
from gapshift.errors import UnknownNameError
from gapshift.schema import Contract, Runtime

__all__ = ["RUNTIMES", "Session", "available", "open_runtime"]


class _Member(Protocol):
    def __call__(self, runtime: Runtime, model: Path, contract: Contract) -> Session: ...

    @staticmethod
    def available(runtime: Runtime) -> None: ...


_MEMBERS: tuple[tuple[str, _Member], ...] = (
    (OnnxRuntimeSession.engine, OnnxRuntimeSession),
    (ReferenceSession.engine, ReferenceSession),
    (OpenVinoSession.engine, OpenVinoSession),
)
RUNTIMES: dict[str, _Member] = dict(_MEMBERS)


def available(runtime: Runtime) -> None:
    """Raises SkippedError with the reason where this machine cannot provide ``runtime``."""
    _member(runtime).available(runtime)


def open_runtime(runtime: Runtime, model: Path, contract: Contract) -> Session:
    """An open session of ``model``; close it, or use it in ``with``.

    Raises SkippedError where this machine lacks the runtime, ModelFileError for a file
    that is not ONNX, ContractError for names that the model does not have, and
    EvaluationError when the runtime cannot load the model.
    """
    member = _member(runtime)
    member.available(runtime)
    return member(runtime, model, contract).open()


def _member(runtime: Runtime) -> _Member:
    if runtime.engine not in RUNTIMES:
        raise UnknownNameError("runtime", runtime.engine, RUNTIMES, "Set runtime.engine to one of these.")
    return RUNTIMES[runtime.engine]
