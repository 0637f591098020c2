"""From a model's outputs to records: classes, spans of a text, whole episodes.

One way for each runtime in each environment; a torch network's own answers are made by the same
three functions under it (``records_from_scores``, ``span_records``, ``answer_episodes``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, Episode, Text
from gapshift.domains.control.episodes import answer_episodes, episode_records, rollout
from gapshift.domains.control.served import account
from gapshift.domains.services import NO_SERVICE, Rows, Served, ServedRows, serve
from gapshift.domains.spans import span_records
from gapshift.errors import DataError, EvaluationError
from gapshift.records import Records, concatenate, no_answers, records_from_scores, unanswered
from gapshift.schema import (
    AnyPreprocessing,
    ControlPreprocessing,
    Item,
    ModelInterface,
    Service,
    ServiceTally,
    TextPreprocessing,
)

Predict: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""A batch of model inputs to raw outputs."""
Keep: TypeAlias = Callable[[NDArray[np.intp], NDArray[Any]], None]
"""Takes rows of a data set and the raw outputs for them, shape (rows, ...)."""

_SLAB = 1024
"""Items whose scores are turned into records at once: few enough for flat memory."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What a model is asked: these rows of a data set, prepared by ``preprocessing``.

    ``tensor`` (n, ...) holds every item's input and ``readable`` (n,) whether there is one;
    control has no tensor (None). ``batch`` is the most that one call may hold. ``keep`` is given the raw
    outputs, but of control. Inputs, or the readings of an episode, come through ``service``; ``served`` is what it
    does to the data set's requests (None: it is found out).
    """

    dataset: Dataset
    rows: NDArray[np.intp]
    preprocessing: AnyPreprocessing
    batch: int
    tensor: Rows | None = None
    readable: NDArray[np.bool_] | None = None
    keep: Keep | None = None
    service: Service = NO_SERVICE
    served: Served | None = None


@dataclass(frozen=True, eq=False)
class Answered:
    """Records in the order of the rows; whether every row of logits looked like probabilities; what a service did."""

    records: Records
    like_probabilities: bool = False
    service: ServiceTally | None = None


def answer(asked: Asked, predict: Predict, interface: ModelInterface) -> Answered:
    """Ask a model every row; items that cannot be read, or that a service leaves without input, are recorded as such.

    Raises EvaluationError for outputs that do not fit the contract, DataError where data and
    contract do not go together.
    """
    if interface.output_kind == "actions":
        return _episodes(asked, predict)
    if asked.tensor is None or asked.readable is None:
        raise DataError(f"{asked.dataset.name} has nothing prepared; only control is asked without inputs.")
    if asked.service == NO_SERVICE:
        return _answered(asked, predict, interface, asked.tensor, asked.readable)
    served = asked.served or serve(asked.service, [item.id for item in asked.dataset.items], asked.readable)
    inputs = ServedRows(asked.tensor, served, asked.preprocessing)
    found = _answered(asked, predict, interface, inputs, asked.readable & ~served.withheld)
    return replace(found, records=served.marked(found.records, asked.rows), service=served.tally(asked.rows))


def _answered(
    asked: Asked, predict: Predict, interface: ModelInterface, inputs: Rows, given: NDArray[np.bool_]
) -> Answered:
    """``given`` says which items have an input."""
    assert asked.readable is not None
    rows = asked.rows[given[asked.rows]]
    slab = asked.batch * max(1, _SLAB // asked.batch)
    parts, like_probabilities = [], len(rows) > 0
    for begin in range(0, len(rows), slab):
        some = rows[begin : begin + slab]
        scores = np.concatenate([predict(inputs[some[s : s + asked.batch]]) for s in range(0, len(some), asked.batch)])
        parts.append(_records(asked, some, scores, interface))
        if asked.keep:
            asked.keep(some, scores)
        like_probabilities = like_probabilities and scores.ndim == 2 and _sum_to_one(scores)
    skipped = asked.rows[asked.readable[asked.rows] & ~given[asked.rows]]
    unreadable = asked.rows[~asked.readable[asked.rows]]
    parts += [no_answers(_items(asked, skipped)), unanswered(_items(asked, unreadable), "unreadable")]
    back = np.argsort(np.argsort(asked.rows, kind="stable"), kind="stable")
    order = np.argsort(np.concatenate([rows, skipped, unreadable]), kind="stable")
    records, places = concatenate(parts), order[back]
    if not np.array_equal(places, np.arange(len(places))):  # as a rule all are in their place: no copy then
        records = records.take(places)
    return Answered(records, like_probabilities and interface.output_kind == "logits")


def _records(asked: Asked, rows: NDArray[np.intp], scores: NDArray[Any], interface: ModelInterface) -> Records:
    items = _items(asked, rows)
    if interface.output_kind == "spans":
        if not isinstance(asked.preprocessing, TextPreprocessing):
            raise DataError("Spans are cut from texts; give a contract of domain 'text'.")
        return span_records(items, texts_of(asked.dataset, rows), scores, asked.preprocessing)
    if scores.ndim != 2 or scores.shape[1] != len(interface.labels):
        raise EvaluationError(
            f"The model gives scores of shape {scores.shape}; its contract names {len(interface.labels)} "
            "labels. Correct the contract's model.labels."
        )
    return records_from_scores(items, scores, interface.output_kind == "probabilities")


def _episodes(asked: Asked, predict: Predict) -> Answered:
    if not isinstance(asked.preprocessing, ControlPreprocessing):
        raise DataError("Actions steer episodes; give a contract of domain 'control'.")
    episodes = [episode_of(asked.dataset, row) for row in asked.rows]
    items, how = _items(asked, asked.rows), asked.preprocessing
    if asked.service == NO_SERVICE or not episodes:
        return Answered(answer_episodes(items, episodes, predict, how, asked.batch))
    done = rollout(episodes, predict, how, asked.batch, service=asked.service)
    records = episode_records(items, done)
    tally, fell_back = account(asked.service, episodes, done.asked)
    status = np.where(fell_back & (records.status == "ok"), "fallback", records.status)
    return Answered(replace(records, status=status), service=tally)


def episode_of(dataset: Dataset, row: int) -> Episode:
    """An item's episode. Raises DataError for data of another domain."""
    raw = dataset.raw(int(row))
    if not isinstance(raw, Episode):
        raise DataError(f"Item {dataset.items[row].id!r} of {dataset.name} is no episode; give control data.")
    return raw


def texts_of(dataset: Dataset, rows: Iterable[int] | NDArray[np.intp]) -> list[Text]:
    """The texts of these rows. Raises DataError where an item is none."""
    raws = [dataset.raw(int(row)) for row in rows]
    texts = [raw for raw in raws if isinstance(raw, Text)]
    if len(texts) < len(raws):
        raise DataError(f"{dataset.name} holds items that are no texts; its domain is {dataset.domain}.")
    return texts


def _items(asked: Asked, rows: NDArray[np.intp]) -> list[Item]:
    return [asked.dataset.items[row] for row in rows]


def _sum_to_one(scores: NDArray[np.floating]) -> bool:
    """Whether every row looks like a softmax's."""
    return bool(((scores >= 0) & (scores <= 1)).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))
