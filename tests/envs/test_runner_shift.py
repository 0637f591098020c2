"""The matrix runner with corrupted items: paired with the clean ones, shared, addressed, and said where in vain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapshift.domains.answering import Asked, answer
from gapshift.domains.base import Dataset, Raw
from gapshift.domains.corruptions.apply import corrupted
from gapshift.domains.prepare import prepare
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.envs.runtimes import open_runtime
from gapshift.export.precision import variant
from gapshift.records import Records
from gapshift.schema import CellInfo, Environment, Runtime, Shift, digest
from gapshift.workspace import Workspace

FAMILY = {
    "vision": "contrast",
    "text": "keyboard-typos",
    "spans": "dropped-words",
    "audio": "white-noise",
    "control": "gravity",
}


def _environment(name: str, **deviations: Any) -> Environment:
    dotted = {key.replace("__", "."): value for key, value in deviations.items()}
    return Environment(name=name, kind="stress", summary="s", deviations=dotted)


def _shifted(task: str, severity: int = 5) -> Environment:
    return _environment(f"shifted-{severity}", shift__corruption=FAMILY[task], shift__severity=severity)


def _matrix(made: Any, *environments: Environment) -> Matrix:
    return Matrix((made.bundle,), environments, {made.bundle.task: TaskItems(made.judged, made.calibration)})


def _cell(workspace: Workspace, task: str, environment: str) -> tuple[CellInfo, Records]:
    cell = workspace.read_cell(task, environment)
    assert cell is not None, (task, environment)
    return cell


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "run")


class _Counted(Dataset):
    """Another data set that counts how often each item is read."""

    def __init__(self, base: Dataset) -> None:
        super().__init__(base.name, base.classes, base.items, base.domain, base.kind)
        self.reads: Counter[int] = Counter()
        self._base = base

    @property
    def encoded(self) -> bool:
        return self._base.encoded

    def _raw(self, index: int) -> Raw:
        self.reads[index] += 1
        return self._base.raw(index)


@pytest.mark.parametrize("task", FAMILY)
def test_records_are_the_model_s_answers_to_the_corrupted_items(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path, task: str
) -> None:
    made = small(task, tmp_path, n=12)
    evaluate(workspace, _matrix(made, _shifted(task)))
    info, records = _cell(workspace, task, "shifted-5")
    assert (info.status, info.reason) == ("ok", "")
    contract = made.bundle.contract
    data = corrupted(made.judged, Shift(corruption=FAMILY[task], severity=5), contract.preprocessing)
    inputs = (
        None if task == "control" else np.stack([prepare(data.raw(row), contract.preprocessing) for row in range(12)])
    )
    with open_runtime(Runtime(), Path(made.bundle.path), contract) as session:
        asked = Asked(data, np.arange(12), contract.preprocessing, 16, inputs, np.ones(12, dtype=bool))
        expected = answer(asked, session.predict, contract.model).records
    reference = _cell(workspace, task, "reference")[1]
    assert records.item_id.tolist() == reference.item_id.tolist() == [item.id for item in made.judged.items]
    assert records.prediction.tolist() == expected.prediction.tolist()
    np.testing.assert_allclose(records.confidence, expected.confidence, rtol=1e-4)
    np.testing.assert_array_equal(records.score, expected.score)
    changed = records.score != reference.score if task == "control" else records.confidence != reference.confidence
    assert changed.any()


@pytest.mark.parametrize("task", ["vision", "control"])
def test_an_item_s_answer_depends_on_no_other_item(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path, task: str
) -> None:
    made = small(task, tmp_path, n=12)
    evaluate(workspace, _matrix(made, _shifted(task)))
    few = Workspace(tmp_path / "few")
    rows = [7, 2, 11]
    evaluate(few, _matrix(replace(made, judged=made.judged.subset(rows)), _shifted(task)))
    whole, some = (_cell(each, task, "shifted-5")[1] for each in (workspace, few))
    assert some.item_id.tolist() == whole.item_id[rows].tolist()
    assert some.prediction.tolist() == whole.prediction[rows].tolist()
    np.testing.assert_allclose(some.confidence, whole.confidence[rows], rtol=1e-5)
    np.testing.assert_array_equal(some.score, whole.score[rows])


def test_cells_with_one_corruption_share_their_inputs(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path
) -> None:
    made = small("vision", tmp_path, n=8)
    counted = _Counted(made.judged)
    counted.digest()
    counted.reads.clear()
    how = {"shift__corruption": "snow", "shift__severity": 5}
    same = (_environment("a", **how), _environment("b", **how, runtime__batch_size=1))
    environments = (*same, _environment("c", **how, precision__format="float16"))
    evaluate(workspace, _matrix(replace(made, judged=counted), *environments))
    assert {_cell(workspace, "vision", each.name)[0].status for each in environments} == {"ok"}
    # Item 0 also shows that the corruption has an effect, in every cell anew, and is then enough.
    assert [counted.reads[row] for row in range(1, 8)] == [2] * 7  # for the reference, and for all corrupted cells


def test_a_cell_without_a_corruption_has_the_address_that_it_had(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, addressed = small("vision", tmp_path, n=4), []

    def noting(value: Any) -> str:
        addressed.append(value)
        return digest(value)

    monkeypatch.setattr("gapshift.envs.runner.digest", noting)
    evaluate(workspace, _matrix(made, _environment("b1", runtime__batch_size=1), _shifted("vision")))
    deployments = [value["deployment"] for value in addressed if isinstance(value, dict)]
    assert [sorted(each) for each in deployments] == [
        ["domain", "precision", "preprocessing", "runtime"],
        ["domain", "precision", "preprocessing", "runtime"],
        ["domain", "precision", "preprocessing", "runtime", "shift"],
    ]


def test_severity_and_seed_are_part_of_the_address(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path
) -> None:
    made = small("vision", tmp_path, n=4)
    how = {"shift__corruption": "snow"}
    environments = [
        _environment("three", **how),
        _environment("three-too", **how, shift__severity=3),
        _environment("four", **how, shift__severity=4),
        _environment("seeded", **how, shift__seed=1),
    ]
    evaluate(workspace, _matrix(made, *environments))
    keys = [_cell(workspace, "vision", each.name)[0].key for each in environments]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("task", ["text", "spans"])
def test_a_corruption_that_no_input_shows_is_not_applicable(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path, task: str
) -> None:
    made = small(task, tmp_path, n=6)
    casing = {"shift__corruption": "casing", "shift__severity": 4}
    in_vain, partly = _environment("in-vain", **casing), _environment("partly", **casing, runtime__batch_size=1)
    cased = _environment("cased", **casing, preprocessing__lowercase=False)
    evaluate(workspace, _matrix(made, in_vain, partly, cased))
    reason = "shift.corruption = casing at severity 4: every item reaches the model as the same tensor"
    info, records = _cell(workspace, task, "in-vain")
    assert (info.status, info.reason, len(records)) == ("not_applicable", reason, 0)
    info, records = _cell(workspace, task, "partly")
    assert (info.status, info.reason, len(records)) == ("ok", f"its corruption changes no item: {reason}", 6)
    assert _cell(workspace, task, "cased")[0].reason == ""


def test_preparing_in_vain_beside_a_corruption_is_said(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path
) -> None:
    made = small("vision", tmp_path, n=6)
    both = _environment("both", shift__corruption="contrast", preprocessing__decoder="opencv")
    evaluate(workspace, _matrix(made, both))
    info, _ = _cell(workspace, "vision", "both")
    assert info.status == "ok"
    said = "both decoders give the same pixels for every probed item (6)"
    assert info.reason == f"its preprocessing changes no item: {said}"


def test_physics_that_the_task_has_not_are_not_applicable(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path
) -> None:
    made = small("control", tmp_path, n=4)
    evaluate(workspace, _matrix(made, _environment("heavy", shift__corruption="heavy-cart"), _shifted("control")))
    info, records = _cell(workspace, "control", "heavy")
    assert (info.status, len(records)) == ("not_applicable", 0)
    assert info.reason.startswith("shift.corruption = heavy-cart changes masscart, which mountaincar has not")
    assert _cell(workspace, "control", "shifted-5")[0].status == "ok"


def test_a_corruption_of_another_domain_is_not_applicable(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path
) -> None:
    evaluate(workspace, _matrix(small("audio", tmp_path, n=4), _environment("snow", shift__corruption="snow")))
    info, _ = _cell(workspace, "audio", "snow")
    reason = "it sets shift.corruption = snow, which vision models can have; this one's domain is audio"
    assert (info.status, info.reason) == ("not_applicable", reason)


def test_a_quantiser_is_calibrated_on_clean_items(
    workspace: Workspace, small: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[NDArray[Any]] = []

    def quantise(*arguments: Any, calibration: list[NDArray[Any]], **settings: Any) -> Path:
        given.append(np.concatenate(calibration))
        return variant(*arguments, calibration=calibration, **settings)

    monkeypatch.setattr("gapshift.envs.variants.variant", quantise)
    made = small("vision", tmp_path, n=4)
    evaluate(workspace, _matrix(made, _environment("q", shift__corruption="fog", precision__format="int8-qdq")))
    assert _cell(workspace, "vision", "q")[0].status == "ok"
    how = made.bundle.contract.preprocessing
    clean = [prepare(made.calibration.raw(row), how) for row in range(len(made.calibration))]
    np.testing.assert_array_equal(given[0], np.stack(clean))
