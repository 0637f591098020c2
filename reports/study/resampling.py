"""A bootstrap over seeds and items whose draws all models of a task share."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.study.quantity import LEVELS, Floats

RESAMPLES = 1000
Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Resampler:
    """Draws of a task's held-out items within their levels, ``level`` (n,), 0 for other items.

    Items and seeds are drawn apart and their deviations added, each stretched by
    sqrt(m / (m - 1)) for m drawn units (Rao & Wu 1988, JASA 83:231-241): resampling both at
    once would count the items' noise twice (Owen 2007, Annals of Applied Statistics 1:386-411).
    ``name`` and ``seed`` decide the draws; resamples of all models of a task are paired.
    """

    name: str
    level: NDArray[np.int64]
    seed: int = 0
    resamples: int = RESAMPLES

    def _rng(self, of: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.seed}/{self.name}/{of}".encode()))

    @cached_property
    def _items(self) -> tuple[Single, ...]:
        """How often each resample draws each item of a level: five of (n at the level, resamples)."""
        rng = self._rng("items")
        draws = []
        for k in range(1, LEVELS + 1):
            n = int((self.level == k).sum())
            places = rng.integers(0, max(n, 1), (n, self.resamples)) * self.resamples + np.arange(self.resamples)
            counts = np.bincount(places.ravel(), minlength=n * self.resamples).reshape(n, self.resamples)
            draws.append(counts.astype(np.float32))
        return tuple(draws)

    @lru_cache(maxsize=64)  # noqa: B019 - a resampler lives as long as one report
    def _seeds(self, seeds: tuple[int, ...]) -> Floats:
        """Share of each seed in each resample less its even share, stretched (resamples, S)."""
        size = len(seeds)
        if size < 2:
            return np.zeros((self.resamples, size))
        counts = self._rng(f"seeds {seeds}").multinomial(size, np.full(size, 1 / size), self.resamples)
        return np.asarray((counts / size - 1 / size) * np.sqrt(size / (size - 1)), dtype=np.float64)

    def means(self, seeds: tuple[int, ...], values: Floats) -> Floats:
        """Each level's mean over seeds and items in every resample, (5, resamples), of values (S, n).

        NaN for a level without values.
        """
        found = np.full((LEVELS, self.resamples), np.nan)
        for k in range(LEVELS):
            part = values[:, self.level == k + 1]
            answered = ~np.isnan(part)
            if answered.any(axis=1).all() and part.size:
                found[k] = self._level(seeds, np.where(answered, part, 0.0), answered, self._items[k])
        return found

    def _level(self, seeds: tuple[int, ...], part: Floats, answered: NDArray[np.bool_], draws: Single) -> Floats:
        per_seed = part.sum(axis=1) / answered.sum(axis=1)
        weight = answered.mean(axis=0)
        n = int((weight > 0).sum())
        drawn = np.maximum(weight.astype(np.float32) @ draws, 1e-9)
        spread = (part.mean(axis=0).astype(np.float32) @ draws) / drawn - float(part.sum() / answered.sum())
        stretch = np.sqrt(n / (n - 1)) if n > 1 else 0.0
        return np.asarray(per_seed.mean() + spread * stretch + self._seeds(seeds) @ per_seed, dtype=np.float64)
