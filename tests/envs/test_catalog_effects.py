"""Every environment of the catalog on a small model of each domain: it changes something, or says that it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapshift.domains.base import Dataset
from gapshift.domains.corruptions.apply import corrupted
from gapshift.domains.prepare import prepare
from gapshift.envs.catalog import catalog
from gapshift.envs.cells import TaskItems
from gapshift.envs.resolve import resolve
from gapshift.envs.runner import Matrix, evaluate
from gapshift.envs.runtimes import Session, open_runtime
from gapshift.records import Records
from gapshift.schema import REFERENCE_ENVIRONMENT, Bundle, CellInfo, Contract, Environment, Runtime, takes
from gapshift.workspace import Workspace

ITEMS = 30
TASKS = {"vision": "vision", "text": "text", "spans": "text", "audio": "audio", "control": "control"}
"""Tasks, and the domain of each."""
CASES = [
    pytest.param(task, environment, id=f"{task}-{environment.name}")
    for task, domain in TASKS.items()
    for environment in catalog().values()
    if takes(domain, environment)  # type: ignore[arg-type]  # one of the four
]
NO_EFFECT = {
    ("spans", "int8-dynamic-per-channel"),  # no product with weights of several output channels
    ("vision", "decoder-opencv"),  # the same JPEG library in both
    ("vision", "resize-pillow-bilinear"),  # so it is in the contract
    ("vision", "resize-squash"),  # as above
    ("vision", "layout-nhwc"),  # the graph takes channels first
    ("vision", "layout-nchw-as-nhwc"),  # as above
    ("text", "shift-casing"),  # its contract makes all letters small
    ("spans", "shift-casing"),
    ("spans", "float16-mixed"),  # it has none of the operators that are kept in float32
    ("spans", "float16-float32-classifier"),
    ("control", "float16-mixed"),
    ("audio", "line-8-khz"),  # it takes 8 kHz
    ("audio", "log-range-80-db"),  # its floor lies less far below full scale
    ("control", "angles-in-degrees"),  # the task has none
    # These models have none of what the graph's rewrites change; test_catalog_graph.py has one that does.
    *((task, name) for task in TASKS for name in catalog() if name.startswith("graph-")),
    # Few enough items that no request fails for good, or none is damaged.
    *((task, "service-flaky-retried") for task in TASKS if task != "control"),
    *((task, "service-corrupted") for task in ("text", "spans")),
    ("text", "service-slow"),
    *(("control", f"shift-{name}") for name in ("heavy-cart", "heavy-pole", "long-pole")),  # the task is a car
}
"""What may find nothing to change in these items, or contradicts these models."""
OPTIONAL = {"openvino", "pyav", "ffmpeg", "simplejpeg", "soxr", "librosa"}
"""Values that name what an installation may lack."""
OPTIONAL |= {e.deviations["runtime.provider"] for e in catalog().values() if "runtime.provider" in e.deviations}
OPTIONAL |= {"torch"}  # these models were never trained: they have no checkpoint


@dataclass(frozen=True)
class _Run:
    workspace: Workspace
    matrix: Matrix
    models: dict[tuple[str, str], Path]
    """The file that each cell ran."""

    def bundle(self, task: str) -> Bundle:
        return next(bundle for bundle in self.matrix.bundles if bundle.task == task)

    def cell(self, task: str, environment: Environment) -> tuple[CellInfo, Records]:
        cell = self.workspace.read_cell(task, environment.name)
        assert cell is not None, (task, environment.name)
        return cell


def _levels(data: Dataset) -> dict[str, int]:
    return {item.id: 1 + n % 5 for n, item in enumerate(data.items)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small: Callable[..., Any]) -> _Run:
    """All tasks in one matrix."""
    folder = tmp_path_factory.mktemp("catalog")
    made = {task: small(task, folder, n=ITEMS) for task in TASKS}
    tasks = {
        task: TaskItems(each.judged, each.calibration, _levels(each.judged) | _levels(each.calibration))
        for task, each in made.items()
    }
    opened: list[Path] = []
    models: dict[tuple[str, str], Path] = {}

    def opening(runtime: Runtime, model: Path, contract: Contract) -> Session:
        opened.append(model)
        return open_runtime(runtime, model, contract)

    def after(what: str, _done: int, _all: int) -> None:
        task, _, environment = what.partition(" in ")
        # Beside its own session a controller's cell opens the reference's file, for the open loop.
        models[task, environment] = next((path for path in opened if path.parent.name == "variants"), folder)
        opened.clear()

    bundles = tuple(each.bundle for each in made.values())
    matrix = Matrix(bundles, tuple(catalog().values()), tasks, subsample_per_level=2)
    workspace = Workspace(folder / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("gapshift.envs.runner.open_runtime", opening)
        evaluate(workspace, matrix, after)
    return _Run(workspace, matrix, models)


def _inputs_differ(run: _Run, task: str, environment: Environment) -> bool:
    contract, data = run.bundle(task).contract, run.matrix.tasks[task].dataset
    deployed = resolve(contract, environment)
    shifted = corrupted(data, deployed.shift, deployed.preprocessing)
    pairs = [(data.raw(index), shifted.raw(index)) for index in range(len(data))]
    if contract.domain == "control":
        return deployed.preprocessing != contract.preprocessing or any(one != two for one, two in pairs)
    how = contract.preprocessing, deployed.preprocessing
    return any(not np.array_equal(prepare(one, how[0]), prepare(two, how[1])) for one, two in pairs)


def _served(info: CellInfo) -> bool:
    """Whether a service did something to the inputs."""
    return info.service is not None and info.service.fallbacks + info.service.stale + info.service.corrupted > 0


def _axis_of_the_items(environment: Environment) -> str:
    return "shift" if "shift.corruption" in environment.deviations else "preprocessing"


def _axes_that_changed(run: _Run, task: str, environment: Environment) -> set[str]:
    mine, its = (run.cell(task, each)[0].execution for each in (environment, REFERENCE_ENVIRONMENT))
    assert mine is not None
    assert its is not None
    changed = {
        _axis_of_the_items(environment): _inputs_differ(run, task, environment),
        "service": _served(run.cell(task, environment)[0]),
        "precision": run.models[task, environment.name].parent.name == "variants",
        "runtime": (mine.engine, mine.settings) != (its.engine, its.settings),
    }
    return {axis for axis, is_so in changed.items() if is_so}


def test_every_environment_is_met_in_some_domain() -> None:
    names = {case.values[1].name for case in CASES}  # type: ignore[union-attr]  # an environment
    assert names == set(catalog())


def test_a_task_meets_the_environments_of_its_domain_alone(run: _Run) -> None:
    planned = {f"{case.values[0]}--{case.values[1].name}.parquet" for case in CASES}  # type: ignore[union-attr]
    references = {f"{task}--{REFERENCE_ENVIRONMENT.name}.parquet" for task in TASKS}
    assert {path.name for path in run.workspace.records.iterdir()} == planned | references


@pytest.mark.parametrize(("task", "environment"), CASES)
def test_an_environment_changes_what_it_names_or_says_that_it_does_not(
    run: _Run, task: str, environment: Environment
) -> None:
    info, records = run.cell(task, environment)
    if info.status in ("not_applicable", "skipped"):
        assert info.reason
        assert len(records) == 0
        lacking = info.status == "skipped" and OPTIONAL & set(map(str, environment.deviations.values()))
        assert (task, environment.name) in NO_EFFECT or lacking
        return
    assert info.status == "ok", info.reason
    assert not info.reason
    assert _axes_that_changed(run, task, environment) == {key.split(".")[0] for key in environment.deviations}
    assert len(records) == (10 if environment.subsample else ITEMS)
    assert set(records.status.tolist()) <= ({"ok", "fallback", "no_answer"} if info.service else {"ok"})
    assert np.isnan(records.confidence).all() == (task == "control")


@pytest.mark.parametrize(("task", "environment"), CASES)
def test_answers_differ_wherever_the_inputs_or_the_graph_do(run: _Run, task: str, environment: Environment) -> None:
    info, records = run.cell(task, environment)
    if info.status != "ok":
        return
    differs = _inputs_differ(run, task, environment)
    if task == "control":
        # Rounding need not turn a controller's choice of one out of three.
        assert info.open_loop is not None
        if _axis_of_the_items(environment) == "shift":  # other physics, and the same controller
            assert info.open_loop == 0
            assert (records.score != run.cell(task, REFERENCE_ENVIRONMENT)[1].score).any()
        else:
            assert info.open_loop > 0 or not differs
    elif differs or info.service or (info.execution is not None and info.execution.executed != "float32"):
        reference = run.cell(task, REFERENCE_ENVIRONMENT)[1]
        rows = np.isin(reference.item_id, records.item_id)
        assert (records.confidence != reference.confidence[rows]).any()


@pytest.mark.parametrize(
    ("task", "environment"),
    [case for case in CASES if case.values[1].kind == "equivalent"],  # type: ignore[union-attr]
)
def test_runtimes_that_should_change_nothing_change_nothing(run: _Run, task: str, environment: Environment) -> None:
    (info, records), reference = run.cell(task, environment), run.cell(task, REFERENCE_ENVIRONMENT)[1]
    if info.status != "ok":  # the test above holds what may be skipped or not applicable
        return
    order = {name: row for row, name in enumerate(reference.item_id)}
    rows = [order[name] for name in records.item_id]  # an environment may ask for its items in another order
    assert records.prediction.tolist() == reference.prediction[rows].tolist()
    np.testing.assert_allclose(records.confidence, reference.confidence[rows], rtol=1e-4)
    np.testing.assert_array_equal(records.score, reference.score[rows])
    assert info.open_loop == (0 if task == "control" else None)
