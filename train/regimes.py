"""Training regimes: which levels are open when, and which item is drawn next.

A regime is turned into one integer array before training, so that the loop knows
nothing about regimes and the sampling frequency of every item (P_r) is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import TrainingError, UnknownNameError
from gapshift.schema import LEVELS

Indices = NDArray[np.int64]
Opening = Callable[[float, float], tuple[int, ...]]


def _cumulative(order: tuple[int, ...]) -> Opening:
    """Levels open one after another, evenly spaced, the last at ``open_by``."""

    def opening(progress: float, open_by: float) -> tuple[int, ...]:
        stage = int(progress / open_by * (len(order) - 1) + 1e-9)
        return order[: stage + 1]

    return opening


LEVELLED: dict[str, Opening] = {
    "easy-only": lambda _progress, _open_by: (1,),
    "level-2-only": lambda _progress, _open_by: (2,),
    "level-3-only": lambda _progress, _open_by: (3,),
    "level-4-only": lambda _progress, _open_by: (4,),
    "hard-only": lambda _progress, _open_by: (5,),
    "curriculum": _cumulative(LEVELS),
    "anti-curriculum": _cumulative(LEVELS[::-1]),
    "random": lambda _progress, _open_by: LEVELS,
}
"""Regimes over levels: (share of the steps done, open_by) -> open levels."""

POOLED: dict[str, float] = {"iid": 1.0, "size-control": 1 / len(LEVELS)}
"""Regimes that ignore levels: the share of all items, drawn at random once, that is shuffled in epochs."""

REGIMES = (*LEVELLED, *POOLED)


def sampler(
    regime: str, levels: NDArray[np.integer], *, steps: int, batch: int, seed: int, open_by: float = 0.45
) -> Indices:
    """Item indices of every mini-batch, shape (steps, batch).

    ``levels`` has shape (n,) and holds 1-5. Over levels: a level is drawn uniformly from
    those open at the step, then the next item of that level's shuffled passes. ``iid``
    and ``size-control`` (a random fifth) are shuffled passes over their pool.
    Raises UnknownNameError for a regime that is not in REGIMES, and TrainingError where a
    level that the regime needs has no items.
    """
    if regime not in REGIMES:
        raise UnknownNameError("regime", regime, REGIMES, "Set `regimes` in the study file.")
    if not 0.4 <= open_by <= 0.5:
        raise TrainingError(f"open_by is {open_by}; a curriculum opens all levels within 0.4-0.5 of the budget.")
    if len(levels) == 0:
        raise TrainingError(f"Regime {regime!r} has no items to train on. Give items, or another split.")
    rng = np.random.default_rng(seed)
    if regime in POOLED:
        return _pooled(len(levels), POOLED[regime], steps, batch, rng)
    return _levelled(regime, np.asarray(levels), _open_levels(regime, steps, open_by), batch, rng)


def shuffle_levels(levels: NDArray[np.integer], share: float, seed: int) -> NDArray[np.integer]:
    """``levels`` (n,) with a random ``share`` of the items trading theirs: how much hangs on right labels?

    Every level keeps its number of items; an item may get its own back. Raises TrainingError
    for a share outside 0-1.
    """
    if not 0 <= share <= 1:
        raise TrainingError(f"The share of levels to shuffle is {share}; it lies in 0-1.")
    rng = np.random.default_rng(seed)
    shuffled = np.array(levels)
    chosen = rng.choice(len(shuffled), size=round(share * len(shuffled)), replace=False)
    shuffled[chosen] = shuffled[rng.permutation(chosen)]
    return shuffled


def mix(draws: Indices, n: int) -> NDArray[np.float64]:
    """P_r: the share of all draws that each of the ``n`` items had, shape (n,), sum 1."""
    counts = np.bincount(draws.ravel(), minlength=n)
    weights: NDArray[np.float64] = counts / draws.size
    return weights


def _open_levels(regime: str, steps: int, open_by: float) -> list[tuple[int, ...]]:
    return [LEVELLED[regime](step / steps, open_by) for step in range(steps)]


def _pooled(n: int, share: float, steps: int, batch: int, rng: np.random.Generator) -> Indices:
    pool = np.sort(rng.permutation(n)[: max(1, round(n * share))])
    return _passes(pool, steps * batch, rng).reshape(steps, batch)


def _levelled(
    regime: str, levels: NDArray[np.integer], opened: list[tuple[int, ...]], batch: int, rng: np.random.Generator
) -> Indices:
    drawn = np.stack([rng.choice(open_now, size=batch) for open_now in opened])
    draws = np.empty(drawn.shape, dtype=np.int64)
    for level in sorted({level for open_now in opened for level in open_now}):
        pool = np.flatnonzero(levels == level)
        if len(pool) == 0:
            raise TrainingError(
                f"Level {level} has no training items, and regime {regime!r} trains on it. "
                "Rate more items, or choose a regime that ignores levels: iid, size-control."
            )
        chosen = drawn == level
        draws[chosen] = _passes(pool, int(chosen.sum()), rng)
    return draws


def _passes(pool: Indices, count: int, rng: np.random.Generator) -> Indices:
    """``count`` items from shuffled passes over ``pool``: no item twice before all once."""
    rounds = -(-count // len(pool))
    if rounds == 0:
        return pool[:0]
    return np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:count]
