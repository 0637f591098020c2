"""Properties of any model: small models that break one of them each, and sound ones that hold all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from gapshift.deploy_tests import flushed
from gapshift.deploy_tests.probe import Probe, probing
from gapshift.deploy_tests.properties import (
    PROPERTIES,
    Limits,
    batch_invariance,
    denormal_inputs,
    finite_outputs,
    finite_up_to,
    flush_to_zero,
    order_invariance,
)
from gapshift.domains import text
from gapshift.domains.base import Dataset, InMemory, Pixels, Text
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.control.physics import control_task
from gapshift.errors import DataError, EvaluationError, NotApplicableError, SkippedError
from gapshift.schema import (
    OUTCOMES,
    Contract,
    ControlPreprocessing,
    Item,
    ModelInterface,
    Preprocessing,
    Resize,
    TextPreprocessing,
)

SIZE, CLASSES, COUNT = 4, 3, 12
LABELS = ("a", "b", "c")
Nodes = list[NodeProto]
Open = Callable[..., Probe]


def _node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def _linear(source: str, scores: str = "logits") -> Nodes:
    return [_node("Flatten", source, "flat"), _node("Gemm", "flat weight", scores)]


SOUND = _linear("input")
# As a batch normalisation that was left in training mode.
BATCH_MEAN = [
    *_linear("input", "own"), _node("ReduceMean", "own first_axis", "mean"), _node("Add", "own mean", "logits")
]  # fmt: skip
# As a kernel whose buffer holds eight rows.
NINTH_ROW = [
    *_linear("input", "own"), _node("Shape", "own", "shape", end=1), _node("Squeeze", "shape", "n"),
    _node("Range", "zero n one", "row"), _node("Sub", "row seven", "past"),
    _node("Cast", "past", "past_float", to=TensorProto.FLOAT), _node("Relu", "past_float", "late"),
    _node("Unsqueeze", "late last_axis", "column"),
    _node("Mul", "column slant", "bent"), _node("Add", "own bent", "logits"),
]  # fmt: skip
OVERFLOW = [_node("Mul", "input twelve", "steep"), _node("Exp", "steep", "grown"), *_linear("grown")]
NORM = [_node("ReduceL2", "input all_axes", "norm"), _node("Div", "input norm", "unit"), *_linear("unit")]
# Any number but zero counts, however small.
SIGN = [_node("Mul", "input huge", "far"), _node("Tanh", "far", "sign"), *_linear("sign")]
# Goes through denormal numbers on its way.
VANISHING = [
    _node("Mul", "input tiny", "a"), _node("Mul", "a tiny", "b"), _node("Mul", "b large", "c"),
    _node("Mul", "c large", "d"), *_linear("d"),
]  # fmt: skip
RESTLESS = [_node("RandomNormalLike", "input", "noise"), _node("Add", "input noise", "noisy"), *_linear("noisy")]

BREAKS: dict[str, tuple[Nodes, set[Callable[..., None]]]] = {
    "sound": (SOUND, set()),
    "batch-mean": (BATCH_MEAN, {batch_invariance}),
    "ninth-row": (NINTH_ROW, {order_invariance}),
    "overflow": (OVERFLOW, {finite_outputs}),
    "sign": (SIGN, {denormal_inputs}),
    "vanishing": (VANISHING, {flush_to_zero}),
    "norm": (NORM, {finite_outputs, denormal_inputs}),
}


def _weights() -> dict[str, Any]:
    return {
        "weight": np.random.default_rng(0).normal(0, 1, (SIZE * SIZE, CLASSES)).astype(np.float32),
        "first_axis": np.array([0]), "last_axis": np.array([1]), "all_axes": np.array([1, 2, 3]),
        "one_row": np.array([1, SIZE * SIZE]), "zero": np.array(0), "one": np.array(1), "seven": np.array(7),
        "twelve": np.float32(12), "huge": np.float32(1e38), "tiny": np.float32(1e-20), "large": np.float32(1e20),
        "slight": np.float32(1e-3), "third": np.float32(1 / 3),
        "slant": np.array([[5, 0, -5]], np.float32),
    }  # fmt: skip


def _save(
    path: Path,
    nodes: Nodes,
    takes: tuple[int, Sequence[int | str]],
    gives: Sequence[int | str],
    weights: dict[str, Any],
) -> Path:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", *takes)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, gives)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _interface(labels: Sequence[str] = LABELS, kind: Any = "logits") -> ModelInterface:
    return ModelInterface(input="input", output="logits", output_kind=kind, labels=tuple(labels))


def _pictures() -> Dataset:
    images = np.random.default_rng(1).integers(1, 256, (COUNT, SIZE, SIZE), dtype=np.uint8)
    return Pixels("pictures", LABELS, [Item(f"picture-{row}", row % CLASSES) for row in range(COUNT)], images)


@pytest.fixture
def picture_model(tmp_path: Path) -> Iterator[Open]:
    """Opens a probe of a model of 4 x 4 grey pictures: ``picture_model(nodes, batch=1, dtype="uint8")``."""
    with ExitStack() as stack:

        def open_it(
            nodes: Nodes, batch: int | str = "n", dtype: Any = "float32", kind: Any = "logits", **settings: Any
        ) -> Probe:
            kinds = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16}
            path = _save(tmp_path / "m.onnx", nodes, (kinds[dtype], [batch, 1, SIZE, SIZE]), [batch, 3], _weights())
            resize = Resize(size=(SIZE, SIZE))
            how = Preprocessing(color="L", resize=resize, dtype=dtype, scale=1 if dtype == "uint8" else 1 / 255)
            contract = Contract(preprocessing=how, model=_interface(kind=kind))
            return stack.enter_context(probing(path, contract, _pictures(), **settings))

        yield open_it


@pytest.mark.parametrize("name", BREAKS)
def test_each_model_breaks_what_it_should_and_nothing_else(picture_model: Open, name: str) -> None:
    nodes, expected = BREAKS[name]
    probe = picture_model(nodes)
    broken = set()
    for holds in PROPERTIES:
        try:
            holds(probe, Limits())
        except AssertionError:
            broken.add(holds)
    assert {each.__name__ for each in broken} == {each.__name__ for each in expected}


def test_a_batch_is_shrunk_to_two_items_and_both_are_named(picture_model: Open) -> None:
    probe = picture_model(BATCH_MEAN)
    with pytest.raises(AssertionError) as caught:
        batch_invariance(probe)
    assert str(caught.value).startswith("Item 'picture-0' in a batch with 'picture-")
    assert str(caught.value).count("'picture-") == 2
    assert " is answered otherwise than alone: " in str(caught.value)
    assert str(caught.value).endswith(" counts as rounding).")
    with pytest.raises(AssertionError) as again:
        batch_invariance(picture_model(BATCH_MEAN))
    assert str(again.value) == str(caught.value)


def test_an_order_that_matters_names_item_and_places(picture_model: Open) -> None:
    with pytest.raises(
        AssertionError, match=r"^Item 'picture-\d+', moved from place \d+ to \d+ of 12, is answered other"
    ):
        order_invariance(picture_model(NINTH_ROW))


def test_a_model_that_draws_lots_is_told_so(picture_model: Open) -> None:
    with pytest.raises(AssertionError, match="Item 'picture-0', asked again, is answered otherwise than before"):
        order_invariance(picture_model(RESTLESS))


def test_a_model_that_is_right_every_other_time_is_told_so(picture_model: Open) -> None:
    probe = picture_model(SOUND)
    calls = itertools.count()
    moody = replace(probe, ask=lambda inputs: probe.ask(inputs) + np.arange(CLASSES) * (next(calls) % 2))
    with pytest.raises(AssertionError, match="The model answered the very same inputs otherwise"):
        batch_invariance(moody)


def test_a_batch_size_that_the_graph_cannot_take_is_an_error_with_its_shape(picture_model: Open) -> None:
    single = [_node("Reshape", "input one_row", "row"), _node("Gemm", "row weight", "logits")]
    with pytest.raises(EvaluationError, match=r"shape \(2, 1, 4, 4\)"):
        batch_invariance(picture_model(single))


def test_the_scale_nearest_to_the_data_is_named(picture_model: Open) -> None:
    with pytest.raises(
        AssertionError, match=r"Item 'picture-0', multiplied by 10 \(largest magnitude .*\), is answered"
    ):
        finite_outputs(picture_model(OVERFLOW))
    with pytest.raises(AssertionError, match=r"multiplied by 1e-2\d .* is answered with (nan|inf) in 3 of 3 outputs"):
        finite_outputs(picture_model(NORM))


def test_the_demanded_scale_is_a_setting(picture_model: Open) -> None:
    probe = picture_model(OVERFLOW)
    finite_outputs(probe, Limits(scale=5))
    assert finite_up_to(probe) == 1
    assert finite_up_to(picture_model(SOUND)) == 1e30
    gentler = [_node("Mul", "input third", "less"), _node("Mul", "less twelve", "steep"), *OVERFLOW[1:]]
    with pytest.raises(AssertionError, match="multiplied by 30 "):
        finite_outputs(picture_model(gentler), Limits(scale=30))


def test_what_is_broken_as_it_stands_is_said_so(picture_model: Open) -> None:
    negative = [_node("Sub", "input twelve", "below"), _node("Log", "below", "log"), *_linear("log")]
    probe = picture_model(negative)
    with pytest.raises(AssertionError, match="Item 'picture-0', as it stands"):
        finite_outputs(probe)
    assert finite_up_to(probe) is None


def test_zeros_that_are_not_answered_fail_the_denormals(picture_model: Open) -> None:
    with pytest.raises(AssertionError, match="An input of zeros is answered with nan in 3 of 3 outputs"):
        denormal_inputs(picture_model(NORM))


def test_flushing_names_the_item_and_the_labels(picture_model: Open) -> None:
    with pytest.raises(AssertionError, match=r"where denormal numbers are flushed to zero: '[bc]' became 'a', "):
        flush_to_zero(picture_model(VANISHING))


def test_a_process_that_fails_says_its_last_word(picture_model: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = replace(picture_model(SOUND), model=Path("nowhere.onnx"))
    with pytest.raises(EvaluationError, match=r"nowhere.onnx failed in a process that flushes .*does not exist"):
        flush_to_zero(lost)
    monkeypatch.setattr(flushed, "_UNAVAILABLE", 1)  # what it ends with for any reason
    with pytest.raises(SkippedError, match="does not flush denormal numbers to zero on this machine"):
        flush_to_zero(lost)


def test_where_the_process_itself_flushes_there_is_nothing_to_try(picture_model: Open) -> None:
    torch.set_flush_denormal(True)
    try:
        with pytest.raises(SkippedError, match="this process flushes denormal numbers to zero"):
            denormal_inputs(picture_model(SOUND))
    finally:
        torch.set_flush_denormal(False)


def test_rounding_is_a_share_of_the_scores_range(picture_model: Open) -> None:
    slightly = [
        *_linear("input", "own"), _node("ReduceMean", "own first_axis", "mean"), _node("Mul", "mean slight", "little"),
        _node("Add", "own little", "logits"),
    ]  # fmt: skip
    batch_invariance(picture_model(slightly, tolerance=0.01))
    with pytest.raises(AssertionError, match="in a batch with"):
        batch_invariance(picture_model(slightly))


def test_another_prediction_counts_however_little_the_scores_moved(picture_model: Open) -> None:
    with pytest.raises(AssertionError, match=r"than alone: '\w' became '\w', scores up to"):
        batch_invariance(picture_model(BATCH_MEAN, tolerance=10))


def test_another_prediction_at_a_tie_is_rounding(picture_model: Open) -> None:
    probe = picture_model(SOUND)

    def level(inputs: Any) -> Any:
        """Two classes alike, but for a last bit that depends on the batch."""
        alike = np.repeat(probe.ask(inputs)[:, :1], CLASSES, axis=1)
        return alike + np.array([1e-6 * (len(inputs) % 2), 1e-6 * (len(inputs) % 3), -5])

    batch_invariance(replace(probe, ask=level))


# --------------------------------------------------------------------- other interfaces


def test_a_model_of_single_items_has_no_batches_and_still_an_order(picture_model: Open) -> None:
    probe = picture_model(SOUND, batch=1)
    with pytest.raises(NotApplicableError, match="takes one item at a time"):
        batch_invariance(probe)
    order_invariance(probe)
    finite_outputs(probe)


def test_a_fixed_batch_is_filled_and_judged(picture_model: Open) -> None:
    batch_invariance(picture_model(SOUND, batch=3))
    order_invariance(picture_model(BATCH_MEAN, batch=20))  # who shares the batch does not change
    with pytest.raises(AssertionError, match="in a batch with 'picture-"):
        batch_invariance(picture_model(BATCH_MEAN, batch=3))


def test_bytes_stay_bytes(picture_model: Open) -> None:
    cast = [_node("Cast", "input", "float", to=TensorProto.FLOAT), *_linear("float")]
    probe = picture_model(cast, dtype="uint8")
    finite_outputs(probe)
    assert finite_up_to(probe) is None
    with pytest.raises(NotApplicableError, match="takes uint8, which has no denormal numbers"):
        denormal_inputs(probe)


def test_probabilities_are_decided_by_their_own_ties(picture_model: Open) -> None:
    probe = picture_model([*_linear("input", "own"), _node("Softmax", "own", "logits")], kind="probabilities")
    for holds in (batch_invariance, order_invariance, finite_outputs, denormal_inputs):
        holds(probe)


def test_half_precision_inputs_stay_within_their_type(picture_model: Open) -> None:
    cast = [_node("Cast", "input", "float", to=TensorProto.FLOAT), *_linear("float")]
    probe = picture_model(cast, dtype="float16")
    finite_outputs(probe, Limits(scale=1e30))
    denormal_inputs(probe)


# -------------------------------------------------------------------------------- texts

WORDS = ["plain", "words", "of", "some", "kind", "here"]
MEAN_OF_WORDS = [
    _node("Greater", "input specials", "is_word"), _node("Cast", "is_word", "mask", to=TensorProto.FLOAT),
    _node("Gather", "table input", "embedded"), _node("Unsqueeze", "mask last", "column"),
    _node("Mul", "embedded column", "words"), _node("ReduceSum", "words length", "sum", keepdims=0),
    _node("ReduceSum", "mask length", "count"),
]  # fmt: skip
"""The mean embedding of the words: 0 / 0 where there are none."""


def _sentences(kind: str) -> Dataset:
    rng = np.random.default_rng(2)
    raws = [Text(" ".join(rng.choice(WORDS, rng.integers(2, 7)))) for _ in range(COUNT)]
    if kind == "spans":
        passages = [raw.first for raw in raws]
        raws = [Text("some words", passage, (passage.split()[0],), 0) for passage in passages]
        return InMemory("passages", OUTCOMES, [Item(f"t-{row}", 1) for row in range(COUNT)], raws, "text", "spans")
    return InMemory("texts", LABELS, [Item(f"t-{row}", row % 3) for row in range(COUNT)], raws, "text")


def _text_probe(
    stack: ExitStack, path: Path, nodes: Nodes, kind: Any = "logits", tokens: int = 10, **how: Any
) -> Probe:
    data = _sentences(kind)
    raws = [raw for raw in map(data.raw, range(COUNT)) if isinstance(raw, Text)]
    preprocessing = text.learn(raws, TextPreprocessing(max_length=12, **how))
    weights = {
        "table": np.random.default_rng(3).normal(0, 1, (tokens, 3 if kind == "logits" else 2)).astype(np.float32),
        "specials": np.array(3), "last": np.array([2]), "length": np.array([1]), "least": np.float32(1),
    }  # fmt: skip
    gives = ["n", 3] if kind == "logits" else ["n", 2, 12]
    contract = Contract(
        domain="text",
        preprocessing=preprocessing,
        model=_interface(LABELS if kind == "logits" else ("start", "end"), kind),
    )
    model = _save(path / "text.onnx", nodes, (TensorProto.INT64, ["n", 12]), gives, weights)
    return stack.enter_context(probing(model, contract, data))


def test_a_text_without_a_word_is_one_the_model_must_answer(tmp_path: Path) -> None:
    careless = [*MEAN_OF_WORDS, _node("Div", "sum count", "logits")]
    careful = [*MEAN_OF_WORDS, _node("Max", "count least", "safe"), _node("Div", "sum safe", "logits")]
    with ExitStack() as stack:
        with pytest.raises(AssertionError, match=r"Item 't-0', as a text of 0 words \(ids 2 0 0 .*answered with nan"):
            finite_outputs(_text_probe(stack, tmp_path, careless))
        probe = _text_probe(stack, tmp_path, careful, template="closed", padding_side="left")
        finite_outputs(probe)
        batch_invariance(probe)
        order_invariance(probe)
        assert finite_up_to(probe) is None
        with pytest.raises(NotApplicableError, match="takes int64"):
            denormal_inputs(probe)


@pytest.mark.parametrize(("template", "side"), [("open", "right"), ("closed", "left"), ("bare", "right")])
def test_texts_that_are_made_are_laid_out_as_the_tokeniser_does(tmp_path: Path, template: str, side: str) -> None:
    nodes = [*MEAN_OF_WORDS, _node("Max", "count least", "safe"), _node("Div", "sum safe", "logits")]
    seen: list[Any] = []
    with ExitStack() as stack:
        probe = _text_probe(stack, tmp_path, nodes, template=template, padding_side=side)
        finite_outputs(replace(probe, ask=lambda ids: (seen.append(ids), probe.ask(ids))[1]))
    for row in np.concatenate(seen):
        real = row[row != 0]
        assert (row[: len(real)] if side == "right" else row[len(row) - len(real) :]).all()
        assert (real == 2).sum() == (template != "bare")
        assert (real == 3).sum() == (template == "closed")
        assert template != "closed" or (real[0], real[-1]) == (2, 3)
    lengths = {int((row != 0).sum()) for row in np.concatenate(seen)}
    assert {min(lengths), max(lengths)} == {{"open": 1, "closed": 2, "bare": 0}[template], 12}


def test_a_token_that_the_model_has_no_embedding_for_is_named(tmp_path: Path) -> None:
    nodes = [*MEAN_OF_WORDS, _node("Max", "count least", "safe"), _node("Div", "sum safe", "logits")]
    with (
        ExitStack() as stack,
        pytest.raises(
            AssertionError, match=r"Item 't-\d+', as a text of \d words.* \(ids 2 .*is not answered: onnxruntime failed"
        ),
    ):
        finite_outputs(_text_probe(stack, tmp_path, nodes, tokens=9))


def test_spans_are_decided_by_their_answers_and_masks_are_no_scores(tmp_path: Path) -> None:
    mask = np.where(np.arange(12) > 9, -1e9, 0.0).astype(np.float32)
    nodes = [
        _node("Gather", "table input", "scores"), _node("Transpose", "scores", "turned", perm=[0, 2, 1]),
        _node("Constant", "", "mask", value=numpy_helper.from_array(mask)), _node("Add", "turned mask", "logits"),
    ]  # fmt: skip
    with ExitStack() as stack:
        probe = _text_probe(stack, tmp_path, nodes, "spans")
        assert probe.slack < 0.01
        batch_invariance(probe)
        order_invariance(probe)
        finite_outputs(probe)


# ------------------------------------------------------------------------- other inputs


def test_a_controller_is_tried_on_what_it_meets(tmp_path: Path) -> None:
    task = control_task("mountaincar")
    how = ControlPreprocessing(offset=(-0.5, 0.0), scale=(3.0, 40.0))
    contract = Contract(domain="control", preprocessing=how, model=_interface(task.actions, "actions"))
    weights = {"weight": np.random.default_rng(4).normal(0, 1, (8, 3)).astype(np.float32)}
    model = _save(tmp_path / "c.onnx", SOUND, (TensorProto.FLOAT, ["n", 4, 2]), ["n", 3], weights)
    items = [Item(f"e-{row}", 1) for row in range(4)]
    data = InMemory("episodes", OUTCOMES, items, draw_episodes("mountaincar", 4, 0), "control", "episodes")
    with probing(model, contract, data) as probe:
        assert probe.ids[0] == "window 1 of 16"
        for holds in PROPERTIES:
            holds(probe, Limits())


def test_unreadable_items_are_passed_over(tmp_path: Path) -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE), 9, np.uint8)).save(buffer, "PNG")
    contract = Contract(preprocessing=Preprocessing(color="L", resize=Resize(size=(SIZE, SIZE))), model=_interface())
    model = _save(tmp_path / "m.onnx", SOUND, (TensorProto.FLOAT, ["n", 1, SIZE, SIZE]), ["n", 3], _weights())
    items = [Item(f"p-{row}", 0) for row in range(3)]
    data = InMemory("files", LABELS, items, [b"no picture", buffer.getvalue(), b""], "vision")
    with probing(model, contract, data) as probe:
        assert probe.ids == ("p-1",)
    with (
        pytest.raises(DataError, match="none of the items that were tried can be read"),
        probing(model, contract, data.subset([0, 2])),
    ):
        pass
