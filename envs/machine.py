"""Facts about the machine and the libraries that a cell ran on."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "fphp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
)
"""CPU features that change which kernels run, by their names in /proc/cpuinfo."""

_DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime", "onnxruntime-openvino", "onnxruntime-directml"),
    "opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
}
_CPUINFO = Path("/proc/cpuinfo")


def versions(*names: str) -> dict[str, str]:
    """Installed version of each library, or Python's own; ``absent`` where there is none.

    >>> versions("no-such-library")
    {'no-such-library': 'absent'}
    """
    return {name: _version(name) for name in names}


@functools.cache
def _version(name: str) -> str:
    if name == "python":  # of a training's cells: no distribution, and there nonetheless
        return platform.python_version()
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "absent"


def cpu_flags() -> tuple[str, ...]:
    """Which of FLAGS this CPU has; empty where the system does not tell."""
    fields = _cpuinfo()
    present = set(fields.get("flags", fields.get("Features", "")).split())
    return tuple(flag for flag in FLAGS if flag in present)


def fingerprint() -> dict[str, Any]:
    """CPU model and features, cores, memory (GiB, None if unknown), system, Python."""
    return {
        "cpu": _cpu_model(),
        "cpu_flags": list(cpu_flags()),
        "cores": _cores(),
        "memory_gib": _memory_gib(),
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    return _cpuinfo().get("model name") or platform.processor() or "unknown"


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's entries; none where there is no such file."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
