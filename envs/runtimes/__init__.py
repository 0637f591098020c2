"""Runtimes: each in its file, all in RUNTIMES, all under ``conformance.check_runtime``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gapshift.envs.runtimes.base import Session
from gapshift.envs.runtimes.onnxruntime import OnnxRuntimeSession
from gapshift.envs.runtimes.opencv import OpenCvSession
from gapshift.envs.runtimes.openvino import OpenVinoSession
from gapshift.envs.runtimes.reference import ReferenceSession
from gapshift.envs.runtimes.torch import TorchSession
from gapshift.errors import NotApplicableError, UnknownNameError
from gapshift.schema import Contract, Runtime

__all__ = ["RUNTIMES", "Session", "available", "open_runtime"]


_OF_ALL = frozenset(["engine", "batch_size", "order"])
"""Settings that the runner heeds, whatever the engine."""


class _Member(Protocol):
    heeds: frozenset[str]
    """Fields of ``Runtime`` that mean something to the engine."""

    def __call__(self, runtime: Runtime, model: Path, contract: Contract) -> Session: ...

    @staticmethod
    def available(runtime: Runtime) -> None: ...


_MEMBERS: tuple[tuple[str, _Member], ...] = (
    (OnnxRuntimeSession.engine, OnnxRuntimeSession),
    (ReferenceSession.engine, ReferenceSession),
    (OpenVinoSession.engine, OpenVinoSession),
    (OpenCvSession.engine, OpenCvSession),
    (TorchSession.engine, TorchSession),
)
RUNTIMES: dict[str, _Member] = dict(_MEMBERS)


def available(runtime: Runtime) -> None:
    """Raises SkippedError with the reason where this machine cannot provide ``runtime``."""
    _member(runtime).available(runtime)


def open_runtime(runtime: Runtime, model: Path, contract: Contract) -> Session:
    """An open session of ``model``; close it, or use it in ``with``.

    Raises SkippedError where this machine lacks the runtime, or the runtime an operator of the
    model; NotApplicableError for a setting that the engine does not have; ModelFileError for a
    file that is not ONNX, ContractError for names that the model does not have, and
    EvaluationError when the runtime cannot load the model for another reason.
    """
    member = _member(runtime)
    _refuse_vain_settings(runtime, member)
    member.available(runtime)
    return member(runtime, model, contract).open()


def _member(runtime: Runtime) -> _Member:
    if runtime.engine not in RUNTIMES:
        raise UnknownNameError("runtime", runtime.engine, RUNTIMES, "Set runtime.engine to one of these.")
    return RUNTIMES[runtime.engine]


def _refuse_vain_settings(runtime: Runtime, member: _Member) -> None:
    vain = [
        f"runtime.{name} = {getattr(runtime, name)}"
        for name, field in Runtime.model_fields.items()
        if name not in member.heeds | _OF_ALL and getattr(runtime, name) != field.default
    ]
    if vain:
        heeded = ", ".join(sorted(member.heeds | _OF_ALL - {"engine"}))
        raise NotApplicableError(f"{', '.join(vain)} means nothing to {runtime.engine}, which heeds {heeded}")
