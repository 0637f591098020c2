"""Tasks over tensors: trained, asked, and recorded, whatever the domain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gapshift.domains.base import Text
from gapshift.domains.spans import span_targets
from gapshift.domains.text import learn, prepare_many
from gapshift.errors import TrainingError
from gapshift.schema import Item, TextPreprocessing
from gapshift.train.predict import probabilities, scores
from gapshift.train.settings import TrainingSettings
from gapshift.train.tasks.tensors import ClassTask, SpanTask

ROWS = np.array([3, 0, 5])
CONFIG = TrainingSettings(width=8, steps=12, batch_size=8, learning_rate=1e-2)
DRAWS = np.random.default_rng(0).integers(0, 6, (12, 8))


def items(count: int, classes: int = 3) -> list[Item]:
    return [Item(id=f"i{index}", label=index % classes) for index in range(count)]


def sounds(**given: Any) -> ClassTask:
    inputs = np.random.default_rng(0).normal(size=(6, 8, 20)).astype(np.float32)
    return ClassTask(items(6), given.pop("inputs", inputs), "audio", 3, content="c", **given)


@pytest.fixture(scope="module")
def spans() -> SpanTask:
    """The last text's answer is cut away."""
    colours = ["red", "blue", "green", "old", "new"]
    texts = [Text(f"what is the {c}", f"the box is {c} and round", start=11, answers=(c,)) for c in colours]
    late = "a b c d e f g h i j k red"
    texts.append(Text("what is the red", late, start=len(late) - 3, answers=("red",)))
    pre = learn(texts, TextPreprocessing(max_length=14))
    rights = [Item(id=f"t{index}", label=1) for index in range(6)]
    inputs, targets = prepare_many(texts, pre), span_targets(texts, pre)
    return SpanTask(rights, texts, inputs, targets, pre, content="c", vocabulary=len(pre.vocabulary))


def test_what_a_class_task_says_of_itself() -> None:
    task = sounds()
    assert (task.domain, task.kind, task.shape, task.outputs, task.vocabulary) == ("audio", "classes", (8, 20), 3, 0)
    assert task.guessing == pytest.approx(1 / 3)
    assert task.spec("audio-cnn", 8).shape == (8, 20)
    assert len(task.examples(task.build("audio-cnn", 8, 0), 4)) == 4
    assert task.digest() == sounds().digest()
    assert task.digest() != ClassTask(items(6), np.zeros((6, 8, 20), np.float32), "audio", 3, content="d").digest()


def test_truth_is_the_probability_of_the_class_and_the_error_norm_its_distance() -> None:
    task = sounds()
    model = task.build("audio-cnn", 8, 0)
    given = probabilities(scores(model, task.examples(model, 6)))[ROWS]
    onehot = np.eye(3)[[0, 0, 2]]
    assert task.truth(model, ROWS) == pytest.approx(given[np.arange(3), [0, 0, 2]], abs=1e-6)
    assert task.error_norm(model, ROWS) == pytest.approx(np.linalg.norm(given - onehot, axis=1), abs=1e-6)
    records = task.records(model, ROWS)
    assert records.item_id.tolist() == ["i3", "i0", "i5"]
    assert np.array_equal(records.prediction, given.argmax(1))
    assert records.confidence == pytest.approx(given.max(1), abs=1e-6)


@pytest.mark.parametrize("rows", [np.array([], dtype=np.intp), np.arange(6).repeat(200)])
def test_any_number_of_rows_can_be_asked(rows: NDArray[np.intp], spans: SpanTask) -> None:
    task = sounds()
    assert task.truth(task.build("audio-cnn", 8, 0), rows).shape == (len(rows),)
    assert spans.truth(spans.build("gru", 8, 0), rows).shape == (len(rows),)
    assert len(spans.records(spans.build("gru", 8, 0), rows)) == len(rows)


@pytest.mark.parametrize("family", ["lstm", "gru", "text-transformer"])
def test_spans_are_learnt(spans: SpanTask, family: str) -> None:
    model = spans.build(family, 16, 0)
    rows = np.arange(6)
    before = spans.truth(model, rows)
    draws = np.random.default_rng(0).integers(0, 6, (60, 8))
    spans.fit(model, draws, CONFIG.model_copy(update={"family": family, "steps": 60}), "cpu")
    after, errors, records = spans.truth(model, rows), spans.error_norm(model, rows), spans.records(model, rows)
    assert spans.guessing == 0
    assert before.max() < 0.1
    assert after[:5].min() > 0.8
    assert after[5] == 0
    assert records.correct.tolist() == [1, 1, 1, 1, 1, 0]
    assert errors[:5].max() < 0.3
    assert errors[5] > 1.4


def test_the_error_norm_of_spans_is_over_starts_and_ends_together(spans: SpanTask) -> None:
    model = spans.build("gru", 8, 0)
    given = probabilities(scores(model, spans.examples(model, 6)))
    onehot = np.zeros_like(given)
    for row, (start, end) in enumerate(spans._targets[:5]):
        onehot[row, 0, start] = onehot[row, 1, end] = 1
    squares = ((given - onehot) ** 2).sum((1, 2))
    squares[5] += 2  # the truth stands beyond the input
    assert spans.error_norm(model, np.arange(6)) == pytest.approx(np.sqrt(squares), abs=1e-5)


def test_the_settings_augment_unless_the_task_says_otherwise() -> None:
    images = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)
    config = CONFIG.model_copy(update={"augment": "shift"})
    plain, moved, fixed = (
        ClassTask(items(6), images, "vision", 3, content="c", augment=augment) for augment in ("none", None, "shift")
    )
    losses = [task.fit(task.build("cnn", 4, 0), DRAWS, config, "cpu").losses for task in (plain, moved, fixed)]
    assert not np.array_equal(losses[0], losses[1])
    assert np.array_equal(losses[1], losses[2])
    with pytest.raises(TrainingError, match=r"augment 'shift' shifts images"):
        sounds().fit(sounds().build("audio-cnn", 8, 0), DRAWS, config, "cpu")


def test_a_kept_state_is_removed_at_the_end_and_checkpoints_are_called(tmp_path: Path, spans: SpanTask) -> None:
    seen: list[float] = []
    given = {"checkpoints": (0.5,), "at_checkpoint": seen.append, "keep": tmp_path / "state.pt"}
    for task, family in ((sounds(), "audio-cnn"), (spans, "gru")):
        task.fit(task.build(family, 8, 0), DRAWS, CONFIG, "cpu", **given)
    assert seen == [0.5, 0.5]
    assert list(tmp_path.iterdir()) == []


def test_refuses_what_does_not_fit(spans: SpanTask) -> None:
    with pytest.raises(TrainingError, match=re.escape("6 items and inputs of shape (5, 8, 20)")):
        sounds(inputs=np.zeros((5, 8, 20), np.float32))
    with pytest.raises(TrainingError, match="Inputs hold non-finite values"):
        sounds(inputs=np.full((6, 8, 20), np.nan, np.float32))
    with pytest.raises(TrainingError, match="Labels reach from 0 to 2; with 2 classes they are 0-1"):
        ClassTask(items(6), np.zeros((6, 8, 20), np.float32), "audio", 2, content="c")
    ids = np.ones((6, 9), np.int64)
    with pytest.raises(TrainingError, match=r"6 items, 6 texts and targets of shape \(6, 2\) up to 9"):
        SpanTask(
            spans.items, [Text("a", "b")] * 6, ids, np.full((6, 2), 9), TextPreprocessing(), content="c", vocabulary=5
        )


def test_scores_that_are_not_finite_are_wrong_and_said() -> None:
    task = sounds()
    model = task.build("audio-cnn", 8, 0)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    records = task.records(model, ROWS)
    assert set(records.status) == {"nan_output"}
    assert records.correct.tolist() == [0, 0, 0]
    assert np.isnan(task.truth(model, ROWS)).all()
