"""Accuracy at the same difficulty on every task: levels by fixed cut-offs on the linked scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.study.members import Group, Study, TaskItems
from gapshift.reports.study.quantity import Floats
from gapshift.reports.study.values import Json, share
from gapshift.schema import LEVEL_CUTS

REGIMES = ("easy-only", "hard-only", "curriculum", "random", "iid")


def absolute_rows(study: Study) -> list[Json]:
    """{task, family, items {level: share of the held-out items}, regimes [{regime, accuracy {level: E}}]}.

    Levels are ``level_abs``: b* cut at LEVEL_CUTS, the same difficulty on every task as far as
    the linking holds, and so of unequal counts. E is null where a task has no such items.
    """
    return [_row(study, task, family) for task in study.tasks if (family := study.family_of(task.name))]


def _row(study: Study, task: TaskItems, family: str) -> Json:
    level = np.where(task.level > 0, task.rated.level_abs, 0)
    counts = np.array([(level == k).sum() for k in ALL_LEVELS])
    groups = study.at_main_width(task.name, family)
    return {
        "task": task.name,
        "family": family,
        "cuts": list(LEVEL_CUTS),
        "items": {str(k): float(n / max(1, counts.sum())) for k, n in zip(ALL_LEVELS, counts, strict=True)},
        "regimes": [
            {"regime": name, "accuracy": _accuracies(groups[name], level, counts, study.rule.level)}
            for name in REGIMES
            if name in groups
        ],
    }


def _accuracies(group: Group, level: NDArray[np.int64], counts: NDArray[np.int64], confidence: float) -> Json:
    only: Floats = np.eye(len(ALL_LEVELS))
    return {
        str(k): share(group.held_out(only[k - 1], level), confidence) if counts[k - 1] > 1 else None for k in ALL_LEVELS
    }
