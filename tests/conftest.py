"""Shared by all tests: a private cache folder, and two tiny studies made once per test run."""

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

[tasks.digits]
data = { source = "digits", train_fraction = 0.5 }

[tasks.digits.preprocessing]
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

FOUR_DOMAINS = """
name = "four"
seed = 3
regimes = ["easy-only", "random"]

[tasks.digits]
data = { source = "digits", train_per_class = 8, test_per_class = 8 }
preprocessing = { color = "L", mean = [0.3], std = [0.35], resize = { size = [12, 12] } }

[tasks.sentiment]
domain = "text"
data = { source = "sentiment", train_per_class = 30, test_per_class = 30 }
preprocessing = { max_length = 20 }
families = ["gru"]

[tasks.keywords]
domain = "audio"
data = { source = "keywords", train_per_class = 8, test_per_class = 8 }
preprocessing = { duration = 0.8 }

[tasks.cartpole]
domain = "control"
data = { source = "cartpole", train_per_class = 40, test_per_class = 40 }

[calibration]
cross_check = false
[calibration.ladder]
capacities = [4, 8]
data_fractions = [1.0]
seeds = 2
checkpoints = [1.0]
epochs = 1.0
least_steps = 10

[training]
width = 4
steps = 10
batch_size = 16

[comparisons]
controls = true
matrix = true
widths = [8]
shuffled = 0.3
transfer = { width = 8, steps = 3 }

[evaluation]
environments = ["int8-dynamic", "resize-nearest", "text-truncated-16", "features-not-normalised", "sensor-bias"]
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
    return _written(shared_tmp / "tiny.toml", TINY_STUDY)


@pytest.fixture(scope="session")
def four_study_file(shared_tmp: Path) -> Path:
    """A study file of four domains with every comparison."""
    return _written(shared_tmp / "four.toml", FOUR_DOMAINS)


@pytest.fixture(scope="session")
def tiny_study(shared_tmp: Path, tiny_study_file: Path) -> Path:
    """The run folder of a finished tiny study. Read it; do not change it."""
    return _finished(tiny_study_file, shared_tmp / "tiny-study")


@pytest.fixture(scope="session")
def four_study(shared_tmp: Path, four_study_file: Path) -> Path:
    """The run folder of a finished tiny study of four domains. Read it; do not change it."""
    return _finished(four_study_file, shared_tmp / "four-study")


def _written(path: Path, text: str) -> Path:
    with FileLock(f"{path}.lock"):
        if not path.exists():
            path.write_text(text, encoding="utf-8")
    return path


def _finished(file: Path, run: Path) -> Path:
    from gapshift.flows.study import save_settings, study
    from gapshift.flows.study_settings import read_study
    from gapshift.workspace import Workspace

    with FileLock(f"{run}.lock"):
        if not (run / "report.html").exists():
            save_settings(Workspace(run), read_study(file))
            study(Workspace(run))
    return run
