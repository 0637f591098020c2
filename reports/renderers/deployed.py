"""What a study says of its deployed models: critical levels, the order of regimes, scores and open loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from gapshift.reports.renderers.comparisons import model, split
from gapshift.reports.renderers.page import minus
from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, chapter, footnotes, plain, value_cell
from gapshift.reports.renderers.view import (
    Cells,
    Group,
    Interval,
    Json,
    answered,
    fixed,
    groups,
    interval,
    labels,
    labels_among,
    mapping,
    number,
    percent,
    pool,
    rows,
    share,
    task_of,
    with_interval,
)

NAMES_OF_SCORES = {"control": "mastered share"}
"""What the score of a domain is; of every other it is F1."""


def after(study: Json) -> list[Part | None]:
    """Critical levels and rank agreement."""
    return [_critical(study), _agreement(study)]


# --------------------------------------------------------------------- critical level


def _critical(study: Json) -> Part:
    lead = (
        "The level at which an environment takes most, with the share of resamples that agree and the drop there; "
        "none where no level's drop excludes zero (after Scylla, Qi et al. 2024)."
    )
    tables = (_critical_table(task, own) for task, own in split(rows(study, "critical"), "task").items())
    return Part("Critical level of each environment", lead, tuple(tables))


def _critical_table(task: str, found: Sequence[Json]) -> Table:
    columns = split(found, "regime", "family", "width")
    lines = split(found, "environment")
    made = tuple((Cell(name), *(_peak(own, column) for column in columns.values())) for name, own in lines.items())
    peaks = sum(any(row.get("level") is not None for row in own) for own in lines.values())
    notes = footnotes([(f"{row.get('environment')} ({row.get('regime')})", row.get("note")) for row in found])
    keys = [tuple(str(own[0].get(key)) for key in ("family", "width", "regime")) for own in columns.values()]
    heads = ("environment", *labels(keys))
    fold = f"{task}: {peaks} of {len(lines)} environments have a critical level"
    return Table(f"Critical levels of {task}", heads, made, fold, notes)


def _peak(line: Sequence[Json], column: Sequence[Json]) -> Cell:
    row = next((each for each in line if each in column), None)
    if row is None:
        return Cell("–")
    if number(row.get("level")) is None:
        return Cell("none", css="dim")
    drop = minus(with_interval(interval(row.get("drop_pp"))))
    return Cell(f"level {number(row['level']):.0f}, {percent(row.get('probability'), 0)}", f"{drop} pp")


# --------------------------------------------------------------------- rank agreement


def _agreement(study: Json) -> Part:
    found = rows(study, "agreement")
    lead = (
        "Whether a regime that leads in training still leads when deployed: for each pair the probability that its "
        "order stays, and Kendall's tau over all models where there are twelve or more."
    )
    names = split(found, "task")
    tables = chain.from_iterable((_taus(task, own), *_pairs(task, own)) for task, own in names.items())
    return Part("Order of the regimes", lead, tuple(tables))


def _taus(task: str, found: Sequence[Json]) -> Table:
    made = tuple(
        (
            Cell(str(row.get("environment"))),
            value_cell(interval(row.get("kendall_tau")), 2),
            plain(row.get("models")),
            _least_certain(rows(row, "pairs")),
        )
        for row in found
    )
    notes = footnotes([(str(row.get("environment")), row.get("note")) for row in found])
    heads = ("environment", "Kendall's tau", "models", "least certain pair")
    return Table(f"{task}: order in each environment", heads, made, notes=notes)


def _pair_name(row: Json) -> str:
    return " – ".join(str(name) for name in row.get("regimes") or ())


def _least_certain(pairs: Sequence[Json]) -> Cell:
    known = [(probability, row) for row in pairs if (probability := number(row.get("probability"))) is not None]
    if not known:
        return Cell("–")
    probability, row = min(known, key=lambda each: each[0])
    return Cell(percent(probability, 0), _pair_name(row))


def _pairs(task: str, found: Sequence[Json]) -> list[Table]:
    made = tuple(
        (
            Cell(str(row.get("environment"))),
            Cell(_pair_name(pair), model(pair)),
            value_cell(interval(pair.get("training_pp"))),
            value_cell(interval(pair.get("difference_pp"))),
            plain(percent(pair.get("probability"), 0).replace("-", "–")),
            plain(pair.get("seeds")),
        )
        for row in found
        for pair in rows(row, "pairs")
    )
    heads = ("environment", "pair", "in training, pp", "deployed, pp", "same order", "seeds")
    return [Table(f"Pairs of regimes of {task}", heads, made, f"{task}: every pair of regimes")] if made else []


# ------------------------------------------------------------------ scores, open loops


def scores(summary: Json) -> list[Chapter]:
    """F1 or mastered share, and the open loop, of every environment that has them."""
    found = [*_tables(summary, "score", _score), *_tables(summary, "open_loop", _open_loop)]
    lead = (
        "The grade beside right and wrong, mean over items in the environment, and below it the drop against the "
        "reference in pp; and for control the share of steps whose action differs along the reference's trajectory."
    )
    return chapter("scores", "Scores and open loops", "Scores", [Part("", lead, tuple(found))])


def _tables(summary: Json, key: str, cell: Callable[[Sequence[Json]], Cell]) -> list[Table]:
    """A table for each task with the key in some cell: environments by groups of models."""
    made, names = [], task_of(summary)
    for task, domain in _tasks(summary).items():
        columns = [group for group in groups(summary) if names.get(group.bundles[0]) == task]
        lines = _lines(summary, key, columns)
        if lines:
            name = "open loop, % of steps" if key == "open_loop" else f"{NAMES_OF_SCORES.get(domain, 'F1')}, %"
            body = tuple((Cell(line), *(cell(cells) for cells in each)) for line, each in lines.items())
            heads = ("environment", *labels_among(summary, columns))
            made.append(Table(f"{task}: {name}", heads, body, f"{task}: {name}"))
    return made


def _tasks(summary: Json) -> dict[str, str]:
    return {str(bundle.get("task")): str(bundle.get("domain")) for bundle in rows(summary, "bundles")}


def _lines(summary: Json, key: str, columns: Sequence[Group]) -> dict[str, list[list[Json]]]:
    """Cells that ran by environment and column, of environments where some cell has the key."""
    cells = Cells(summary)
    names = dict.fromkeys(str(cell.get("environment")) for cell in cells.rows)
    found = {name: [answered(cells.of(name, group.bundles)) for group in columns] for name in names}
    return {name: each for name, each in found.items() if any(c.get(key) is not None for part in each for c in part)}


def _score(cells: Sequence[Json]) -> Cell:
    """Mean score in percent over a group's models, above the drop from the reference."""
    given = [mapping(cell.get("score")) for cell in cells]
    mean = pool(interval(score.get("mean")) for score in given)
    drop = pool(interval(score.get("drop_pp")) for score in given)
    return Cell(_percent(mean), f"drop {minus(with_interval(drop))} pp" if drop else "")


def _open_loop(cells: Sequence[Json]) -> Cell:
    """Mean over a group's models of the share of steps that differ."""
    return Cell(_percent(pool(interval(cell.get("open_loop")) for cell in cells)))


def _percent(value: Interval | None) -> str:
    scaled = share(value)
    return "–" if scaled is None else fixed(scaled.estimate)
