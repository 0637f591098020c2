"""A model's reference session, and some of its items as inputs: what properties of a model are tried on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import episode_of
from gapshift.domains.base import Dataset, Text
from gapshift.domains.control.episodes import windows
from gapshift.domains.prepare import prepare
from gapshift.domains.spans import span_records
from gapshift.envs.resolve import reference_deployment
from gapshift.envs.runtimes import open_runtime
from gapshift.errors import DataError, UnreadableItemError
from gapshift.records import tie_gaps
from gapshift.schema import TIE_GAP, Contract, ControlPreprocessing, Item, TextPreprocessing

ITEMS = 16
"""Items that properties are tried on: hypothesis draws among them, so each is answered many times."""
_MASKED = 1e4
"""Networks mask a token by a score so far below the others; how far says nothing."""
_ROUNDING = 1e-6
"""Some ten times a float32's relative rounding: of scores that all share a large offset."""


@dataclass(frozen=True, eq=False)
class Probe:
    """``ask`` gives a model's raw outputs for inputs (k, ...); ``inputs`` (n, ...) are those of the items ``ids``.

    ``fixed_batch`` is the only batch size that the file takes, None where any will do. ``texts`` are the raw texts of
    a model that answers with spans. ``tolerance`` is a share of the range of the scores (``slack``).
    """

    model: Path
    contract: Contract
    ids: tuple[str, ...]
    inputs: NDArray[Any]
    ask: Callable[[NDArray[Any]], NDArray[Any]]
    fixed_batch: int | None = None
    texts: tuple[Text, ...] = ()
    tolerance: float = TIE_GAP

    def __len__(self) -> int:
        return len(self.ids)

    def scores(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """The answers to inputs (k, ...), asked in one call, shape (k, m)."""
        return self.comparable(self.ask(np.ascontiguousarray(inputs)))

    def comparable(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Raw outputs (k, ...) as (k, m); masks of tokens are all alike."""
        scores = np.asarray(outputs, dtype=np.float64).reshape(len(outputs), -1)
        masked = np.isfinite(scores) & (scores < -_MASKED) & (self.contract.model.output_kind == "spans")
        return np.where(masked, -_MASKED, scores)

    @cached_property
    def alone(self) -> NDArray[np.float64]:
        """Every item's scores, asked by itself, shape (n, m)."""
        return np.concatenate([self.scores(self.inputs[row : row + 1]) for row in range(len(self))])

    @cached_property
    def slack(self) -> float:
        """The largest difference of two scores that counts as rounding: ``tolerance`` times the range of the items'
        scores, and what float32 loses of their size."""
        some = self.alone[np.isfinite(self.alone) & (self.alone != -_MASKED)]
        return float(self.tolerance * np.ptp(some) + _ROUNDING * np.abs(some).max()) if len(some) else 0.0

    def decided(self, rows: Sequence[int], scores: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """What these items' scores, (k, m), predict, -1 where one is not finite, and how far each is from a tie."""
        if self.contract.model.output_kind == "spans":
            return self._spans(rows, scores)
        finite: NDArray[np.bool_] = np.all(np.isfinite(scores), axis=1)
        safe = np.where(finite[:, None], scores, 0.0)
        gaps = tie_gaps(safe, self.contract.model.output_kind == "probabilities")
        return np.where(finite, safe.argmax(axis=1), -1), gaps

    def _spans(self, rows: Sequence[int], scores: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        how = self.contract.preprocessing
        assert isinstance(how, TextPreprocessing)
        items = [Item(self.ids[row], 0) for row in rows]
        records = span_records(items, [self.texts[row] for row in rows], scores.reshape(len(rows), 2, -1), how)
        return records.prediction, records.gap

    def named(self, prediction: int) -> str:
        """A prediction in words."""
        if prediction < 0:
            return "nothing (a score is not finite)"
        if self.contract.model.output_kind == "spans":
            return "another answer"
        return repr(self.contract.model.labels[prediction])


@contextmanager
def probing(
    model: Path, contract: Contract, dataset: Dataset, items: int = ITEMS, tolerance: float = TIE_GAP
) -> Iterator[Probe]:
    """A probe of a model on ``items`` of a data set's items, evenly spread; unreadable ones are passed over.

    In control its inputs are what the model itself meets when it drives the first episodes. The session is the
    reference's. Raises DataError where no item can be read, and as ``open_runtime``.
    """
    with open_runtime(reference_deployment(contract).runtime, model, contract) as session:
        if isinstance(contract.preprocessing, ControlPreprocessing):
            episodes = [episode_of(dataset, row) for row in range(min(items, len(dataset)))]
            inputs = windows(episodes, session.predict, contract.preprocessing, items)
            ids = tuple(f"window {row + 1} of {len(inputs)}" for row in range(len(inputs)))
            texts: tuple[Text, ...] = ()
        else:
            ids, inputs, texts = _prepared(dataset, contract, items)
        yield Probe(model, contract, ids, inputs, session.predict, session.fixed_batch, texts, tolerance)


def _prepared(
    dataset: Dataset, contract: Contract, most: int
) -> tuple[tuple[str, ...], NDArray[Any], tuple[Text, ...]]:
    ids, inputs, texts = [], [], []
    for row in np.unique(np.linspace(0, len(dataset) - 1, min(2 * most, len(dataset))).round().astype(int)).tolist():
        try:
            raw = dataset.raw(row)
            inputs.append(prepare(raw, contract.preprocessing))
        except UnreadableItemError:
            continue
        ids.append(dataset.items[row].id)
        texts += [raw] if isinstance(raw, Text) else []
    if not inputs:
        raise DataError(f"{dataset.name}: none of the items that were tried can be read. Run `gapshift check` on them.")
    kept = range(0, len(inputs), -(-len(inputs) // most))
    return tuple(ids[k] for k in kept), np.stack([inputs[k] for k in kept]), tuple(texts[k] for k in kept if texts)
