"""From a data set and its preprocessing to the task that networks learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains import audio, spans, text
from gapshift.domains.answering import texts_of
from gapshift.domains.base import Dataset
from gapshift.domains.prepare import prepare
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import (
    AnyPreprocessing,
    AudioPreprocessing,
    ControlPreprocessing,
    Item,
    TextPreprocessing,
    digest,
)
from gapshift.train.tasks.base import Rows, Task
from gapshift.train.tasks.episodes import EpisodeTask
from gapshift.train.tasks.episodes import learn as learn_scaling
from gapshift.train.tasks.tensors import ClassTask, SpanTask

VOCABULARY_SIZE = 4000


def learnt(
    dataset: Dataset, preprocessing: AnyPreprocessing, vocabulary_size: int = VOCABULARY_SIZE
) -> AnyPreprocessing:
    """``preprocessing`` with what it leaves open learnt from ``dataset`` (training items alone, please):
    a vocabulary, the mean and deviation of features, the scale of observations.

    Raises DataError where no item can be read.
    """
    if isinstance(preprocessing, TextPreprocessing) and not preprocessing.vocabulary:
        return text.learn(texts_of(dataset, range(len(dataset))), preprocessing, vocabulary_size)
    if isinstance(preprocessing, AudioPreprocessing) and None in (preprocessing.mean, preprocessing.std):
        return audio.learn(_sounds(dataset), preprocessing)
    if isinstance(preprocessing, ControlPreprocessing) and not (preprocessing.offset and preprocessing.scale):
        return learn_scaling(preprocessing, dataset)
    return preprocessing


@dataclass(frozen=True, eq=False)
class Made:
    """A task over the readable items of a data set; ``rows`` are their places there."""

    task: Task
    rows: Rows


def make_task(dataset: Dataset, preprocessing: AnyPreprocessing) -> Made:
    """The task that ``dataset`` is under ``preprocessing``; items that cannot be read are left out.

    Raises DataError where none can be read, or data and preprocessing are of two domains.
    """
    content = digest([dataset.digest(), preprocessing.model_dump(mode="json")])
    if isinstance(preprocessing, ControlPreprocessing):
        return Made(EpisodeTask.of(dataset, preprocessing), np.arange(len(dataset), dtype=np.intp))
    inputs, rows = _inputs(dataset, preprocessing)
    items = [dataset.items[row] for row in rows]
    if dataset.kind == "spans":
        return Made(_span_task(dataset, items, rows, inputs, preprocessing, content), rows)
    vocabulary = len(preprocessing.vocabulary) if isinstance(preprocessing, TextPreprocessing) else 0
    task = ClassTask(items, inputs, dataset.domain, len(dataset.classes), content=content, vocabulary=vocabulary)
    return Made(task, rows)


def _span_task(
    dataset: Dataset,
    items: Sequence[Item],
    rows: Rows,
    inputs: NDArray[Any],
    preprocessing: AnyPreprocessing,
    content: str,
) -> SpanTask:
    if not isinstance(preprocessing, TextPreprocessing):
        raise DataError(f"{dataset.name} is answered by spans of texts; give it text preprocessing.")
    texts = texts_of(dataset, rows)
    targets = spans.span_targets(texts, preprocessing)
    return SpanTask(
        items, texts, inputs, targets, preprocessing, content=content, vocabulary=len(preprocessing.vocabulary)
    )


def _inputs(dataset: Dataset, preprocessing: AnyPreprocessing) -> tuple[NDArray[Any], Rows]:
    """Prepared inputs (n readable, ...) and the rows that they belong to."""
    inputs: NDArray[Any] | None = None
    rows: list[int] = []
    for row in range(len(dataset)):
        try:
            one = prepare(dataset.raw(row), preprocessing)
        except UnreadableItemError:
            continue  # it stays in the data set, and its record in the reference cell says so
        if inputs is None:  # one array from the start: tens of thousands of images are in memory once
            inputs = np.empty((len(dataset), *one.shape), one.dtype)
        inputs[len(rows)] = one
        rows.append(row)
    if inputs is None:
        raise DataError(f"None of the {len(dataset)} items of {dataset.name} can be decoded.")
    return inputs[: len(rows)], np.array(rows, dtype=np.intp)


def _sounds(dataset: Dataset) -> Iterator[bytes]:
    for row in range(len(dataset)):
        try:
            raw = dataset.raw(row)
        except UnreadableItemError:
            continue
        if not isinstance(raw, bytes):
            raise DataError(f"{dataset.name} holds items that are no WAV files; its domain is {dataset.domain}.")
        yield raw
