"""How far the tasks share one scale: abilities of the same recipes on each."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import spearmanr

from gapshift.reports.study.values import Json
from gapshift.schema import CalibrationCard

ASSUMES = (
    "Levels across tasks are linked by recipe: b* = (b - mean ability) / sd of ability over the recipes that all tasks "
    "share. That takes a recipe's standing among the others to be the same on every task. High correlations of "
    "abilities across tasks speak for it, low ones against comparing level_abs between those two tasks."
)
FEWEST = 3


def scale_row(cards: tuple[CalibrationCard, ...]) -> Json:
    """{recipes, correlations [{tasks, pearson, spearman, n}], assumes}; ``recipes`` counts those that all share.

    Correlations are over the recipes that the two tasks share, null under three or where one
    side does not vary.
    """
    rated = [card for card in cards if card.abilities]
    shared = set.intersection(*(set(card.abilities) for card in rated)) if rated else set()
    rows = [_pair(a, b) for a, b in combinations(rated, 2)]
    return {"recipes": len(shared), "correlations": rows, "assumes": ASSUMES}


def _pair(a: CalibrationCard, b: CalibrationCard) -> Json:
    names = sorted(set(a.abilities) & set(b.abilities))
    x, y = (np.array([card.abilities[name] for name in names], dtype=np.float64) for card in (a, b))
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    usable = len(x) >= FEWEST and np.ptp(x) > 0 and np.ptp(y) > 0
    return {
        "tasks": [a.task, b.task],
        "pearson": float(np.corrcoef(x, y)[0, 1]) if usable else None,
        "spearman": float(spearmanr(x, y).statistic) if usable else None,
        "n": len(x),
    }
