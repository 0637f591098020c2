"""A model's ability on items of fixed difficulty, and what its shift alone predicts.

The three-parameter logistic model with fixed guessing (Lord 1980), on the logistic
scale, without the 1.7: P(right) = c + (1 - c) / (1 + exp(-a (theta - b))). Discrimination
``a``, difficulty ``b`` and guessing ``c`` are (n,) vectors or scalars.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from gapshift.reports.statistics.base import Estimate, two_sided_z, unknown

ABILITY_BOUND = 8.0
"""Abilities are sought between minus this and this: all right or all wrong ends there."""

_Vector = NDArray[np.float64]


def ability(correct: NDArray[Any], a: ArrayLike, b: ArrayLike, c: ArrayLike) -> float:
    """Maximum likelihood ability from right/wrong answers (n,), items held fixed.

    Unscored answers (NaN) are left out; NaN where none is left. With guessing the
    likelihood can have several maxima, so a grid finds the highest and a bounded
    search refines it. Always within ``ABILITY_BOUND``.

    >>> right = np.array([1, 1, 1, 0, 0])
    >>> round(ability(right, 1.0, np.array([-2.0, -1, 0, 1, 2]), 0.0), 3)
    0.591
    """
    answers, items = _answered(a, b, c, correct)
    return _ability(answers[0], items)


def ability_shift(
    correct_ref: NDArray[Any],
    correct_env: NDArray[Any],
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    level: float = 0.95,
) -> Estimate:
    """Ability in the environment less that in the reference, same items (n,) answered twice.

    Each ability is an M-estimator; its influence per item is score / information, and the
    variance of the shift is the sum of squared differences of the two influences (sandwich
    variance; Stefanski & Boos 2002, The American Statistician 56:29-38). The pairing and
    a model that does not fit are both allowed for. NaN where an ability lies at its bound
    (all right or all wrong) or fewer than two items were answered in both.

    >>> right = np.arange(100) % 3 > 0
    >>> ability_shift(right, right, 1.0, np.linspace(-2, 2, 100), 0.1)
    Estimate(estimate=0.0, low=0.0, high=0.0)
    """
    z = two_sided_z(level)
    answers, items = _answered(a, b, c, correct_ref, correct_env)
    n = len(answers[0])
    thetas = [_ability(side, items) for side in answers]
    if n < 2 or any(abs(theta) > ABILITY_BOUND - 1e-3 for theta in thetas):
        return unknown()
    reference, environment = (_influence(theta, side, items) for theta, side in zip(thetas, answers, strict=True))
    reach = z * math.sqrt(n / (n - 1) * float(np.sum((environment - reference) ** 2)))
    shift = thetas[1] - thetas[0]
    return Estimate(shift, shift - reach, shift + reach) if math.isfinite(reach) else unknown()


def predicted_drop(theta_ref: float, theta_env: float, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> float:
    """The drop in accuracy (a share) that a shift of ability alone predicts on these items.

    NaN without items or with a NaN ability.

    >>> round(predicted_drop(1.0, 0.5, 1.0, np.array([-2.0, 0.0, 2.0]), 0.0), 4)
    0.0745
    """
    items = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (a, b, c)))
    if not items[0].size:
        return math.nan
    return float(np.mean(_right(theta_ref, *items) - _right(theta_env, *items)))


def _answered(
    a: ArrayLike, b: ArrayLike, c: ArrayLike, *answers: NDArray[Any]
) -> tuple[list[_Vector], tuple[_Vector, _Vector, _Vector]]:
    """Answers and item parameters of the items that every side answered."""
    sides = [np.asarray(side, dtype=np.float64) for side in answers]
    if any(side.ndim != 1 or side.shape != sides[0].shape for side in sides):
        raise ValueError(f"answers must be vectors of one length, not {[side.shape for side in sides]}")
    keep = ~np.isnan(np.stack(sides)).any(axis=0)
    slope, place, guess = (np.broadcast_to(np.asarray(x, dtype=np.float64), keep.shape)[keep] for x in (a, b, c))
    if not (np.isfinite(slope) & np.isfinite(place) & (guess >= 0) & (guess < 1)).all():
        raise ValueError("item parameters must be finite, with guessing c from 0 to below 1")
    return [side[keep] for side in sides], (slope, place, guess)


def _right(theta: float, a: _Vector, b: _Vector, c: _Vector) -> _Vector:
    return np.asarray(c + (1 - c) * expit(a * (theta - b)), dtype=np.float64)


def _ability(answers: _Vector, items: tuple[_Vector, _Vector, _Vector]) -> float:
    if not len(answers):
        return math.nan

    def loss(theta: float) -> float:
        p = np.clip(_right(theta, *items), 1e-300, 1 - 1e-16)
        return -float(np.sum(np.where(answers > 0, np.log(p), np.log1p(-p))))

    grid = np.linspace(-ABILITY_BOUND, ABILITY_BOUND, 33)
    best = int(np.argmin([loss(theta) for theta in grid]))
    ends = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    return float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9}).x)


def _scores(theta: float, answers: _Vector, items: tuple[_Vector, _Vector, _Vector]) -> _Vector:
    """Derivative of each item's log likelihood by ability."""
    a, b, c = items
    s = expit(a * (theta - b))
    # (x - P) P' / (P (1 - P)) with P' = (1 - c) a s (1 - s) and 1 - P = (1 - c)(1 - s).
    p = c + (1 - c) * s
    return np.asarray((answers - p) * a * s / p, dtype=np.float64)


def _influence(theta: float, answers: _Vector, items: tuple[_Vector, _Vector, _Vector]) -> _Vector:
    step = 1e-4
    rise = np.sum(_scores(theta + step, answers, items) - _scores(theta - step, answers, items))
    information = -float(rise) / (2 * step)
    return _scores(theta, answers, items) / information if information > 0 else np.full_like(answers, math.inf)
