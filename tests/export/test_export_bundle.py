"""From a network to a bundle: export, parity, answers, mix."""

from __future__ import annotations

import copy
import json
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from gapshift.errors import ContractError, EvaluationError
from gapshift.export.bundle import Mix, Origin, export_bundle
from gapshift.export.model_file import describe, sha256
from gapshift.export.parity import check_parity, ties
from gapshift.export.stamp import read_contract, read_stamp
from gapshift.export.torch_onnx import OPSET, to_onnx
from gapshift.records import Records, records_from_scores, unanswered
from gapshift.schema import (
    TRAINING,
    Bundle,
    Contract,
    Item,
    ModelInterface,
    Preprocessing,
    Resize,
    TextPreprocessing,
    answers_key,
)
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.predict import scores
from gapshift.workspace import Workspace

CONTRACT = Contract(
    preprocessing=Preprocessing(color="L", resize=Resize(size=(8, 8))),
    model=ModelInterface(input="pixels", output="scores", labels=("a", "b", "c")),
)
IMAGES = np.random.default_rng(0).normal(size=(20, 1, 8, 8)).astype(np.float32)
ITEMS = [Item(id=f"i{k}", label=k % 3) for k in range(20)]
ORIGIN = Origin(regime="iid", seed=0, family="cnn", width=4, task="t", domain="vision", training={"steps": 3})


def network(family: str = "cnn", seed: int = 0) -> nn.Module:
    return build_spec(ModelSpec(family=family, shape=(1, 8, 8), classes=3, width=4), seed=seed)


def answers(model: nn.Module) -> Records:
    return records_from_scores(ITEMS, scores(model, IMAGES), probabilities=False)


@pytest.fixture(scope="module", params=["cnn", "vit"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    model, path = network(request.param).train(), tmp_path_factory.mktemp("onnx") / "model.onnx"
    to_onnx(model, torch.from_numpy(IMAGES[:1]), path, input_name="pixels", output_name="scores")
    assert model.training  # the caller's model is not touched
    return model, path


def test_export_is_one_file_with_a_symbolic_batch(exported: tuple[nn.Module, Path]) -> None:
    _, path = exported
    graph = describe(path)
    assert [(p.name, p.shape) for p in (*graph.inputs, *graph.outputs)] == [
        ("pixels", (None, 1, 8, 8)),
        ("scores", (None, 3)),
    ]
    assert graph.opset == OPSET
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]


def test_export_answers_as_the_network(exported: tuple[nn.Module, Path]) -> None:
    model, path = exported
    parity = check_parity(model, path, IMAGES, CONTRACT)
    assert parity.items == 20
    assert 0 <= parity.max_abs_difference < 1e-5


def test_export_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_onnx(network(), torch.zeros(1, 1, 8, 8), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
    assert caught == []


def test_parity_finds_another_network(exported: tuple[nn.Module, Path]) -> None:
    other, answered = copy.deepcopy(exported[0]), int(scores(exported[0], IMAGES[:1]).argmax())
    with torch.no_grad():
        list(other.parameters())[-1][(answered + 1) % 3] += 50  # the last bias: another class wins
    with pytest.raises(EvaluationError, match=r"at batch 1 answers \d+ of 20 items differently .*Do not deploy"):
        check_parity(other, exported[1], IMAGES, CONTRACT)


def test_parity_finds_a_frozen_batch(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    loaded = onnx.load(exported[1])
    loaded.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(loaded, tmp_path / "frozen.onnx")
    with pytest.raises(EvaluationError, match=r"froze the batch dimension: pixels \(2, 1, 8, 8\)"):
        check_parity(exported[0], tmp_path / "frozen.onnx", IMAGES, CONTRACT)


def test_parity_refuses_too_few_items_and_broken_scores(exported: tuple[nn.Module, Path]) -> None:
    with pytest.raises(EvaluationError, match="at least 7 items; got 3"):
        check_parity(*exported, IMAGES[:3], CONTRACT)
    with pytest.raises(EvaluationError, match="not finite"):
        check_parity(*exported, IMAGES * np.float32(np.nan), CONTRACT)


def test_ties_are_relative_to_the_score_range() -> None:
    rows = np.array([[0, 1, 1 + 9e-5], [0, 1, 1 + 2e-4], [0, 1000, 1000.05], [3, 3, 3]])
    assert ties(rows).tolist() == [True, False, True, True]


def export(workspace: Workspace, model: nn.Module, **changes: object) -> Bundle:
    weights = np.zeros(20)
    weights[:4] = 0.25
    arguments: dict[str, object] = {
        "workspace": workspace,
        "name": "cnn-iid-s0",
        "contract": CONTRACT,
        "inputs": IMAGES,
        "answers": changes.get("answers") or answers(model),
        "mix": Mix([item.id for item in ITEMS], weights),
        "origin": ORIGIN,
        **changes,
    }
    return export_bundle(model, **arguments)  # type: ignore[arg-type]  # a test's keyword table


def test_bundle_holds_model_answers_and_mix(tmp_path: Path) -> None:
    workspace, model = Workspace(tmp_path), network()
    bundle = export(workspace, model)
    path = workspace.bundle_path(bundle.path)
    assert bundle.path == "bundles/cnn-iid-s0.onnx"
    assert bundle.sha256 == sha256(path)
    assert read_contract(path) == CONTRACT
    assert bundle.domain == "vision"
    stamped = {"regime": "iid", "training": '{"steps":3}', "task": "t", "domain": "vision", "width": "4"}
    assert stamped.items() <= read_stamp(path).items()
    assert "hashes" in read_stamp(path)
    kept = workspace.read_answers(bundle.name)
    assert kept is not None
    info, records = kept
    assert (info.environment, info.key, info.seconds) == (TRAINING, answers_key(bundle), 0.0)
    assert records.item_id.tolist() == [item.id for item in ITEMS]
    assert records.prediction.tolist() == scores(model, IMAGES).argmax(1).tolist()
    mix = pq.read_table(workspace.mix_path(bundle.name))
    assert mix.to_pydict() == {"item_id": ["i0", "i1", "i2", "i3"], "weight": [0.25] * 4}
    assert sorted(file.name for file in workspace.bundles.iterdir()) == [
        "cnn-iid-s0.answers.parquet",
        "cnn-iid-s0.mix.parquet",
        "cnn-iid-s0.onnx",
    ]


def test_the_answers_say_where_they_were_computed_and_how_the_network_was_trained(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    trained = {"device": "cuda", "dtype": "bfloat16 autocast", "seconds": 12.5}
    origin = replace(ORIGIN, **trained)  # type: ignore[arg-type]  # a test's keyword table
    kept = workspace.read_answers(export(workspace, network(), origin=origin).name)
    assert kept is not None
    execution = kept[0].execution
    assert (execution.engine, execution.provider) == ("torch", "cpu")  # the network lies on the CPU now
    assert (execution.requested, execution.executed, execution.matches) == ("float32", "float32", True)
    assert execution.settings == {f"training_{key}": value for key, value in trained.items()}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"answers": unanswered([], "ok")}, EvaluationError, "name 0 items, 0 of them different"),
        ({"answers": unanswered([*ITEMS, ITEMS[0]], "ok")}, EvaluationError, "21 items, 20 of them different"),
        (
            {"answers": unanswered([Item(id="x", label=7)], "ok")},
            EvaluationError,
            "labels to 7 and predictions to -1; logits with 3 labels have 0 to 2",
        ),
        (
            {"origin": replace(ORIGIN, domain="audio", task="words")},
            ContractError,
            "contract is for vision and the task 'words' is of audio",
        ),
        ({"mix": Mix(["i0", "i1"], np.array([0.5, 0.4]))}, EvaluationError, "sum to 0.9"),
        (
            {"contract": CONTRACT.model_copy(update={"preprocessing": Preprocessing(resize=Resize(size=(8, 8)))})},
            ContractError,
            r"cnn-iid-s0 takes 'pixels'",
        ),
    ],
)
def test_a_refused_bundle_leaves_nothing(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(error, match=message):
        export(workspace, network(), **changes)
    assert not workspace.bundles.exists() or list(workspace.bundles.iterdir()) == []


GRU = Contract(
    domain="text",
    preprocessing=TextPreprocessing(max_length=6),
    model=ModelInterface(input="ids", output="scores", output_kind="spans", labels=("start", "end")),
)


def test_a_recurrent_network_of_spans_becomes_a_bundle_of_any_length(tmp_path: Path) -> None:
    """Its answers are right or wrong with a grade: what the task made of the spans, not scores."""
    spec = ModelSpec(family="gru", shape=(6,), classes=2, width=4, vocabulary=9, head="spans")
    records = replace(unanswered(ITEMS[1:2], "ok"), score=np.array([0.5]), prediction=np.array([0], dtype=np.int32))
    workspace = Workspace(tmp_path)
    bundle = export(
        workspace,
        build_spec(spec, seed=0),
        contract=GRU,
        inputs=np.random.default_rng(0).integers(1, 9, (8, 6)),
        answers=records,
        origin=replace(ORIGIN, family="gru", domain="text"),
        length_axis=1,
        recurrent=True,
    )
    path = workspace.bundle_path(bundle.path)
    assert (bundle.domain, bundle.family) == ("text", "gru")
    assert [port.shape for port in (*describe(path).inputs, *describe(path).outputs)] == [(None, None), (None, 2, None)]
    assert read_contract(path) == GRU
    assert json.loads(read_stamp(path)["parity"])["lengths"] == [6, 4]
    kept = workspace.read_answers(bundle.name)
    assert kept is not None
    assert kept[1].score.tolist() == [0.5]


# ------------------------------------------------------------- one architecture, many weights


@pytest.mark.parametrize(
    ("family", "shape", "example"),
    [("cnn", (1, 8, 8), torch.zeros(2, 1, 8, 8)), ("controller", (4, 3), torch.zeros(2, 4, 3))],
)
def test_a_graph_captured_once_gives_the_same_file(
    tmp_path: Path, family: str, shape: tuple[int, ...], example: torch.Tensor
) -> None:
    spec = ModelSpec(family=family, shape=shape, classes=3, width=8)
    for seed in (0, 1, 2):
        model = build_spec(spec, seed=seed).eval()
        to_onnx(model, example, tmp_path / "alone.onnx")
        to_onnx(model, example, tmp_path / "shared.onnx", architecture=spec.model_dump_json())
        assert (tmp_path / "shared.onnx").read_bytes() == (tmp_path / "alone.onnx").read_bytes()


def test_another_architecture_under_the_same_name_is_refused(tmp_path: Path) -> None:
    example = torch.zeros(2, 4, 3)
    for width, refused in ((8, False), (16, True)):
        model = build_spec(ModelSpec(family="controller", shape=(4, 3), classes=3, width=width), seed=0).eval()
        with (
            pytest.raises(EvaluationError, match="differ in their weights' values alone") if refused else nullcontext()
        ):
            to_onnx(model, example, tmp_path / "m.onnx", architecture="the same")
