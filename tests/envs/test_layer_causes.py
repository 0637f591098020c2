"""Which way of preparing explains other inputs, or other answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gapshift.domains.answering import Asked, answer
from gapshift.domains.base import Dataset, rank
from gapshift.domains.mistakes import mistakes
from gapshift.domains.open import open_dataset
from gapshift.domains.prepare import prepare
from gapshift.envs.layers.candidates import candidates
from gapshift.envs.layers.causes import (
    REPRODUCES,
    Inputs,
    agreement,
    fitted,
    folds_of,
    reproducing,
    reproducing_readings,
    tried,
)
from gapshift.envs.resolve import reference_deployment
from gapshift.envs.runtimes import open_runtime
from gapshift.export.model_file import sha256
from gapshift.records import Records
from gapshift.reports.causes import judge_causes
from gapshift.schema import Bundle, Contract, ControlPreprocessing, ModelInterface, Preprocessing, Resize

TASKS = ["vision", "text", "audio", "control"]


@pytest.fixture(scope="module")
def made(small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder, known = tmp_path_factory.mktemp("causes"), {}

    def make(task: str) -> Any:
        if task not in known:
            known[task] = small(task, folder)
        return known[task]

    return make


def _inputs(dataset: Dataset, folder: Path, contract: Contract) -> Inputs:
    return Inputs(dataset, folder / "inputs", contract.preprocessing)


@pytest.mark.parametrize("task", TASKS)
def test_candidates_have_names_of_their_own_and_words(made: Callable[[str], Any], task: str) -> None:
    contract = made(task).bundle.contract
    found = candidates(contract, None)
    names = [each.name for each in found]
    assert len(names) > 10
    assert len(set(names)) == len(names)
    assert all(each.words for each in found)
    assert all(each.apply or each.preprocessing != contract.preprocessing for each in found)


def test_settings_are_tried_both_ways(made: Callable[[str], Any]) -> None:
    """A contract that says BGR is as wrong as a deployment that does."""
    contract = made("vision").bundle.contract
    other = contract.model_copy(update={"preprocessing": contract.preprocessing.model_copy(update={"color": "BGR"})})
    assert "bgr" in [each.name for each in candidates(contract, None)]
    assert "color=rgb" in [each.name for each in candidates(other, None)]


@pytest.mark.parametrize("task", ["vision", "text", "audio"])
def test_inputs_made_by_a_candidate_are_reproduced_by_it(made: Callable[[str], Any], task: str, tmp_path: Path) -> None:
    """Each of them, unless another one makes the very same inputs."""
    item = made(task)
    contract, dataset = item.bundle.contract, item.judged.subset(range(12))
    with _inputs(dataset, tmp_path, contract) as inputs:
        own = inputs.prepared(contract.preprocessing)
        assert own is not None
        sample = own.tensor[:]
        known = [each for each in candidates(contract, sample) if each.apply]
        for each in mistakes(contract.preprocessing, sample):
            target = each.apply(sample)
            if np.array_equal(target, sample):
                continue
            found = reproducing(known, inputs, target)
            same = [near.name for near in found if near.left <= REPRODUCES]
            assert each.name in same, each.name


def test_inputs_of_another_setting_are_named_by_it(made: Callable[[str], Any], tmp_path: Path) -> None:
    item = made("vision")
    contract, dataset = item.bundle.contract, item.judged.subset(range(12))
    other = contract.preprocessing.model_copy(
        update={"resize": contract.preprocessing.resize.model_copy(update={"interpolation": "nearest"})}
    )
    with _inputs(dataset, tmp_path, contract) as inputs:
        target = inputs.prepared(other)
        assert target is not None
        found = reproducing(candidates(contract, None), inputs, target.tensor[:])
    assert found[0].name == "resize-nearest"
    assert found[0].left == 0
    assert found[-1].left > REPRODUCES


def test_statistics_that_no_list_has_are_fitted(made: Callable[[str], Any], tmp_path: Path) -> None:
    item = made("vision")
    contract, dataset = item.bundle.contract, item.judged.subset(range(12))
    channels = contract.preprocessing.channels
    mean, std = (0.11, 0.22, 0.33)[:channels], (0.7, 0.8, 0.9)[:channels]
    other = contract.preprocessing.model_copy(update={"mean": mean, "std": std})
    with _inputs(dataset, tmp_path, contract) as inputs:
        one, two = inputs.prepared(contract.preprocessing), inputs.prepared(other)
        assert one is not None
        assert two is not None
        found = fitted(contract.preprocessing, one.tensor[:], two.tensor[:])
    assert found is not None
    assert found.left < 1e-5
    said = f"mean = ({', '.join(f'{m:.4g}' for m in mean)}) and std = ({', '.join(f'{s:.4g}' for s in std)})"
    assert found.words.startswith(said)


def test_a_line_does_not_fit_other_pictures(made: Callable[[str], Any], tmp_path: Path) -> None:
    item = made("vision")
    contract, dataset = item.bundle.contract, item.judged.subset(range(12))
    with _inputs(dataset, tmp_path, contract) as inputs:
        own = inputs.prepared(contract.preprocessing)
        assert own is not None
        x = own.tensor[:]
        found = fitted(contract.preprocessing, x, x[::-1].copy())
    assert found is None or found.left > REPRODUCES


def test_a_controller_s_readings_are_reproduced(made: Callable[[str], Any]) -> None:
    item = made("control")
    contract = item.bundle.contract
    deployed = contract.preprocessing.model_copy(update={"delay": 1})
    assert isinstance(deployed, ControlPreprocessing)
    known = candidates(contract, None)
    path = Path(item.bundle.path)
    found = reproducing_readings(known, item.judged.subset(range(4)), path, contract, deployed)
    assert (found[0].name, found[0].left) == ("observation-delayed", 0)


def _answers(bundle: Bundle, inputs: Inputs, preprocessing: Any) -> Records:
    prepared = inputs.prepared(preprocessing)
    assert prepared is not None
    rows = np.arange(len(inputs.dataset))
    asked = Asked(inputs.dataset, rows, preprocessing, 16, prepared.tensor, prepared.readable)
    runtime = reference_deployment(bundle.contract).runtime
    with open_runtime(runtime, Path(bundle.path), bundle.contract) as session:
        return answer(asked, session.predict, bundle.contract.model).records


def _templates(folder: Path) -> tuple[Bundle, Dataset]:
    """Digits, and a model that answers the nearest class mean: two thirds right, and true to its contract."""
    digits = open_dataset("digits")
    contract = Contract(
        model=ModelInterface(input="input", output="logits", labels=digits.classes),
        preprocessing=Preprocessing(color="L", resize=Resize(size=(8, 8)), mean=(0.5,), std=(0.5,)),
    )
    how = contract.preprocessing
    x = np.stack([prepare(digits.raw(row), how) for row in range(600)]).reshape(600, -1)
    labels = np.array([digits.items[row].label for row in range(600)])
    means = np.stack([x[labels == label].mean(axis=0) for label in range(10)])
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "means", "bias"], ["logits"], transB=1, name="distance"),
    ]
    weights = {"means": means, "bias": -(means**2).sum(axis=1) / 2}
    ends = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 8, 8]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10]),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "templates", ends[:1], ends[1:], tensors)
    path = folder / "templates.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    bundle = Bundle(name="templates", path=str(path), sha256=sha256(path), contract=contract)
    return bundle, digits.subset(range(600, 900))


@pytest.mark.parametrize(
    ("settings", "causes"),
    [
        ({"mean": (0.0,), "std": (1.0,)}, {"statistics-half"}),
        ({"mean": (0.9,)}, {"statistics-half"}),
        ({"layout": "NHWC"}, {"layout=nchw", "layout-nhwc-as-nchw"}),  # its inputs do not even fit the model
    ],
)
def test_a_wrong_contract_is_found_by_the_answers_alone(
    tmp_path: Path, settings: dict[str, Any], causes: set[str]
) -> None:
    bundle, dataset = _templates(tmp_path)
    right = bundle.contract
    wrong = right.model_copy(update={"preprocessing": right.preprocessing.model_copy(update=settings)})
    ids = [each.id for each in dataset.items]
    folds = folds_of(ids, [rank(each, 0) for each in ids])
    with _inputs(dataset, tmp_path, right) as inputs:
        told = _answers(bundle, inputs, right.preprocessing)
    trusted = dict(zip(map(str, told.item_id), map(int, told.prediction), strict=True))
    with _inputs(dataset, tmp_path / "wrong", wrong) as inputs:
        trial = tried(wrong, Path(bundle.path), candidates(wrong, None), inputs, trusted, folds)
    assert (trial.screening, len(trial.before)) == (int(folds.sum()), int((~folds).sum()))
    before = agreement(trial.before, trusted)
    after = {each.candidate.name: agreement(each.records, trusted) for each in trial.tried}
    judged = judge_causes(before, after, 0.05)
    assert judged["cause"] in causes
    assert judged["restores"]
    assert after[judged["cause"]].all()
    assert before.mean() < 0.9
    assert 0 < trial.unfit < trial.candidates


def test_a_right_contract_has_no_cause(tmp_path: Path) -> None:
    bundle, dataset = _templates(tmp_path)
    ids = [each.id for each in dataset.items]
    folds = folds_of(ids, [rank(each, 0) for each in ids])
    with _inputs(dataset, tmp_path, bundle.contract) as inputs:
        known = candidates(bundle.contract, None)
        trial = tried(bundle.contract, Path(bundle.path), known, inputs, None, folds)
    before = agreement(trial.before, None)
    judged = judge_causes(before, {t.candidate.name: agreement(t.records, None) for t in trial.tried}, 0.05)
    assert judged["cause"] is None
    assert before.mean() > 0.6


def test_folds_screen_a_quarter_and_leave_the_rest() -> None:
    folds = folds_of([str(n) for n in range(10)], [f"{9 - n}" for n in range(10)])
    assert folds.sum() == 3
    assert folds[9]


def test_no_answer_agrees_with_nothing() -> None:
    records = Records(
        item_id=np.array(["a", "b", "c"]),
        label=np.zeros(3, np.int32),
        prediction=np.array([-1, 1, 1], np.int32),
        confidence=np.full(3, np.nan),
        correct=np.array([0.0, 1.0, np.nan]),
        gap=np.zeros(3),
        status=np.array(["nan_output", "ok", "ok"]),
    )
    assert agreement(records, {"a": -1, "b": 1}).tolist() == [False, True, False]
    assert agreement(records, None).tolist() == [False, True, False]
