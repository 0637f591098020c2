"""From outputs to records: any rows, any batch, every kind of answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapshift.domains.answering import Asked, answer, episode_of
from gapshift.domains.base import Dataset, InMemory, Text
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.text import learn, prepare_many
from gapshift.errors import DataError, EvaluationError
from gapshift.schema import (
    OUTCOMES,
    AnyPreprocessing,
    ControlPreprocessing,
    Item,
    ModelInterface,
    OutputKind,
    Preprocessing,
    Resize,
    TextPreprocessing,
)

N = 12
TEXTS = [
    Text("who came ?", f"{'so ' * row}it was the {name} who came", (name,)) for row, name in enumerate("abcdefghijkl")
]
PASSAGES = InMemory("p", OUTCOMES, [Item(f"p{row}", 1) for row in range(N)], TEXTS, "text", "spans")
REVIEWS = InMemory("r", ("a", "b", "c"), [Item(f"r{row}", row % 3) for row in range(N)], TEXTS, "text")
EPISODES = InMemory(
    "e", OUTCOMES, [Item(f"e{row}", 1) for row in range(N)], draw_episodes("mountaincar", N, 0), "control", "episodes"
)
TEXT = learn(TEXTS, TextPreprocessing(max_length=24))
IDS = prepare_many(TEXTS, TEXT)
CONTROL = ControlPreprocessing(offset=(0.0,), scale=(1.0,))
PIXELS = Preprocessing(resize=Resize(size=(8, 8)))
CLASSES = ModelInterface(input="x", output="y", labels=("a", "b", "c"))
SPANS = ModelInterface(input="x", output="y", output_kind="spans", labels=("start", "end"))
ACTIONS = ModelInterface(input="x", output="y", output_kind="actions", labels=("left", "none", "right"))


def _asked(
    data: Dataset = REVIEWS, rows: Any = None, how: AnyPreprocessing = TEXT, batch: int = 4, **fields: Any
) -> Asked:
    rows = np.arange(len(data)) if rows is None else np.array(rows, dtype=np.intp)
    fields = {"tensor": IDS, "readable": np.ones(N, dtype=bool), **fields}
    return Asked(data, rows, how, batch, **fields)


def _classes(ids: NDArray[Any]) -> NDArray[np.float32]:
    seeds = ids.astype(np.float32)
    return np.stack([np.sin(seeds.sum(1)), np.cos(seeds.sum(1)), np.sin(seeds @ np.arange(24))], axis=1)


def _spans(ids: NDArray[Any]) -> NDArray[np.float32]:
    return np.sin(np.stack([ids * 1.7, ids * 2.3 + 1], axis=1)).astype(np.float32)


def _forward(inputs: NDArray[Any]) -> NDArray[np.float32]:
    """A car is pushed the way it goes."""
    velocity = inputs[:, -1, 1]
    return np.stack([-velocity, np.full_like(velocity, -1.0), velocity], axis=1)


@given(
    rows=st.lists(st.integers(0, N - 1), unique=True, min_size=1),
    batch=st.integers(1, 2 * N),
    unreadable=st.sets(st.integers(0, N - 1)),
    kind=st.sampled_from(["logits", "spans"]),
)
def test_any_rows_in_any_batches_are_answered_in_their_order(
    rows: list[int], batch: int, unreadable: set[int], kind: OutputKind
) -> None:
    interface, data, model = (SPANS, PASSAGES, _spans) if kind == "spans" else (CLASSES, REVIEWS, _classes)
    readable = np.array([row not in unreadable for row in range(N)])
    sizes: list[int] = []

    def predict(inputs: NDArray[Any]) -> NDArray[np.float32]:
        sizes.append(len(inputs))
        return model(inputs)

    records = answer(_asked(data, rows, batch=batch, readable=readable), predict, interface).records
    one_by_one = answer(_asked(data, batch=1), model, interface).records.take(np.array(rows))
    assert records.item_id.tolist() == [data.items[row].id for row in rows]
    assert max(sizes, default=0) <= batch
    assert sum(sizes) == len(set(rows) - unreadable)
    seen = readable[rows]
    assert records.status.tolist() == np.where(seen, "ok", "unreadable").tolist()
    assert records.prediction[seen].tolist() == one_by_one.prediction[seen].tolist()
    np.testing.assert_allclose(records.confidence[seen], one_by_one.confidence[seen])
    assert np.isnan(records.correct[~seen]).all()


def test_more_items_than_are_kept_at_once_are_answered_alike() -> None:
    data = InMemory("many", ("a", "b", "c"), [Item(f"i{row}", 0) for row in range(2500)], TEXTS[:1] * 2500, "text")
    tensor = np.random.default_rng(0).integers(0, 9, (2500, 24))
    asked = Asked(data, np.arange(2500), TEXT, 7, tensor, np.ones(2500, dtype=bool))
    records = answer(asked, _classes, CLASSES).records
    assert records.prediction.tolist() == _classes(tensor).argmax(axis=1).tolist()
    assert records.item_id[-1] == "i2499"


def test_an_outcome_is_what_the_controller_brought_about() -> None:
    records = answer(_asked(EPISODES, how=CONTROL, tensor=None, readable=None), _forward, ACTIONS).records
    assert records.item_id.tolist() == [item.id for item in EPISODES.items]
    assert set(records.prediction.tolist()) <= {0, 1}
    assert records.correct.tolist() == records.prediction.tolist()
    assert records.correct.any()
    idle = answer(
        _asked(EPISODES, [3, 1], CONTROL, tensor=None), lambda inputs: np.zeros((len(inputs), 3)), ACTIONS
    ).records
    assert idle.item_id.tolist() == ["e3", "e1"]
    assert not idle.correct.any()


@pytest.mark.parametrize(
    ("scores", "likely"), [([[0.2, 0.3, 0.5]], True), ([[0.2, 0.3, 0.6]], False), ([[-1, 1, 1]], False)]
)
def test_outputs_that_look_like_probabilities_are_noticed_where_logits_are_due(
    scores: list[list[float]], likely: bool
) -> None:
    def predict(inputs: NDArray[Any]) -> NDArray[Any]:
        return np.array(scores * len(inputs))

    assert answer(_asked(), predict, CLASSES).like_probabilities == likely


def test_probabilities_that_are_called_so_are_nothing_to_notice() -> None:
    said = CLASSES.model_copy(update={"output_kind": "probabilities"})
    answered = answer(_asked(), lambda ids: np.full((len(ids), 3), 1 / 3), said)
    assert not answered.like_probabilities
    np.testing.assert_allclose(answered.records.confidence, 1 / 3)


def test_nothing_readable_is_nothing_like_probabilities() -> None:
    answered = answer(_asked(readable=np.zeros(N, dtype=bool)), _classes, CLASSES)
    assert answered.records.status.tolist() == ["unreadable"] * N
    assert not answered.like_probabilities


@pytest.mark.parametrize(
    ("asked", "model", "interface", "error", "message"),
    [
        (_asked(tensor=None), _classes, CLASSES, DataError, r"^r has nothing prepared; only control is asked without"),
        (
            _asked(),
            lambda ids: _classes(ids)[:, :2],
            CLASSES,
            EvaluationError,
            r"^The model gives scores of shape \(12, 2\); its contract names 3 labels\. Correct the contract's model",
        ),
        (_asked(), _spans, CLASSES, EvaluationError, r"scores of shape \(12, 2, 24\); its contract names 3 labels"),
        (
            _asked(EPISODES),
            _spans,
            SPANS,
            DataError,
            r"^e holds items that are no texts; its domain is control",
        ),
        (
            _asked(PASSAGES, how=PIXELS),
            _spans,
            SPANS,
            DataError,
            r"^Spans are cut from texts; give a contract of domain",
        ),
        (
            _asked(EPISODES),
            _forward,
            ACTIONS,
            DataError,
            r"^Actions steer episodes; give a contract of domain 'control'",
        ),
        (
            _asked(PASSAGES, how=CONTROL),
            _forward,
            ACTIONS,
            DataError,
            r"^Item 'p0' of p is no episode; give control data\.$",
        ),
    ],
)
def test_what_does_not_go_together_is_an_error(
    asked: Asked, model: Any, interface: ModelInterface, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        answer(asked, model, interface)


def test_an_episode_is_read_by_its_row() -> None:
    assert episode_of(EPISODES, 2) == EPISODES.raw(2)
