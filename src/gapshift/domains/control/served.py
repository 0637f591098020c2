"""A controller's readings through a service: late, down, stale or wrong (``domains.services``), one request a step.

An episode starts with its first reading in hand, and every later step requests its own. Stale is the reading of the
step before. Where a request failed, the ``default`` is the mean reading (0 after scaling); ``last`` lets the reading
stand that the deployment got last, stale or garbled as it was; ``skip`` does so too and holds the last action.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Episode
from gapshift.domains.control.simulation import stream
from gapshift.domains.services import SHORTEST_GARBLE, Fates, draws_per_request, fates, tally
from gapshift.schema import Service, ServiceTally

_REQUESTS, _GARBLES = 1001, 1002
"""The streams of an episode's seed: what befalls its requests, how they are garbled."""
_REACH = 3.0
"""A garbled value lies within so many units of a reading, which is scaled to a deviation of about 1."""
_SLAB = 256
"""Episodes whose requests are counted at once."""


@final
class ServedReadings:
    """What a service makes of the readings of n episodes, arrays of shape (steps, n).

    ``origin`` is the step whose reading stands at each step. ``silent``: the deployment asks its controller nothing.
    """

    def __init__(self, service: Service, episodes: Sequence[Episode], steps: int, size: int) -> None:
        found = _fates(service, episodes, steps)
        place = np.arange(steps)[:, None]
        default = found.failed & (service.fallback == "default")
        giver = np.where(found.failed & ~default, 0, place)
        self._giver = np.maximum.accumulate(giver, axis=0)
        self.origin = self._giver - np.take_along_axis(found.stale, self._giver, axis=0)
        self.silent = found.failed & (service.fallback == "skip")
        self._written = self._garble(service, episodes, found.corrupted, size)
        self._written[default] = 0.0

    def overwritten(
        self, readings: NDArray[np.float32], steps: NDArray[np.intp], rows: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """``readings`` (..., size) of ``steps`` and ``rows``, with what garbling or a default put in their place."""
        written = self._written[self._giver[steps, rows], rows]
        found: NDArray[np.float32] = np.where(np.isnan(written), readings, written)
        return found

    @staticmethod
    def _garble(
        service: Service, episodes: Sequence[Episode], corrupted: NDArray[np.bool_], size: int
    ) -> NDArray[np.float32]:
        """What is written over readings, shape (steps, n, size); NaN where nothing is."""
        steps, n = corrupted.shape
        written = np.full((steps, n, size), np.nan, dtype=np.float32)
        for row in np.flatnonzero(corrupted.any(axis=0)).tolist():
            rng = stream(episodes[row], _GARBLES, service.seed)
            drawn = rng.random((steps, 2 + size), dtype=np.float32)
            length = np.maximum(1, np.rint(size * (SHORTEST_GARBLE + (1 - SHORTEST_GARBLE) * drawn[:, 0])))
            start = np.floor(drawn[:, 1] * (size - length + 1))
            past = np.arange(size) - start[:, None]
            hit = corrupted[:, row, None] & (past >= 0) & (past < length[:, None])
            written[:, row] = np.where(hit, _REACH * (2 * drawn[:, 2:] - 1), np.nan)
        return written


def account(
    service: Service, episodes: Sequence[Episode], seen: NDArray[np.integer[Any]]
) -> tuple[ServiceTally | None, NDArray[np.bool_]]:
    """What the requests of episodes came to that saw ``seen`` (n,) steps, and which of them met a fallback."""
    parts, met = [], []
    for begin in range(0, len(episodes), _SLAB):
        some, lengths = episodes[begin : begin + _SLAB], seen[begin : begin + _SLAB]
        steps = int(lengths.max(initial=1))
        found = _fates(service, some, steps)
        place = np.arange(steps)[:, None]
        requested = (place > 0) & (place < lengths)
        met.append((found.failed & requested).any(axis=0))
        parts.append(found.take(requested))
    return tally(_joined(parts)), np.concatenate([*met, np.zeros(0, dtype=np.bool_)])


def _joined(parts: Iterable[Fates]) -> Fates:
    parts = [fates(Service(), np.empty((0, draws_per_request(Service())))), *parts]
    return Fates(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _fates(service: Service, episodes: Sequence[Episode], steps: int) -> Fates:
    """What befalls the requests of each step (steps, n); the first reading is there, and nothing befalls it."""
    drawn = np.stack([_draws(service, episode, steps) for episode in episodes], axis=1)
    found = fates(service, drawn)
    for happened in (found.failed, found.stale, found.corrupted):
        happened[:1] = False
    return found


def _draws(service: Service, episode: Episode, steps: int) -> NDArray[np.float64]:
    """Shape (steps, ``draws_per_request``). More attempts leave the draws of the others as they were."""
    attempts = range(draws_per_request(service) // 2)
    return np.concatenate([stream(episode, _REQUESTS, service.seed, k).random((steps, 2)) for k in attempts], axis=1)
