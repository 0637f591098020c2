"""Every environment of the catalog, run on photographs: it changes something, or says that it does not."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapshift.domains.base import Dataset, Files
from gapshift.domains.vision import prepare
from gapshift.envs.catalog import REFERENCE_ENVIRONMENT, catalog
from gapshift.envs.resolve import resolve
from gapshift.envs.runner import Matrix, evaluate
from gapshift.envs.runtimes import Session, open_runtime
from gapshift.envs.runtimes.conformance import small_classifier
from gapshift.export.model_file import sha256
from gapshift.schema import Bundle, Contract, Environment, Item, Runtime
from gapshift.workspace import Workspace


@dataclass(frozen=True)
class _Run:
    workspace: Workspace
    bundle: Bundle
    data: Dataset
    models: dict[str, Path]
    """The file that each environment ran."""


def _photograph(seed: int) -> bytes:
    """A JPEG of 30 to 70 pixels a side: gradients, edges and noise in colour."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(30, 71, 2)
    y, x = np.mgrid[0:height, 0:width] / 70
    waves = [np.sin(rng.uniform(2, 25) * x + rng.uniform(2, 25) * y + rng.uniform(0, 6)) for _ in range(3)]
    picture = 128 + 80 * np.stack(waves, axis=2) + 40 * (x > 0.3)[..., None] + rng.normal(0, 20, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _photographs(folder: Path, seeds: range, classes: tuple[str, ...]) -> Dataset:
    folder.mkdir()
    paths = [folder / f"{seed}.jpg" for seed in seeds]
    for path, seed in zip(paths, seeds, strict=True):
        path.write_bytes(_photograph(seed))
    return Files("photographs", classes, [Item(path.name, n % len(classes)) for n, path in enumerate(paths)], paths)


def _contract(model: Path) -> Contract:
    contract = small_classifier(model, size=24)
    how = contract.preprocessing.model_copy(update={"mean": (0.45, 0.5, 0.4), "std": (0.25, 0.2, 0.3)})
    return contract.model_copy(update={"preprocessing": how})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> _Run:
    folder = tmp_path_factory.mktemp("catalog")
    contract = _contract(folder / "m.onnx")
    bundle = Bundle(name="m", path=str(folder / "m.onnx"), sha256=sha256(folder / "m.onnx"), contract=contract)
    data = _photographs(folder / "judged", range(30), contract.model.labels)
    calibration = _photographs(folder / "calibration", range(100, 116), contract.model.labels)
    strata = {item.id: 1 + n % 5 for n, item in enumerate(data.items)}
    workspace, models, opened = Workspace(folder / "run"), {}, [folder / "m.onnx"]

    def opening(runtime: Runtime, model: Path, contract: Contract) -> Session:
        opened.append(model)
        return open_runtime(runtime, model, contract)

    def after(what: str, _done: int, _all: int) -> None:
        models[what.rpartition(" ")[2]] = opened[-1]

    matrix = Matrix((bundle,), tuple(catalog().values()), data, calibration, strata, subsample_per_level=2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("gapshift.envs.runner.open_runtime", opening)
        evaluate(workspace, matrix, after)
    return _Run(workspace, bundle, data, models)


def _tensors_differ(run: _Run, environment: Environment) -> bool:
    how = run.bundle.contract.preprocessing, resolve(run.bundle.contract, environment).preprocessing
    raws = [run.data.raw(index) for index in range(len(run.data))]
    return any(not np.array_equal(prepare(raw, how[0]), prepare(raw, how[1])) for raw in raws)


def _axes_that_changed(run: _Run, environment: Environment) -> set[str]:
    cell, reference = (run.workspace.read_cell("m", name) for name in (environment.name, REFERENCE_ENVIRONMENT.name))
    assert cell is not None
    assert reference is not None
    mine, its = cell[0].execution, reference[0].execution
    assert mine is not None
    assert its is not None
    changed = {
        "preprocessing": _tensors_differ(run, environment),
        "precision": run.models[environment.name].read_bytes() != Path(run.bundle.path).read_bytes(),
        "runtime": (mine.engine, mine.settings) != (its.engine, its.settings),
    }
    return {axis for axis, is_so in changed.items() if is_so}


@pytest.mark.parametrize("environment", catalog().values(), ids=lambda e: e.name)
def test_an_environment_changes_what_it_names_or_says_that_it_does_not(run: _Run, environment: Environment) -> None:
    cell = run.workspace.read_cell("m", environment.name)
    assert cell is not None
    info, records = cell
    if info.status in ("not_applicable", "skipped"):
        assert info.reason
        assert len(records) == 0
        assert environment.name.startswith(("decoder-", "openvino-"))
        return
    assert info.status == "ok", info.reason
    assert _axes_that_changed(run, environment) == {key.split(".")[0] for key in environment.deviations}
    assert len(records) == (10 if environment.subsample else 30)
    assert set(records.status.tolist()) == {"ok"}


def test_answers_differ_wherever_the_tensor_or_the_graph_does(run: _Run) -> None:
    reference = run.workspace.read_cell("m", REFERENCE_ENVIRONMENT.name)
    assert reference is not None
    for environment in catalog().values():
        cell = run.workspace.read_cell("m", environment.name)
        assert cell is not None
        info, records = cell
        ran_in_another_format = info.execution is not None and info.execution.executed != "float32"
        if info.status == "ok" and (_tensors_differ(run, environment) or ran_in_another_format):
            rows = np.isin(reference[1].item_id, records.item_id)
            assert (records.confidence != reference[1].confidence[rows]).any(), environment.name


def test_runtimes_that_should_change_nothing_change_nothing(run: _Run) -> None:
    reference = run.workspace.read_cell("m", REFERENCE_ENVIRONMENT.name)
    assert reference is not None
    for environment in (e for e in catalog().values() if e.kind == "equivalent"):
        cell = run.workspace.read_cell("m", environment.name)
        assert cell is not None
        if cell[0].status == "skipped":
            continue
        rows = np.isin(reference[1].item_id, cell[1].item_id)
        np.testing.assert_allclose(cell[1].confidence, reference[1].confidence[rows], rtol=1e-4)
