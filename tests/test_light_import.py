"""Starting gapshift costs neither torch nor ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "onnxruntime", "onnx", "openvino", "cv2", "sklearn", "py_irt")


@pytest.mark.parametrize(
    "module",
    [
        "gapshift",
        "gapshift.schema",
        "gapshift.errors",
        "gapshift.settings",
        "gapshift.cli",
        "gapshift.deploy_tests.plugin",
        "gapshift.deploy_tests.strategies",
    ],
)
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
