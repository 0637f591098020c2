"""How far the levels can be trusted: split-half reliability over independent runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import pearsonr

from gapshift.errors import CalibrationError
from gapshift.schema import LEVELS
from gapshift.train.irt.base import Engine, Floats, Mask, fixed_guessing

Bands = tuple[tuple[int, ...], ...]

FIVE_LEVELS: Bands = tuple((level,) for level in LEVELS)
THREE_BANDS: Bands = ((1, 2), (3,), (4, 5))
ALL_TOGETHER: Bands = (LEVELS,)
_FIVE_FROM, _THREE_FROM = 0.8, 0.5


def gated_bands(reliability: float | None) -> Bands:
    """Groups of levels reliable enough to be judged apart; unknown reliability separates none.

    >>> gated_bands(0.7)
    ((1, 2), (3,), (4, 5))
    """
    if reliability is None or not reliability >= _THREE_FROM:
        return ALL_TOGETHER
    return FIVE_LEVELS if reliability >= _FIVE_FROM else THREE_BANDS


def spearman_brown(correlation: float) -> float:
    """Reliability of the whole from the correlation of two halves: 2r / (1 + r).

    Spearman (1910) and Brown (1910), British Journal of Psychology 3. A negative
    correlation means no reliability: 0. NaN stays NaN.

    >>> round(spearman_brown(0.6), 2)
    0.75
    """
    return correlation if math.isnan(correlation) else 2 * max(correlation, 0.0) / (1 + max(correlation, 0.0))


def split_half(
    responses: ArrayLike,
    engine: Engine,
    *,
    guessing: ArrayLike = 0.0,
    runs: Sequence[str] | None = None,
    seed: int = 0,
    splits: int = 5,
    most_items: int = 5000,
) -> float | None:
    """Mean Spearman-Brown reliability of b over random halves of the responders (responders, items).

    Halves are split by run, since checkpoints of one run are not independent; each half is
    calibrated by ``engine``. The correlation is Pearson's, which the Spearman-Brown formula
    is derived for. Above ``most_items`` a seeded sample of items is used (its error in r is
    below (1 - r²) / sqrt(5000)). With an odd number of runs one half has a run more.

    None where it cannot be measured: fewer than two runs, or halves that cannot be calibrated.
    """
    matrix = np.asarray(responses, dtype=np.float64)
    names = np.array(runs if runs is not None else [str(row) for row in range(len(matrix))])
    if len(names) != len(matrix):
        raise CalibrationError(f"{len(names)} run names for {len(matrix)} responders; give one per responder.")
    random = np.random.default_rng(seed)
    fixed = fixed_guessing(guessing, matrix.shape[1])
    if matrix.shape[1] > most_items:
        kept = np.sort(random.choice(matrix.shape[1], most_items, replace=False))
        matrix, fixed = matrix[:, kept], fixed[kept]
    found = [_between_halves(matrix, fixed, half, engine, seed) for half in _halves(names, random, splits)]
    measured = [spearman_brown(r) for r in found if not math.isnan(r)]
    return float(np.mean(measured)) if measured else None


def _halves(names: NDArray[np.str_], random: np.random.Generator, splits: int) -> list[Mask]:
    unique = np.array(sorted(set(names.tolist())))
    if len(unique) < 2:
        return []
    shuffles = (random.permutation(unique) for _ in range(splits if len(unique) > 2 else 1))
    return [np.isin(names, shuffled[: len(unique) // 2]) for shuffled in shuffles]


def _between_halves(matrix: Floats, guessing: Floats, half: Mask, engine: Engine, seed: int) -> float:
    """Pearson correlation of b between two halves; NaN where one of them cannot rate items."""
    first, second = matrix[half], matrix[~half]
    both = (~np.isnan(first)).any(axis=0) & (~np.isnan(second)).any(axis=0)
    try:
        b = [_difficulty(part[:, both], guessing[both], engine, seed) for part in (first, second)]
    except CalibrationError:
        return math.nan
    if min(values.std() for values in b) == 0:
        return math.nan
    return float(pearsonr(b[0], b[1]).statistic)


def _difficulty(part: Floats, guessing: Floats, engine: Engine, seed: int) -> Floats:
    silent = np.isnan(part).all(axis=1)
    return engine.fit(part[~silent], guessing, seed).b
