"""What explains that a model's reference differs from answers that are trusted: a contract that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapshift.domains.base import Dataset, rank
from gapshift.envs.layers.candidates import candidates
from gapshift.envs.layers.causes import Trial, agreement, folds_of, tried
from gapshift.envs.layers.relabelling import Order, order_of
from gapshift.envs.layers.site import Sites
from gapshift.errors import WorkspaceError
from gapshift.records import Records
from gapshift.reports.causes import judge_causes
from gapshift.schema import REFERENCE, TRAINING, Bundle, ControlPreprocessing
from gapshift.workspace import Workspace

_STATISTICS_ITEMS = 256
"""Items from which the data's own statistics are taken."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Trusted:
    """An answer to each item, by id, and in words whose it is; None: what is right is what agrees. Answers are places
    in the model's own labels; ``order`` is where the other's labels stand in them, where that is another place."""

    words: str
    answers: dict[str, int] | None
    order: Order | None = None


def trusted_answers(source: Workspace, bundle: Bundle, dataset: Dataset, other: Workspace | None) -> Trusted:
    """Another run's where one is given, else the bundle's training-side answers, else the labels.

    Raises WorkspaceError where another run holds no answers of such a model to these items.
    """
    if other is not None:
        return _of_run(other, bundle, dataset)
    own = source.read_answers(bundle.name)
    if own is not None and own[0].environment == TRAINING:
        found = _by_id(own[1])
        if any(item.id in found for item in dataset.items):
            return Trusted("the training-side answers", found)
    return Trusted("the labels", None)


def _of_run(other: Workspace, bundle: Bundle, dataset: Dataset) -> Trusted:
    plan = other.read_plan()
    same = [each for each in plan.bundles if each.name == bundle.name]
    same = same or [each for each in plan.bundles if each.task == bundle.task]
    same = same or (list(plan.bundles) if len(plan.bundles) == 1 else [])
    if len(same) != 1:
        raise WorkspaceError(
            f"{other.root} has {len(same)} models of the task {bundle.task!r} and none called {bundle.name!r}, so it "
            "is not clear whose answers are trusted. Give a run of one model, or of one of this name."
        )
    cell = other.read_cell(same[0].name, REFERENCE)
    found = _by_id(cell[1]) if cell is not None else {}
    if not any(item.id in found for item in dataset.items):
        raise WorkspaceError(
            f"{other.root} holds no answers of {same[0].name} to these items. Give a run on the same data."
        )
    words = f"the answers of {same[0].name} in {other.root.name}"
    return _by_name(words, found, bundle.contract.model.labels, same[0].contract.model.labels)


def _by_name(words: str, found: Mapping[str, int], own: tuple[str, ...], other: tuple[str, ...]) -> Trusted:
    """A label's name says what an answer is, not its place; places are all there is where names differ."""
    order = order_of(own, other)
    if order is None:
        return Trusted(f"{words} (by the labels' places, as the two contracts name them otherwise)", dict(found))
    answers = {item: order[place] if place < len(order) else place for item, place in found.items()}
    return Trusted(words, answers, order if own != other else None)


def _by_id(records: Records) -> dict[str, int]:
    return {
        str(item): int(prediction)
        for item, prediction in zip(records.item_id, records.prediction, strict=True)
        if prediction >= 0
    }


def answers_json(bundle: Bundle, sites: Sites, trusted: Trusted, alpha: float, seed: int) -> Json:
    """What trying every way of preparing gave (``judge_causes``), with the candidates' words."""
    inputs, contract = sites.inputs(bundle), bundle.contract
    sample = None
    if not isinstance(contract.preprocessing, ControlPreprocessing):
        prepared = inputs.prepared(contract.preprocessing)
        readable = np.flatnonzero(prepared.readable) if prepared is not None else np.empty(0, np.intp)
        sample = prepared.tensor[readable[:_STATISTICS_ITEMS]] if prepared is not None else None
    ids = [item.id for item in inputs.dataset.items]
    known = candidates(contract, sample)
    folds = folds_of(ids, [rank(item, seed) for item in ids])
    trial = tried(contract, sites.source(bundle), known, inputs, trusted.answers, folds, trusted.order)
    return _json(trial, trusted, alpha)


def _json(trial: Trial, trusted: Trusted, alpha: float) -> Json:
    before = agreement(trial.before, trusted.answers)
    after = {each.candidate.name: agreement(each.records, trusted.answers) for each in trial.tried}
    judged = judge_causes(before, after, alpha, truth=trusted.answers is None)
    known = {each.candidate.name: each.candidate for each in trial.tried}
    for row in judged["tried"]:
        candidate = known[row["name"]]
        row["words"] = candidate.words
        row["of"] = "labels" if candidate.relabel else "preparing"
        row["settings"] = dict(candidate.settings)
    return {
        "trusted": trusted.words,
        "truth": trusted.answers is None,
        **judged,
        "candidates": trial.candidates,
        "unfit": trial.unfit,
        "screening": trial.screening,
    }
