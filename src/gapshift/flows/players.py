"""What an environment's damage is shared out among: its deviations, those together that cannot stand alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

from gapshift.errors import GapshiftError
from gapshift.reports.combinations import Player
from gapshift.schema import Deployment

Keys = frozenset[str]

_ALL_UNIONS = 8
"""Up to so many players all unions of them are tried; of more, each alone, all but each, and every pair."""


@dataclass(frozen=True)
class Players:
    """An environment's deviations from one reference, as players.

    ``idle`` are keys that the reference has already, so that they are no deviation of it.
    """

    players: tuple[Player, ...]
    idle: tuple[str, ...]


def players_of(reference: Deployment, deviations: Mapping[str, Any]) -> Players:
    """Each deviation by itself, or with those that it cannot do without.

    Found out by trying: where ``Deployment.deviate`` refuses a union of players, those that it lacks join it, until no
    union that is tried is refused. Raises what ``deviate`` raises for all of them together.
    """
    trial = _Trial(reference, deviations)
    full = reference.deviate(deviations)
    idle = tuple(key for key in deviations if trial.made(trial.keys - {key}) == full)
    parts: list[tuple[Keys, str]] = [(frozenset({key}), "") for key in deviations if key not in idle]
    while (refused := _refused(trial, [keys for keys, _ in parts])) is not None:
        parts = _joined(trial, parts, refused)
    return Players(tuple(_player(keys, deviations, why) for keys, why in parts), idle)


def joined(players: Sequence[Player], first: Player, second: Player, why: str) -> tuple[Player, ...]:
    """The players with two of them made one, in the place of the earlier."""
    one = Player({**first.deviations, **second.deviations}, why)
    rest = (one if player in (first, second) else player for player in players)
    return tuple(dict.fromkeys(rest))


class _Trial:
    """What deviations make of a deployment, or why they cannot."""

    def __init__(self, reference: Deployment, deviations: Mapping[str, Any]) -> None:
        self._reference, self._deviations = reference, deviations
        self.keys: Keys = frozenset(deviations)
        self.made = cache(self._made)

    def _made(self, keys: Keys) -> Deployment | str:
        try:
            return self._reference.deviate({key: self._deviations[key] for key in self._deviations if key in keys})
        except GapshiftError as error:
            return str(error)

    def refusal(self, keys: Keys) -> str | None:
        found = self.made(keys)
        return found if isinstance(found, str) else None


def _refused(trial: _Trial, parts: Sequence[Keys]) -> tuple[Keys, ...] | None:
    """The first and smallest union that cannot be; None where every one that is tried can."""
    for union in _unions(parts):
        if trial.refusal(_united(union)) is not None:
            return union
    return None


def _unions(parts: Sequence[Keys]) -> Iterator[tuple[Keys, ...]]:
    count = len(parts)
    sizes = range(1, count) if count <= _ALL_UNIONS else (1, 2, count - 1)
    for size in sizes:
        yield from combinations(parts, size)


def _joined(trial: _Trial, parts: Sequence[tuple[Keys, str]], refused: tuple[Keys, ...]) -> list[tuple[Keys, str]]:
    """The parts after a refused union and the fewest others that it can be with became one."""
    why = trial.refusal(_united(refused)) or ""
    others = [keys for keys, _ in parts if keys not in refused]
    lacking = next(
        more
        for size in range(1, len(others) + 1)
        for more in combinations(others, size)
        if trial.refusal(_united((*refused, *more))) is None
    )
    members = {*refused, *lacking}
    one = (_united(members), why)
    kept = [(keys, said) for keys, said in parts if keys not in members]
    place = next(index for index, (keys, _) in enumerate(parts) if keys in members)
    return [*kept[:place], one, *kept[place:]]


def _united(parts: Iterable[Keys]) -> Keys:
    return frozenset().union(*parts)


def _player(keys: Keys, deviations: Mapping[str, Any], why: str) -> Player:
    return Player({key: value for key, value in deviations.items() if key in keys}, why)
