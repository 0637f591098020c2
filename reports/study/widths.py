"""The scale axis: what a family's size does to the generalisation gap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gapshift.reports.study.gaps import g1
from gapshift.reports.study.members import Group, Study
from gapshift.reports.study.quantity import Quantity, shared_seeds
from gapshift.reports.study.values import Json, note, pp, share

Axis = tuple[str, str, str]


def width_axes(study: Study) -> dict[Axis, list[Group]]:
    """(task, family, regime) -> its groups by rising width, where there are two widths or more."""
    axes: dict[Axis, list[Group]] = {}
    for group in study.groups:
        if not group.run.shuffled:
            axes.setdefault((group.run.task, group.run.family, group.run.regime), []).append(group)
    ordered = {axis: sorted(groups, key=lambda group: group.run.width) for axis, groups in axes.items()}
    return {axis: groups for axis, groups in ordered.items() if len(groups) > 1}


def sizes(groups: Sequence[Group]) -> tuple[str, list[int]]:
    """What the trend is fitted on: parameters where they are known and differ, else widths."""
    parameters = [group.run.parameters for group in groups]
    if min(parameters) > 0 and len(set(parameters)) == len(parameters):
        return "parameters", parameters
    return "width", [group.run.width for group in groups]


def slope(values: Sequence[Quantity], size: Sequence[int]) -> Quantity:
    """Least-squares slope over log2 of the size, fitted for each seed that all sizes share.

    A slope is a weighted sum of the values, with weights (x - mean x) / sum (x - mean x)^2, so its
    interval over seeds (Student's t) and items comes as that of any quantity. It is a line through
    what was measured and says nothing beyond the largest size.
    """
    x = np.log2(np.asarray(size, dtype=np.float64))
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    total = values[0] * float(weights[0])
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total = total + value * float(weight)
    return total


def width_rows(study: Study) -> list[Json]:
    """{task, family, regime, points [{width, parameters, g1_pp, mean_accuracy}], per, slope_pp_per_doubling, note}."""
    return [_row(axis, groups, study.rule.level) for axis, groups in width_axes(study).items()]


def _row(axis: Axis, groups: list[Group], level: float) -> Json:
    values = [g1(group) for group in groups]
    per, size = sizes(groups)
    problems = [problem for group in groups for problem in group.problems]
    points = [
        {
            "width": group.run.width,
            "parameters": group.run.parameters,
            "g1_pp": pp(value, level),
            "mean_accuracy": share(group.mean_accuracy, level),
        }
        for group, value in zip(groups, values, strict=True)
    ]
    return {
        **dict(zip(("task", "family", "regime"), axis, strict=True)),
        "points": points,
        "per": per,
        "slope_pp_per_doubling": pp(slope(values, size), level),
        "note": note(len(shared_seeds(*values)), problems),
    }
