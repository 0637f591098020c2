"""Parts of an environment's deviations: what they are made of, whether they compare, what the gate says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from gapshift.reports.load import Pairs
from gapshift.reports.planned import MeasuredCell, MeasuredRun
from gapshift.reports.verdicts import JudgedCell, gated_p, judge_beside

Combination = frozenset[str]
"""The dotted keys of a part of an environment's deviations."""


@dataclass(frozen=True, eq=False)
class Player:
    """What a share goes to: a deviation, or several that cannot stand alone; then ``why`` says what is refused."""

    deviations: Mapping[str, Any]
    why: str = ""

    @cached_property
    def keys(self) -> Combination:
        return frozenset(self.deviations)

    @cached_property
    def name(self) -> str:
        """Its deviations in words."""
        return " with ".join(deviation_words(key, value) for key, value in self.deviations.items())


def deviation_words(key: str, value: Any) -> str:
    """One deviation, its key without the word that most of them begin with.

    >>> deviation_words("preprocessing.resize.antialias", False), deviation_words("runtime.batch_size", 1)
    ('resize.antialias = false', 'runtime.batch_size = 1')
    """
    said = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{key.removeprefix('preprocessing.')} = {said}"


def united(players: Collection[Player]) -> Combination:
    """The keys of several players."""
    return frozenset().union(*(player.keys for player in players))


class Gate:
    """A run's own gate, for an environment with a part of its deviations alone.

    A combination takes the place of the environment's cell of the same model: margin, alpha, bands and the Holm
    family are the run's as planned. Where the environment is not gated there, its levels join the family for their own
    sake, as those of every cell that is not.
    """

    def __init__(self, run: MeasuredRun, environment: str) -> None:
        self._environment = environment
        self._own = {cell.bundle.name: cell for cell in run.cells if cell.environment.name == environment}
        self._family = sum(len(cell.bands) for cell in run.cells if cell.gated)
        self._p = gated_p(run.cells, run.rule)
        self._rule = run.rule

    def judged(self, cell: MeasuredCell) -> JudgedCell:
        """The cell of a combination with the verdict that the environment would get, were it no more than that."""
        bundle, own = cell.bundle.name, self._own.get(cell.bundle.name)
        others = {test: p for test, p in self._p.items() if test[:2] != (bundle, self._environment)}
        mine = replace(cell, named=bool(own and own.named), gated=bool(own and own.gated))
        return judge_beside(mine, others, self._rule, self._family)

    def tests(self, cell: MeasuredCell) -> int:
        """One of how many tests a cell is at this gate, where its environment is not gated there."""
        return self._family + len(cell.bands)


def unusable(cell: MeasuredCell) -> tuple[str, str] | None:
    """Status and reason of a combination whose answers cannot be compared; None where they can.

    Numbers of another format than the one that was asked for count, as they do everywhere: they are what was executed.
    """
    if cell.info is not None and cell.info.status != "ok":
        return cell.info.status, cell.info.reason or "no reason was recorded"
    if cell.blocked is not None and (cell.pairs is None or cell.blocked.verdict != "NO DATA"):
        return "error", cell.blocked.reason
    return ("error", "it has no answers") if cell.pairs is None or not len(cell.pairs) else None


def same_answers(one: MeasuredCell, other: MeasuredCell) -> bool:
    """Whether two combinations gave every item the same answer with the same confidence."""
    if one.pairs is None or other.pairs is None:
        return False
    a, b = (in_place(pairs) for pairs in (one.pairs, other.pairs))
    alike = (np.array_equal(getattr(a, name), getattr(b, name)) for name in ("position", "prediction", "still_right"))
    return all(alike) and np.array_equal(a.confidence, b.confidence, equal_nan=True)


def in_place(pairs: Pairs) -> Pairs:
    """The pairs in the order of the task's items: each combination answered them in its own."""
    order = np.argsort(pairs.position, kind="stable")
    return replace(pairs, **{field.name: getattr(pairs, field.name)[order] for field in fields(pairs)})
