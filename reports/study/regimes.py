"""One row for everything that was trained: gaps, accuracy and calibration error, from torch's own answers."""

from __future__ import annotations

import numpy as np

from gapshift.reports.cells import MIN_ECE_ITEMS
from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.statistics import debiased_ece
from gapshift.reports.study import gaps
from gapshift.reports.study.members import Group, Study
from gapshift.reports.study.quantity import EVEN, LEVELS, Floats, Quantity
from gapshift.reports.study.values import Json, note, pp, share

BINS = 15


def regime_rows(study: Study) -> list[Json]:
    """A row for each (task, family, width, regime, share of shuffled levels), in the plan's order.

    {task, family, width, regime, shuffled, parameters, seeds, g1_pp, memorisation_pp, shift_pp,
    mean_accuracy, accuracy by level, g2_pp, g3_pp, g3_best, train_accuracy, training_mix, ece, note}
    """
    return [_row(study, group) for group in study.groups]


def _row(study: Study, group: Group) -> Json:
    level, run = study.rule.level, group.run
    mix = gaps.training_mix(group).mean(axis=0)
    best = best_regimes(study, group)
    names = ("task", "family", "width", "regime", "shuffled", "parameters")
    return {
        **{name: getattr(run, name) for name in names},
        "seeds": len(group.members),
        "g1_pp": pp(gaps.g1(group), level),
        "memorisation_pp": pp(gaps.memorisation(group), level),
        "shift_pp": pp(gaps.shift(group), level),
        "train_accuracy": share(gaps.train_accuracy(group), level),
        "training_mix": {str(k): float(w) if np.isfinite(w) else None for k, w in zip(ALL_LEVELS, mix, strict=True)},
        "mean_accuracy": share(group.mean_accuracy, level),
        "accuracy": {str(k): share(group.at(k), level) for k in ALL_LEVELS},
        "g2_pp": pp(gaps.g2(group), level),
        "g3_pp": pp(behind_best(group, best), level),
        "g3_best": [found.run.regime if found else None for found in best],
        "ece": _ece_json(group, level),
        "note": note(len(group.members), group.problems),
    }


# ------------------------------------------------------------------------------------ G3


def best_regimes(study: Study, group: Group) -> list[Group | None]:
    """At each level the regime of this family and width, levels unshuffled, with the highest mean accuracy."""
    run = group.run
    key = (run.task, run.family, run.width)
    peers = [g for g in study.groups if (g.run.task, g.run.family, g.run.width) == key and not g.run.shuffled]
    found: list[Group | None] = []
    for level in ALL_LEVELS:
        means = [(peer.at(level).mean, peer) for peer in peers]
        known = [(mean, peer) for mean, peer in means if np.isfinite(mean)]
        found.append(max(known, key=lambda each: each[0])[1] if known else None)
    return found


def behind_best(group: Group, best: list[Group | None]) -> Quantity | None:
    """G3: mean over levels of [best regime's accuracy - this one's]; None where some level has no best."""
    parts = [None if leader is None else leader.at(k) - group.at(k) for k, leader in zip(ALL_LEVELS, best, strict=True)]
    known = [part for part in parts if part is not None]
    if len(known) < len(ALL_LEVELS):
        return None
    total = known[0]
    for part in known[1:]:
        total = total + part
    return total * float(EVEN[0])


# ----------------------------------------------------------------------------------- ECE


def _ece_json(group: Group, level: float) -> Json:
    held_out = group.task.level
    masks = {"all": held_out > 0} | {str(k): held_out == k for k in ALL_LEVELS}
    return {key: share(calibration_error(group, mask), level) for key, mask in masks.items()}


def calibration_error(group: Group, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Quantity | None:
    """Debiased ECE over the masked items by seed; None under ``MIN_ECE_ITEMS`` confidences of some seed.

    An item's influence on the plain ECE, sum over bins of |sum of (confidence - right)| / n, is
    (sign of its bin's sum * (confidence - right) - ECE) / n; that is what the interval takes.
    """
    per_seed, influence = [], np.zeros(group.right.shape)
    for row, member in enumerate(group.members):
        scored = mask & ~np.isnan(member.confidence) & ~np.isnan(member.right)
        if scored.sum() < MIN_ECE_ITEMS:
            return None
        confidence, right = member.confidence[scored], member.right[scored]
        per_seed.append(debiased_ece(confidence, right, BINS))
        influence[row, scored] = _ece_influence(confidence, right)
    return Quantity(group.seeds, np.array(per_seed), influence, group.task.level, np.zeros(LEVELS))


def _ece_influence(confidence: Floats, right: Floats) -> Floats:
    """Influence of each item on the plain ECE over bins of equal count (n,)."""
    n = len(confidence)
    edges = np.quantile(confidence, np.arange(1, BINS) / BINS)
    bin_of = np.searchsorted(edges, confidence, side="right")
    excess = confidence - right
    signed = np.sign(np.bincount(bin_of, excess, BINS))[bin_of] * excess
    return np.asarray((signed - signed.mean()) / n, dtype=np.float64)
