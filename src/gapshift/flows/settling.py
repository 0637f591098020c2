"""What the cells show of players that do not apply alone: idle beside the others too, or one with one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gapshift.flows.combinations import Combinations
from gapshift.flows.players import joined
from gapshift.reports.combinations import Combination, Player, same_answers, united, unusable


@dataclass(frozen=True)
class Settled:
    """A model's players, the keys that were set aside with their reasons, and why it has no answers, if so."""

    players: tuple[Player, ...]
    idle: dict[str, str] = field(default_factory=dict)
    problem: tuple[str, str] | None = None


def alone_and_without(players: Sequence[Player]) -> list[Combination]:
    """Every player alone, all but each, and all of them."""
    whole = united(players)
    return [whole, *(player.keys for player in players), *(whole - player.keys for player in players)]


def settle(cells: Combinations, bundle: str, players: tuple[Player, ...]) -> Settled:
    """Every player applies alone, or nothing is found that it could be joined to.

    One that changes no answer beside the others either is set aside; one that matters beside another is joined to it.
    """
    return _Model(cells, bundle).settled(players)


class _Model:
    def __init__(self, cells: Combinations, bundle: str) -> None:
        self._cells, self._bundle = cells, bundle

    def settled(self, players: tuple[Player, ...]) -> Settled:
        idle: dict[str, str] = {}
        while True:
            self._cells.measure({self._bundle: alone_and_without(players)})
            if problem := self._problem(united(players)):
                return Settled((), idle, problem)
            lone = {p: why for p in players if (why := self._inapplicable(p))} if len(players) > 1 else {}
            gone = self._idle(players, tuple(lone))
            if gone:
                idle |= {key: _idle_words(lone[player]) for player in gone for key in player.deviations}
                players = tuple(player for player in players if player not in gone)
            elif (one := self._joined(players, lone)) is not None:
                players = one
            else:
                return Settled(players, idle)

    def _problem(self, keys: Combination) -> tuple[str, str] | None:
        return unusable(self._cells.cell(self._bundle, keys))

    def _inapplicable(self, player: Player) -> str | None:
        """Why a player does not apply alone, if so."""
        status, reason = self._problem(player.keys) or ("ok", "")
        return reason if status == "not_applicable" else None

    def _idle(self, players: tuple[Player, ...], lone: tuple[Player, ...]) -> tuple[Player, ...]:
        """Those of the lone that change no answer beside the others: all at once where that holds, else the first."""
        whole = united(players)
        found = tuple(player for player in lone if self._same(whole, whole - player.keys))
        together = 1 < len(found) < len(players) and self._same(whole, whole - united(found))
        return found if together else found[:1]

    def _joined(self, players: tuple[Player, ...], lone: dict[Player, str]) -> tuple[Player, ...] | None:
        """The players with the first lone one joined to the first beside which it matters."""
        for player, reason in lone.items():
            for other in players:
                if other is not player and self._matters_beside(player, other):
                    return joined(players, player, other, f"{player.name} alone is not applicable: {reason}")
        return None

    def _matters_beside(self, player: Player, other: Player) -> bool:
        both = player.keys | other.keys
        usable = self._problem(both) is None and self._problem(other.keys) is None
        return usable and not self._same(both, other.keys)

    def _same(self, one: Combination, other: Combination) -> bool:
        return same_answers(*(self._cells.cell(self._bundle, keys) for keys in (one, other)))


def _idle_words(reason: str) -> str:
    return f"without it every answer is the same, and alone it is not applicable: {reason}"
