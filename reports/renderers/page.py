"""What the HTML page shows, section by section: plain data for the template, made from the summary alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gapshift.reports.order import WORST_FIRST
from gapshift.reports.renderers.problems import problems
from gapshift.reports.renderers.view import (
    ALL,
    COLUMNS,
    KIND_MEANING,
    KINDS,
    LEVEL_KEYS,
    SYMBOLS,
    Cells,
    EnvironmentRow,
    Group,
    Interval,
    Json,
    answered,
    at_floor,
    bracket,
    criterion,
    fixed,
    groups,
    interval,
    labels_among,
    level_name,
    mapping,
    pool,
    pooled,
    rows,
    task_of,
    worst,
)

BINS = (0.25, 1.0, 2.0, 5.0, 10.0, 20.0)
"""Upper edges, in pp, of the colour steps of a drop; below the first the cell stays white."""
_MOST_PROBLEMS = 12
_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")


def minus(text: str) -> str:
    """Typographic minus signs before numbers, an en dash for a lone dash; hyphens in names stay.

    >>> minus("int8-dynamic: -0.4 [-1.0, 0.2]"), minus("-")
    ('int8-dynamic: −0.4 [−1.0, 0.2]', '–')
    """
    return _NEGATIVE.sub("−", text) if text != "-" else "–"


@dataclass(frozen=True)
class HeatCell:
    """One drop: its number, interval, colour step and marks."""

    css: str
    text: str
    interval: str
    floor: bool = False


@dataclass(frozen=True)
class HeatRow:
    """One environment of a group of bundles; ``absent`` says why it has no numbers."""

    name: str
    kind: str
    gated: bool
    cells: tuple[HeatCell, ...]
    tilt: str
    loss: str
    verdict: str
    would_be: str
    note: str
    absent: str


@dataclass(frozen=True)
class Heatmap:
    """Environment × level for one group of bundles."""

    label: str
    bundles: int
    gist: str
    rows: tuple[HeatRow, ...]


@dataclass(frozen=True)
class GateRow:
    """One gated environment: what must hold, the worst verdict per level, what went wrong."""

    name: str
    kind: str
    criterion: str
    verdict: str
    counts: str
    levels: tuple[str, ...]
    problems: tuple[tuple[str, str, str, str], ...]
    more: int


def step(drop: float) -> str:
    """CSS class of a drop's colour: ``z`` near zero, ``p1``-``p6`` for drops, ``n1``-``n6`` for gains."""
    place = sum(abs(drop) >= edge for edge in BINS)
    return "z" if place == 0 else f"{'p' if drop > 0 else 'n'}{place}"


def heat_cell(value: Interval | None, floor: bool) -> HeatCell:
    """A drop as a cell; bold where the interval leaves out zero, hatched where nothing was measured."""
    if value is None:
        return HeatCell("x", "no data", "", floor)
    css = step(value.estimate) + (" b" if value.clear else "")
    return HeatCell(css, minus(fixed(value.estimate)), minus(bracket(value)), floor)


# --------------------------------------------------------------------------- the gate


def gate_rows(environments: Iterable[EnvironmentRow], summary: Json) -> list[GateRow]:
    """Gated environments, worst first."""
    found = [_gate_row(row, summary) for row in environments if row.gated]
    return sorted(found, key=lambda row: WORST_FIRST.index(row.verdict))


def _gate_row(row: EnvironmentRow, summary: Json) -> GateRow:
    gated = [cell for cell in row.cells if cell.get("gated")]
    wrong = problems(row)
    counts = Counter(worst([cell.get("verdict") or "ERROR"]) for cell in gated)
    return GateRow(
        name=row.name,
        kind=row.kind,
        criterion=criterion(row.kind, summary),
        verdict=row.verdict or "ERROR",
        counts=", ".join(f"{counts[word]} {word}" for word in WORST_FIRST if counts[word]) if len(gated) > 1 else "",
        levels=tuple(worst(mapping(cell.get("levels")).get(key) for cell in gated) or "" for key in LEVEL_KEYS),
        problems=tuple(wrong[:_MOST_PROBLEMS]),
        more=max(0, len(wrong) - _MOST_PROBLEMS),
    )


def ungated(environments: Iterable[EnvironmentRow]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Kinds that were reported but not gated: (kind, meaning, names)."""
    names: dict[str, list[str]] = {}
    for row in environments:
        if not row.gated:
            ran = answered(row.cells)
            names.setdefault(row.kind, []).append(row.name if ran else f"{row.name} (not run)")
    order = sorted(names, key=lambda kind: KINDS.index(kind) if kind in KINDS else len(KINDS))
    return [(kind, KIND_MEANING.get(kind, ""), tuple(names[kind])) for kind in order]


def noticed(summary: Json, environments: Iterable[EnvironmentRow]) -> str:
    """Whether the data of each task would notice the mistakes: what the positive controls say."""
    controls = [row for row in environments if row.kind == "mistake" and not row.gated and answered(row.cells)]
    tasks = task_of(summary)
    found: dict[str, list[tuple[str, bool]]] = {}
    for row in controls:
        for task in dict.fromkeys(tasks.get(str(cell.get("bundle")), "") for cell in answered(row.cells)):
            own = (c for c in answered(row.cells) if tasks.get(str(c.get("bundle")), "") == task)
            found.setdefault(task, []).append((row.name, worst(c.get("verdict") for c in own) == "FAIL"))
    said = [(f"{task}: " if len(found) > 1 else "") + _noticed(each) for task, each in found.items()]
    return f"Positive controls: {' '.join(said)}" if said else ""


def _noticed(controls: Sequence[tuple[str, bool]]) -> str:
    missed = [name for name, fails in controls if not fails]
    if missed:
        return f"this data would not surely notice {', '.join(missed)} (would not FAIL)."
    return f"this data would notice {', '.join(name for name, _ in controls)} (would FAIL)."


# --------------------------------------------------------------------------- heatmaps


def heatmaps(summary: Json, environments: Sequence[EnvironmentRow]) -> list[Heatmap]:
    """One heatmap per group of bundles that differ by seed alone."""
    cells = Cells(summary)
    return [_heatmap(group.label, group.bundles, environments, cells) for group in groups(summary)]


def bundle_heatmaps(summary: Json, environments: Sequence[EnvironmentRow]) -> list[Heatmap]:
    """One heatmap per bundle, where a group holds several."""
    cells, found = Cells(summary), groups(summary)
    if all(len(group.bundles) == 1 for group in found):
        return []
    return [_heatmap(name, (name,), environments, cells) for group in found for name in group.bundles]


def _heatmap(label: str, bundles: tuple[str, ...], environments: Sequence[EnvironmentRow], cells: Cells) -> Heatmap:
    found = [(row, cells.of(row.name, bundles)) for row in environments]
    made = tuple(heat_row(row, mine) for row, mine in found if mine)
    return Heatmap(label, len(bundles), _gist(found), made)


def _gist(found: Sequence[tuple[EnvironmentRow, list[Json]]]) -> str:
    """The largest drop, apart from the mistakes, which are large on purpose."""
    found = [(row, mine) for row, mine in found if row.kind != "mistake"]
    drops = [
        (v.estimate, row.name, key) for row, mine in found for key in LEVEL_KEYS if (v := pooled(mine, "drop_pp", key))
    ]
    if not drops:
        return ""
    drop, name, key = max(drops)
    return f"largest drop {minus(fixed(drop))} pp, {level_name(key)}, {name}"


def heat_row(row: EnvironmentRow, cells: Sequence[Json]) -> HeatRow:
    """One environment's drops over some bundles' cells."""
    ran = answered(cells)
    made = tuple(heat_cell(pooled(cells, "drop_pp", key), at_floor(ran, key)) for key in COLUMNS) if ran else ()
    gated = any(cell.get("gated") for cell in cells)
    return HeatRow(
        name=row.name,
        kind=row.kind,
        gated=gated,
        cells=made,
        tilt=minus(_with_ends(pool(interval(cell.get("tilt_pp")) for cell in ran))),
        loss=_losses(ran),
        verdict=(worst(cell.get("verdict") for cell in cells if cell.get("gated")) or "ERROR") if gated else "",
        would_be="" if gated else worst(cell.get("verdict") for cell in ran) or "",
        note=_note(cells, ran),
        absent="" if ran else absence(cells),
    )


def _with_ends(value: Interval | None) -> str:
    return "-" if value is None else f"{fixed(value.estimate)} {bracket(value)}".rstrip()


def _losses(cells: Sequence[Json]) -> str:
    values = [pooled(cells, "loss", key) for key in LEVEL_KEYS]
    if not any(values):
        return ""
    return " · ".join(map(short_percent, values))


def short_percent(value: Interval | None) -> str:
    """A share in percent, with a decimal only below ten.

    >>> short_percent(Interval(0.0312)), short_percent(Interval(0.312)), short_percent(None)
    ('3.1', '31', '–')
    """
    return "–" if value is None else fixed(100 * value.estimate, 0 if value.estimate >= 0.0995 else 1)


def _note(cells: Sequence[Json], ran: Sequence[Json]) -> str:
    parts = [] if len(ran) in (0, len(cells)) else [f"{len(ran)} of {len(cells)} bundles ran"]
    if any(cell.get("subsampled") for cell in ran):
        sizes = {n for cell in ran if (n := mapping(cell.get("n_by_level")).get(ALL) or cell.get("n"))}
        parts.append(f"subsample, n = {' or '.join(str(n) for n in sorted(sizes))}")
    return "; ".join(parts)


def absence(cells: Iterable[Json]) -> str:
    """Why cells have no numbers: status and reason, each once."""
    return "; ".join(dict.fromkeys(f"{status}: {why}" for status, why in map(status_and_reason, cells)))


def status_and_reason(cell: Json) -> tuple[str, str]:
    """A cell's status in words and its reason, which may or may not repeat the status.

    >>> status_and_reason({"status": "skipped", "reason": "skipped: no such provider"})
    ('skipped', 'no such provider')
    """
    status = str(cell.get("status") or "ok").replace("_", " ")
    return status, str(cell.get("reason") or "no reason was recorded").removeprefix(f"{status}: ")


@dataclass(frozen=True)
class Overview:
    """Environment × (group × level) of one task and family, without intervals."""

    label: str
    groups: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[HeatCell, ...], ...]], ...]


def overviews(summary: Json, environments: Sequence[EnvironmentRow]) -> list[Overview]:
    """A first look over several groups, one table for each task and family; none of a lone group."""
    found = groups(summary)
    if len(found) < 2:
        return []
    about = {str(bundle.get("name")): bundle for bundle in rows(summary, "bundles")}
    split: dict[str, list[Group]] = {}
    for group in found:
        first = mapping(about.get(group.bundles[0]))
        split.setdefault(" · ".join(str(first[key]) for key in ("task", "family") if first.get(key)), []).append(group)
    return [_overview(label, own, environments, summary) for label, own in split.items()]


def _overview(label: str, own: Sequence[Group], environments: Sequence[EnvironmentRow], summary: Json) -> Overview:
    """Environments that no model of these groups met are left out."""
    cells = Cells(summary)
    met = [row for row in environments if any(cells.of(row.name, group.bundles) for group in own)]
    lines = tuple((row.name, tuple(tuple(_strip(row, group, cells)) for group in own)) for row in met)
    return Overview(label, labels_among(summary, own), lines)


def _strip(row: EnvironmentRow, group: Group, cells: Cells) -> list[HeatCell]:
    mine = cells.of(row.name, group.bundles)
    return [heat_cell(pooled(mine, "drop_pp", key), at_floor(answered(mine), key)) for key in COLUMNS]


def absent_cells(environments: Iterable[EnvironmentRow]) -> list[tuple[str, str, str, str]]:
    """What did not run: (environment, status, bundles, reason), bundles with the same reason folded together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    planned: dict[str, int] = {}
    for row in environments:
        planned[row.name] = len(row.cells)
        for cell in row.cells:
            if cell.get("status", "ok") != "ok":
                key = (row.name, *status_and_reason(cell))
                found.setdefault(key, []).append(str(cell.get("bundle")))
    return [
        (name, status, f"all {len(bundles)}" if 2 < len(bundles) == planned[name] else shorten(bundles), why)
        for (name, status, why), bundles in found.items()
    ]


def shorten(names: Sequence[str], most: int = 2) -> str:
    """The first names and how many more.

    >>> shorten(["a", "b", "c"])
    '3 bundles: a, b, …'
    """
    return ", ".join(names) if len(names) <= most else f"{len(names)} bundles: {', '.join(names[:most])}, …"


def badge(word: Any) -> str:
    """A verdict with its symbol, so that colour is never alone."""
    return f"{SYMBOLS[word]} {word}" if word in SYMBOLS else str(word)
