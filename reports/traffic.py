"""What the drops would be under other traffic: records that exist, weighed anew.

Evaluation data hold each level, label and group as often as somebody collected them; a deployment meets another mix.
With the items of a level (label, group) taken as they are, the drop under a mix is the weighted mean of the drops
within, and no cell has to run again. What is looked at: the mixes of ``BUILT_IN_TRAFFIC`` and the user's own
(``RunPlan.traffic``); and the drop of every group by itself. Nothing here decides anything.

Levels that are too unreliable to be judged apart are not weighed apart either: a band gets the sum of its levels'
weights. Where items come in groups, the groups are counted as clusters, except where the mix itself weighs named
groups. The worst label and the worst group are found by looking at all, so their intervals hold for all of them
together (Bonferroni).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import UnknownNameError
from gapshift.reports.cells import Json, interval_json
from gapshift.reports.groups import (
    LEAST_ITEMS,
    Answers,
    Codes,
    answers_of,
    class_names,
    codes_of,
    compact,
    groups_json,
    sizes,
)
from gapshift.reports.load import ALL_LEVELS, Floats
from gapshift.reports.planned import MeasuredCell, MeasuredRun
from gapshift.reports.statistics import (
    Estimate,
    clustered_drop,
    even_groups_drop,
    stratified_drop,
)
from gapshift.schema import BUILT_IN_TRAFFIC, Traffic

LISTED, LISTED_ASIDE = 10, 3
"""How many groups a cell lists: one that is gated or named, any other."""
_NAMES_SHOWN = 20
_ROUNDING = 1e-12
_EASY = {level: 6.0 - level for level in ALL_LEVELS}
_HARD = {level: float(level) for level in ALL_LEVELS}

Key = tuple[str, str]
"""Bundle and environment."""


def traffic_json(run: MeasuredRun) -> list[Json]:
    """The mixes of a run, for the summary: [{name, by, summary, weights}]; weights of built-in ones are null.

    Raises UnknownNameError for a label or group of the user's that no task has.
    """
    check_names(run.plan.traffic, _labels_by_task(run), _groups_by_task(run))
    built_in = [{"name": name, "by": _BY[name], "summary": text, "weights": None} for name, text in _built_in(run)]
    own = [{"name": m.name, "by": m.by, "summary": m.summary, "weights": m.weights} for m in run.plan.traffic]
    return [*built_in, *own]


def cells_traffic(run: MeasuredRun) -> dict[Key, Json]:
    """The keys ``traffic`` and ``groups`` of every cell; both null where a cell has no pairs."""
    codes = {bundle.bundle.task: codes_of(bundle.items) for bundle in run.bundles}
    return {
        (cell.bundle.name, cell.environment.name): _cell_json(cell, codes[cell.bundle.task], run) for cell in run.cells
    }


_BY = {
    "as-is": "levels",
    "mostly-easy": "levels",
    "mostly-hard": "levels",
    "labels-even": "labels",
    "worst-label": "labels",
    "groups-even": "groups",
    "worst-group": "groups",
}


def _built_in(run: MeasuredRun) -> list[tuple[str, str]]:
    """Built-in mixes with what they are; those of groups only where items come in some."""
    grouped = any(_groups_by_task(run).values())
    return [(name, text) for name, text in BUILT_IN_TRAFFIC.items() if grouped or _BY[name] != "groups"]


# --------------------------------------------------------------------------- names


def check_names(
    mixes: Iterable[Traffic], labels: Mapping[str, Sequence[str]], groups: Mapping[str, Iterable[str]]
) -> None:
    """Raises UnknownNameError where a mix weighs a label or a group that no task has (both by task)."""
    for mix in mixes:
        problem = unknown_name(mix, labels, groups)
        if problem:
            raise problem


def unknown_name(
    mix: Traffic, labels: Mapping[str, Sequence[str]], groups: Mapping[str, Iterable[str]]
) -> UnknownNameError | None:
    """The error of the first label or group that a mix weighs and that no task has; None where all are known."""
    known_labels = {name for names in labels.values() for name in names}
    known_groups = {name for names in groups.values() for name in names}
    for name in mix.weights:
        if mix.by == "labels" and all(label_index(name, own) is None for own in labels.values()):
            return _unknown(f"label of the traffic mix {mix.name!r}:", name, known_labels)
        if mix.by == "groups" and name not in known_groups:
            return _unknown(f"group of the traffic mix {mix.name!r}:", name, known_groups)
    return None


def _unknown(what: str, name: str, valid: Iterable[str]) -> UnknownNameError:
    """The error, with the nearest names where there are too many to list."""
    names = sorted(valid)
    if len(names) <= _NAMES_SHOWN:
        return UnknownNameError(what, name, names or ["none, for no item has one"])
    near = difflib.get_close_matches(name, names, n=_NAMES_SHOWN, cutoff=0.5) or names[:_NAMES_SHOWN]
    return UnknownNameError(what, name, near, f"These are {len(near)} of {len(names):,}.")


def label_index(name: str, labels: Sequence[str]) -> int | None:
    """Index of a label that is given by name, or by index where no label has that name; None if unknown.

    >>> label_index("dog", ("cat", "dog")), label_index("0", ("cat", "dog")), label_index("2", ("cat", "dog"))
    (1, 0, None)
    """
    if name in labels:
        return list(labels).index(name)
    return int(name) if name.isdecimal() and int(name) < len(labels) else None


def _labels_by_task(run: MeasuredRun) -> dict[str, tuple[str, ...]]:
    return {bundle.bundle.task: class_names(bundle.bundle) for bundle in run.bundles}


def _groups_by_task(run: MeasuredRun) -> dict[str, set[str]]:
    """Groups of all rated items: names stay known where a reference broke, which is a verdict and no typo."""
    return {bundle.bundle.task: set(bundle.items.group.tolist()) - {""} for bundle in run.bundles}


# --------------------------------------------------------------------------- a cell


def _cell_json(cell: MeasuredCell, codes: Codes, run: MeasuredRun) -> Json:
    if cell.pairs is None or not len(cell.pairs):
        return {"traffic": None, "groups": None}
    answers = answers_of(cell, cell.pairs, codes, run.rule.level)
    mixes = {name: _BUILT_IN[name] for name, _ in _built_in(run)}
    mixes |= {mix.name: partial(_own, mix=mix) for mix in run.plan.traffic}
    found = {name: compute(answers) for name, compute in mixes.items()}
    return {
        "traffic": {name: value for name, value in found.items() if value is not None},
        "groups": groups_json(answers, LISTED if cell.gated or cell.named else LISTED_ASIDE),
    }


def _undefined(reason: str) -> Json:
    return {"reference_accuracy": None, "accuracy": None, "drop_pp": None, "reason": reason}


def _weighed(answers: Answers, strata: NDArray[Any], weights: Floats, *, clustered: bool = True) -> Json:
    """Accuracies and drop under weights (S,) of strata (n,); every stratum with a weight holds items.

    Items whose stratum is below zero are in none.
    """
    inside = strata >= 0
    codes, difference = strata[inside], answers.difference[inside]
    size = np.bincount(codes, minlength=len(weights))
    clusters = answers.clusters if clustered else None
    if clusters is None:
        lost, gained = (np.bincount(codes[mask], minlength=len(weights)) for mask in (difference > 0, difference < 0))
        drop = stratified_drop(lost, gained, size, weights, answers.coverage)
    else:
        drop = clustered_drop(difference, codes, weights, clusters[inside], answers.coverage)
    each = (weights / weights.sum() / np.maximum(size, 1))[codes]
    return _row(float(each @ answers.right[inside]), float(each @ answers.still_right[inside]), drop)


def _row(reference: float, accuracy: float, drop: Estimate) -> Json:
    return {
        "reference_accuracy": round(reference, 5),
        "accuracy": round(accuracy, 5),
        "drop_pp": compact(interval_json(drop, 100), 3),
    }


# --------------------------------------------------------------------------- mixes


def _as_is(answers: Answers) -> Json:
    return _weighed(answers, np.zeros(len(answers.level), dtype=np.intp), np.ones(1))


def _levels(answers: Answers, weights: Mapping[int, float]) -> Json:
    """Levels as weighed; those of a band together."""
    if len(answers.bands) < 2:
        return _undefined("the levels are too unreliable to be weighed apart")
    per_band = np.array([sum(weights.get(level, 0.0) for level in band) for band in answers.bands])
    band_of = {level: place for place, band in enumerate(answers.bands) for level in band}
    strata = np.array([band_of.get(level, -1) for level in range(max(ALL_LEVELS) + 1)])[answers.level]
    names = [f"level{'s' * (len(band) > 1)} {'-'.join(map(str, dict.fromkeys((band[0], band[-1]))))}"
             for band in answers.bands]  # fmt: skip
    return _missing(strata, per_band, names) or _weighed(answers, strata, per_band)


def _missing(strata: NDArray[Any], weights: Floats, names: Sequence[str]) -> Json | None:
    """Why a mix has no value: something with a weight has no items here."""
    held = np.bincount(strata[strata >= 0], minlength=len(weights))
    without = [names[int(place)] for place in np.flatnonzero((weights > 0) & (held == 0))]
    more = f" and {len(without) - 3} more" if len(without) > 3 else ""
    return _undefined(f"no items here of {', '.join(without[:3])}{more}") if without else None


def _no_labels(answers: Answers) -> Json | None:
    if not answers.labels:
        return _undefined("items answered by spans or episodes have no labels to be weighed")
    only = np.unique(answers.label)
    return _undefined("all items have one label") if len(only) < 2 else None


def _labels_even(answers: Answers) -> Json:
    """Every label that occurs equally often."""
    present = np.unique(answers.label)
    return _no_labels(answers) or _weighed(answers, np.searchsorted(present, answers.label), np.ones(len(present)))


def _worst_label(answers: Answers) -> Json:
    """Of all labels with enough items the one whose threefold frequency gives the largest drop."""
    undefined = _no_labels(answers)
    if undefined:
        return undefined
    size = np.bincount(answers.label)
    lost = np.bincount(answers.label, weights=answers.difference)
    candidates = np.flatnonzero(size >= LEAST_ITEMS)
    if not len(candidates):
        return _undefined(f"no label has {LEAST_ITEMS} items")
    drops = (lost.sum() + 2 * lost[candidates]) / (size.sum() + 2 * size[candidates])
    worst = int(candidates[np.argmax(drops)])
    strata, n = (answers.label == worst).astype(np.intp), int(size[worst])
    weights = np.array([len(strata) - n, 3.0 * n])
    found = _weighed(_together(answers, len(candidates)), strata, weights)
    alike = bool(np.ptp(drops) < _ROUNDING)  # none is the worst then
    return {**found, "which": None if alike else _name(answers.labels, worst)}


def _name(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)


def _together(answers: Answers, family: int) -> Answers:
    """The same with intervals that hold for ``family`` of them together."""
    fields = {name: getattr(answers, name) for name in answers.__dataclass_fields__}
    return Answers(**{**fields, "coverage": 1 - (1 - answers.coverage) / family})


def _no_groups(answers: Answers) -> Json | None:
    count = len(np.unique(answers.group[answers.group >= 0]))
    if count > 1:
        return None
    return _undefined("all items belong to one group" if count else "the items come in no groups")


def _groups_even(answers: Answers) -> Json:
    """Every group equally often; items that belong to none are left out."""
    undefined = _no_groups(answers)
    if undefined:
        return undefined
    inside = answers.group >= 0
    _, codes, size = np.unique(answers.group[inside], return_inverse=True, return_counts=True)
    each = 1 / size[codes] / len(size)
    drop = even_groups_drop(answers.difference[inside], codes, answers.coverage)
    return _row(float(each @ answers.right[inside]), float(each @ answers.still_right[inside]), drop)


def _worst_group(answers: Answers) -> Json:
    """Nothing but the group, of those with enough items, that loses most."""
    undefined = _no_groups(answers)
    if undefined:
        return undefined
    size, lost = sizes(answers)
    candidates = np.flatnonzero(size >= LEAST_ITEMS)
    if not len(candidates):
        return _undefined(f"no group has {LEAST_ITEMS} items")
    worst = int(candidates[np.argmax(lost[candidates] / size[candidates])])
    strata = np.where(answers.group == worst, 0, -1)
    found = _weighed(_together(answers, len(candidates)), strata, np.ones(1), clustered=False)
    return {**found, "which": answers.groups[worst]}


_BUILT_IN: dict[str, Callable[[Answers], Json | None]] = {
    "as-is": _as_is,
    "mostly-easy": partial(_levels, weights=_EASY),
    "mostly-hard": partial(_levels, weights=_HARD),
    "labels-even": _labels_even,
    "worst-label": _worst_label,
    "groups-even": _groups_even,
    "worst-group": _worst_group,
}


def _own(answers: Answers, mix: Traffic) -> Json:
    """A user's mix; null with the reason where this task does not have what it weighs."""
    if mix.by == "levels":
        return _levels(answers, {int(name): weight for name, weight in mix.weights.items()})
    if mix.by == "groups":
        known = {name: place for place, name in enumerate(answers.groups)}
        return _named(answers, answers.group, mix, known.get, answers.groups)
    if not answers.labels:
        return _undefined("items answered by spans or episodes have no labels to be weighed")
    return _named(answers, answers.label, mix, partial(label_index, labels=answers.labels), answers.labels)


def _named(
    answers: Answers, codes: NDArray[Any], mix: Traffic, find: Callable[[str], int | None], names: Sequence[str]
) -> Json:
    weights = np.zeros(max(len(names), int(codes.max(initial=-1)) + 1))
    for name, weight in mix.weights.items():
        place = find(name)
        if place is None and weight > 0:
            return _undefined(f"this task has no {mix.by.removesuffix('s')} {name}")
        if place is not None:
            weights[place] += weight
    return _missing(codes, weights, names) or _weighed(answers, codes, weights, clustered=mix.by != "groups")
