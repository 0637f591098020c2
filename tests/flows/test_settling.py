"""What cells show of players that do not apply alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np

from gapshift.flows.settling import alone_and_without, settle
from gapshift.reports.combinations import Combination, Player
from gapshift.reports.load import Pairs

A, B, C = (Player({key: 1}) for key in "abc")


class Cells:
    """One item, answered as ``answers`` says of a combination's keys; None: not applicable."""

    def __init__(self, answers: Callable[[str], int | None]) -> None:
        self.answers = answers

    def measure(self, wanted: Iterable[Combination]) -> None:
        pass

    def cell(self, _bundle: str, keys: Combination) -> Any:
        found = self.answers("".join(sorted(keys)))
        status = "not_applicable" if found is None else "ok"
        pairs = None if found is None else Pairs(**{name: np.array([found]) for name in Pairs.__dataclass_fields__})
        return SimpleNamespace(
            info=SimpleNamespace(status=status, reason="it lacks another"), blocked=None, pairs=pairs
        )


def settled(answers: Callable[[str], int | None], *players: Player) -> tuple[list[str], list[str]]:
    """The players' keys, and those that were set aside."""
    found = settle(Cells(answers), "m", players)  # type: ignore[arg-type]  # what of them is asked
    assert found.problem is None
    return ["".join(sorted(player.keys)) for player in found.players], sorted(found.idle)


def test_who_applies_alone_stays() -> None:
    assert settled(lambda keys: len(keys), A, B) == (["a", "b"], [])


def test_who_neither_applies_alone_nor_matters_beside_the_others_is_set_aside() -> None:
    assert settled(lambda keys: None if keys in ("a", "b") else "c" in keys, A, B, C) == (["c"], ["a", "b"])


def test_of_two_that_stand_in_for_each_other_one_stays_and_joins_what_it_needs() -> None:
    """Without either of them nothing changes, without both it does: only one may be set aside."""
    answers = {"a": None, "b": None, "c": 0, "ab": 0, "ac": 1, "bc": 1, "abc": 1}
    assert settled(answers.__getitem__, A, B, C) == (["bc"], ["a"])


def test_what_is_asked_first_is_all_each_alone_and_all_but_each() -> None:
    asked = ["".join(sorted(keys)) for keys in alone_and_without([A, B, C])]
    assert asked == ["abc", "a", "b", "c", "bc", "ac", "ab"]
