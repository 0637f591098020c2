"""What a study compares in training: single levels, controls, wrong labels, size, transfer, other measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from gapshift.reports.renderers.charts import Series, width_chart
from gapshift.reports.renderers.tables import (
    Cell,
    Figure,
    Part,
    Table,
    footnotes,
    percent_cell,
    plain,
    some,
    value_cell,
)
from gapshift.reports.renderers.view import (
    LEVEL_KEYS,
    Interval,
    Json,
    fixed,
    interval,
    mapping,
    number,
    percent,
    rows,
    share,
)

STEPS = (20.0, 35.0, 50.0, 65.0, 80.0, 90.0)
"""Lower edges, in percent, of the colour steps of an accuracy."""
UNFOLDED = 4
"""How many controls a page shows without a click."""
ALIKE = {True: "yes", False: "✗ no", None: "unknown"}


def split(found: Sequence[Json], *keys: str) -> dict[str, list[Json]]:
    """Rows by the words of these keys, in the order in which they come."""
    groups: dict[str, list[Json]] = {}
    for row in found:
        groups.setdefault(" · ".join(str(row[key]) for key in keys if row.get(key)), []).append(row)
    return groups


def model(row: Json) -> str:
    """Family and width of a row.

    >>> model({"family": "cnn", "width": 32})
    'cnn, width 32'
    """
    width = number(row.get("width"))
    parts = [str(row.get("family") or ""), "" if width is None else f"width {width:g}"]
    return ", ".join(part for part in parts if part)


def regime_name(row: Json) -> str:
    """A regime, with the share of its levels that were shuffled."""
    shuffled = number(row.get("shuffled")) or number(row.get("share"))
    return str(row.get("regime")) + (f", {shuffled:.0%} shuffled" if shuffled else "")


# ------------------------------------------------------------------- one level, matrix


def one_level(study: Json) -> list[Part | None]:
    """The matrix of trained and tested levels, and what easy training recovers."""
    return [_matrix(study), _recovery(study)]


def _matrix(study: Json) -> Part:
    lead = (
        "Accuracy in %, a row for each level that was trained on and a column for each that was tested: read along a "
        "row how far a level carries, and whether the outlined cell, tested where it trained, is its best."
    )
    return Part("", lead, tuple(_matrix_table(row) for row in rows(study, "matrix")))


def _matrix_table(row: Json) -> Table:
    lines = row.get("accuracy") if isinstance(row.get("accuracy"), list) else []
    made = tuple(_matrix_line(key, line) for key, line in zip(LEVEL_KEYS, lines or (), strict=False))
    heads = ("trained on", *(f"level {key}" for key in LEVEL_KEYS))
    label = f"{row.get('task')} · {model(row)}"
    return Table(label, heads, made, notes=footnotes([(str(row.get("task")), row.get("note"))]), css="heat matrix")


def _matrix_line(trained: str, line: object) -> tuple[Cell, ...]:
    values = line if isinstance(line, list) else [None] * len(LEVEL_KEYS)
    cells = (accuracy_cell(interval(value), own=key == trained) for key, value in zip(LEVEL_KEYS, values, strict=False))
    return Cell(f"level {trained}"), *cells


def accuracy_cell(value: Interval | None, own: bool = False) -> Cell:
    """An accuracy in percent on its colour; ``own`` where the tested level is the trained one."""
    mark = " own" if own else ""
    if value is None:
        return Cell("no data", css="c x" + mark)
    return percent_cell(value, css=f"c q{sum(100 * value.estimate >= edge for edge in STEPS)}{mark}")


def _recovery(study: Json) -> Part | None:
    found = rows(study, "recovery")
    lead = (
        "On level 5, the share of hard-only's advantage over chance that easy-only training reaches: 100% means that "
        "easy items teach as much about hard ones as hard items do (after Hase et al. 2024)."
    )
    made = tuple(
        (
            Cell(str(row.get("task")), str(row.get("family") or "")),
            _or_undefined(percent_cell(interval(row.get("share")))),
            plain(percent(row.get("base")).rstrip("%").replace("-", "–")),
        )
        for row in found
    )
    notes = footnotes([(str(row.get("task")), row.get("note")) for row in found])
    heads = ("task", "recovered, %", "chance, %")
    return (
        Part("What easy training recovers", lead, (Table("Recovered share", heads, made, notes=notes),))
        if made
        else None
    )


def _or_undefined(cell: Cell) -> Cell:
    return cell if cell.text != "–" else Cell("undefined", css="dim")


# --------------------------------------------------------------------------- controls


def controls(summary: Json, study: Json) -> list[Part | None]:
    """Regimes that were not deployed, shuffled labels, and widths."""
    return [_controls(summary, study), _shuffled(study), _widths(study)]


def _controls(summary: Json, study: Json) -> Part:
    found = undeployed(summary, study)
    lead = (
        "Regimes that were trained for comparison, from the training framework's own answers on held-out items: read "
        "each control beside the regime that it questions. Deployed regimes stand under Training regimes."
    )
    return Part("", lead, tuple(_controls_table(name, own) for name, own in split(found, "task").items()))


def undeployed(summary: Json, study: Json) -> list[Json]:
    """The study's regimes without those that the table of deployed regimes shows already."""
    shown = {tuple(str(row.get(key)) for key in ("task", "family", "regime")) for row in rows(summary, "regimes")}
    found, widths = rows(study, "regimes"), Counter[tuple[str, str, object]]()
    for row in found:
        widths[(str(row.get("task")), str(row.get("family")), row.get("width"))] += int(number(row.get("seeds")) or 0)

    def deployed(row: Json) -> bool:
        task, family, regime = (str(row.get(key)) for key in ("task", "family", "regime"))
        same = [(count, width) for (own, other, width), count in widths.items() if (own, other) == (task, family)]
        main = max(same, key=lambda each: each[0])[1]  # the first of the commonest
        return (task, family, regime) in shown and row.get("width") == main and not row.get("shuffled")

    return [row for row in found if not deployed(row)]


CONTROL_HEADS = (
    "regime", "seeds", "mean accuracy, %", "level 1 → 5, %", "trained on, %", "G1, pp", "memorisation, pp",
    "shift, pp", "G2, pp", "G3, pp", "ECE, %",
)  # fmt: skip


def _controls_table(task: str, found: Sequence[Json]) -> Table:
    notes = footnotes([(regime_name(row), row.get("note")) for row in found])
    fold = f"{task}: {some(regime_name(row) for row in found)}" if len(found) > UNFOLDED else ""
    return Table(f"Controls of {task}", CONTROL_HEADS, tuple(map(_control, found)), fold, notes)


def _control(row: Json) -> tuple[Cell, ...]:
    accuracy = mapping(row.get("accuracy"))
    levels = (share(interval(accuracy.get(key))) for key in LEVEL_KEYS)
    return (
        Cell(regime_name(row), model(row)),
        plain(row.get("seeds")),
        percent_cell(interval(row.get("mean_accuracy"))),
        plain(" · ".join("–" if value is None else fixed(value.estimate, 0) for value in levels)),
        percent_cell(interval(row.get("train_accuracy"))),
        *(value_cell(interval(row.get(key))) for key in ("g1_pp", "memorisation_pp", "shift_pp", "g2_pp", "g3_pp")),
        percent_cell(interval(mapping(row.get("ece")).get("all"))),
    )


# -------------------------------------------------------------------- wrong labels, size


def _shuffled(study: Json) -> Part | None:
    found = rows(study, "shuffled")
    made = tuple(
        (
            Cell(f"{row.get('task')}: {row.get('regime')}", model(row)),
            plain(percent(row.get("share"), 0)),
            value_cell(interval(row.get("difference_pp"))),
            value_cell(interval(row.get("g1_difference_pp"))),
            plain(row.get("seeds")),
        )
        for row in found
    )
    notes = footnotes([(f"{row.get('task')}: {row.get('regime')}", row.get("note")) for row in found])
    heads = ("trained with", "levels shuffled", "mean accuracy, pp", "G1, pp", "seeds")
    lead = (
        "Training with a part of the difficulty labels shuffled, less training with the true ones: below zero in "
        "mean accuracy, wrong labels cost something."
    )
    table = Table("Shuffled labels less true ones", heads, made, notes=notes)
    return Part("Shuffled difficulty labels", lead, (table,)) if made else None


def _widths(study: Json) -> Part:
    found = rows(study, "widths")
    lead = (
        "How G1 moves with the size of a model: a slope below zero says that the gap narrows with each doubling, and "
        "a last point above zero that it does not close. The line goes through what was measured and no further."
    )
    figures = tuple(
        figure for name, own in split(found, "task", "family").items() if (figure := _width_figure(name, own))
    )
    return Part("Widths", lead, (_slopes(found), *_points(found)) if found else (), figures)


def _slopes(found: Sequence[Json]) -> Table:
    made = tuple(
        (
            Cell(_axis(row), str(row.get("family") or "")),
            value_cell(interval(row.get("slope_pp_per_doubling")), 2),
            plain(row.get("per")),
            plain(len(rows(row, "points"))),
        )
        for row in found
    )
    heads = ("trained with", "slope of G1, pp per doubling", "of", "sizes")
    return Table("Slope of G1 per doubling", heads, made, notes=footnotes([(_axis(r), r.get("note")) for r in found]))


def _axis(row: Json) -> str:
    return f"{row.get('task')}: {row.get('regime')}"


def _points(found: Sequence[Json]) -> list[Table]:
    made = tuple(
        (
            Cell(_axis(row), str(row.get("family") or "")),
            plain(point.get("width")),
            plain(f"{number(point.get('parameters')) or 0:,.0f}" if point.get("parameters") else None),
            value_cell(interval(point.get("g1_pp"))),
            percent_cell(interval(point.get("mean_accuracy"))),
        )
        for row in found
        for point in rows(row, "points")
    )
    heads = ("trained with", "width", "parameters", "G1, pp", "mean accuracy, %")
    return [Table("Every size", heads, made, "Every size by itself")] if made else []


def _width_figure(name: str, found: Sequence[Json]) -> Figure | None:
    per = str(found[0].get("per") or "width")
    sizes = sorted({size for row in found for size, _ in _sized(row, per)})
    series = []
    for row in found:
        at = dict(_sized(row, per))
        series.append(Series(str(row.get("regime")), tuple(at.get(size) for size in sizes)))
    if len(sizes) < 2 or not any(any(one.values) for one in series):
        return None
    return Figure(f"G1 by {per}, {name}", width_chart(series, sizes, per, f"G1 by {per}, {name}"))


def _sized(row: Json, per: str) -> Iterator[tuple[float, Interval | None]]:
    for point in rows(row, "points"):
        size = number(point.get(per))
        if size is not None and size > 0:
            yield size, interval(point.get("g1_pp"))


# --------------------------------------------------------------------------- transfer


def transfer(study: Json) -> Part:
    """Transfer scores of frozen trunks: each regime's mean, a matrix a regime, and the accuracies behind them."""
    found = rows(study, "transfer")
    lead = (
        "What a frozen trunk is worth on another task: 0 is as good as one that was never trained, 1 as good as one "
        "trained on that task itself. Undefined where the task's own trunk is not surely 5 pp better than a random one."
    )
    matrices = [_transfer_matrix(regime, own) for regime, own in split(found, "regime").items()]
    tables = [*_transfer_means(study), *matrices, *_transfer_raw(found)]
    return Part("", lead, tuple(tables))


def _transfer_means(study: Json) -> list[Table]:
    made = tuple(
        (
            Cell(str(row.get("regime"))),
            _or_undefined(value_cell(interval(row.get("score")), 2)),
            plain(f"{number(row.get('pairs')) or 0:.0f} of {number(row.get('planned')) or 0:.0f}"),
        )
        for row in rows(study, "transfer_mean")
    )
    heads = ("regime", "mean transfer score", "pairs that define it")
    return [Table("Mean transfer score of each regime", heads, made)] if made else []


def _transfer_matrix(regime: str, found: Sequence[Json]) -> Table:
    pairs = {(str(row.get("source")), str(row.get("target"))): row for row in found}
    order = dict.fromkeys((*(source for source, _ in pairs), *(target for _, target in pairs)))
    sources, targets = ([task for task in order if any(pair[side] == task for pair in pairs)] for side in (0, 1))
    made = tuple((Cell(source), *(_score(source, target, pairs) for target in targets)) for source in sources)
    notes = footnotes([(f"{source} → {target}", row.get("note")) for (source, target), row in pairs.items()])
    heads = ("from", *(f"to {target}" for target in targets))
    return Table(f"Transfer score of {regime}, source by target", heads, made, notes=notes)


def _score(source: str, target: str, pairs: dict[tuple[str, str], Json]) -> Cell:
    row = pairs.get((source, target))
    if row is None:
        return Cell("·" if source == target else "not trained", css="dim")
    return _or_undefined(value_cell(interval(row.get("score")), 2))


def _transfer_raw(found: Sequence[Json]) -> list[Table]:
    made = tuple(
        (
            Cell(f"{row.get('source')} → {row.get('target')}"),
            plain(row.get("regime")),
            *(percent_cell(interval(mapping(row.get("raw")).get(key))) for key in ("transferred", "random", "own")),
            plain(row.get("seeds")),
        )
        for row in found
    )
    heads = ("pair", "regime", "transferred, %", "random trunk, %", "own trunk, %", "seeds")
    label = "Accuracies behind the scores"
    return [Table(label, heads, made, label)] if made else []


# --------------------------------------------------------------------------- measures


def measures(study: Json) -> Part:
    """Other measures of difficulty beside b, and whether the findings hang on the choice."""
    found = rows(study, "measures")
    lead = (
        "Whether the findings hang on how difficulty was measured: the tested items are grouped again by another "
        "measure, and a finding is the same where its sign, and whether it excludes zero, stay."
    )
    heads = ("measure", "rank correlation with b", "items", "findings that stay")
    made = tuple(_measure(row) for row in found)
    notes = footnotes([(_measure_name(row), row.get("note")) for row in found])
    tables = [Table("Measures of difficulty", heads, made, notes=notes)] if made else []
    details = (table for task, own in split(found, "task").items() for table in _findings(task, own))
    return Part("", lead, (*tables, *details))


def _measure_name(row: Json) -> str:
    return f"{row.get('task')}: {row.get('measure')}"


def _measure(row: Json) -> tuple[Cell, ...]:
    return (
        Cell(_measure_name(row), "turned" if row.get("turned") else ""),
        value_cell(interval(row.get("rank_correlation")), 2),
        plain(row.get("n")),
        Cell(*_stay(row)),
    )


def _stay(row: Json) -> tuple[str, str]:
    """How many findings stay, and how many are unknown."""
    same = [finding.get("same") for finding in rows(row, "findings")]
    unknown = sum(each is None for each in same)
    return (f"{same.count(True)} of {len(same)}" if same else "–"), (f"{unknown} unknown" if unknown else "")


def _findings(task: str, found: Sequence[Json]) -> list[Table]:
    made = tuple(
        (
            Cell(str(finding.get("finding")), str(row.get("measure"))),
            value_cell(interval(finding.get("by_b"))),
            value_cell(interval(finding.get("by_measure"))),
            plain(ALIKE.get(finding.get("same"), "unknown")),
        )
        for row in found
        for finding in rows(row, "findings")
    )
    heads = ("finding and measure", "by b, pp", "by the measure, pp", "the same")
    fold = f"{task}: finding by finding"
    return [Table(f"Findings of {task} under other measures", heads, made, fold)] if made else []
