"""Which way of preparing explains other inputs, or other answers.

``reproducing`` is for a deployment whose inputs are known: the candidates whose inputs are the same. ``tried`` is for
answers alone (a contract that is wrong): what the model answers when items are prepared as each candidate does.
Candidates are screened on a part of the items; those that do best answer the others, which no choice has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.answering import Asked, answer
from gapshift.domains.base import Dataset
from gapshift.domains.services import Rows
from gapshift.envs.control import windows_seen_by
from gapshift.envs.layers.candidates import Applied, Candidate
from gapshift.envs.layers.compare import differences_of
from gapshift.envs.layers.relabelling import Order, relabelled
from gapshift.envs.prepare import Prepared, Preparer
from gapshift.envs.resolve import reference_deployment
from gapshift.envs.runtimes import open_runtime
from gapshift.envs.runtimes.base import Session
from gapshift.errors import GapshiftError
from gapshift.records import Records, unanswered
from gapshift.schema import AnyPreprocessing, Contract, ControlPreprocessing, Preprocessing, Shift

REPRODUCES = 1e-3
"""A candidate reproduces inputs whose normalised distance from its own is at most this."""
CONFIRMED = 8
"""Candidates that answer the confirming items."""
_READINGS = 256
"""A controller's inputs on which candidates are compared."""
_UNSHIFTED = Shift()
_SCREENING_SHARE = 4
"""One item in so many screens."""


@dataclass(frozen=True)
class Reproduced:
    """``left`` is the normalised distance of a candidate's inputs from the deployment's."""

    name: str
    words: str
    left: float


@dataclass(frozen=True, eq=False)
class Tried:
    """A candidate's answers to the confirming items, in their order; ``screened`` its agreement on the others."""

    candidate: Candidate
    screened: float
    records: Records


@dataclass(frozen=True, eq=False)
class Trial:
    """``before`` are the reference's own answers to the confirming items: none where its inputs do not fit the model.

    ``candidates`` were screened on ``screening`` items; ``unfit`` could not be tried (their inputs do not fit the
    model, or change nothing).
    """

    before: Records
    tried: tuple[Tried, ...]
    candidates: int
    unfit: int
    screening: int


class Inputs:
    """A data set's inputs as candidates prepare them; nothing in control, whose inputs come about step by step."""

    def __init__(self, dataset: Dataset, folder: Path, contract: AnyPreprocessing) -> None:
        self.dataset, self._contract, self._folder = dataset, contract, folder
        self._preparer = Preparer(dataset, folder / "all", contract)

    def part(self, rows: NDArray[np.intp]) -> Inputs:
        """Those of some items."""
        return Inputs(self.dataset.subset(rows.tolist()), self._folder / "part", self._contract)

    def __enter__(self) -> Inputs:
        self._preparer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._preparer.__exit__(*error)

    def prepared(self, preprocessing: AnyPreprocessing, shift: Shift = _UNSHIFTED) -> Prepared | None:
        """Every item's tensor; None in control."""
        if isinstance(preprocessing, ControlPreprocessing):
            return None
        return self._preparer.prepared(preprocessing, shift)

    def of(self, candidate: Candidate) -> tuple[Rows | None, NDArray[np.bool_] | None]:
        """Inputs and which of them could be read."""
        found = self.prepared(candidate.preprocessing)
        if found is None:
            return None, None
        return (Applied(found.tensor, candidate.apply) if candidate.apply else found.tensor), found.readable


def reproducing(candidates: Sequence[Candidate], inputs: Inputs, target: Rows) -> list[Reproduced]:
    """The candidates, nearest to ``target`` (n, ...) first; those whose inputs have another shape are left out."""
    found = []
    levels = np.zeros(len(inputs.dataset), dtype=np.int64)
    for each in candidates:
        try:
            rows, _ = inputs.of(each)
        except GapshiftError:
            continue
        if rows is not None and rows.shape == target.shape:
            found.append(Reproduced(each.name, each.words, differences_of(target, rows, levels).error))
    return sorted(found, key=lambda each: each.left)


def reproducing_readings(
    candidates: Sequence[Candidate],
    dataset: Dataset,
    model: Path,
    contract: Contract,
    deployed: ControlPreprocessing,
) -> list[Reproduced]:
    """The same for a controller's readings along the reference's trajectories over ``dataset``.

    How long an action is held is no reading; a candidate that is that alone reproduces the contract's own.
    """
    found = []
    for each in candidates:
        how = each.preprocessing
        if not isinstance(how, ControlPreprocessing):
            continue
        try:
            theirs, mine = windows_seen_by([deployed, how], dataset, model, contract, _READINGS)
        except GapshiftError:
            continue
        if mine.shape == theirs.shape:
            levels = np.zeros(len(theirs), dtype=np.int64)
            found.append(Reproduced(each.name, each.words, differences_of(theirs, mine, levels).error))
    return sorted(found, key=lambda each: each.left)


def fitted(contract: AnyPreprocessing, mine: NDArray[Any], theirs: NDArray[Any]) -> Reproduced | None:
    """The mean and deviation that turn the contract's inputs (n, ...) into the deployment's, channel by channel, where
    a straight line does; for images alone."""
    if not isinstance(contract, Preprocessing) or mine.shape != theirs.shape or contract.dtype == "uint8":
        return None
    axis = 1 if contract.layout in ("NCHW", "NHWC-as-NCHW") else mine.ndim - 1
    x, y = (np.moveaxis(each.astype(np.float64), axis, 0).reshape(each.shape[axis], -1) for each in (mine, theirs))
    centred = x - x.mean(axis=1, keepdims=True)
    spread = (centred**2).sum(axis=1)
    if not (spread > 0).all():
        return None
    slope = (centred * y).sum(axis=1) / spread
    offset = y.mean(axis=1) - slope * x.mean(axis=1)
    left = float(np.linalg.norm(y - (slope[:, None] * x + offset[:, None])) / max(float(np.linalg.norm(y)), 1e-300))
    if not (np.abs(slope) > 1e-9).all():
        return None
    std = np.broadcast_to(contract.std, slope.shape) / slope
    mean = np.broadcast_to(contract.mean, slope.shape) - offset * std
    words = f"mean = {_listed(mean)} and std = {_listed(std)}, found by fitting"
    return Reproduced("fitted-statistics", words, left)


def _listed(values: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def tried(
    contract: Contract,
    model: Path,
    candidates: Sequence[Candidate],
    inputs: Inputs,
    trusted: Mapping[str, int] | None,
    folds: NDArray[np.bool_],
    order: Order | None = None,
) -> Trial:
    """Ask the model with every candidate's inputs, and read its answers by other orders of the labels. ``trusted`` is
    each item's answer, by id (None: the right one); ``folds`` (n,) says which items screen; ``order`` is one of the
    labels that is known to be another's.

    Raises EvaluationError where the model cannot run.
    """
    screening, confirming = (np.flatnonzero(part) for part in (folds, ~folds))
    reference = Candidate("reference", "", contract.preprocessing)
    with open_runtime(reference_deployment(contract).runtime, model, contract) as session:
        asked = _Asked(contract, session, inputs)
        base = asked.agreement(reference, screening, trusted)
        if base is not None:
            own = asked.records(reference, screening)
            candidates = [*candidates, *relabelled(contract, own.prediction, _wanted(own, trusted), order)]
        screened: list[tuple[float, int, Candidate]] = []
        unfit = 0
        for place, each in enumerate(candidates):
            share = asked.agreement(each, screening, trusted)
            if share is None:
                unfit += 1
            elif base is None or share > base:
                screened.append((-share, place, each))
        best = sorted(screened, key=lambda found: found[:2])[:CONFIRMED]
        return Trial(
            before=asked.records(reference, confirming) if base is not None else asked.silence(confirming),
            tried=tuple(Tried(each, -share, asked.records(each, confirming)) for share, _, each in best),
            candidates=len(candidates),
            unfit=unfit,
            screening=len(screening),
        )


def folds_of(ids: Sequence[str], ranks: Sequence[str]) -> NDArray[np.bool_]:
    """Which items screen: every fourth in the order of ``ranks``, at least one and not all."""
    order = np.argsort(np.array(ranks))
    screens = np.zeros(len(ids), dtype=bool)
    screens[order[::_SCREENING_SHARE]] = True
    return screens


def agreement(records: Records, trusted: Mapping[str, int] | None) -> NDArray[np.bool_]:
    """Whether each answer is the trusted one (None: is right), shape (n,); no answer agrees with nothing."""
    if trusted is None:
        right: NDArray[np.bool_] = records.correct == 1.0
        return right
    same: NDArray[np.bool_] = (records.prediction == _wanted(records, trusted)) & (records.prediction >= 0)
    return same


def _wanted(records: Records, trusted: Mapping[str, int] | None) -> NDArray[np.int32]:
    """Each item's trusted answer, shape (n,): its label where none is given, -2 where there is none."""
    if trusted is None:
        return records.label
    return np.array([trusted.get(str(item), -2) for item in records.item_id], dtype=np.int32)


def _read(records: Records, order: Order | None) -> Records:
    """Answers by another order of the labels."""
    if order is None:
        return records
    answered = records.prediction >= 0
    prediction = np.where(answered, np.array(order, dtype=np.int32)[records.prediction], records.prediction)
    right = np.where(answered & ~np.isnan(records.correct), prediction == records.label, records.correct)
    return replace(records, prediction=prediction.astype(np.int32), correct=right.astype(np.float64))


@dataclass(frozen=True, eq=False)
class _Asked:
    contract: Contract
    session: Session
    inputs: Inputs

    def agreement(
        self, candidate: Candidate, rows: NDArray[np.intp], trusted: Mapping[str, int] | None
    ) -> float | None:
        """The share of trusted answers; None where the candidate cannot be tried."""
        try:
            return float(agreement(self.records(candidate, rows), trusted).mean())
        except GapshiftError:
            return None

    def silence(self, rows: NDArray[np.intp]) -> Records:
        """No answer to any of these items."""
        return unanswered([self.inputs.dataset.items[row] for row in rows], "error")

    def records(self, candidate: Candidate, rows: NDArray[np.intp]) -> Records:
        tensor, readable = self.inputs.of(candidate)
        asked = Asked(
            dataset=self.inputs.dataset,
            rows=rows,
            preprocessing=candidate.preprocessing,
            batch=reference_deployment(self.contract).runtime.batch_size,
            tensor=tensor,
            readable=readable,
        )
        return _read(answer(asked, self.session.predict, self.contract.model).records, candidate.relabel)
