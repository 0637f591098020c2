"""What did not pass in a gated environment, level by level and model by model."""

from __future__ import annotations

from collections.abc import Sequence

from gapshift.reports.order import WORST_FIRST
from gapshift.reports.renderers.view import (
    EnvironmentRow,
    Json,
    at,
    at_floor,
    level_name,
    mapping,
    number,
    with_interval,
    worst,
)


def problems(row: EnvironmentRow) -> list[tuple[str, str, str, str]]:
    """What is not a PASS in a gated environment: (bundle, where, verdict, why), worst first."""
    found = [problem for cell in row.cells if cell.get("gated") for problem in cell_problems(cell)]
    return sorted(found, key=lambda problem: WORST_FIRST.index(problem[2]))


def cell_problems(cell: Json) -> list[tuple[str, str, str, str]]:
    """The levels of a gated cell that did not pass, or the cell itself where no level explains its verdict.

    Levels that were judged together (a band) with one reason share a line.
    """
    bundle = str(cell.get("bundle"))
    by_level = {str(key): worst([word]) for key, word in mapping(cell.get("levels")).items()}
    found: dict[tuple[str, str], list[str]] = {}
    for key, word in by_level.items():
        if word is not None and word != "PASS":
            found.setdefault((word, level_reason(cell, key)), []).append(key)
    lines = [(bundle, levels_name(keys), word, reason) for (word, reason), keys in found.items()]
    verdict = worst([cell.get("verdict") or "ERROR"]) or "ERROR"
    if verdict != "PASS" and verdict not in by_level.values():
        lines.insert(0, (bundle, "", verdict, str(cell.get("reason") or "no reason was recorded")))
    return lines


def levels_name(keys: Sequence[str]) -> str:
    """Several levels in words.

    >>> levels_name(["4", "5"]), levels_name(["3"])
    ('levels 4, 5', 'level 3')
    """
    return level_name(keys[0]) if len(keys) == 1 else f"levels {', '.join(keys)}"


def level_reason(cell: Json, key: str) -> str:
    """Why a level got its verdict, and how many items would decide it."""
    reason = mapping(cell.get("level_reasons")).get(key)
    drop = with_interval(at(cell, "drop_pp", key))
    text = str(reason) if reason else (_no_reason(cell, key) if drop == "-" else f"drop {drop} pp")
    needed = number(mapping(cell.get("items_needed")).get(key))
    if needed is None or f"{needed:.0f}" in text.replace(",", ""):
        return text
    return f"{text}; about {needed:,.0f} items would decide".lstrip("; ")


def _no_reason(cell: Json, key: str) -> str:
    said = "at the floor: nothing left to lose; " if at_floor([cell], key) else ""
    return said + (str(cell.get("reason") or "") or "no drop was measured")
