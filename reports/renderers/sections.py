"""The page's other sections as plain data: calibration, what really ran, churn and loss."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gapshift.reports.renderers import self_test
from gapshift.reports.renderers.page import minus, short_percent, shorten
from gapshift.reports.renderers.power import facts as power_facts
from gapshift.reports.renderers.reading import facts as reading_facts
from gapshift.reports.renderers.view import (
    ALL,
    LEVEL_KEYS,
    EnvironmentRow,
    Interval,
    Json,
    answered,
    executed,
    fixed,
    interval,
    mapping,
    number,
    percent,
    pool,
    pooled,
    rows,
    sentence,
    share,
    task_of,
    with_interval,
)
from gapshift.schema import listing


@dataclass(frozen=True)
class ExecutionRow:
    """What an environment asked for and what ran."""

    name: str
    kind: str
    summary: str
    deviations: str
    requested: str
    executed: str
    matches: bool
    provider: str
    operators: str
    versions: str
    remarks: str
    speed: str
    seconds: str


@dataclass(frozen=True)
class ChurnRow:
    """Churn, flips, loss per level and calibration error of an environment, mean over bundles."""

    name: str
    churn: str
    churn_levels: tuple[str, ...]
    lost: str
    gained: str
    loss_levels: tuple[str, ...]
    loss_slope: str
    ability: str
    ece: str


# ----------------------------------------------------------------------- calibration


def calibration_words(card: Json) -> list[str]:
    """A calibration card in plain sentences."""
    said = [_rated(card), _reliability(card), _bands(card.get("gated_bands"))]
    guessing = number(card.get("guessing"))
    if guessing is not None:
        said.append(f"A guess is right with probability {fixed(guessing, 2)}.")
    agreement = number(card.get("rank_correlation_py_irt"))
    if agreement is not None:
        said.append(
            f"A second engine (py-irt) orders the items the same way with rank correlation {fixed(agreement, 3)}."
        )
    ties = number(card.get("tie_share"))
    if ties:
        said.append(
            f"{percent(ties)} of the items lie exactly on a level's edge and were placed by a hash of their id."
        )
    return [words for words in said if words]


def _rated(card: Json) -> str:
    items, responders = number(card.get("items")) or 0, number(card.get("responders")) or 0
    if not responders:
        return f"The levels of {items:,.0f} items came with the data ({card.get('source') or 'given'})."
    engine = card.get("engine") or "unknown"
    said = f"{items:,.0f} items were rated by {responders:,.0f} responders (engine {engine})"
    return said + ("." if card.get("circular") else "; none of them is the model under test.")


def _reliability(card: Json) -> str:
    value = number(card.get("split_half"))
    if value is None:
        return "How reliable the levels are is not known."
    word = "good enough for five levels" if value >= 0.8 else "too low for five levels"
    word = "too low for any levels" if value < 0.5 else word
    return f"Split-half reliability is {fixed(value, 2)}: {word}."


def _bands(value: Any) -> str:
    bands = [
        tuple(str(level) for level in band)
        for band in value or ()
        if isinstance(band, Sequence) and not isinstance(band, str)
    ]
    if len(bands) == 5:
        return "Each of the five levels is gated on its own."
    if len(bands) == 1:
        return "All items are gated together: the levels are not reliable enough to be judged apart."
    return (
        f"Gated in {len(bands)} bands: {', '.join('–'.join((b[0], b[-1]) if len(b) > 1 else b) for b in bands)}."
        if bands
        else ""
    )


# ------------------------------------------------------------------------- execution


def common_versions(environments: Iterable[EnvironmentRow]) -> dict[str, str]:
    """Library versions that are the same in every cell that states them."""
    found: dict[str, set[str]] = {}
    for row in environments:
        for cell in answered(row.cells):
            for name, version in mapping(mapping(cell.get("execution")).get("versions")).items():
                found.setdefault(str(name), set()).add(str(version))
    return {name: versions.pop() for name, versions in sorted(found.items()) if len(versions) == 1}


def execution_rows(environments: Iterable[EnvironmentRow], common: Mapping[str, str]) -> list[ExecutionRow]:
    """Requested and executed, one line per environment."""
    return [_execution_row(row, common) for row in environments]


def _execution_row(row: EnvironmentRow, common: Mapping[str, str]) -> ExecutionRow:
    ran = answered(row.cells)
    truths = [mapping(cell.get("execution")) for cell in ran]
    formats = [executed(cell) for cell in ran]
    speeds = [speed for cell in ran if (speed := number(cell.get("items_per_second")))]
    seconds = sum(number(cell.get("seconds")) or 0.0 for cell in ran)
    return ExecutionRow(
        name=row.name,
        kind=row.kind,
        summary=row.summary,
        deviations=listing(row.deviations),
        requested=_each(requested for requested, _, _ in formats),
        executed=_each(ran for _, ran, _ in formats),
        matches=all(matches for _, _, matches in formats),
        provider=_each(truth.get("provider") for truth in truths).replace("ExecutionProvider", ""),
        operators=_operators(truths),
        versions=_each(f"{k} {v}" for t in truths for k, v in mapping(t.get("versions")).items() if k not in common),
        remarks=" ".join(dict.fromkeys(sentence(note) for cell in ran for note in cell.get("remarks") or ())),
        speed=f"{statistics.median(speeds):,.0f}" if speeds else "–",
        seconds=f"{seconds:,.1f}" if ran else "–",
    )


def _each(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value)) or "–"


def _operators(truths: Iterable[Json]) -> str:
    """Compute operators by format as executed, of the first cell that states them."""
    dtypes = next((found for truth in truths if (found := mapping(truth.get("dtypes")))), {})
    return ", ".join(f"{op} {_formats(formats)}" for op, formats in dtypes.items()) or "–"


def _formats(value: Any) -> str:
    return " + ".join(f"{name} ×{count}" for name, count in value.items()) if isinstance(value, Mapping) else str(value)


# ---------------------------------------------------------------------- churn and loss


def churn_tables(summary: Json, environments: Iterable[EnvironmentRow]) -> list[tuple[str, list[ChurnRow]]]:
    """Churn and loss per environment that ran, a table for each task, since tasks share no scale: (task, rows)."""
    tasks = task_of(summary)
    found: dict[str, list[ChurnRow]] = {}
    for row in environments:
        ran = answered(row.cells)
        for task in dict.fromkeys(tasks.get(str(cell.get("bundle")), "") for cell in ran):
            own = tuple(cell for cell in ran if tasks.get(str(cell.get("bundle")), "") == task)
            found.setdefault(task, []).append(_churn_row(replace(row, cells=own)))
    return list(found.items())


def _churn_row(row: EnvironmentRow) -> ChurnRow:
    def measured(key: str) -> Interval | None:
        return pool(interval(cell.get(key)) for cell in answered(row.cells))

    return ChurnRow(
        name=row.name,
        churn=_percent(pooled(row.cells, "churn", ALL)),
        churn_levels=tuple(short_percent(pooled(row.cells, "churn", key)) for key in LEVEL_KEYS),
        lost=_flips(row, "right_to_wrong"),
        gained=_flips(row, "wrong_to_right"),
        loss_levels=tuple(short_percent(pooled(row.cells, "loss", key)) for key in LEVEL_KEYS),
        loss_slope=minus(with_interval(measured("loss_slope"), 2)),
        ability=minus(with_interval(measured("ability_shift"), 2)),
        ece=minus(with_interval(share(measured("ece_difference")), 1)),
    )


def _percent(value: Interval | None) -> str:
    scaled = share(value)
    if scaled is None:
        return "–"
    return minus(with_interval(scaled))


def _flips(row: EnvironmentRow, direction: str) -> str:
    found = [number(mapping(mapping(cell.get("flips")).get(direction)).get(ALL)) for cell in answered(row.cells)]
    known = [value for value in found if value is not None]
    return f"{sum(known):,.0f}" if known else "–"


# ---------------------------------------------------------------------------- bundles


def bundle_rows(summary: Json) -> list[dict[str, str]]:
    """Bundles with their accuracy in the reference and the export drop."""
    return [_bundle_row(bundle) for bundle in rows(summary, "bundles")]


def _bundle_row(bundle: Json) -> dict[str, str]:
    reference = mapping(bundle.get("reference"))
    accuracy = mapping(reference.get("accuracy"))
    export = interval(mapping(bundle.get("export_drop_pp")).get(ALL))
    return {
        "name": str(bundle.get("name")),
        "regime": str(bundle.get("regime") or "–"),
        "seed": str(bundle["seed"]) if bundle.get("seed") is not None else "–",
        "sha256": str(bundle.get("sha256") or "")[:12],
        "status": ": ".join(str(reference[key]) for key in ("status", "reason") if reference.get(key)) or "–",
        "accuracy": _share_of(accuracy.get(ALL)),
        "levels": " · ".join(_share_of(accuracy.get(key)) for key in LEVEL_KEYS) if accuracy else "–",
        "export": minus(with_interval(export, 2)),
        "ece": percent(reference.get("ece")).replace("-", "–"),
    }


def _share_of(value: Any) -> str:
    found = share(interval(value))
    return "–" if found is None else fixed(found.estimate)


def _reference_accuracy(summary: Json) -> str:
    """Of one model over all items and by level; of several the range, task by task."""
    tasks: dict[str, list[Json]] = {}
    for bundle in rows(summary, "bundles"):
        tasks.setdefault(str(bundle.get("task") or ""), []).append(bundle)
    said = {task: words for task, own in tasks.items() if (words := _accuracies(own))}
    return next(iter(said.values()), "") if len(tasks) < 2 else "; ".join(f"{k} {v}" for k, v in said.items())


def _accuracies(bundles: Sequence[Json]) -> str:
    found = [mapping(mapping(bundle.get("reference")).get("accuracy")) for bundle in bundles]
    overall = [value for value in (number(accuracy.get("all")) for accuracy in found) if value is not None]
    if len(found) > 1:
        return f"{min(overall):.1%} to {max(overall):.1%}" if overall else ""
    by_level = [(key, number(found[0].get(key))) for key in LEVEL_KEYS] if found else []
    levels = ", ".join(f"L{key} {100 * value:.0f}" for key, value in by_level if value is not None)
    if not overall:  # levels that were read until decided are no sample of all items together
        return f"{levels} (% of what was read)" if levels else ""
    return f"{overall[0]:.1%} ({levels})" if levels else f"{overall[0]:.1%}"


def facts(summary: Json) -> list[tuple[str, str]]:
    """The run in a few numbers."""
    items, tasks = mapping(summary.get("items")), rows(summary, "tasks")
    cells = rows(summary, "cells")
    names = [str(b.get("name")) for b in rows(summary, "bundles")]
    domains = dict.fromkeys(str(b["domain"]) for b in rows(summary, "bundles") if b.get("domain"))
    found = [
        ("model" if len(names) == 1 else "models", shorten(names, 1) if len(names) < 2 else f"{len(names)} bundles"),
        ("data", ", ".join(dict.fromkeys(str(mapping(task.get("data")).get("source") or "") for task in tasks))),
        ("domains", ", ".join(domains) if len(domains) > 1 else ""),
        ("items judged", f"{number(items.get('judged')) or 0:,.0f}" if items.get("judged") is not None else ""),
        ("reference accuracy", _reference_accuracy(summary)),
        ("withheld for the static quantiser", f"{items['withheld']} items" if items.get("withheld") else ""),
        ("unreadable items", f"{items['unreadable']}" if items.get("unreadable") else ""),
        ("cells", f"{len(answered(cells))} of {len(cells)} ran" if cells else ""),
        *reading_facts(summary),
        *power_facts(summary),
        *self_test.facts(summary),
    ]
    return [(name, value) for name, value in found if value]
