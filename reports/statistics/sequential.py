"""Evidence that may be looked at after every item: betting on the paired difference.

The differences d of a level's items come in a random order: 1 (right to wrong), -1 (wrong to right) or 0, with
mean D, the drop. Two players start with a capital of 1. One bets that D lies below the margin m, the other that it
lies above:

    certify:  product of 1 + r (m - d) over the items,  0 <= r < 1 / (1 - m)
    prove:    product of 1 + r (d - m) over the items,  0 <= r < 1 / (1 + m)

Where D >= m the first expects to gain nothing, whatever it has seen, so its capital is a nonnegative supermartingale
(an *e-process*) and reaches 1 / alpha with a probability of at most alpha, however often it is looked at (Ville's
inequality); where D <= m the same holds for the second. Shafer (2021), JRSS A 184:407-431; Waudby-Smith & Ramdas
(2024), JRSS B 86:1-27; Ramdas et al. (2023), Statistical Science 38:576-601.

Each player spreads its capital over seven fixed bets (a hedged grid of Kelly bets: Waudby-Smith & Ramdas, appendix B):
the largest, its half, and so on to a 64th, since the best bet falls with churn. A mean of e-processes is one.
Fixed bets make the capital a function of how many items were lost, gained and seen, so neither their order among
those seen nor the size of a batch matters, and there is nothing to keep but three counts.

**The order is the caller's.** Items are read from a seeded shuffle of one level. On items sorted from easy to hard a
single sequence over all levels certifies harmful runs from the easy ones alone, and so does a level that is sorted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapshift.reports.statistics.base import Estimate, checked_level, unknown

_Vector = NDArray[np.float64]

_SHARES = 0.99 * 0.5 ** np.arange(7)
"""Bets, as shares of the largest that is allowed."""
_LOG_WEIGHTS = -np.log(np.arange(1, 8) * np.sum(1 / np.arange(1, 8)))
"""The capital that each bet starts with: more for the bold ones, which few discordant items call for."""


def log_e_values(b: ArrayLike, c: ArrayLike, n: ArrayLike, margin: float) -> tuple[_Vector, _Vector]:
    """Natural logarithms of both capitals after ``n`` items, of which ``b`` were lost and ``c`` gained.

    The first is evidence against "D >= margin" (certifies), the second against "D <= margin" (proves). The arguments
    broadcast. Raises ValueError for impossible counts and for a margin outside (-1, 1).

    >>> within, beyond = log_e_values([0, 20], [0, 0], [200, 200], 0.02)
    >>> (np.exp(within) > 20).tolist(), (np.exp(beyond) > 20).tolist()
    ([True, False], [False, True])
    """
    if not -1 < margin < 1:
        raise ValueError(f"margin is {margin!r}; valid: a share between -1 and 1 (2 pp is 0.02)")
    lost, gained, seen = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (b, c, n)))
    if not ((lost >= 0) & (gained >= 0) & (lost + gained <= seen)).all():
        raise ValueError("counts must not be negative, nor b + c above n")
    return _capital(lost, gained, seen, -1, margin), _capital(lost, gained, seen, 1, margin)


def _capital(lost: _Vector, gained: _Vector, seen: _Vector, sign: int, margin: float) -> _Vector:
    """Log capital of the player who bets on the ``sign`` of D - margin."""
    bets = _SHARES / (1 + sign * margin)
    grown = [np.log1p(bets * sign * (d - margin)) for d in (1, -1, 0)]
    counts = (lost, gained, seen - lost - gained)
    paths = sum(np.multiply.outer(count, gain) for count, gain in zip(counts, grown, strict=True))
    weighed = paths + _LOG_WEIGHTS
    most = weighed.max(axis=-1)
    return np.asarray(most + np.log(np.exp(weighed - most[..., None]).sum(axis=-1)), dtype=np.float64)


@lru_cache(maxsize=8192)
def confidence_sequence(b: int, c: int, n: int, level: float = 0.95) -> Estimate:
    """The drop (b - c) / n after ``n`` items with an interval that holds at every one of them at once.

    All margins that neither player has got rich against, each at half of 1 - level: the interval covers the drop at all
    times with probability ``level``, so it may be read at a stopping time (Waudby-Smith & Ramdas 2024). Either capital
    is monotone in the margin. Raises ValueError for impossible counts or levels.

    >>> found = confidence_sequence(12, 2, 600)
    >>> round(found.low, 4), round(found.high, 4)
    (-0.0056, 0.0419)
    """
    threshold = math.log(2 / (1 - checked_level(level)))
    if n == 0:
        return unknown(-1.0, 1.0)
    drop = (b - c) / n
    high = _crossing(lambda margin: float(log_e_values(b, c, n, margin)[0]) >= threshold, drop, _END)
    low = -_crossing(lambda margin: float(log_e_values(b, c, n, -margin)[1]) >= threshold, -drop, _END)
    return Estimate(drop, low, high)


_END = 1 - 1e-9
"""Margins end just below 1."""


def _crossing(rejected: Callable[[float], bool], low: float, high: float) -> float:
    """The least margin from ``low`` to ``high`` that is rejected; 1 where not even the last one is."""
    if not rejected(high):
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if rejected(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class SequentialRule:
    """When to stop. Errors: ``within`` although D >= margin, at most ``alpha_within``; ``beyond`` although
    D <= margin, at most ``alpha_beyond``. A drop on the margin itself makes either an error.

    Of a family of planned levels ``beyond`` takes ``alpha / family`` (Bonferroni), as the gate's FAIL does by Holm's
    first step; ``within`` needs no such share, since a run passes only where every level does. Raises ValueError for
    shares outside 0-1.
    """

    margin: float
    alpha_within: float = 0.05
    alpha_beyond: float = 0.05

    def __post_init__(self) -> None:
        if not -1 < self.margin < 1:
            raise ValueError(f"margin is {self.margin!r}; valid: a share between -1 and 1 (2 pp is 0.02)")
        if not (0 < self.alpha_within < 1 and 0 < self.alpha_beyond < 1):
            raise ValueError(f"alphas are {self.alpha_within!r} and {self.alpha_beyond!r}; valid: between 0 and 1")

    def decides(self, b: float, c: float, n: float) -> bool:
        """Whether either capital has reached its threshold at these counts (which may be expected ones)."""
        within, beyond = log_e_values(b, c, n, self.margin)
        return bool(within >= -math.log(self.alpha_within) or beyond >= -math.log(self.alpha_beyond))


@dataclass(frozen=True)
class Decision:
    """What a sequence was decided as, and after how many items."""

    finding: Literal["within", "beyond"]
    items: int


def first_decision(difference: NDArray[Any], rule: SequentialRule) -> Decision | None:
    """The first item at which either capital reaches its threshold; None where none does.

    ``difference`` (n,) holds -1, 0 or 1 in the order in which they came. Runs are read by
    ``reports.sequential.BandWatch``, which knows floors and batches as well; this is the rule alone.

    >>> first_decision(np.zeros(1000), SequentialRule(0.02))
    Decision(finding='within', items=192)
    """
    b, c = np.cumsum(difference > 0), np.cumsum(difference < 0)
    within, beyond = log_e_values(b, c, np.arange(1, len(difference) + 1), rule.margin)
    certified, proven = within >= -math.log(rule.alpha_within), beyond >= -math.log(rule.alpha_beyond)
    places = np.flatnonzero(certified | proven)
    return Decision("within" if certified[places[0]] else "beyond", int(places[0]) + 1) if len(places) else None


def items_until(b: int, c: int, n: int, rule: SequentialRule, most: int = 10_000_000) -> int | None:
    """Items after which a decision is to be expected, were they lost and gained at the present rates b / n, c / n.

    None where not even ``most`` items decide. Needs n > 0.

    >>> items_until(0, 0, 10, SequentialRule(0.02)), items_until(2, 0, 100, SequentialRule(0.02))
    (192, None)
    """
    low, high = 0, 1
    while not rule.decides(b * high / n, c * high / n, high):
        if high >= most:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rule.decides(b * middle / n, c * middle / n, middle) else (middle, high)
    return high
