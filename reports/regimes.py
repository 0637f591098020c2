"""Generalisation gaps of training regimes, and what each environment adds to them.

With P_r a regime's own training mix (sampling frequency over all steps) and A_bar the
mean over the five levels of held-out accuracy in the reference:

    G1 = A_train(P_r) - A_bar = memorisation [A_train(P_r) - A_test(P_r)]
                              + shift        [A_test(P_r)  - A_bar]
    G2 = A_test(1) - A_test(5)
    G3 = mean over levels of [best regime's accuracy - this one's]

In an environment G1 moves by the mean over levels of D(level), the training term held
at the reference. Intervals cover both samples, the seeds and the items: items are
shared by all seeds, so their part of the variance is taken from seed-averaged answers.

Row keys beside those that others build on: ``training_mix`` (share of draws per level),
``train_accuracy`` (E), ``g3_best`` (best regime per level), ``note``; per environment
``seeds``, ``ability_shift``. ``test_accuracy["all"]`` is A_bar, the mean over levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from gapshift.reports.cells import Json, interval_json
from gapshift.reports.gate import Rule
from gapshift.reports.load import ALL_LEVELS, RatedItems, sums
from gapshift.reports.members import Floats, Member, Regime, level_means
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.statistics import over_seeds_and_items, paired_contrast, two_sided_z

STUDY_RANGES_PP = {"easy-only": (12, 22), "hard-only": (8, 14), "curriculum": (3, 8), "random": (6, 10)}
"""Generalisation gaps that the published study reports, in percentage points."""
SEEDS_TO_SUPPORT = 5
FEW_SEEDS = "fewer than five seeds: nothing is called supported"
EVEN = np.full(len(ALL_LEVELS), 1 / len(ALL_LEVELS))


def regime_rows(regimes: Sequence[Regime], rule: Rule) -> list[Json]:
    """One row a regime (see the module docstring); a quantity that cannot be known is null."""
    return [_row(regime, [other for other in regimes if other.group == regime.group], rule) for regime in regimes]


def _row(regime: Regime, peers: list[Regime], rule: Rule) -> Json:
    members, variance = regime.members, item_variances(regime, rule)
    mix, train_variance = _training_moments(members)
    accuracy = np.array([member.accuracy for member in members])
    best = best_regimes(peers)
    study = STUDY_RANGES_PP.get(regime.name)
    level_e = {str(k): _accuracy(accuracy[:, k - 1], variance[k - 1], rule) for k in ALL_LEVELS}
    return {
        "domain": regime.domain,
        "task": regime.task,
        "family": regime.family,
        "regime": regime.name,
        "seeds": len(members),
        "g1_pp": _e(g1(members), train_variance + _weighted(EVEN, variance), rule, 100),
        "memorisation_pp": _e(memorisation(members), train_variance + _weighted(mix, variance), rule, 100),
        "shift_pp": _e(shift(members), _weighted(mix - EVEN, variance), rule, 100),
        "train_accuracy": _accuracy(_train_accuracy(members), train_variance, rule),
        "training_mix": {str(k): float(w) if np.isfinite(w) else None for k, w in zip(ALL_LEVELS, mix, strict=True)},
        "test_accuracy": {"all": _accuracy(accuracy.mean(axis=1), _weighted(EVEN, variance), rule), **level_e},
        "g2_pp": _e(accuracy[:, 0] - accuracy[:, 4], variance[0] + variance[4], rule, 100),
        "g3_pp": _g3(regime, best, rule),
        "g3_best": [found.name if found else None for found in best],
        "study_range_pp": list(study) if study else None,
        "note": _note(regime),
        "environments": {name: _environment(regime, name, rule) for name in regime.environments},
    }


def _e(per_seed: Floats, variance: float, rule: Rule, scale: float = 1.0) -> Json | None:
    """Mean over seeds with an interval over seeds and items; null where a part is unknown."""
    if not np.isfinite(variance):
        return None
    return interval_json(over_seeds_and_items(per_seed, float(variance), rule.level), scale)


def _accuracy(per_seed: Floats, variance: float, rule: Rule) -> Json | None:
    """``_e`` of a share: its interval ends at 0 and 1."""
    found = _e(per_seed, variance, rule)
    return found and {name: min(max(value, 0.0), 1.0) for name, value in found.items()}


def _note(regime: Regime) -> str:
    notes = [] if len(regime.members) >= SEEDS_TO_SUPPORT else [FEW_SEEDS]
    notes += ["one seed: the intervals cover the items alone"] if len(regime.members) == 1 else []
    notes += ["G3 picks the best regime on these very items, which flatters the pick"]
    return "; ".join([*notes, *(member.problem for member in regime.members if member.problem)])


# ----------------------------------------------------------------------- gaps, per seed


def _train_accuracy(members: Sequence[Member]) -> Floats:
    return np.array([member.training.accuracy if member.training else np.nan for member in members])


def _on_own_mix(members: Sequence[Member]) -> Floats:
    """Held-out accuracy at the training mix, A_test(P_r), by seed (S,)."""
    # A level that was never drawn adds nothing, even when it holds no held-out item.
    return np.array(
        [
            float(np.sum(np.where(member.training.mix > 0, member.training.mix * member.accuracy, 0.0)))
            if member.training
            else np.nan
            for member in members
        ]
    )


def _test_mean(members: Sequence[Member]) -> Floats:
    return np.array([member.accuracy.mean() for member in members])


def g1(members: Sequence[Member]) -> Floats:
    """Generalisation gap by seed (S,), a fraction; NaN where the training side is unknown."""
    return _train_accuracy(members) - _test_mean(members)


def memorisation(members: Sequence[Member]) -> Floats:
    """The part of G1 on the training mix itself, by seed (S,)."""
    return _train_accuracy(members) - _on_own_mix(members)


def shift(members: Sequence[Member]) -> Floats:
    """The part of G1 that comes from other levels than were trained on, by seed (S,)."""
    return _on_own_mix(members) - _test_mean(members)


# ------------------------------------------------------------------------- item variance


def _seed_mean(regime: Regime) -> tuple[Floats, Floats]:
    """Right answers and answers per item, summed over seeds."""
    total = np.sum([member.total for member in regime.members], axis=0)
    return total, np.sum([member.answered for member in regime.members], axis=0)


def item_variances(regime: Regime, rule: Rule) -> Floats:
    """Variance that the choice of items gives each level's accuracy (5,); NaN under two items."""
    total, answered = _seed_mean(regime)
    return level_variances(regime.items, total, answered, rule)


def level_variances(items: RatedItems, total: Floats, answered: Floats, rule: Rule) -> Floats:
    """Variance of each level's mean over items, whose values are ``total / answered`` (5,).

    NaN under two items. A variance that is not seen is not taken for none: where all
    values are equal it is that of the score interval without any disagreement.
    """
    seen = answered > 0
    values, level = total[seen] / answered[seen], items.level[seen]
    return np.array([_variance_of_mean(values[level == k], two_sided_z(rule.level)) for k in ALL_LEVELS])


def _variance_of_mean(values: Floats, z: float) -> float:
    n = len(values)
    if n < 2:
        return float("nan")
    return float(values.var(ddof=1)) / n if np.ptp(values) > 0 else (z / (n + z**2)) ** 2


def _weighted(coefficients: Floats, variance: Floats) -> float:
    """Variance of a sum over independent levels."""
    return float(np.sum(coefficients**2 * variance))


def _training_moments(members: Sequence[Member]) -> tuple[Floats, float]:
    """Mean training mix (5,), and the item variance of the training accuracy (linearised)."""
    terms = [member.training for member in members if member.training]
    if len(terms) < len(members):
        return np.full(len(ALL_LEVELS), np.nan), float("nan")
    mix = np.mean([term.mix for term in terms], axis=0)
    return mix, float(np.sum(np.mean([term.influence for term in terms], axis=0) ** 2))


# ------------------------------------------------------------------------------------ G3


def best_regimes(peers: Sequence[Regime]) -> list[Regime | None]:
    """At each level the regime with the highest mean accuracy over its seeds."""
    means = np.array([np.mean([member.accuracy for member in peer.members], axis=0) for peer in peers])
    return [
        None if np.isnan(means[:, level]).any() else peers[int(means[:, level].argmax())]
        for level in range(len(ALL_LEVELS))
    ]


def _g3(regime: Regime, best: list[Regime | None], rule: Rule) -> Json | None:
    leaders = [leader for leader in best if leader is not None]
    if len(leaders) < len(ALL_LEVELS):
        return None
    ahead = np.array(
        [
            np.mean([_like(leader, member.seed)[k] - member.accuracy[k] for k, leader in enumerate(leaders)])
            for member in regime.members
        ]
    )
    variance = (
        sum(_difference_variance(leader, regime, rule)[k] for k, leader in enumerate(leaders)) / len(ALL_LEVELS) ** 2
    )
    return _e(ahead, variance, rule, 100)


def _like(regime: Regime, seed: int | None) -> Floats:
    """Accuracy (5,) of a regime's member with this seed, or the mean over its seeds."""
    same = [member.accuracy for member in regime.members if member.seed == seed]
    return np.asarray(np.mean(same or [member.accuracy for member in regime.members], axis=0))


def _difference_variance(first: Regime, second: Regime, rule: Rule) -> Floats:
    """Item variance of the difference between two regimes that answered the same items (5,)."""
    if first is second:
        return np.zeros(len(ALL_LEVELS))
    (total_1, answered_1), (total_2, answered_2) = _seed_mean(first), _seed_mean(second)
    both = (answered_1 > 0) & (answered_2 > 0)
    means = [
        np.divide(t, a, out=np.zeros_like(t), where=both) for t, a in ((total_1, answered_1), (total_2, answered_2))
    ]
    return level_variances(first.items, means[0] - means[1], both.astype(np.float64), rule)


# --------------------------------------------------------------------------- environments


def _environment(regime: Regime, name: str, rule: Rule) -> Json:
    """What an environment does to a regime: over all of its seeds, or null."""
    found = [member.cell(name) for member in regime.members]
    cells = [cell for cell in found if cell is not None]
    if len(cells) < len(regime.members):
        return {"seeds": len(cells), "g1_shift_pp": None, "tilt_pp": None, "ability_shift": None}
    moved = [_drops(cell, len(regime.items)) for cell in cells]
    drops = np.array([level_means(regime.items, total, answered) for total, answered in moved])
    total, answered = np.sum([each[0] for each in moved], axis=0), np.sum([each[1] for each in moved], axis=0)
    variance = level_variances(regime.items, total, answered, rule)
    floored = any({1, 5} & set(cell.measurement["floor"]) for cell in cells)
    return {
        "seeds": len(cells),
        "g1_shift_pp": _e(drops.mean(axis=1), _weighted(EVEN, variance), rule, 100),
        "tilt_pp": None if floored else _e(drops[:, 4] - drops[:, 0], variance[4] + variance[0], rule, 100),
        "ability_shift": _ability_shift(cells, rule),
    }


def _drops(cell: MeasuredCell, size: int) -> tuple[Floats, Floats]:
    """Paired differences and answers per item of the task."""
    if cell.pairs is None:
        return np.zeros(size), np.zeros(size)
    position = cell.pairs.position
    return sums(position, size, cell.pairs.lost), sums(position, size)


def _ability_shift(cells: Sequence[MeasuredCell], rule: Rule) -> Json | None:
    shifts = [cell.measurement["ability_shift"] for cell in cells]
    if not all(shifts):
        return None
    # Seeds share their items, so the items' part is not averaged away: mean squared error, not its S-th part.
    errors = np.array([(each["high"] - each["low"]) / (2 * two_sided_z(rule.level)) for each in shifts])
    return _e(np.array([each["estimate"] for each in shifts]), float(np.mean(errors**2)), rule)


# ------------------------------------------------------------------------------ contrasts


def contrast_rows(regimes: Sequence[Regime], rule: Rule) -> list[Json]:
    """Each pair of regimes on G1, paired by seed: t interval with seeds - 1 degrees of freedom.

    ``supported`` says whether the interval excludes zero; null under five shared seeds.
    """
    pairs = [(a, b) for a, b in combinations(regimes, 2) if a.group == b.group]
    return [_contrast(a, b, rule) for a, b in pairs]


def _contrast(first: Regime, second: Regime, rule: Rule) -> Json:
    gaps = [dict(zip([m.seed for m in each.members], g1(each.members), strict=True)) for each in (first, second)]
    seeds = [seed for seed in gaps[0] if seed is not None and seed in gaps[1]]
    x, y = (np.array([gap[seed] for seed in seeds], dtype=np.float64) for gap in gaps)
    difference = interval_json(paired_contrast(x, y, rule.level), 100)
    enough = len(seeds) >= SEEDS_TO_SUPPORT and difference is not None
    return {
        "domain": first.domain,
        "task": first.task,
        "family": first.family,
        "regimes": [first.name, second.name],
        "metric": "g1_pp",
        "seeds": len(seeds),
        "difference_pp": difference,
        "supported": bool(difference["low"] > 0 or difference["high"] < 0) if enough and difference else None,
        "note": "" if len(seeds) >= SEEDS_TO_SUPPORT else FEW_SEEDS,
    }
