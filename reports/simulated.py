"""A monitor before simulated traffic: does it notice as often as its closed form says, and how often without cause."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gapshift.reports.load import Bools, Floats
from gapshift.reports.monitors import Logged, Monitor

_CELLS = 2_000_000
"""Streams are drawn in blocks of at most this many counts."""
_STEPS = 10
_REACH = 8.0
"""A simulated number is looked for within this factor of the closed form."""


@dataclass(frozen=True)
class Check:
    """What the simulation found at the closed form's number of requests.

    ``power_error`` and ``false_alarms_error`` are Monte Carlo standard errors. ``requests`` is the number that reaches
    the power by simulation, sought only where ``power`` differs from it by more than three of them; null where it
    agrees or where no number within a factor of eight does.
    """

    repeats: int
    power: float
    power_error: float
    false_alarms: float
    false_alarms_error: float
    agrees: bool
    requests: int | None = None


@dataclass(frozen=True, eq=False)
class Watch:
    """A monitor and how requests reach it: each by itself logged at ``sample_rate``, usable ``delay`` requests on."""

    monitor: Monitor
    logged: Logged
    sample_rate: float
    delay: int

    def alarms(self, requests: int, changed: bool, alpha: float, repeats: int, rng: np.random.Generator) -> Bools:
        """Whether the monitor alarms at the end of each of ``repeats`` streams of that many requests."""
        seen = self.logged
        shares, usable = (seen.after, seen.share_after) if changed else (seen.before, seen.share_before)
        block = max(1, _CELLS // len(shares))
        found = [
            self._block(max(0, requests - self.delay), shares, usable, alpha, min(block, repeats - k), rng)
            for k in range(0, repeats, block)
        ]
        return np.concatenate(found)

    def _block(
        self, requests: int, shares: Floats, usable: float, alpha: float, repeats: int, rng: np.random.Generator
    ) -> Bools:
        logged = rng.binomial(requests, min(1.0, self.sample_rate * usable), size=repeats)
        counts = rng.multinomial(logged, shares / shares.sum(), size=repeats)
        return self.monitor.alarms(self.logged, counts, alpha)


def simulate(watch: Watch, requests: int, alpha: float, power: float, repeats: int, seed: int) -> Check:
    """Draw ``repeats`` streams with the drop and as many without, and count the alarms."""
    rng = np.random.default_rng([seed, requests, watch.delay])
    noticed = float(watch.alarms(requests, True, alpha, repeats, rng).mean())
    false = float(watch.alarms(requests, False, alpha, repeats, rng).mean())
    error = _error(power, repeats)
    check = Check(
        repeats, noticed, _error(noticed, repeats), false, _error(false, repeats), abs(noticed - power) <= 3 * error
    )
    if check.agrees:
        return check
    return replace(check, requests=_sought(watch, requests, alpha, power, repeats, rng))


def _error(share: float, repeats: int) -> float:
    return math.sqrt(share * (1 - share) / repeats)


def _sought(
    watch: Watch, requests: int, alpha: float, power: float, repeats: int, rng: np.random.Generator
) -> int | None:
    """The number of requests that reaches the power, by bisection on a logarithmic scale."""
    after_delay = max(1, requests - watch.delay)
    low, high = after_delay / _REACH, after_delay * _REACH

    def enough(count: float) -> bool:
        total = math.ceil(count) + watch.delay
        return float(watch.alarms(total, True, alpha, repeats, rng).mean()) >= power

    if not enough(high):
        return None
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return math.ceil(high) + watch.delay
