"""Generalisation gaps of a group, as quantities (``reports/regimes.py`` has the definitions).

G1 = A_train(P_r) - A_bar = memorisation [A_train(P_r) - A_test(P_r)] + shift [A_test(P_r) - A_bar],
with P_r the group's own training mix and A_bar the mean over the five levels of held-out items.
"""

from __future__ import annotations

import numpy as np

from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.study.members import Group
from gapshift.reports.study.quantity import LEVELS, Floats, Quantity


def train_accuracy(group: Group) -> Quantity:
    """Accuracy on the group's own training mix; NaN for a seed whose mix or answers are unknown."""
    value, influence = np.full(len(group.members), np.nan), np.zeros(group.right.shape)
    for row, member in enumerate(group.members):
        if member.weight is not None:
            drawn = member.weight > 0
            value[row] = float(member.weight[drawn] @ member.right[drawn])
            influence[row, drawn] = member.weight[drawn] * (member.right[drawn] - value[row])
    return Quantity(group.seeds, value, influence, group.task.level, np.zeros(LEVELS))


def training_mix(group: Group) -> Floats:
    """Share of the draws that each level had, (S, 5); NaN where unknown."""
    level = group.task.rated.level
    mixes = [
        np.full(LEVELS, np.nan) if member.weight is None else np.bincount(level, member.weight, LEVELS + 1)[1:]
        for member in group.members
    ]
    return np.array(mixes, dtype=np.float64)


def on_own_mix(group: Group) -> Quantity:
    """Held-out accuracy at the training mix, A_test(P_r)."""
    mix = training_mix(group)
    found = group.held_out(np.nan_to_num(mix))
    unknown = np.where(np.isnan(mix).any(axis=1), np.nan, 0.0)
    return Quantity(found.seeds, found.per_seed + unknown, found.influence, found.level, found.weights)


def g1(group: Group) -> Quantity:
    """Generalisation gap."""
    return train_accuracy(group) - group.mean_accuracy


def memorisation(group: Group) -> Quantity:
    """The part of G1 on the training mix itself."""
    return train_accuracy(group) - on_own_mix(group)


def shift(group: Group) -> Quantity:
    """The part of G1 that comes from other levels than were trained on."""
    return on_own_mix(group) - group.mean_accuracy


def g2(group: Group) -> Quantity:
    """Accuracy at level 1 less that at level 5."""
    return group.at(ALL_LEVELS[0]) - group.at(ALL_LEVELS[-1])
