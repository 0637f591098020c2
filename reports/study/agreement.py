"""Whether regimes keep their order when they are deployed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from gapshift.reports.statistics import Estimate
from gapshift.reports.study.deployed import Deployed
from gapshift.reports.study.quantity import EVEN, Floats, weighted_accuracy
from gapshift.reports.study.resampling import Resampler
from gapshift.reports.study.values import Json, note, pp

MODELS_FOR_TAU = 12


def order_kept(trained: Floats, deployed: Floats) -> float:
    """Share of the resamples in which two differences (R,) have the same sign; NaN where one is unknown.

    Both sides are resampled together, so that what the environment leaves alone keeps its order
    in every resample, however close the two regimes are.
    """
    if np.isnan(trained).any() or np.isnan(deployed).any():
        return float("nan")
    return float(np.mean(np.sign(np.round(trained, 9)) == np.sign(np.round(deployed, 9))))


def kendall_tau(x: Floats, y: Floats) -> Floats:
    """Kendall's tau-b (Kendall 1945, Biometrika 33:239-251) of each column of two (m, R); NaN where a side is constant.

    >>> kendall_tau(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [2.0]])).round(3).tolist()
    [0.333]
    """
    first, second = np.triu_indices(len(x), 1)
    a, b = (np.sign(np.round(side[first] - side[second], 9)) for side in (x, y))
    untied = np.sqrt(np.abs(a).sum(axis=0) * np.abs(b).sum(axis=0))
    tau: Floats = np.divide((a * b).sum(axis=0), untied, out=np.full(x.shape[1], np.nan), where=untied > 0)
    return tau


def agreement_rows(found: Sequence[Deployed], draws: dict[str, Resampler], level: float) -> list[Json]:
    """{task, environment, pairs [...], kendall_tau, models, note}, one a task and environment.

    A pair: {family, width, regimes [a, b], seeds, training_pp, difference_pp, probability}, where the
    differences are a less b in mean accuracy over the levels: in training answers, and in the
    environment. tau stands over at least twelve models, its interval from resampled items.
    """
    keys = dict.fromkeys((each.task.name, each.environment) for each in found)
    return [_row(task, environment, found, draws[task], level) for task, environment in keys]


def _row(task: str, environment: str, found: Sequence[Deployed], draws: Resampler, level: float) -> Json:
    own = [each for each in found if (each.task.name, each.environment) == (task, environment)]
    groups = dict.fromkeys((each.family, each.width) for each in own)
    pairs = [
        row
        for family, width in groups
        for row in _pairs([each for each in own if (each.family, each.width) == (family, width)], draws, level)
    ]
    models = sum(len(each.seeds) for each in own)
    missing = sum(each.missing for each in own)
    problems = [f"{missing} models without usable records here"] if missing else []
    problems += [] if models >= MODELS_FOR_TAU else [f"tau needs {MODELS_FOR_TAU} models, there are {models}"]
    return {
        "task": task,
        "environment": environment,
        "pairs": pairs,
        "kendall_tau": _tau(own, draws, level) if models >= MODELS_FOR_TAU else None,
        "models": models,
        "note": note(min((row["seeds"] for row in pairs), default=0), problems) if pairs else "; ".join(problems),
    }


def _pairs(own: list[Deployed], draws: Resampler, level: float) -> Iterator[Json]:
    """Each pair of regimes over the seeds that all of them have."""
    seeds = tuple(seed for seed in own[0].seeds if all(seed in each.seeds for each in own))
    if len(own) < 2 or not seeds:
        return
    paired = [each.of(seeds) for each in own]
    sides = {
        each.regime: tuple(draws.means(seeds, values).mean(axis=0) for values in (each.trained, each.right))
        for each in paired
    }
    for a, b in combinations(paired, 2):
        trained, deployed = (sides[a.regime][side] - sides[b.regime][side] for side in (0, 1))
        probability = order_kept(trained, deployed)
        yield {
            "family": a.family,
            "width": a.width,
            "regimes": [a.regime, b.regime],
            "seeds": len(seeds),
            "training_pp": pp(_difference(a, b, "trained", level), level),
            "difference_pp": pp(_difference(a, b, "right", level), level),
            "probability": probability if np.isfinite(probability) else None,
        }


def _difference(a: Deployed, b: Deployed, side: str, level: float) -> Estimate:
    """Mean accuracy over levels of a less that of b, by seed and item."""
    one, other = (weighted_accuracy(each.seeds, getattr(each, side), each.task.level, EVEN) for each in (a, b))
    return (one - other).estimate(level)


def _tau(own: list[Deployed], draws: Resampler, level: float) -> dict[str, float] | None:
    """tau over all models of a task, with a percentile interval over resampled items (the models are given)."""
    sides = [
        np.stack([_one(draws, each, row, values) for each in own for row, values in enumerate(getattr(each, side))])
        for side in ("trained", "right")
    ]
    observed = [
        np.array([[_mean(each, values)] for each in own for values in getattr(each, side)])
        for side in ("trained", "right")
    ]
    estimate = float(kendall_tau(*observed)[0])
    tail = (1 - level) / 2
    spread = kendall_tau(*sides)
    if not np.isfinite(estimate) or np.isnan(spread).any():
        return None
    low, high = np.quantile(spread, [tail, 1 - tail])
    return Estimate(estimate, min(float(low), estimate), max(float(high), estimate)).as_json()


def _one(draws: Resampler, each: Deployed, row: int, values: Floats) -> Floats:
    return np.asarray(draws.means((each.seeds[row],), values[None, :]).mean(axis=0), dtype=np.float64)


def _mean(each: Deployed, values: Floats) -> float:
    return weighted_accuracy((0,), values[None, :], each.task.level, EVEN).mean
