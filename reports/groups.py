"""A cell's answers as columns, and the groups that its items come in (speakers, paragraphs) with drop and loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.cells import Json, interval_json
from gapshift.reports.gate import Band
from gapshift.reports.load import Bools, Floats, Indices, Pairs, RatedItems, sums
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.statistics import benjamini_hochberg, clusters_of, mcnemar_midp, tango_interval, wilson
from gapshift.schema import CLASS_OUTPUTS, Bundle

LEAST_ITEMS = 20
"""A label or group with fewer items is not judged by itself."""


@dataclass(frozen=True, eq=False)
class Codes:
    """The groups of a task's items: their names, and each item's index into them (-1: none)."""

    names: tuple[str, ...]
    group: Indices


def codes_of(items: RatedItems) -> Codes:
    """Groups as numbers; an empty name is none."""
    names, codes = np.unique(items.group, return_inverse=True)
    if len(names) and names[0] == "":
        return Codes(tuple(names[1:].tolist()), codes - 1)
    return Codes(tuple(names.tolist()), codes)


@dataclass(frozen=True, eq=False)
class Answers:
    """One cell's pairs as columns (n,): right before and after, their difference, what each item is."""

    right: Bools
    still_right: Bools
    difference: NDArray[np.int64]
    level: NDArray[np.int64]
    label: NDArray[np.int64]
    group: Indices
    bands: tuple[Band, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    coverage: float

    @property
    def clusters(self) -> Indices | None:
        """What is drawn together: groups, or items that belong to none; None without two groups."""
        if len(np.unique(self.group[self.group >= 0])) < 2:
            return None
        return clusters_of(self.group)


def class_names(bundle: Bundle) -> tuple[str, ...]:
    """Labels that a bundle's items can have; none where they are answered by spans or episodes."""
    model = bundle.contract.model
    return model.labels if model.output_kind in CLASS_OUTPUTS else ()


def answers_of(cell: MeasuredCell, pairs: Pairs, codes: Codes, coverage: float) -> Answers:
    """The pairs of a cell as columns; ``coverage`` is that of its intervals."""
    return Answers(
        right=pairs.right,
        still_right=pairs.still_right,
        difference=pairs.lost,
        level=pairs.level,
        label=pairs.label.astype(np.int64),
        group=codes.group[pairs.position],
        bands=cell.bands,
        labels=class_names(cell.bundle),
        groups=codes.names,
        coverage=coverage,
    )


def compact(value: Json | None, digits: int) -> Json | None:
    """An interval with rounded ends, for there are many of them."""
    return value and {key: round(number, digits) + 0.0 for key, number in value.items()}


def sizes(answers: Answers) -> tuple[Floats, Floats]:
    """Items, and lost less gained, of each group."""
    inside = answers.group >= 0
    group, number = answers.group[inside], len(answers.groups)
    return sums(group, number), sums(group, number, answers.difference[inside])


def groups_json(answers: Answers, most: int) -> Json | None:
    """Drop and loss of each group, those that lose most first; null where items come in none. A lone group is
    all items, and not listed.

    {count, small (too few items to be judged), listed [{group, n, reference_accuracy, drop_pp, loss, q}], left_out}.
    Tango's and Wilson's intervals; ``q`` is Benjamini-Hochberg's over the cell's judged groups, of mid-p McNemar.
    """
    size, lost = sizes(answers)
    count, candidates = int((size > 0).sum()), np.flatnonzero(size >= LEAST_ITEMS)
    if not count:
        return None
    if count == 1:
        return {"count": 1, "small": 0, "listed": [], "left_out": 0}
    rows = [_counted(answers, int(group)) for group in candidates]
    q = benjamini_hochberg([_p_change(row.lost, row.gained) for row in rows])
    order = sorted(range(len(rows)), key=lambda k: (-(lost / np.maximum(size, 1))[candidates[k]], q[k], rows[k].name))
    return {
        "count": count,
        "small": count - len(candidates),
        "listed": [_group_json(rows[k], float(q[k]), answers.coverage) for k in order[:most]],
        "left_out": max(0, len(rows) - most),
    }


@dataclass(frozen=True)
class _Group:
    name: str
    n: int
    right: int
    lost: int
    gained: int


def _counted(answers: Answers, group: int) -> _Group:
    inside = answers.group == group
    difference = answers.difference[inside]
    return _Group(
        name=answers.groups[group],
        n=int(inside.sum()),
        right=int(answers.right[inside].sum()),
        lost=int((difference > 0).sum()),
        gained=int((difference < 0).sum()),
    )


@lru_cache(maxsize=4096)
def _p_change(lost: int, gained: int) -> float:
    return mcnemar_midp(lost, gained)


def _group_json(group: _Group, q: float, coverage: float) -> Json:
    drop = tango_interval(group.lost, group.gained, group.n, coverage)
    loss = wilson(group.lost, group.right, coverage) if group.right else None
    return {
        "group": group.name,
        "n": group.n,
        "reference_accuracy": round(group.right / group.n, 5),
        "drop_pp": compact(interval_json(drop, 100), 3),
        "loss": compact(interval_json(loss), 5),
        "q": float(f"{q:.4g}"),
    }
