"""``--budget N``: at most N items of a task are judged, the same ones in the reference and in every cell."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Protocol

from gapshift.errors import SettingsError
from gapshift.flows.splitting import TEST
from gapshift.reports.reading import NOT_DRAWN
from gapshift.schema import rank


def check_budget(budget: int | None) -> None:
    """Raise SettingsError for a budget that no item fits in."""
    if budget is not None and budget < 1:
        raise SettingsError(f"The budget is {budget} items; give 1 or more, or leave it out to judge them all.")


class Limited(Protocol):
    """What a plan and the request for one say of it."""

    @property
    def budget(self) -> int | None: ...

    @property
    def sequential(self) -> bool: ...

    @property
    def seed(self) -> int: ...


def drawn_roles(roles: Mapping[str, str], levels: Mapping[str, int], plan: Limited) -> dict[str, str]:
    """Each item's role with only the drawn ones to be judged.

    Without a budget, and where a plan is sequential (its budget limits answers, not items), all of them are drawn
    again. Drawing twice draws the same.
    """
    candidates = [name for name, role in roles.items() if role in (TEST, NOT_DRAWN)]
    limit = None if plan.sequential else plan.budget
    drawn = set(candidates) if limit is None else drawn_evenly(candidates, levels, limit, plan.seed)
    return dict(roles) | {name: TEST if name in drawn else NOT_DRAWN for name in candidates}


def drawn_evenly(names: Collection[str], levels: Mapping[str, int], limit: int, seed: int) -> set[str]:
    """At most ``limit`` ids, as many of every level where it has them, drawn by ``seed`` and id alone.

    Items without a level, which as a rule cannot be read, are drawn in proportion, so that their share stays.

    >>> sorted(drawn_evenly(["a", "b", "c", "d"], {"a": 1, "b": 1, "c": 1, "d": 5}, 2, seed=0))
    ['c', 'd']
    """
    if limit >= len(names):
        return set(names)
    by_level: dict[int, list[str]] = {}
    for name in sorted(names, key=lambda each: rank(each, seed)):
        by_level.setdefault(levels.get(name, 0), []).append(name)
    unrated = by_level.pop(0, [])
    first = unrated[: math.ceil(limit * len(unrated) / len(names))]
    turns = sorted((turn, level, name) for level, own in by_level.items() for turn, name in enumerate(own))
    return {*first, *(name for _, _, name in turns[: limit - len(first)])}
