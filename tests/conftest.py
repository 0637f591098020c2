"""Shared by all tests: a private cache folder, and one tiny study made once per test run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

TINY_STUDY = """
name = "tiny"
seed = 3
regimes = ["easy-only", "random"]

[data]
source = "digits"
train_fraction = 0.5

[preprocessing]
color = "L"
mean = [0.3]
std = [0.35]
resize = { size = [12, 12] }

[calibration]
cross_check = false
[calibration.ladder]
capacities = [4, 8]
data_fractions = [1.0]
seeds = 2
checkpoints = [0.5, 1.0]
epochs = 2.0

[training]
width = 4
steps = 40
batch_size = 32

[evaluation]
environments = ["onnxruntime-one-thread", "resize-nearest", "int8-dynamic", "bgr"]
"""


@pytest.fixture(scope="session", autouse=True)
def _private_cache(shared_tmp: Path) -> Iterator[None]:
    """Responders are cached between the tests of a run, and never in the user's own cache."""
    before = os.environ.get("GAPSHIFT_CACHE")
    os.environ["GAPSHIFT_CACHE"] = str(shared_tmp / "cache")
    yield
    if before is None:
        del os.environ["GAPSHIFT_CACHE"]
    else:
        os.environ["GAPSHIFT_CACHE"] = before


@pytest.fixture(scope="session")
def shared_tmp(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A temporary folder that all workers of a parallel run share."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if hasattr(request.config, "workerinput") else base
    (folder / "shared").mkdir(exist_ok=True)
    return folder / "shared"


@pytest.fixture(scope="session")
def tiny_study_file(shared_tmp: Path) -> Path:
    """A study file that runs in seconds."""
    path = shared_tmp / "tiny.toml"
    with FileLock(shared_tmp / "tiny-file.lock"):
        if not path.exists():
            path.write_text(TINY_STUDY, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_study(shared_tmp: Path, tiny_study_file: Path) -> Path:
    """The run folder of a finished tiny study. Read it; do not change it."""
    from gapshift.flows.study import save_settings, study
    from gapshift.flows.study_settings import read_study
    from gapshift.workspace import Workspace

    run = shared_tmp / "tiny-study"
    with FileLock(shared_tmp / "tiny-study.lock"):
        if not (run / "report.html").exists():
            save_settings(Workspace(run), read_study(tiny_study_file))
            study(Workspace(run))
    return run
