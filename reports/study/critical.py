"""The critical level: where in difficulty an environment takes most.

After Scylla (Qi et al. 2024, arXiv 2410.01769), in which the gap between in- and
out-of-distribution performance peaks at a *critical complexity*.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.statistics import Estimate
from gapshift.reports.study.deployed import Deployed
from gapshift.reports.study.quantity import LEVELS, Floats, weighted_accuracy
from gapshift.reports.study.resampling import Resampler
from gapshift.reports.study.values import Json, note, pp


def drops(each: Deployed, level: float) -> list[Estimate]:
    """Drop at each level, pooled over seeds, with an interval over seeds and items."""
    eye = np.eye(LEVELS)
    return [weighted_accuracy(each.seeds, each.lost, each.task.level, eye[k]).estimate(level) for k in range(LEVELS)]


def peak_shares(replicates: Floats) -> Floats:
    """Share of the resamples (5, R) in which each level's drop is the largest (5,); ties are shared out."""
    if np.isnan(replicates).any():
        return np.full(len(replicates), np.nan)
    highest = replicates >= replicates.max(axis=0) - 1e-12
    return np.asarray((highest / highest.sum(axis=0)).mean(axis=1), dtype=np.float64)


def critical_rows(found: Sequence[Deployed], draws: dict[str, Resampler], level: float) -> list[Json]:
    """{task, family, width, environment, regime, level, probability, drop_pp, note}.

    ``level`` is null where no level's drop excludes zero from below (each looked at by
    itself), or some level has no paired item.
    """
    return [_row(each, draws[each.task.name], level) for each in found]


def _row(each: Deployed, draws: Resampler, level: float) -> Json:
    estimates = drops(each, level)
    problems = [f"{each.missing} seeds without usable records here"] if each.missing else []
    row: Json = {"task": each.task.name, "family": each.family, "width": each.width}
    row |= {"environment": each.environment, "regime": each.regime}
    row |= dict.fromkeys(("level", "probability", "drop_pp"))
    if any(np.isnan(estimate.estimate) for estimate in estimates):
        return row | {"note": note(len(each.seeds), ["some level has no paired item", *problems])}
    if not any(estimate.low > 0 for estimate in estimates):
        return row | {"note": note(len(each.seeds), ["no level's drop excludes zero", *problems])}
    peak = int(np.argmax([estimate.estimate for estimate in estimates]))
    shares = peak_shares(draws.means(each.seeds, each.lost))
    return row | {
        "level": ALL_LEVELS[peak],
        "probability": float(shares[peak]),
        "drop_pp": pp(estimates[peak], level),
        "note": note(len(each.seeds), problems),
    }
