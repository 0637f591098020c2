"""Simulated services on the page: how many answers came from a fallback or never, and how long requests took."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, chapter
from gapshift.reports.renderers.view import (
    Json,
    answered,
    bracket,
    fixed,
    mapping,
    number,
    pooled,
    rows,
    share,
    task_of,
)

_HEADS = (
    "environment", "from a fallback, %", "level 1 → 5", "no answer, %", "level 1 → 5", "stale, %", "garbled, %",
    "median, ms", "95% within, ms",
)  # fmt: skip
_LEAD = (
    "Answers that a deployment gave without its preprocessing or feature service, or did not give at all, as shares of "
    "the judged items (of episodes: those that met a fallback); stale and garbled ones as shares of the requests. Time "
    "is simulated."
)


def chapters(summary: Json) -> list[Chapter]:
    """A table for each task whose cells have a service, a line for each environment, mean over its models."""
    tasks, found = task_of(summary), dict[str, dict[str, list[Json]]]()
    for cell in answered(rows(summary, "cells")):
        if mapping(cell.get("service")):
            lines = found.setdefault(tasks.get(str(cell.get("bundle")), ""), {})
            lines.setdefault(str(cell.get("environment")), []).append(cell)
    tables = tuple(
        Table(task, _HEADS, tuple(_line(name, cells) for name, cells in lines.items())) for task, lines in found.items()
    )
    return chapter("services", "Services and their fallbacks", "Services", [Part("", _LEAD, tables)])


def _line(name: str, cells: Sequence[Json]) -> tuple[Cell, ...]:
    tallies = [mapping(cell.get("service")) for cell in cells]
    shares = [part for key in ("fallback_share", "no_answer_share") for part in _shares(cells, key)]
    wrong = [_mean([_of_requests(tally, what) for tally in tallies]) for what in ("stale", "corrupted")]
    times = [
        _mean([number(tally.get(key)) or None for tally in tallies], 0)
        for key in ("latency_ms_median", "latency_ms_p95")
    ]
    return Cell(name), *shares, *wrong, *times


def _shares(cells: Sequence[Json], key: str) -> tuple[Cell, Cell]:
    """Over all items with its interval, and level by level, in percent."""
    whole = share(pooled(cells, key, "all"))
    levels = [share(pooled(cells, key, str(level))) for level in range(1, 6)]
    each = " · ".join(fixed(level.estimate if level else None) for level in levels)
    return Cell(fixed(whole.estimate), bracket(whole)) if whole else Cell("-"), Cell(each)


def _of_requests(tally: Json, what: str) -> float | None:
    count, requests = number(tally.get(what)), number(tally.get("requests"))
    return None if count is None or not requests else 100 * count / requests


def _mean(values: Sequence[float | None], digits: int = 1) -> Cell:
    known = [value for value in values if value is not None]
    return Cell(fixed(statistics.fmean(known) if known else None, digits))
