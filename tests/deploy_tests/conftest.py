"""A pytest inside this one: it shares what is imported, which a process of its own would spend seconds on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "deploy_tests" / "test_deployment.py"
# Collecting garbage twice at each end, as two of pytest's plugins do, takes longer than the tests.
COMMON = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:unraisableexception",
    "-p",
    "no:threadexception",
    "--rootdir",
    str(ROOT),
    "-c",
    str(ROOT / "pyproject.toml"),
)


@dataclass(frozen=True)
class Done:
    """How a pytest ended and what it said."""

    code: int
    out: str


Run = Callable[..., Done]


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs pytest in this process, with ``tmp_path`` as the working directory."""
    monkeypatch.setenv("COLUMNS", "140")

    def run(*words: str, cwd: Path = tmp_path) -> Done:
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        code = pytest.main([*COMMON, *words])
        _forget_the_suite()
        said = capsys.readouterr()
        return Done(int(code), said.out + said.err)

    return run


def _forget_the_suite() -> None:
    """A process of its own imports the suite anew; so does the next session here, and pytest rewrites it again."""
    for name in [name for name in sys.modules if name.split(".")[0] == SUITE.parent.name]:
        del sys.modules[name]


@pytest.fixture
def outside(tmp_path: Path) -> Run:
    """Runs pytest in a process of its own, without this project's configuration unless ``COMMON`` is given."""

    def run(*words: str, cwd: Path = tmp_path) -> Done:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
        environment = {**os.environ, "COLUMNS": "140"}
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
        return Done(done.returncode, done.stdout + done.stderr)

    return run


@pytest.fixture(scope="session")
def model(tiny_study: Path) -> tuple[str, ...]:
    """Options for the tiny study's model on the digits, with its own levels."""
    return (
        "--gapshift-model", str(tiny_study / "bundles" / "digits-cnn-random-s0.onnx"), "--gapshift-data", "digits",
        "--gapshift-items", str(tiny_study / "items.parquet"), "--gapshift-allow-unlevelled",
    )  # fmt: skip


@pytest.fixture
def suite(inside: Run, model: tuple[str, ...]) -> Run:
    """The shipped suite on that model."""
    return lambda *words, **where: inside(str(SUITE), *model, *words, **where)
