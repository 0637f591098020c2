"""An estimate with its interval: what every statistic here returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from scipy.stats import norm


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate and the ends of its two-sided interval, all in one unit.

    A NaN ``estimate`` means that the data cannot give one; infinite ends mean that
    nothing bounds it.

    >>> Estimate(0.02, 0.01, 0.04).scaled(100)
    Estimate(estimate=2.0, low=1.0, high=4.0)
    """

    estimate: float
    low: float
    high: float

    def scaled(self, factor: float) -> Self:
        """The same in another unit; a negative ``factor`` swaps the ends."""
        low, high = sorted((self.low * factor, self.high * factor))
        return type(self)(self.estimate * factor, low, high)

    @property
    def finite(self) -> bool:
        """Whether the estimate and both ends are finite numbers."""
        return all(map(math.isfinite, (self.estimate, self.low, self.high)))

    def as_json(self) -> dict[str, float] | None:
        """``{"estimate", "low", "high"}``, or None where one of them is not finite.

        >>> unknown(-1, 1).as_json() is None
        True
        """
        if not self.finite:
            return None
        return {"estimate": float(self.estimate), "low": float(self.low), "high": float(self.high)}


def unknown(low: float = -math.inf, high: float = math.inf) -> Estimate:
    """What no data could say: a NaN estimate between the bounds of the quantity."""
    return Estimate(math.nan, low, high)


@lru_cache(maxsize=64)
def two_sided_z(level: float) -> float:
    """Standard normal quantile of a two-sided interval.

    Raises ValueError where ``level`` is not between 0 and 1.

    >>> round(two_sided_z(0.95), 4)
    1.96
    """
    return float(norm.isf((1 - checked_level(level)) / 2))


def checked_level(level: float) -> float:
    """``level``, or ValueError where it is not a confidence level."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; valid: a number between 0 and 1, such as 0.95")
    return level
