"""How often a run's verdict would be wrong by chance: its cells redrawn a thousand times and judged by the whole gate.

Once nothing is lost anywhere (D = 0), once every gated level of every gated cell loses the margin (D = margin), both
at the observed churn (``redraw``). What chance does not move is left aside and said: cells that could not be judged,
and levels too unreliable to be judged apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.cells import Json
from gapshift.reports.gate import Band, Rule
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.redraw import Together, redraw, together
from gapshift.reports.redrawn_gate import (
    FAIL,
    FLOOR,
    PASS,
    WORDS,
    Codes,
    Columns,
    band_codes,
    cell_codes,
    columns_to_judge,
)
from gapshift.reports.statistics import wilson

REPEATS = 1000
_LISTED = 5
"""How many of the cells and levels that hold least often are listed."""


@dataclass(frozen=True, eq=False)
class Redrawn:
    """A run's gated cells, redrawn: one code a repeat and column (cell × band), without a drop and at the margin."""

    cells: tuple[MeasuredCell, ...]
    groups: tuple[Together, ...]
    columns: Columns
    no_drop: Codes
    at_margin: Codes

    @property
    def repeats(self) -> int:
        return len(self.no_drop)

    def runs(self, codes: Codes) -> Codes:
        """The run's verdict of each repeat: the worst of its cells."""
        worst: Codes = cell_codes(self.columns, codes).max(axis=1)
        return worst

    def holds(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether without a drop a repeat's chosen columns all pass, or are at the floor."""
        return np.asarray((self.no_drop[:, chosen] <= PASS).all(axis=1), dtype=bool)

    @property
    def bands(self) -> list[Band]:
        """The band of each column."""
        return [group.band for group in self.groups for _ in group.cells]


def redraw_run(
    cells: Iterable[MeasuredCell],
    rule: Rule,
    family: int,
    seed: int,
    items: Sequence[int] | None = None,
    repeats: int = REPEATS,
) -> Redrawn | None:
    """The gated cells redrawn and judged, with their own items or ``items`` of levels 1 to 5.

    None where no cell can be judged. ``family`` is the number of planned gated tests, those of cells that could not be
    judged among them.
    """
    gated = tuple(cells)
    groups = tuple(together(gated))
    if not groups:
        return None
    sizes = [of_band(items, group.band) or group.n for group in groups]
    columns = columns_to_judge(gated, groups, sizes, rule)
    codes = [
        band_codes(columns, redraw(groups, sizes, drop, repeats, seed), rule, family) for drop in (0.0, rule.margin)
    ]
    return Redrawn(gated, groups, columns, *codes)


def of_band(items: Sequence[int] | None, band: Band) -> int:
    """The items of a band's levels; 0 where none are planned.

    >>> of_band((10, 10, 10, 20, 30), (4, 5)), of_band(None, (1,))
    (50, 0)
    """
    return sum(items[level - 1] for level in band) if items else 0


def false_alarms_json(redrawn: Redrawn | None, seed: int, aside: Sequence[str]) -> Json:
    """``summary["false_alarms"]`` (see ``judge``); without cells to redraw all rates are null."""
    about: Json = {"repeats": redrawn.repeats if redrawn else 0, "seed": seed, "aside": list(aside)}
    if redrawn is None:
        names = ("false_fail", "not_pass", "false_pass", "false_pass_one_level", "no_drop", "at_margin")
        return about | dict.fromkeys(names) | {"cells": 0, "least": []}
    no_drop, at_margin = redrawn.runs(redrawn.no_drop), redrawn.runs(redrawn.at_margin)
    return about | {
        "cells": len(np.unique(redrawn.columns.cell)),
        "no_drop": _shares(no_drop),
        "at_margin": _shares(at_margin),
        "false_fail": rate(no_drop == FAIL),
        "not_pass": rate(no_drop != PASS),
        "false_pass": rate(at_margin == PASS),
        "false_pass_one_level": _one_level(redrawn),
        "least": _least(redrawn),
    }


def rate(hits: NDArray[np.bool_]) -> Mapping[str, float] | None:
    """A share of the repeats with its Monte Carlo error: Wilson's 95% interval."""
    return wilson(int(hits.sum()), len(hits)).as_json()


def _shares(codes: Codes) -> dict[str, float]:
    return {word: float((codes == code).mean()) for code, word in enumerate(WORDS)}


def _one_level(redrawn: Redrawn) -> Json | None:
    """How often the run passes though one level of one cell loses the margin: the level where that happens most.

    Levels at the floor are left out, as the verdict leaves them out.
    """
    columns = redrawn.columns
    bad_cells = cell_codes(columns, redrawn.no_drop) != PASS
    place_of = {place: k for k, place in enumerate(np.unique(columns.cell).tolist())}
    judged = np.flatnonzero(~(redrawn.no_drop == FLOOR).any(axis=0))
    passes = {}
    for k in judged.tolist():
        own = columns.cell == columns.cell[k]
        others = np.delete(bad_cells, place_of[int(columns.cell[k])], axis=1).any(axis=1)
        own[k] = False
        passes[k] = ~others & (redrawn.no_drop[:, own] <= PASS).all(axis=1) & (redrawn.at_margin[:, k] == PASS)
    if not passes:
        return None
    most = max(passes, key=lambda k: float(passes[k].mean()))
    return {**(rate(passes[most]) or {}), **_where(redrawn, most)}


def _least(redrawn: Redrawn) -> list[Json]:
    """The cells and levels that hold least often without a drop, those that always do left out."""
    holds = (redrawn.no_drop <= PASS).mean(axis=0)
    order = [k for k in np.argsort(holds, kind="stable").tolist() if holds[k] < 1]
    return [{**_where(redrawn, k), "holds": float(holds[k])} for k in order[:_LISTED]]


def _where(redrawn: Redrawn, column: int) -> Json:
    cell = redrawn.cells[int(redrawn.columns.cell[column])]
    return {
        "bundle": cell.bundle.name,
        "environment": cell.environment.name,
        "levels": list(redrawn.bands[column]),
    }
