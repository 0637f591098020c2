"""``gapshift doctor``: what this machine offers to a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import docker
import onnxruntime
import torch
from docker.errors import DockerException
from requests import RequestException

from gapshift.envs.machine import fingerprint, versions
from gapshift.envs.runtimes import RUNTIMES, available
from gapshift.envs.runtimes.onnxruntime import why_not
from gapshift.errors import SkippedError
from gapshift.schema import Runtime

_PACKAGES = ("gapshift", "onnxruntime", "onnx", "openvino", "torch", "numpy", "pillow", "opencv", "py-irt")
_DOCKER_API = "1.41"
_DOCKER_SOCKET = Path("/var/run/docker.sock")


def examine() -> dict[str, dict[str, Any]]:
    """Sections of findings: machine, versions, runtimes, accelerator, containers."""
    return {
        "machine": fingerprint(),
        "versions": versions(*_PACKAGES),
        "runtimes": {engine: _availability(Runtime.model_validate({"engine": engine})) for engine in RUNTIMES},
        "providers": _providers(),
        "accelerator": {"cuda": _cuda()},
        "containers": {"docker": _docker()},
    }


def _providers() -> dict[str, str]:
    """ONNX Runtime's providers, those that are compiled in but cannot start told from those that can."""
    return {name: _startable(name) for name in onnxruntime.get_available_providers()}


def _startable(provider: str) -> str:
    """Whether a session starts with the provider: listed ones may lack a device, or its libraries."""
    problem = why_not(provider)
    return "available" if problem is None else f"compiled in, {problem}"


def _availability(runtime: Runtime) -> str:
    try:
        available(runtime)
    except SkippedError as error:
        return f"skipped: {error}"
    return "available"


def _cuda() -> str:

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: training runs on the CPU"


def _docker() -> str:
    none = "no engine answers; nothing in this version needs one"
    if "DOCKER_HOST" not in os.environ and not _DOCKER_SOCKET.exists():
        return none
    client = docker.DockerClient(version=_DOCKER_API, timeout=2)  # a fixed version: nothing is asked before try
    try:
        version: str = client.version()["Version"]
    except (DockerException, RequestException):
        return none
    finally:
        client.close()
    return f"engine {version}"
