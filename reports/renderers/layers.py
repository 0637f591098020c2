"""Where cells leave the reference, on a terminal, as Markdown and as one HTML page; all from ``layers.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

from gapshift.reports.layer_words import error_words, helping, node_words, passes_words, percent, size, weight_words
from gapshift.reports.renderers.chapters import render_chapters
from gapshift.reports.renderers.layer_chart import Point, error_chart
from gapshift.reports.renderers.tables import Cell, Chapter, Figure, Part, Table, plain, prose
from gapshift.reports.renderers.view import Json, mapping, number, rows, sentence
from gapshift.schema import REFERENCE, listing

TITLE = "Where it breaks"
_LINES = 12
_SHOWN = 40
"""Tensors up to which their table stands open."""


def render_layers(summary: Json) -> dict[str, str]:
    """``layers.html`` and ``layers.md``, by file name."""
    return render_chapters("layers", _page(summary))


def console_layers(summary: Json) -> str:
    """One finding a cell, and what was left out, as plain text."""
    lines = [TITLE, lead(summary), "", *_console_lines(summary)]
    lines += [f"note: {note}" for note in _notes(summary)]
    return "\n".join(lines) + "\n"


def _console_lines(summary: Json) -> Iterator[str]:
    for line, entry in zip(findings(summary), rows(summary, "cells"), strict=True):
        yield f"  {line}"
        yield from (f"      {each}" for each in _mending(mapping(entry.get("answers"))))


def _mending(answers: Json) -> list[str]:
    """Lines of contract.toml by which the candidate that helps becomes the contract; none where no setting says it."""
    row = helping(answers) if answers else None
    settings = mapping(row["settings"]) if row else {}
    if any(value is None for value in settings.values()):  # TOML has no null
        return []
    tables: dict[str, list[str]] = {}
    for key, value in settings.items():
        table, name = key.split(".", 1)
        tables.setdefault(f"[{table}]", []).append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return [line for head, lines in tables.items() for line in (head, *lines)]


def lead(summary: Json) -> str:
    """How many cells on how many items."""
    cells = rows(summary, "cells")
    if not cells:
        return "No cell of this run drifts: every prediction is the reference's."
    items = summary.get("items")
    on = f"at most {items:,} items, balanced over levels" if isinstance(items, int) else "all judged items"
    with_what = summary.get("against") or "the reference"
    return f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}, compared with {with_what} on {on}."


def findings(summary: Json) -> list[str]:
    """One line a cell."""
    return [f"{_name(entry)}: {entry.get('finding')}" for entry in rows(summary, "cells")]


def _name(entry: Json) -> str:
    return f"{entry.get('bundle')} in {entry.get('environment')}"


def _notes(summary: Json) -> list[str]:
    left, notes = rows(summary, "left_out"), [str(note) for note in summary.get("notes") or ()]
    if not left:
        return notes
    named = ", ".join(f"{row.get('bundle')} in {row.get('environment')}" for row in left[:3])
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return [
        *notes,
        f"{len(left)} more cells drift: {named}{more}. Of each environment the model with the most changed predictions "
        "is shown; name others with --environment and --bundle.",
    ]


# --------------------------------------------------------------------- the page


def _page(summary: Json) -> dict[str, object]:
    rules = mapping(summary.get("rules"))
    return {
        "title": TITLE,
        "lead": lead(summary),
        "lines": findings(summary)[:_LINES],
        "notes": _notes(summary),
        "chapters": [_chapter(place, entry) for place, entry in enumerate(rows(summary, "cells"))],
        "words": _words(rules),
    }


def _words(rules: Json) -> str:
    return (
        "Normalised error is the norm of the difference over the norm of the reference's tensor, over all items. "
        "On its own: the node is given the reference's inputs, so that only what it adds itself is left. "
        "Floor: what graph optimisation changes in the reference, which should not matter. "
        f"A layer leaves from {rules.get('floor_times')} times its floor on, at least "
        f"{rules.get('least_threshold'):g}; it is blamed where its own error is {rules.get('stands_out')} times the "
        "median of the others'. An item counts as changed from a normalised error of "
        f"{rules.get('noticeable')} on. A pass is looked for where the outputs of two optimisation levels differ by "
        f"more than {rules.get('pass_threshold'):g}. Nothing here is a verdict."
    )


def _chapter(place: int, entry: Json) -> Chapter:
    return Chapter(f"cell-{place}", _name(entry), _name(entry), tuple(_parts(entry)))


def _parts(entry: Json) -> Iterator[Part]:
    facts = _facts(entry)
    yield Part("", sentence(entry.get("finding")), (facts,) if facts.rows else (), notes=_cell_notes(entry))
    if entry.get("answers"):
        yield _answers(mapping(entry["answers"]))
    if rows(entry, "causes"):
        yield Part(
            "Ways of preparing nearest to its inputs",
            "What is left of the difference when items are prepared so.",
            (_causes(rows(entry, "causes")),),
        )
    if rows(entry, "layers"):
        yield Part(
            "Layer by layer",
            "Every tensor that both files have, in the order in which they run.",
            (_layers(entry), *_unmatched(entry)),
            (Figure("Errors along the layers", error_chart(_points(entry), "Errors along the layers")),),
        )
    weights = rows(mapping(entry.get("leaving")), "weights")
    if weights:
        yield Part(
            "Weights that differ", "Those of the blamed layer, or where no layer leaves all.", (_weights(weights),)
        )
    if entry.get("passes"):
        passes = mapping(entry["passes"])
        yield Part("Graph optimisation", _passes_lead(passes), tuple(_passes(passes)))


def _facts(entry: Json) -> Table:
    drift, outputs = mapping(entry.get("drift")), mapping(entry.get("outputs"))
    is_reference = entry.get("environment") == REFERENCE
    made = [
        ("deviations", listing(mapping(entry.get("deviations")))),
        ("predictions that differ from training's" if is_reference else "predictions changed", _changed(drift)),
        ("items compared here", entry.get("items")),
        ("inputs differ by", _error(mapping(entry.get("given")))),
        ("outputs differ by", _error(outputs)),
        ("items with another highest score", percent(number(outputs.get("changed_answers"))) if outputs else None),
    ]
    return Table("In figures", ("what", "value"), tuple((Cell(name), plain(value)) for name, value in made if value))


def _changed(drift: Json) -> str | None:
    if not drift.get("n"):
        return None
    return f"{drift['changed']:,} of {drift['n']:,} ({drift['lost']:,} lost, {drift['gained']:,} gained)"


def _error(found: Json) -> str | None:
    return error_words(found) if found else None


def _cell_notes(entry: Json) -> tuple[str, ...]:
    notes = [sentence(note) for note in entry.get("notes") or ()]
    parts = number(entry.get("parts"))
    if parts and parts > 1:
        notes.append(f"Its tensors were opened in {parts:.0f} parts, one after the other.")
    opening = number(entry.get("opening"))
    passes = mapping(entry.get("passes"))
    if opening and passes.get("level"):
        notes.append(
            f"Opening a model keeps its layers from being fused, so what follows is the unfused model; fused, its "
            f"outputs differ from it by {size(opening)}."
        )
    return tuple(notes)


def _layers(entry: Json) -> Table:
    leaving = mapping(entry.get("leaving"))
    blamed, first, also = leaving.get("blamed"), leaving.get("first"), leaving.get("also") or ()
    made = tuple(
        (
            Cell(node_words(layer), _here(layer)),
            plain(_mark(layer, blamed, first, also)),
            Cell(error_words(layer)),
            Cell(size(number(layer.get("inputs")))),
            Cell("–" if layer.get("own") is None and layer.get("own_finite") else size(number(layer.get("own")))),
            Cell(size(number(layer.get("floor")))),
            Cell("–" if layer.get("largest") is None else f"{layer['largest']:.3g}"),
            Cell("–" if layer.get("cosine") is None else f"{layer['cosine']:.4f}"),
            Cell(percent(number(layer.get("changed")))),
            *(_level(layer, level) for level in ("1", "5")),
        )
        for layer in rows(entry, "layers")
    )
    heads = (
        "layer",
        "finding",
        "error",
        "inputs to it",
        "on its own",
        "floor",
        "largest |a − b|",
        "cosine",
        "items changed",
        "level 1",
        "level 5",
    )
    fold = f"{len(made)} tensors" if len(made) > _SHOWN else ""
    return Table("Normalised error of each tensor", heads, made, fold=fold)


def _points(entry: Json) -> list[Point]:
    blamed = mapping(entry.get("leaving")).get("blamed")
    return [
        Point(
            node_words(layer),
            number(layer.get("error")),
            number(layer.get("own")),
            number(layer.get("floor")),
            layer.get("tensor") == blamed,
        )
        for layer in rows(entry, "layers")
    ]


def _here(layer: Json) -> str:
    """The cell's own tensor and operator, where they are called otherwise."""
    theirs = mapping(layer.get("reference"))
    same = (theirs.get("tensor"), theirs.get("operator")) == (layer.get("tensor"), layer.get("operator"))
    return str(layer.get("tensor")) if same else f"{layer.get('tensor')}, by {layer.get('operator')}"


def _mark(layer: Json, blamed: object, first: object, also: Collection[object]) -> str:
    marks = [word for word, tensor in (("blamed", blamed), ("first to leave", first)) if layer.get("tensor") == tensor]
    return ", ".join([*marks, *(["stands out"] if layer.get("tensor") in also else [])])


def _level(layer: Json, level: str) -> Cell:
    levels = mapping(layer.get("levels"))
    return Cell(size(number(levels[level])) if level in levels else "–")


def _unmatched(entry: Json) -> Iterator[Table]:
    """Tensors without a counterpart, each named."""
    for key, whose in (("unmatched_reference", "the reference"), ("unmatched", "the cell")):
        made = tuple((Cell(str(row.get("tensor"))), plain(row.get("operator"))) for row in rows(entry, key))
        if made:
            said = f"{len(made)} tensors of {whose} without a counterpart by name"
            yield Table(said, ("tensor", "operator"), made, fold=said)


def _causes(found: Sequence[Json]) -> Table:
    made = tuple(
        (
            Cell(str(row.get("name"))),
            prose(row.get("words")),
            Cell(size(number(row.get("left")))),
            plain("makes these inputs" if row.get("is_cause") else ""),
        )
        for row in found
    )
    return Table("Ways of preparing", ("name", "what it is", "left", ""), made)


def _answers(answers: Json) -> Part:
    made = tuple(
        (
            Cell(str(row.get("name"))),
            prose(row.get("words")),
            Cell(percent(number(row.get("after")))),
            plain(row.get("gained")),
            plain(row.get("lost")),
            Cell(f"{number(row.get('p_holm')) or 0.0:.2g}"),
            plain("yes" if row.get("named") else "no"),
        )
        for row in rows(answers, "tried")
    )
    heads = ("name", "what it is", "agree", "gained", "lost", "Holm's p", "better")
    n, tried = answers.get("n"), (number(answers.get("candidates")) or 0) - (number(answers.get("unfit")) or 0)
    lead = (
        f"Against {answers.get('trusted')}: {percent(number(answers.get('before')))} of {n} items agree as the "
        f"contract prepares them. {tried:.0f} other ways were tried on {answers.get('screening')} further items; those "
        "that did best there answered these."
    )
    mending = tuple((Cell(line),) for line in _mending(answers))
    tables = (
        *((Table("Ways of preparing, and orders of the labels", heads, made),) if made else ()),
        *((Table("The best of them as the contract's settings", ("contract.toml",), mending),) if mending else ()),
    )
    return Part("What brings the trusted answers back", lead, tables)


def _weights(found: Sequence[Json]) -> Table:
    made = tuple(
        (
            Cell(str(row.get("name"))),
            plain(" × ".join(str(side) for side in row.get("shape") or ())),
            Cell(size(number(row.get("error")))),
            prose(sentence(weight_words(row))),
        )
        for row in found
    )
    return Table("Weights", ("weight", "shape", "error", "where"), made)


def _passes_lead(passes: Json) -> str:
    return sentence(passes_words(passes)) or "No optimisation level changes the outputs."


def _passes(passes: Json) -> Iterator[Table]:
    errors, changed = mapping(passes.get("errors")), mapping(passes.get("changed"))
    made = tuple(
        (Cell(level), Cell(size(number(error))), Cell(percent(number(changed.get(level)))))
        for level, error in errors.items()
    )
    yield Table("Outputs against the unoptimised ones", ("level", "error", "another highest score"), made)
    left = mapping(passes.get("left"))
    if left:
        tried = tuple(
            (Cell(name), Cell(size(number(error))), plain("restores them" if name in passes["restoring"] else ""))
            for name, error in left.items()
        )
        yield Table("With one pass disabled", ("pass", "error that is left", ""), tried)
