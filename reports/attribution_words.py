"""What did the damage, in sentences. What an interval does not leave zero out of is not claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

_NAMED = 4
"""So many deviations are named in a row; more are counted."""


def attributed(environment: str, entry: Json) -> str:
    """What the environment's drop at the entry's level is made of, and the smallest set that fails."""
    said = Saying(entry)
    parts = [said.whole(environment), *said.parts(), smallest_words(entry)]
    return " ".join(part for part in parts if part)


def where(level: str) -> str:
    """A level's key in words.

    >>> where("5"), where("all"), where("mean")
    ('at level 5', 'over all items', 'over the mean of the levels')
    """
    return {"all": "over all items", "mean": "over the mean of the levels"}.get(level, f"at level {level}")


@dataclass(frozen=True)
class _Part:
    """A player with one of its numbers, in pp, signed so that the whole's direction is positive."""

    player: Json
    estimate: float
    low: float
    high: float

    @property
    def name(self) -> str:
        return str(self.player["name"])

    @property
    def direction(self) -> int:
        """1 the whole's, -1 against it, 0 where the interval includes zero."""
        return int(self.low > 0) - int(self.high < 0)


class Saying:
    """One model's sentences."""

    def __init__(self, entry: Json) -> None:
        self._entry, self._level = entry, str(entry["level"])
        self._total = entry["drop_pp"][self._level]
        self._sign = -1 if self._total and self._total["estimate"] < 0 else 1
        shares = (player["share_pp"][self._level] for player in entry["players"])
        said = [abs(value["estimate"]) for value in (self._total, *shares) if value]
        self._digits = 1 if max(said, default=0) >= 1 else 2

    @property
    def _clear(self) -> bool:
        """Whether there is a drop or a gain to attribute."""
        return bool(self._total) and (self._total["low"] > 0 or self._total["high"] < 0)

    def whole(self, environment: str) -> str:
        """What is lost or gained, where it is not the beginning of the next sentence."""
        if not self._total:
            return f"{environment} has no items {where(self._level)}."
        if self._clear and self._shares() and len(self._entry["players"]) > 1:
            return ""
        verb, amount = ("gains" if self._sign < 0 else "loses"), self._signed(self._total)
        if self._clear:
            return f"{environment} {verb} {self._amount(amount)} {where(self._level)}."
        return (
            f"{environment} {verb} {self._amount(amount)} {where(self._level)}: that interval includes zero, so there "
            "is no damage to attribute."
        )

    def parts(self) -> list[str]:
        """What it is made of."""
        players = self._entry["players"]
        if not self._total:
            return []
        if len(players) == 1:
            return [f"It deviates in one thing alone, {players[0]['name']}: nothing to share out."]
        if not self._shares():
            return [*self._removed(), f"No shares: {self._entry['shares_missing']}."]
        return [*self._shared(), *self._together()] if self._clear else self._cancelling()

    # ------------------------------------------------------------------------ shares

    def _shared(self) -> list[str]:
        with_it, against, rest = self._sorted("share_pp")
        verb, other = ("gained", "costs") if self._sign < 0 else ("lost", "gives back")
        begin = f"Of the {self._amount(self._signed(self._total))} {verb} {where(self._level)}, "
        if not with_it:
            first = max([*against, *rest], key=lambda part: part.estimate)
            return [f"{begin}no share differs clearly from zero; {first.name} has the largest, {self._of(first)}."]
        said = begin + self._each(with_it, lambda part: f"{self._of(part)} come from {part.name}")
        if against:
            said += "; " + self._each(against, lambda part: f"{part.name} {other} {self._of(_turned(part))}")
        return [f"{said}.", self._noise(rest)]

    def _cancelling(self) -> list[str]:
        """Parts that are clear where the whole is not."""
        one, other, _ = self._sorted("share_pp")
        costs, gains = (one, other) if self._sign > 0 else (other, one)
        found = [*costs, *gains]
        if not found:
            return []
        turn = 1 if self._sign > 0 else -1
        words = [f"{part.name} costs {self._of(part if turn > 0 else _turned(part))}" for part in costs]
        words += [f"{part.name} gives back {self._of(_turned(part) if turn > 0 else part)}" for part in gains]
        return [f"Of its parts {_listed(words)} by themselves."]

    def _together(self) -> list[str]:
        """What others than the largest share add alone and on top, where the two differ or the share is clear."""
        with_it, against, rest = self._sorted("share_pp")
        ranked = [*with_it, *against, *rest]
        names = {part.name for part in self._numbers("interaction_pp") if part.direction}
        shown = [part for part in ranked[1:] if part.name in names or part.direction]
        company = ranked[0].name if len(ranked) == 2 else "the others"
        return [
            self._alone_and_on_top(part.player, company)
            for part in shown[:_NAMED]
            if part.player["alone_pp"][self._level]
        ]

    def _alone_and_on_top(self, player: Json, company: str) -> str:
        alone, together = (player[name][self._level] for name in ("alone_pp", "together_pp"))
        if not together:
            return ""
        first, second = (
            self._of(_Part(player, value["estimate"], value["low"], value["high"])) for value in (alone, together)
        )
        return f"{player['name']} adds {first} to the drop alone and {second} on top of {company}."

    def _noise(self, rest: Sequence[_Part]) -> str:
        if not rest:
            return ""
        one = len(rest) == 1
        return f"The interval{'s' * (not one)} of {_listed([part.name for part in rest])} include{'s' * one} zero."

    # ----------------------------------------------------------------- without shares

    def _removed(self) -> list[str]:
        """What goes when each deviation is taken away, and what each does alone."""
        if not self._clear:
            return []
        less, more, _ = self._sorted("together_pp")
        alone, _, _ = self._sorted("alone_pp")
        verb = "gains" if self._sign < 0 else "loses"
        words = [f"{self._of(part)} less without {part.name}" for part in less]
        words += [f"{self._of(_turned(part))} more without {part.name}" for part in more]
        gone = f"It {verb} {_listed(words)}." if words else "Taking one deviation away makes no clear difference."
        own = [f"{part.name} {verb} {self._of(part)}" for part in alone]
        return [gone, f"Alone, {_listed(own)}." if own else "Alone, none of them does so clearly."]

    # ------------------------------------------------------------------------ numbers

    def _shares(self) -> bool:
        return not self._entry["shares_missing"]

    def _sorted(self, name: str) -> tuple[list[_Part], list[_Part], list[_Part]]:
        """The players whose number goes the whole's way, against it, and neither; the largest first."""
        found = sorted(self._numbers(name), key=lambda part: -abs(part.estimate))
        one, other, neither = ([part for part in found if part.direction == way] for way in (1, -1, 0))
        return one, other, neither

    def _numbers(self, name: str) -> list[_Part]:
        known = [(player, player[name][self._level]) for player in self._entry["players"]]
        return [_Part(player, *self._signed(value)) for player, value in known if value]

    def _signed(self, value: Mapping[str, float]) -> tuple[float, float, float]:
        ends = sorted(self._sign * value[end] for end in ("low", "high"))
        return self._sign * value["estimate"], ends[0], ends[1]

    def _amount(self, value: tuple[float, float, float]) -> str:
        return f"{self._number(value[0])} pp [{self._number(value[1])}, {self._number(value[2])}]"

    def _of(self, part: _Part) -> str:
        return f"{self._number(part.estimate)} [{self._number(part.low)}, {self._number(part.high)}]"

    def _number(self, value: float) -> str:
        return f"{round(value, self._digits) + 0.0:.{self._digits}f}"

    @staticmethod
    def _each(parts: Sequence[_Part], say: Callable[[_Part], str]) -> str:
        return _listed([say(part) for part in parts])


def _turned(part: _Part) -> _Part:
    return _Part(part.player, -part.estimate, -part.high, -part.low)


def smallest_words(entry: Json) -> str:
    """The smallest part of the environment that still fails."""
    found = entry["smallest"]
    if not found["sets"]:
        return f"{found['reason'][:1].upper()}{found['reason'][1:]}." if found["reason"] else ""
    if len(found["sets"][0]["names"]) == len(entry["players"]):
        return "It FAILs with all of its deviations alone." if len(entry["players"]) > 1 else "It FAILs."
    sets = [_listed(one["names"]) + " together" * (len(one["names"]) > 1) for one in found["sets"]]
    return f"The smallest part that still FAILs: {'; or '.join(sets)}."


def _listed(words: Sequence[str]) -> str:
    """Words in a row.

    >>> _listed(["a", "b", "c"]), _listed(list("abcdef"))
    ('a, b and c', 'a, b, c, d and 2 more')
    """
    if len(words) > _NAMED:
        return f"{', '.join(words[:_NAMED])} and {len(words) - _NAMED} more"
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
