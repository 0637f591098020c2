"""How far a sequential run read each gated level: a fact beside the verdict, a chapter, the rule in words."""

from __future__ import annotations

from collections.abc import Sequence

from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, chapter
from gapshift.reports.renderers.view import LEVEL_KEYS, Json, answered, groups, mapping, number, percent, rows

_LEAD = (
    "Each level's items come in a drawn order, and two e-values are looked at after every one of them: the capital won "
    "by betting that the drop lies below the margin, and by betting that it lies above. One of them decides; neither "
    "does so wrongly more often than was settled beforehand, however often it is looked at."
)
_NOTE = (
    "Each level: items until it was decided, or those that were read without a decision, of those that are there; "
    "below it what was found, with its e-value. Answers that a batch brought after a decision decide nothing."
)
_OPEN_ROWS = 12
"""A longer table is shown closed."""
_WORDS = {
    "within": "within",
    "beyond": "beyond",
    "changed": "a prediction changed",
    "churn": "few changes",
}


def facts(summary: Json) -> list[tuple[str, str]]:
    """How much was read; none where that was all."""
    found = mapping(summary.get("reading"))
    read, full = number(found.get("read")), number(found.get("full"))
    if read is None or full is None:
        return []
    what = "answers read (sequential)" if found.get("mode") == "sequential" else "items drawn (budget)"
    return [(what, f"{read:,.0f} of {full:,.0f} ({percent(found.get('saved'), 0)} saved)")]


def sequential(summary: Json) -> bool:
    """Whether levels were read until they were decided."""
    return mapping(summary.get("reading")).get("mode") == "sequential"


def chapters(summary: Json) -> list[Chapter]:
    """A table of all cells that were read so, level by level."""
    cells = [cell for cell in answered(rows(summary, "cells")) if mapping(cell.get("reading"))]
    several = len(groups(summary)) > 1 or len({str(cell.get("bundle")) for cell in cells}) > 1
    heads = ("environment", "answers", *(f"level {key}" for key in LEVEL_KEYS))
    lines = tuple(_line(cell, several) for cell in cells)
    fold = f"All {len(lines)} cells, level by level" if len(lines) > _OPEN_ROWS else ""
    tables = (Table("Items read until each level was decided", heads, lines, fold, (_NOTE,)),) if lines else ()
    return chapter("reading", "How far each level was read", "Reading", [Part("", _LEAD, tables)])


def _line(cell: Json, several: bool) -> tuple[Cell, ...]:
    reading = mapping(cell.get("reading"))
    name = Cell(str(cell.get("environment")), str(cell.get("bundle")) if several else "")
    read, full = number(reading.get("read")) or 0, number(reading.get("full")) or 0
    asked = Cell(f"{read:,.0f}", f"of {full:,.0f}") if read else Cell("–", "training's own")
    return name, asked, *_levels(mapping(reading.get("levels")))


def _levels(levels: Json) -> Sequence[Cell]:
    return [_level(mapping(levels.get(key))) for key in LEVEL_KEYS]


def _level(level: Json) -> Cell:
    decided, read, there = (number(level.get(key)) for key in ("decided_after", "read", "there"))
    finding = str(level.get("finding") or "")
    if not finding:
        return Cell(f"{read or 0:,.0f} of {there or 0:,.0f}", "undecided")
    e_value = number(level.get("e_beyond" if finding == "beyond" else "e_within"))
    evidence = f", e = {e_value:,.3g}" if finding in ("within", "beyond") and e_value is not None else ""
    return Cell(f"{decided or 0:,.0f} of {there or 0:,.0f}", f"{_WORDS.get(finding, finding)}{evidence}")


def rule(summary: Json) -> str:
    """How a level passes and fails in a sequential run; empty where each is judged on all its items."""
    if not sequential(summary):
        return ""
    margin, alpha = number(summary.get("margin_pp")) or 0, number(summary.get("alpha")) or 0
    errors = mapping(mapping(summary.get("reading")).get("errors"))
    within, beyond = number(errors.get("within")), number(errors.get("beyond"))
    needed = [f"{1 / error:,.0f}" if error else "–" for error in (within, beyond)]
    return (
        f"A level passes when its e-value for a drop below {margin:g} pp reaches {needed[0]}, and fails when that for "
        f"a drop above it reaches {needed[1]} (α = {alpha:g} over all planned tests). Where its items, or the budget, "
        "end before that, it is INCONCLUSIVE. An equivalent environment fails at the first prediction that it changes "
        "outside ties; what was not read was not compared. Brackets hold 95% confidence sequences."
    )
