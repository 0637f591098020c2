"""The machine that a session runs on, in one line, and what it differs in from another run's."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

LIBRARIES = ("gapshift", "onnxruntime", "onnx", "openvino", "opencv", "torch", "numpy")
"""Those whose versions every cell records."""


def fingerprint() -> str:
    """CPU, a digest of the CPU features that choose kernels, library versions. Nothing is imported for it."""
    from gapshift.envs.machine import cpu_flags, versions
    from gapshift.envs.machine import fingerprint as facts

    machine = facts()
    features = hashlib.sha256(" ".join(cpu_flags()).encode()).hexdigest()[:8]
    libraries = ", ".join(f"{name} {version}" for name, version in versions(*LIBRARIES).items() if version != "absent")
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    return f"{machine['cpu']}, {cores}, features {features}; Python {machine['python']}, {libraries}"


def differences(executions: Iterable[Mapping[str, Any]]) -> list[str]:
    """What this machine differs in from the one that those cells ran on (``Execution`` as JSON), in words."""
    from gapshift.envs.machine import cpu_flags, versions

    libraries: dict[str, set[str]] = defaultdict(set)
    flags: set[str] = set()
    for execution in executions:
        flags.update(execution["cpu_flags"])
        for name, version in execution["versions"].items():
            libraries[name].add(version)
    if not libraries:
        return ["nothing in it says what it ran on"]
    now = versions(*libraries)
    changed = [
        f"{name} {', '.join(sorted(then))} then, {now[name]} now"
        for name, then in sorted(libraries.items())
        if then != {now[name]}
    ]
    here = set(cpu_flags())
    return changed + [
        f"the CPU {words} {', '.join(sorted(which))}"
        for words, which in (("had", flags - here), ("now has", here - flags))
        if which
    ]
