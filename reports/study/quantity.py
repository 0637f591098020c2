"""Numbers that are linear in the answers of one task's items, with their interval over seeds and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.statistics import Estimate, over_seeds_and_items, two_sided_z

Floats = NDArray[np.float64]
LEVELS = 5
EVEN = np.full(LEVELS, 1 / LEVELS)


@dataclass(frozen=True, eq=False)
class Quantity:
    """A mean over seeds of one number a seed, ``per_seed`` (S,).

    ``influence`` (S, n) is what each of the task's n items contributes to it: its deviation
    from the mean that it enters, times its weight there. Seeds share their items, so the
    items' variance is the sum of squares of the seed-averaged influence. ``weights`` (5,) is
    the largest weight with which each level of held-out items (``level``, (n,), 0 for other
    items) enters.
    """

    seeds: tuple[int, ...]
    per_seed: Floats
    influence: Floats
    level: NDArray[np.int64]
    weights: Floats

    def __add__(self, other: Quantity) -> Quantity:
        return self._combined(other, 1.0)

    def __sub__(self, other: Quantity) -> Quantity:
        return self._combined(other, -1.0)

    def __mul__(self, factor: float) -> Quantity:
        return Quantity(
            self.seeds, self.per_seed * factor, self.influence * factor, self.level, self.weights * abs(factor)
        )

    def shifted(self, by: float) -> Quantity:
        """The same with a known number added."""
        return Quantity(self.seeds, self.per_seed + by, self.influence, self.level, self.weights)

    def at(self, seeds: Sequence[int]) -> Quantity:
        """The same over these of its seeds alone, in their order."""
        rows = [self.seeds.index(seed) for seed in seeds]
        return Quantity(tuple(seeds), self.per_seed[rows], self.influence[rows], self.level, self.weights)

    def _combined(self, other: Quantity, sign: float) -> Quantity:
        """Paired by seed and item, over the seeds that both have."""
        seeds = shared_seeds(self, other)
        a, b = self.at(seeds), other.at(seeds)
        weights = np.maximum(a.weights, b.weights)
        return Quantity(seeds, a.per_seed + sign * b.per_seed, a.influence + sign * b.influence, a.level, weights)

    @property
    def mean(self) -> float:
        return float(self.per_seed.mean()) if self.seeds else float("nan")

    def item_variance(self, level: float) -> float:
        """Variance that the choice of items gives the mean; NaN where a level has under two items.

        A variance that is not seen is not taken for none: where all items of a level agree
        it is that of the score interval without any disagreement, (z / (n + z^2))^2.
        """
        if not self.seeds:
            return float("nan")
        shared = self.influence.mean(axis=0)
        return float(np.sum(shared**2)) + self._unseen(shared, two_sided_z(level))

    def _unseen(self, shared: Floats, z: float) -> float:
        n = np.bincount(self.level, minlength=LEVELS + 1)[1:]
        seen = np.bincount(self.level, weights=np.abs(shared) > 1e-15, minlength=LEVELS + 1)[1:]
        floor = self.weights * z / (n + z**2)
        return float(np.sum(floor[(seen == 0) & (self.weights > 0)] ** 2))

    def estimate(self, level: float) -> Estimate:
        """Mean with its interval (``over_seeds_and_items``); NaN where a part is unknown."""
        return independent_sum([self], level)


def shared_seeds(*quantities: Quantity) -> tuple[int, ...]:
    """Seeds that all have, in the first one's order."""
    first, *others = quantities
    return tuple(seed for seed in first.seeds if all(seed in other.seeds for other in others))


def independent_sum(quantities: Sequence[Quantity], level: float) -> Estimate:
    """Sum of quantities on different tasks: their items are independent, their seeds are paired."""
    seeds = shared_seeds(*quantities)
    parts = [quantity.at(seeds) for quantity in quantities]
    variance = sum(part.item_variance(level) for part in parts)
    if not np.isfinite(variance):
        return Estimate(float("nan"), float("-inf"), float("inf"))
    return over_seeds_and_items(np.sum([part.per_seed for part in parts], axis=0), variance, level)


def weighted_accuracy(
    seeds: Sequence[int], right: Floats, level: NDArray[np.int64], weights: NDArray[np.float64]
) -> Quantity:
    """Sum over levels of weight times mean answer: right (S, n) of 0, 1, NaN; weights (S, 5) or (5,).

    ``level`` (n,) is 0 for items that do not enter. NaN where a level with weight has no
    answers, and without an interval where it has one.
    """
    weights = np.broadcast_to(weights, (len(seeds), LEVELS))
    value, influence = np.zeros(len(seeds)), np.zeros(right.shape)
    for k in range(LEVELS):
        enters = weights[:, k] > 0
        if enters.any():
            inside = level == k + 1
            mean, deviation = _level_part(right[:, inside])
            value += np.where(enters, weights[:, k] * mean, 0.0)
            influence[:, inside] = np.where(enters[:, None], weights[:, [k]] * deviation, 0.0)
    return Quantity(tuple(seeds), value, influence, level, weights.max(axis=0, initial=0.0))


def _level_part(right: Floats) -> tuple[Floats, Floats]:
    """Mean answer (S,) of one level, and each item's share of its deviation (S, n)."""
    answered = ~np.isnan(right)
    n = answered.sum(axis=1).astype(np.float64)
    mean = np.divide(np.where(answered, right, 0.0).sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)
    # sqrt(n / (n - 1)) makes the sum of squares the unbiased variance of the mean.
    scale = np.divide(1.0, np.sqrt(n * (n - 1)), out=np.full(len(n), np.nan), where=n > 1)
    return mean, np.where(answered, right - mean[:, None], 0.0) * scale[:, None]
