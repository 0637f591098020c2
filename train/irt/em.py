"""Marginal maximum likelihood by EM over a (b, log a) grid, guessing fixed.

Items are the many and responders the few here, so the usual roles are swapped: item
parameters are integrated out over a grid (the E step, as Bock & Aitkin 1981 integrate
abilities: Psychometrika 46, 443-459) and abilities are point estimates (the M step:
Fisher scoring on their expected log posterior). The model is Birnbaum's (1968) three-
parameter logistic with fixed c: P = c + (1 - c) / (1 + exp(-a (theta - b))).

The scale is set by standardising theta to mean 0 and sd 1 after every round. Priors:
theta ~ N(0, 1), b ~ N(m, s²), log a ~ N(n, t²), where m, s, n and t are estimated in
the same EM (empirical Bayes, Mislevy 1986: Psychometrika 51, 177-195): responders of a ladder
may be much more alike than items are, and then a fixed prior on that scale misorders them.
A soft response x enters as the expected log-likelihood x log P + (1 - x) log(1 - P).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import expit, log_expit
from threadpoolctl import threadpool_limits

from gapshift.errors import CalibrationError
from gapshift.train.irt.base import Engine, Floats, ItemParameters, first_few

_PRIOR_WIDTH = 3.0  # the grid spans this many prior standard deviations either side
_MOST_POINTS = 121  # per axis
_ROUNDS, _TOLERANCE = 60, 2e-3  # largest change of an ability or of the prior, in a round
_SCORING_STEPS = 2
_CHUNK_CELLS = 1 << 21  # items × grid points at once: bounds memory, stays near the cache
_MOST_GUESSING_VALUES = 64

Array = NDArray[Any]  # float32 while iterating, float64 in the last pass


@final
class EMEngine(Engine):
    """The default engine. Takes missing and soft responses; se_b is b's posterior sd given theta.

    60 responders × 20,000 items take 0.4 CPU-seconds, 100 × 100,000 take 3 (measured).
    b is the posterior mean, a is exp of the posterior mean of log a. Deterministic: the
    seed is not used. Memory is bounded: items are worked on in chunks.
    """

    @property
    def name(self) -> str:
        return "em"

    def _fit(self, responses: Floats, guessing: Floats, seed: int) -> ItemParameters:  # noqa: ARG002
        # The products are small: one thread is as fast, repeatable to the bit, and does not
        # spin against other work.
        with threadpool_limits(1, user_api="blas"):
            return self._estimate(responses, guessing)

    def _estimate(self, responses: Floats, guessing: Floats) -> ItemParameters:
        start = _starting_abilities(responses)
        theta, prior = _standardised(start), _Prior(0.0, 2.0, float(np.log(start.std())), 0.5).bounded()
        groups = _groups(responses, guessing, np.float32)
        for _ in range(_ROUNDS):
            grid = _grid(prior, len(theta))
            expected = [_expected(group, grid, theta) for group in groups]
            before = np.array([*theta, *prior])
            theta, prior = _standardised(_abilities(theta, expected)), _updated_prior(expected)
            converged = bool(np.abs(np.array([*theta, *prior]) - before).max() < _TOLERANCE)
            if converged:
                break
        last = _groups(responses, guessing, np.float64)
        b, a, se_b = _posterior_moments(last, _grid(prior, len(theta)), theta, responses.shape[1])
        return ItemParameters(b=b, a=a, c=guessing, se_b=se_b, theta=theta, converged=converged)


# ----------------------------------------------------------------------------- the grid


class _Prior(NamedTuple):
    """What the EM estimates about the items as a whole."""

    mean_b: float
    sd_b: float
    mean_log_a: float
    sd_log_a: float

    def bounded(self) -> _Prior:
        """Kept where the grid can follow, whatever the data."""
        return _Prior(*(float(np.clip(value, *bounds)) for value, bounds in zip(self, _PRIOR_BOUNDS, strict=True)))


_PRIOR_BOUNDS = ((-12.0, 12.0), (0.3, 12.0), (-2.5, 1.5), (0.1, 0.7))


@dataclass(frozen=True, eq=False)
class _Grid:
    """Points (b, log a) and their log prior weights, each of shape (points,)."""

    b: Floats
    log_a: Floats
    log_prior: Floats

    def curves(self, theta: Floats, c: float) -> tuple[Floats, Floats]:
        """log P and log (1 - P), each (responders, points)."""
        logit = np.exp(self.log_a) * (theta[:, None] - self.b)
        log_wrong = np.log1p(-c) + log_expit(-logit)
        log_right = log_expit(logit) if c == 0 else np.log(c + (1 - c) * expit(logit))
        return log_right, log_wrong


def _grid(prior: _Prior, responders: int) -> _Grid:
    # A sum over a grid equals the integral while the step stays under about 1.5 posterior
    # sds; those shrink with the root of the number of responders and, for b, with 1 / a.
    step = float(np.clip(2.4 / np.sqrt(responders), 0.08, 0.4))
    deviations = _axis(step / (prior.sd_b * np.exp(prior.mean_log_a))), _axis(step / prior.sd_log_a)
    u, v = (axis.ravel() for axis in np.meshgrid(*deviations, indexing="ij"))
    return _Grid(prior.mean_b + prior.sd_b * u, prior.mean_log_a + prior.sd_log_a * v, -0.5 * (u**2 + v**2))


def _axis(step: float) -> Floats:
    """Points in prior standard deviations, at most ``step`` apart."""
    half = int(np.clip(np.ceil(_PRIOR_WIDTH / step), 4, _MOST_POINTS // 2))
    return np.linspace(-_PRIOR_WIDTH, _PRIOR_WIDTH, 2 * half + 1)


# --------------------------------------------------------------------------- the E step


@dataclass(frozen=True, eq=False)
class _Group:
    """Items that share one guessing value: ``right`` and ``answered`` are (items, responders).

    Missing responses are 0 in both; ``answered`` is None where nothing is missing.
    """

    index: NDArray[np.intp]
    c: float
    right: Array
    answered: Array | None


def _groups(responses: Floats, guessing: Floats, dtype: DTypeLike) -> list[_Group]:
    values = np.unique(guessing)
    if len(values) > _MOST_GUESSING_VALUES:
        raise CalibrationError(
            f"Guessing has {len(values)} different values ({first_few(values.tolist())}); engine 'em' takes up to "
            f"{_MOST_GUESSING_VALUES}. Round them, or give one value per task: 1/K."
        )
    return [_group(responses, np.flatnonzero(guessing == c), float(c), dtype) for c in values]


def _group(responses: Floats, index: NDArray[np.intp], c: float, dtype: DTypeLike) -> _Group:
    mine = responses[:, index].T
    missing = np.isnan(mine)
    right = np.ascontiguousarray(np.where(missing, 0.0, mine), dtype=dtype)
    return _Group(index, c, right, np.ascontiguousarray(~missing, dtype=dtype) if missing.any() else None)


def _posteriors(group: _Group, grid: _Grid, theta: Floats) -> Iterator[tuple[slice, Array]]:
    """For each chunk of items: the weight of every grid point, (chunk, points), rows summing to 1."""
    dtype = group.right.dtype
    log_right, log_wrong = grid.curves(theta, group.c)
    log_odds, log_wrong = (log_right - log_wrong).astype(dtype), log_wrong.astype(dtype)
    log_prior = grid.log_prior.astype(dtype)
    whole = log_prior + log_wrong.sum(axis=0)
    size = max(64, _CHUNK_CELLS // len(grid.b))
    for start in range(0, len(group.index), size):
        chunk = slice(start, start + size)
        weights = group.right[chunk] @ log_odds
        weights += whole if group.answered is None else group.answered[chunk] @ log_wrong + log_prior
        weights -= weights.max(axis=1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=1, keepdims=True)
        yield chunk, weights


@dataclass(frozen=True, eq=False)
class _Expected:
    """Expected counts of right answers and answers, (responders, points), and of items, (points,)."""

    right: Floats
    answered: Floats
    items: Floats
    grid: _Grid
    c: float


def _expected(group: _Group, grid: _Grid, theta: Floats) -> _Expected:
    right = np.zeros((len(theta), len(grid.b)))
    answered = np.zeros((len(theta), len(grid.b)))
    items = np.zeros(len(grid.b))
    for chunk, weights in _posteriors(group, grid, theta):
        right += group.right[chunk].T @ weights
        here = weights.sum(axis=0)
        answered += here if group.answered is None else group.answered[chunk].T @ weights
        items += here
    return _Expected(right, answered, items, grid, group.c)


def _posterior_moments(groups: list[_Group], grid: _Grid, theta: Floats, items: int) -> tuple[Floats, Floats, Floats]:
    """Posterior mean of b, exp of that of log a, and posterior sd of b: each (items,)."""
    moments = np.empty((items, 3))
    features = np.stack([grid.b, grid.log_a, grid.b**2], axis=1)
    for group in groups:
        for chunk, weights in _posteriors(group, grid, theta):
            moments[group.index[chunk]] = weights @ features
    b, log_a, square = moments.T
    return b.copy(), np.exp(log_a), np.sqrt(np.maximum(square - b**2, 0.0))


# --------------------------------------------------------------------------- the M step


def _abilities(theta: Floats, expected: list[_Expected]) -> Floats:
    """Abilities after Fisher scoring on the expected log posterior, prior N(0, 1)."""
    for _ in range(_SCORING_STEPS):
        score, information = -theta, np.ones_like(theta)
        for counts in expected:
            more_score, more_information = _score(theta, counts)
            score, information = score + more_score, information + more_information
        theta = theta + np.clip(score / information, -1.0, 1.0)
    return theta


def _score(theta: Floats, counts: _Expected) -> tuple[Floats, Floats]:
    """Gradient and Fisher information of the expected log-likelihood, each (responders,).

    With sigma the logistic curve and P = c + (1 - c) sigma: dP/dtheta = a (1 - c) sigma (1 - sigma),
    so dP/dtheta / (P (1 - P)) = a sigma / P.
    """
    a = np.exp(counts.grid.log_a)
    sigma = expit(a * (theta[:, None] - counts.grid.b))
    p = counts.c + (1 - counts.c) * sigma
    slope = a * sigma / np.maximum(p, np.finfo(np.float64).tiny)
    score = ((counts.right - counts.answered * p) * slope).sum(axis=1)
    information = (counts.answered * slope**2 * p * (1 - p)).sum(axis=1)
    return score, information


def _updated_prior(expected: list[_Expected]) -> _Prior:
    """Mean and sd of b and of log a over the expected items."""
    grid, items = expected[0].grid, sum(counts.items for counts in expected)
    share = items / np.sum(items)
    mean_b, mean_log_a = float(share @ grid.b), float(share @ grid.log_a)
    sd_b = np.sqrt(share @ (grid.b - mean_b) ** 2)
    sd_log_a = np.sqrt(share @ (grid.log_a - mean_log_a) ** 2)
    return _Prior(mean_b, float(sd_b), mean_log_a, float(sd_log_a)).bounded()


def _starting_abilities(responses: Floats) -> Floats:
    answered = (~np.isnan(responses)).sum(axis=1)
    share = (np.nansum(responses, axis=1) + 0.5) / (answered + 1.0)
    start: Floats = np.log(share / (1 - share))
    return start


def _standardised(theta: Floats) -> Floats:
    spread = theta.std()
    if not spread > 1e-6:
        raise CalibrationError(
            f"All {len(theta)} responders are equally able, so no item can be placed between them. "
            "Add weaker or stronger responders (other capacities, data fractions, checkpoints)."
        )
    standardised: Floats = (theta - theta.mean()) / spread
    return standardised
