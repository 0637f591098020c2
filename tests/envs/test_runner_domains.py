"""The matrix runner over several domains: each bundle meets its own items in its own environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, Episode, InMemory, Text
from gapshift.domains.control.episodes import answer_episodes, windows
from gapshift.domains.prepare import prepare
from gapshift.domains.spans import span_records
from gapshift.envs.catalog import select
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.envs.runtimes import Session, open_runtime
from gapshift.errors import UnknownNameError
from gapshift.export.precision import variant
from gapshift.records import Records
from gapshift.schema import CellInfo, Contract, ControlPreprocessing, Environment, Runtime, TextPreprocessing
from gapshift.workspace import Workspace


def _environment(name: str, deviations: dict[str, Any], subsample: bool = False) -> Environment:
    return Environment(name=name, kind="lossy", summary="s", deviations=deviations, subsample=subsample)


BATCH_1 = _environment("batch-1", {"runtime.batch_size": 1})
BGR = _environment("bgr", {"preprocessing.color": "BGR"})
CASED = _environment("cased", {"preprocessing.lowercase": False})
SHORT = _environment("short", {"preprocessing.max_length": 16})
UNCENTRED = _environment("uncentred", {"preprocessing.center": False})
DELAYED = _environment("delayed", {"preprocessing.delay": 1})
LATE_AND_SLOW = _environment("late-and-slow", {"preprocessing.delay": 1, "runtime.batch_size": 1})
PIXELS_RAW = _environment("pixels-raw", {"preprocessing.mean": [0.0], "preprocessing.std": [1.0]})
FEATURES_RAW = _environment("features-raw", {"preprocessing.mean": 0.0, "preprocessing.std": 1.0})
QDQ = _environment("qdq", {"precision.format": "int8-qdq"})
SAMPLED = _environment("sampled", {"runtime.intra_op_threads": 1}, subsample=True)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "run")


@pytest.fixture
def made(small: Callable[..., Any], tmp_path: Path) -> Callable[..., Matrix]:
    """A matrix over the named tasks."""

    def make(*tasks: str, environments: tuple[Environment, ...] = (), n: int = 10, **settings: Any) -> Matrix:
        each = {task: small(task, tmp_path, n=n, **settings) for task in tasks}
        items = {task: TaskItems(one.judged, one.calibration) for task, one in each.items()}
        return Matrix(tuple(one.bundle for one in each.values()), environments, items)

    return make


def _cell(workspace: Workspace, task: str, environment: str) -> tuple[CellInfo, Records]:
    cell = workspace.read_cell(task, environment)
    assert cell is not None, (task, environment)
    return cell


def _names(workspace: Workspace) -> set[str]:
    return {path.stem for path in workspace.records.iterdir()}


def _keys(workspace: Workspace) -> dict[str, str]:
    return {name: _cell(workspace, *name.split("--"))[0].key for name in _names(workspace)}


def _of(matrix: Matrix, task: str, **changes: Any) -> Matrix:
    return replace(matrix, tasks={**matrix.tasks, task: replace(matrix.tasks[task], **changes)})


def _episodes(data: Dataset) -> list[Episode]:
    raws = [data.raw(row) for row in range(len(data))]
    return [raw for raw in raws if isinstance(raw, Episode)]


# --------------------------------------------------------------------- tasks side by side


def test_each_bundle_answers_its_own_items_in_its_own_environments(
    workspace: Workspace, made: Callable[..., Matrix]
) -> None:
    matrix = made("vision", "audio", environments=(BATCH_1, BGR, UNCENTRED, PIXELS_RAW, FEATURES_RAW))
    evaluate(workspace, matrix)
    assert _names(workspace) == {
        "vision--reference", "vision--batch-1", "vision--bgr", "vision--pixels-raw",
        "audio--reference", "audio--batch-1", "audio--uncentred", "audio--features-raw",
    }  # fmt: skip
    for name in _names(workspace):
        task, environment = name.split("--")
        info, records = _cell(workspace, task, environment)
        assert info.status == "ok", info.reason
        assert records.item_id.tolist() == [item.id for item in matrix.tasks[task].dataset.items]


def test_an_environment_of_no_bundle_s_domain_is_recorded_as_not_applicable(
    workspace: Workspace, made: Callable[..., Matrix]
) -> None:
    evaluate(workspace, made("vision", "audio", environments=(CASED, DELAYED, BGR)))
    for task in ("vision", "audio"):
        for name, reason in (
            ("cased", "it sets preprocessing.lowercase = False, which text models can have"),
            ("delayed", "it sets preprocessing.delay = 1, which control models can have"),
        ):
            info, records = _cell(workspace, task, name)
            assert (info.status, info.reason) == ("not_applicable", f"{reason}; this one's domain is {task}")
            assert len(records) == 0
    assert "audio--bgr" not in _names(workspace)


def test_deviations_of_two_domains_at_once_suit_none(workspace: Workspace, made: Callable[..., Matrix]) -> None:
    mixed = _environment("mixed", {"preprocessing.color": "BGR", "preprocessing.delay": 1})
    evaluate(workspace, made("control", environments=(mixed,)))
    info, _ = _cell(workspace, "control", "mixed")
    assert info.status == "not_applicable"
    assert info.reason.startswith(
        "it sets preprocessing.color = BGR, preprocessing.delay = 1, which no models can have"
    )


def test_a_task_without_items_is_an_error_before_anything_runs(
    workspace: Workspace, made: Callable[..., Matrix]
) -> None:
    matrix = made("text", "audio")
    with pytest.raises(UnknownNameError, match=r"^Unknown task \(of bundle audio\) 'audio'\..* Valid: text\.$"):
        evaluate(workspace, replace(matrix, tasks={"text": matrix.tasks["text"]}))
    assert not workspace.records.exists()


def test_a_subsample_is_drawn_in_each_task(workspace: Workspace, made: Callable[..., Matrix]) -> None:
    matrix = replace(made("text", "control", environments=(SAMPLED,), n=20), subsample_per_level=3)
    for task, levels in (("text", 2), ("control", 5)):
        items = matrix.tasks[task].dataset.items
        matrix = _of(matrix, task, strata={item.id: 1 + n % levels for n, item in enumerate(items)})
    evaluate(workspace, matrix)
    for task, levels in (("text", 2), ("control", 5)):
        reference, sampled = (_cell(workspace, task, name)[1] for name in ("reference", "sampled"))
        assert (len(reference), len(sampled)) == (20, 3 * levels)
        rows = np.isin(reference.item_id, sampled.item_id)
        assert sampled.prediction.tolist() == reference.prediction[rows].tolist()
        strata = matrix.tasks[task].strata
        counts = np.bincount([strata[str(item)] for item in sampled.item_id])
        assert counts[1:].tolist() == [3] * levels


# ------------------------------------------------------------------------- content addresses


def _fewer_items(matrix: Matrix) -> Matrix:
    return _of(matrix, "text", dataset=matrix.tasks["text"].dataset.subset(range(9)))


def _other_calibration(matrix: Matrix) -> Matrix:
    calibration = matrix.tasks["text"].calibration
    assert calibration is not None
    return _of(matrix, "text", calibration=calibration.subset(range(9)))


def _levels(matrix: Matrix) -> Matrix:
    return _of(matrix, "text", strata={item.id: 1 for item in matrix.tasks["text"].dataset.items})


def _another_contract(matrix: Matrix) -> Matrix:
    text, *others = matrix.bundles
    how = text.contract.preprocessing.model_copy(update={"unicode_form": "NFKC"})
    contract = text.contract.model_copy(update={"preprocessing": how})
    return replace(matrix, bundles=(text.model_copy(update={"contract": contract}), *others))


def _another_task(matrix: Matrix) -> Matrix:
    return replace(matrix, tasks={**matrix.tasks, "unasked": matrix.tasks["audio"]})


TEXT_CELLS = {"text--reference", "text--batch-1", "text--qdq", "text--sampled"}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (_fewer_items, TEXT_CELLS),
        (_another_contract, TEXT_CELLS),
        (_other_calibration, {"text--qdq"}),
        (_levels, {"text--sampled"}),
        (_another_task, set()),
    ],
)
def test_a_cell_runs_again_when_and_only_when_its_own_task_changed(
    workspace: Workspace, made: Callable[..., Matrix], change: Callable[[Matrix], Matrix], changed: set[str]
) -> None:
    matrix = made("text", "audio", environments=(BATCH_1, QDQ, SAMPLED))
    evaluate(workspace, matrix)
    before = _keys(workspace)
    stamps = {path.stem: path.stat().st_mtime_ns for path in workspace.records.iterdir()}
    evaluate(workspace, change(matrix))
    after = _keys(workspace)
    assert {name for name in after if after[name] != before[name]} == changed
    again = {path.stem for path in workspace.records.iterdir() if path.stat().st_mtime_ns != stamps[path.stem]}
    assert again == changed


# ---------------------------------------------------------------------------- text, spans


def test_another_length_runs_on_a_model_of_free_length_and_is_refused_by_another(
    workspace: Workspace, made: Callable[..., Matrix]
) -> None:
    evaluate(workspace, made("text", environments=(SHORT,)))
    info, records = _cell(workspace, "text", "short")
    assert info.status == "ok", info.reason
    assert set(records.status.tolist()) == {"ok"}
    evaluate(workspace, made("text", environments=(SHORT,), length=48))
    assert _cell(workspace, "text", "reference")[0].status == "ok"
    info, records = _cell(workspace, "text", "short")
    assert (info.status, len(records)) == ("not_applicable", 0)
    assert info.reason == (
        "it sets preprocessing.max_length = 16, which contradicts the graph: "
        "it takes input 'input' of shape (any, 48) and was given (10, 16)"
    )


def test_a_layout_that_the_graph_contradicts_is_not_applicable(
    workspace: Workspace, made: Callable[..., Matrix]
) -> None:
    environments = select(["layout-nhwc", "layout-nhwc-as-nchw", "layout-nchw-as-nhwc"])
    evaluate(workspace, made("vision", environments=environments))
    for key in ("NHWC", "NCHW-as-NHWC"):
        info, records = _cell(workspace, "vision", f"layout-{key.lower()}")
        assert (info.status, len(records)) == ("not_applicable", 0)
        assert info.reason == (
            f"it sets preprocessing.layout = {key}, which contradicts the graph: "
            "it takes input 'input' of shape (any, 3, 24, 24) and was given (10, 24, 24, 3)"
        )
    assert _cell(workspace, "vision", "layout-nhwc-as-nchw")[0].status == "ok"


@pytest.mark.parametrize("environment", [None, SHORT, BATCH_1], ids=["reference", "short", "batch-1"])
def test_records_of_spans_are_those_of_the_model_s_scores(
    workspace: Workspace, made: Callable[..., Matrix], environment: Environment | None
) -> None:
    matrix = made("spans", environments=(environment,) if environment else ())
    evaluate(workspace, matrix)
    bundle, data = matrix.bundles[0], matrix.tasks["spans"].dataset
    how = bundle.contract.preprocessing
    assert isinstance(how, TextPreprocessing)
    if environment == SHORT:
        how = how.model_copy(update={"max_length": 16})
    raws = [raw for raw in map(data.raw, range(len(data))) if isinstance(raw, Text)]
    with open_runtime(Runtime(), Path(bundle.path), bundle.contract) as session:
        scores = session.predict(np.stack([prepare(raw, how) for raw in raws]))
    expected = span_records(data.items, raws, scores, how)
    records = _cell(workspace, "spans", environment.name if environment else "reference")[1]
    assert records.item_id.tolist() == [item.id for item in data.items]
    for name in ("prediction", "correct", "status"):
        assert getattr(records, name).tolist() == getattr(expected, name).tolist()
    np.testing.assert_allclose(records.confidence, expected.confidence, rtol=1e-5)
    np.testing.assert_array_equal(records.score, expected.score)


# ---------------------------------------------------------------------------------- audio


def test_a_recording_that_cannot_be_read_is_a_record(workspace: Workspace, made: Callable[..., Matrix]) -> None:
    matrix = made("audio", environments=(UNCENTRED, BATCH_1))
    whole = matrix.tasks["audio"].dataset
    raws: Mapping[int, Any] = {row: whole.raw(row) for row in range(len(whole))}
    torn = [bytes(raws[row])[:20] if row in (2, 7) else raws[row] for row in raws]
    evaluate(workspace, _of(matrix, "audio", dataset=InMemory("torn", whole.classes, whole.items, torn, "audio")))
    untouched = Workspace(workspace.root.parent / "untouched")
    evaluate(untouched, matrix)
    for environment in ("reference", "uncentred", "batch-1"):
        info, records = _cell(workspace, "audio", environment)
        assert records.item_id.tolist() == [item.id for item in whole.items]
        assert np.flatnonzero(records.status == "unreadable").tolist() == [2, 7]
        assert info.reason.startswith("2 items cannot be decoded, 'wav-0-0002' first: ")
        others = records.status == "ok"
        expected = _cell(untouched, "audio", environment)[1]
        assert records.prediction[others].tolist() == expected.prediction[others].tolist()


# -------------------------------------------------------------------------------- control


def test_episodes_are_recorded_by_their_outcome(workspace: Workspace, made: Callable[..., Matrix]) -> None:
    matrix = made("control", environments=(DELAYED,))
    evaluate(workspace, matrix)
    bundle, data = matrix.bundles[0], matrix.tasks["control"].dataset
    how = bundle.contract.preprocessing
    assert isinstance(how, ControlPreprocessing)
    for environment, deployed in (("reference", how), ("delayed", how.model_copy(update={"delay": 1}))):
        with open_runtime(Runtime(), Path(bundle.path), bundle.contract) as session:
            expected = answer_episodes(data.items, _episodes(data), session.predict, deployed)
        records = _cell(workspace, "control", environment)[1]
        assert records.prediction.tolist() == expected.prediction.tolist()
        np.testing.assert_array_equal(records.score, expected.score)
        assert np.isnan(records.confidence).all()


def test_open_loop_is_of_control_alone_and_tells_other_actions(
    workspace: Workspace, made: Callable[..., Matrix]
) -> None:
    evaluate(workspace, made("control", "text", environments=(BATCH_1, DELAYED, LATE_AND_SLOW, QDQ)))
    loops = {name: _cell(workspace, "control", name)[0].open_loop for name in ("reference", "batch-1", "delayed")}
    assert (loops["reference"], loops["batch-1"]) == (0, 0)
    assert loops["delayed"] is not None
    assert 0 < loops["delayed"] < 1
    assert _cell(workspace, "control", "late-and-slow")[0].open_loop == loops["delayed"]
    assert [_cell(workspace, "text", name)[0].open_loop for name in ("reference", "batch-1", "qdq")] == [None] * 3


def test_a_controller_is_quantised_on_what_it_meets_in_the_calibration_episodes(
    workspace: Workspace, made: Callable[..., Matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[NDArray[Any]]] = []

    def quantise(*arguments: Any, calibration: list[NDArray[Any]], **settings: Any) -> Path:
        given.append(calibration)
        return variant(*arguments, calibration=calibration, **settings)

    monkeypatch.setattr("gapshift.envs.variants.variant", quantise)
    matrix = made("control", "audio", environments=(QDQ,))
    evaluate(workspace, matrix)
    info, records = _cell(workspace, "control", "qdq")
    assert info.status == "ok", info.reason
    assert info.execution is not None
    assert info.execution.executed.startswith("int8")
    assert set(records.status.tolist()) == {"ok"}
    bundle, calibration = matrix.bundles[0], matrix.tasks["control"].calibration
    assert calibration is not None
    with open_runtime(Runtime(), Path(bundle.path), bundle.contract) as session:
        how = bundle.contract.preprocessing
        assert isinstance(how, ControlPreprocessing)
        expected = windows(_episodes(calibration), session.predict, how, 512)
    np.testing.assert_array_equal(np.concatenate(given[0]), expected)
    assert np.concatenate(given[1]).shape[1:] == (16, 63)


def test_a_controller_without_calibration_episodes_is_not_quantised(
    workspace: Workspace, made: Callable[..., Matrix]
) -> None:
    evaluate(workspace, _of(made("control", environments=(QDQ,)), "control", calibration=None))
    info, _ = _cell(workspace, "control", "qdq")
    assert info.status == "error"
    assert info.reason.startswith("int8-qdq needs calibration items that are not judged")


def test_another_batch_size_is_what_the_controller_is_asked_by(
    workspace: Workspace, made: Callable[..., Matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def opening(runtime: Runtime, model: Path, contract: Contract) -> Session:
        session = open_runtime(runtime, model, contract)
        predict = session.predict

        def counted(batch: NDArray[Any]) -> NDArray[Any]:
            asked.append((runtime.batch_size, len(batch)))
            return predict(batch)

        session.predict = counted  # type: ignore[method-assign,misc]  # to see what comes in
        return session

    monkeypatch.setattr("gapshift.envs.runner.open_runtime", opening)
    monkeypatch.setattr("gapshift.envs.control.action_disagreement", lambda *_: 0.0)
    evaluate(workspace, made("control", environments=(BATCH_1,), n=5))
    assert max(size for batch, size in asked if batch == 256) == 5
    assert {size for batch, size in asked if batch == 1} == {1}
