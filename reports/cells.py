"""What one cell's pairs say, level by level, as the plain values of ``summary.json``.

Shares are fractions of 0-1; keys that end in ``_pp`` are percentage points. A level
without items, or a quantity without a definition there, is null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.counts import Counts, count
from gapshift.reports.floor import at_floor, churn_interval
from gapshift.reports.gate import Rule, drop_interval, fail_p
from gapshift.reports.load import ALL_LEVELS, Pairs, RatedItems, strata
from gapshift.reports.statistics import (
    Estimate,
    ability,
    ability_shift,
    clustered_drop,
    clusters_of,
    debiased_ece,
    ece_difference,
    loss_slope,
    mcnemar_midp,
    mover_difference,
    mover_mean,
    predicted_drop,
    smooth_ece,
    smooth_ece_difference,
    stratified_mean,
    wilson,
)

LEVEL_KEYS = ("all", *(str(level) for level in ALL_LEVELS))
MIN_ECE_ITEMS = 30
"""Fewer confidences than this give no calibration error."""
RESAMPLES = 1000
_CALIBRATION = ("ece", "reference_ece", "ece_difference", "smece", "reference_smece", "smece_difference")

Json = dict[str, Any]


def interval_json(value: Estimate | None, scale: float = 1.0) -> dict[str, float] | None:
    """An estimate as {"estimate", "low", "high"}; null where it or an end is not finite."""
    return None if value is None else value.scaled(scale).as_json()


def by_level(counts: Mapping[str, Counts], value: Callable[[Counts], Any]) -> Json:
    """``value`` of each level's counts; null where a level has no items."""
    return {key: value(counts[key]) if counts[key].n else None for key in LEVEL_KEYS}


def count_strata(pairs: Pairs) -> dict[str, Counts]:
    """Counts under the keys ``all`` and ``1`` to ``5``."""
    return {key: count(pairs.at(mask)) for key, mask in strata(pairs.level).items()}


def empty_measurement() -> Json:
    """The measurement of a cell that has no pairs: every value null, every count zero."""
    null: Json = dict.fromkeys(LEVEL_KEYS)
    zero: Json = dict.fromkeys(LEVEL_KEYS, 0)
    names = ("accuracy", "reference_accuracy", "drop_pp", "loss", "gain", "predicted_drop_pp", "churn")
    scalars = [
        "mean_drop_pp",
        "loss_slope",
        "tilt_pp",
        "ability_shift",
        *_CALIBRATION,
        "score",
    ]
    return {
        "n": 0,
        "n_by_level": dict(zero),
        **{name: dict(null) for name in names},
        **dict.fromkeys(scalars),
        "floor": [],
        "flips": {"right_to_wrong": dict(zero), "wrong_to_right": dict(zero)},
        "tie_changes": 0,
        "clustering": dict(null),
    }


def measure(pairs: Pairs, items: RatedItems, rule: Rule, seed: int) -> Json:
    """Everything that is measured of a cell from its pairs (see the module docstring)."""
    if not len(pairs):
        return empty_measurement()
    counts = count_strata(pairs)
    floor = [level for level in ALL_LEVELS if at_floor(counts[str(level)], rule.margin)]
    return {
        "n": len(pairs),
        "n_by_level": {key: counts[key].n for key in LEVEL_KEYS},
        "accuracy": by_level(counts, lambda c: c.still_right / c.n),
        "reference_accuracy": by_level(counts, lambda c: c.right / c.n),
        "drop_pp": by_level(counts, lambda c: _drop(c, rule)),
        "mean_drop_pp": _mean_drop(pairs, counts, rule, seed),
        "loss": by_level(counts, lambda c: _share(c.lost, c.right)),
        "gain": by_level(counts, lambda c: _share(c.gained, c.n - c.right)),
        "loss_slope": interval_json(slope(counts)),
        "tilt_pp": None if {1, 5} & set(floor) else interval_json(tilt(counts, rule), 100),
        "floor": floor,
        "churn": by_level(counts, lambda c: interval_json(churn_interval(c))),
        "flips": {
            "right_to_wrong": {key: counts[key].lost for key in LEVEL_KEYS},
            "wrong_to_right": {key: counts[key].gained for key in LEVEL_KEYS},
        },
        "tie_changes": counts["all"].tie_changes,
        "clustering": by_level(counts, _clustering),
        **_ability(pairs, items, rule),
        **_calibration(pairs, rule, seed),
        "score": _score(pairs, rule, seed),
    }


def _score(pairs: Pairs, rule: Rule, seed: int) -> Json | None:
    """The grade beside right and wrong (F1, mastered share): both means and their paired drop; null without one."""
    if np.isnan(pairs.reference_score).all():
        return None
    before, after = np.nan_to_num(pairs.reference_score), np.nan_to_num(pairs.score)  # what got no answer has no grade
    drop = stratified_mean(before - after, np.zeros(len(pairs)), rule.level, RESAMPLES, seed)
    return {"reference": float(before.mean()), "mean": float(after.mean()), "drop_pp": interval_json(drop, 100)}


def _drop(counts: Counts, rule: Rule) -> Json | None:
    drop = interval_json(drop_interval(counts, rule), 100)
    return drop and {**drop, "p_change": mcnemar_midp(counts.lost, counts.gained), "p_fail": fail_p(counts, rule)}


def _clustering(counts: Counts) -> Json | None:
    found = counts.clustering
    return None if found is None else {"groups": round(found.clusters, 2), "design_effect": round(found.drop, 4)}


def _share(k: int, n: int) -> Json | None:
    return interval_json(wilson(k, n)) if n else None


def tilt(counts: Mapping[str, Counts], rule: Rule) -> Estimate | None:
    """D(5) - D(1) as a fraction, by MOVER on the two Tango intervals; None without items at an end."""
    ends = [counts["5"], counts["1"]]
    if not all(end.n for end in ends):
        return None
    hard, easy = (drop_interval(end, rule) for end in ends)
    return mover_difference(hard, easy)


def slope(counts: Mapping[str, Counts]) -> Estimate:
    """Log-odds of a loss per level, descriptive; not finite under ten losses."""
    levels = [counts[str(level)] for level in ALL_LEVELS]
    return loss_slope([c.lost for c in levels], [c.right for c in levels])


def _mean_drop(pairs: Pairs, counts: Mapping[str, Counts], rule: Rule, seed: int) -> Json | None:
    """Mean over the five levels of D, by a stratified paired bootstrap over items.

    Cluster-robust instead where items come in enough groups, since one group's items lie in many levels.
    Where a level shows no variance (as a rule: nothing changed there) every resample of it
    is the same, and the interval comes from the levels' Tango intervals instead.
    """
    levels = [counts[str(level)] for level in ALL_LEVELS]
    if not all(level.n for level in levels):
        return None
    lost = pairs.lost.astype(np.float64)
    if counts["all"].clustering:
        clusters = clusters_of(pairs.group)
        return interval_json(clustered_drop(lost, pairs.level - 1, np.ones(5), clusters, rule.level), 100)
    if any(c.n in (c.lost, c.gained, c.n - c.lost - c.gained) for c in levels):
        return interval_json(mover_mean([drop_interval(level, rule) for level in levels]), 100)
    return interval_json(stratified_mean(lost, pairs.level, rule.level, RESAMPLES, seed), 100)


def _ability(pairs: Pairs, items: RatedItems, rule: Rule) -> Json:
    """The ability shift on the fixed item parameters, and the drop that it alone predicts.

    Where no answer changed from right to wrong or back, the shift has no interval and is null.
    """
    a, b, c = (parameter[pairs.position] for parameter in (items.a, items.b, items.c))
    if not np.isfinite([a, b, c]).all():
        return {"ability_shift": None, "predicted_drop_pp": dict.fromkeys(LEVEL_KEYS)}
    right, still = pairs.right.astype(np.float64), pairs.still_right.astype(np.float64)
    before, after = ability(right, a, b, c), ability(still, a, b, c)
    return {
        "ability_shift": interval_json(ability_shift(right, still, a, b, c, rule.level)) if pairs.lost.any() else None,
        "predicted_drop_pp": {
            key: _finite(100 * predicted_drop(before, after, a[mask], b[mask], c[mask]))
            for key, mask in strata(pairs.level).items()
        },
    }


def _calibration(pairs: Pairs, rule: Rule, seed: int) -> Json:
    """Calibration errors, debiased (ECE) and smooth, over the items that have both confidences, at equal n."""
    both = pairs.at(np.isfinite(pairs.reference_confidence) & np.isfinite(pairs.confidence))
    if len(both) < MIN_ECE_ITEMS:
        return dict.fromkeys(_CALIBRATION)
    before = (both.reference_confidence, both.right.astype(np.float64))
    after = (both.confidence, both.still_right.astype(np.float64))
    values = (
        ece(*after),
        ece(*before),
        interval_json(ece_difference(*before, *after, level=rule.level, seed=seed)),
        _finite(smooth_ece(*after)),
        _finite(smooth_ece(*before)),
        interval_json(smooth_ece_difference(*before, *after, level=rule.level, seed=seed)),
    )
    return dict(zip(_CALIBRATION, values, strict=True))


def ece(confidence: NDArray[np.float64], correct: NDArray[np.float64]) -> float | None:
    """Debiased expected calibration error of scored items; None where there are too few."""
    scored = np.isfinite(confidence) & np.isfinite(correct)
    if scored.sum() < MIN_ECE_ITEMS:
        return None
    return _finite(debiased_ece(confidence[scored], correct[scored]))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
