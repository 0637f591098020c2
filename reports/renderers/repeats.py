"""What repeats changed, on a terminal, as Markdown and as one HTML page; all from the summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gapshift.reports.renderers import page
from gapshift.reports.renderers.chapters import render_chapters
from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, percent_cell, plain, prose
from gapshift.reports.renderers.view import (
    COLUMNS,
    LEVEL_KEYS,
    Json,
    at,
    fixed,
    interval,
    mapping,
    number,
    percent,
    rows,
    sentence,
)
from gapshift.schema import listing

TITLE = "What changes where nothing should"
WORDS = (
    "A flip is a prediction that differs from the environment's own cell; its share stands with the exact "
    "(Clopper-Pearson) 95% interval. A tie's two highest scores lie within 0.0001 of their range. A difference of "
    "outputs is the largest over all items, and beside it in percent of the range of all outputs. Order leaves the "
    "batch size as it is: an item's companions alone change. Nothing here is a verdict."
)
_CAUSES = {
    "repetition": "repetition",
    "threads": "threads",
    "order": "order",
    "batch": "batch size",
    "order and batch": "order and batch size",
}
_LINES = 12
"""How many findings stand at the top; every one is in its table."""


def render_repeats(summary: Json) -> dict[str, str]:
    """``repeats.html`` and ``repeats.md``, by file name."""
    return render_chapters("repeats", _page(summary))


def console_repeats(summary: Json) -> str:
    """The findings and the settings that could not run, as plain text."""
    lines = [TITLE, lead(summary), "", *(f"  - {line}" for line in findings(summary, 2 * _LINES))]
    if absent := rows(summary, "absent"):
        lines += ["", "Not measured:", *(f"  - {_absence(row)}" for row in absent[:_LINES])]
        lines += [f"  - and {len(absent) - _LINES} more in repeats.html"] if len(absent) > _LINES else []
    return "\n".join([*lines, *(f"note: {note}" for note in summary.get("notes") or ())]) + "\n"


def lead(summary: Json) -> str:
    """How many cells hold still, in a sentence."""
    found = [entry for entry in rows(summary, "repeated") if mapping(entry.get("flips")).get("all")]
    still = sum(not _flips(entry) for entry in found)
    same = sum(1 for entry in found if entry.get("bitwise_repeatable"))
    known = sum(1 for entry in found if entry.get("bitwise_repeatable") is not None)
    if not found:
        return "Nothing could be measured."
    cells = "The one cell that was repeated" if len(found) == 1 else f"Of {len(found)} repeated cells, {still}"
    bitwise = f" Run again unchanged, {same} of {known} gave the same outputs bit for bit." if known else ""
    changed = " changed some prediction" if len(found) == 1 and not still else " never changed a prediction"
    return f"{cells}{changed}.{bitwise}"


def findings(summary: Json, most: int = _LINES) -> list[str]:
    """One line a cell, those with the most flips first."""
    found = sorted(rows(summary, "repeated"), key=_flips, reverse=True)
    lines = [f"{entry.get('bundle')} in {entry.get('environment')}: {entry.get('finding')}" for entry in found[:most]]
    return [*lines, f"and {len(found) - most} more below"] if len(found) > most else lines


def _flips(entry: Json) -> float:
    share = mapping(mapping(entry.get("flips")).get("all"))
    return number(share.get("k")) or 0.0


def _absence(row: Json) -> str:
    status = str(row.get("status")).replace("_", " ")
    return f"{row.get('bundle')} in {row.get('environment')}, {row.get('setting')}: {status}: {row.get('reason')}"


# --------------------------------------------------------------------- the page


def _page(summary: Json) -> dict[str, object]:
    return {
        "title": TITLE,
        "lead": lead(summary),
        "lines": findings(summary),
        "notes": [str(note) for note in summary.get("notes") or ()],
        "chapters": list(_chapters(summary)),
        "words": WORDS,
    }


def _chapters(summary: Json) -> Iterator[Chapter]:
    for name in summary.get("environments") or ():
        found = [entry for entry in rows(summary, "repeated") if entry.get("environment") == name]
        yield Chapter(f"repeats-{name}", str(name), str(name), tuple(_parts(found)))
    if absent := rows(summary, "absent"):
        yield Chapter("absent", "Not measured", "Not measured", (_absent(absent),))


def _parts(found: Sequence[Json]) -> Iterator[Part]:
    yield Part(
        "Which setting changes predictions",
        "Items whose prediction any setting of a cause changed, of all items.",
        (_causes(found),),
        notes=tuple(
            sentence(f"{entry.get('bundle')}: {text}") for entry in found for text in entry.get("problems") or ()
        ),
    )
    yield Part(
        "Flips by level",
        "Items whose prediction at least one setting changed.",
        (_levels(found),),
    )
    yield Part(
        "How much of the drop is noise",
        "The least and the largest drop against the reference, in percentage points, over the environment's own cell "
        "and all its repeats.",
        (_drops(found),),
    )
    yield Part("Every setting", "Against the environment's own cell.", tuple(_settings(entry) for entry in found))


def _causes(found: Sequence[Json]) -> Table:
    made = tuple(
        (
            Cell(str(entry.get("bundle"))),
            *(_cause(mapping(mapping(entry.get("causes")).get(cause))) for cause in _CAUSES),
            _difference(entry),
            _yes_no(entry.get("bitwise_repeatable")),
            prose(sentence(entry.get("finding"))),
        )
        for entry in found
    )
    heads = ("model", *_CAUSES.values(), "largest difference", "same again", "finding")
    return Table("Predictions changed, by cause", heads, made)


def _cause(cause: Json) -> Cell:
    share = mapping(mapping(cause.get("flips")).get("all"))
    if number(share.get("k")) is None:
        return Cell("–")
    return Cell(f"{share['k']:,}", percent(share.get("estimate"), 2))


def _levels(found: Sequence[Json]) -> Table:
    made = tuple(
        (
            Cell(str(entry.get("bundle"))),
            *(_share(entry, key) for key in COLUMNS),
            plain(mapping(entry.get("tie_flips")).get("all")),
        )
        for entry in found
    )
    return Table("Share of items that flip, %", ("model", *_level_heads(), "ties among them"), made)


def _drops(found: Sequence[Json]) -> Table:
    made = tuple(
        (Cell(str(entry.get("bundle"))), *(_ends(mapping(entry.get("drop_range_pp")).get(key)) for key in COLUMNS))
        for entry in found
    )
    return Table("Drop, pp, least to largest", ("model", *_level_heads()), made)


def _settings(entry: Json) -> Table:
    made = tuple(
        (
            Cell(str(row.get("setting")), listing(mapping(row.get("deviations")))),
            *(_share(row, key) for key in COLUMNS),
            plain(mapping(row.get("tie_flips")).get("all")),
            _difference(row),
            _yes_no(row.get("bitwise")),
            _open_loop(row),
        )
        for row in rows(entry, "settings")
    )
    heads = ("setting", *_level_heads(), "ties among them", "largest difference", "same bits", "open loop")
    name = f"{entry.get('bundle')} in {entry.get('environment')}"
    return Table(f"Settings of {name}", heads, made, fold=f"{name}: {len(made)} settings")


def _level_heads() -> tuple[str, ...]:
    return (*(f"level {key}" for key in LEVEL_KEYS), "all")


def _share(row: Json, key: str) -> Cell:
    return percent_cell(at(row, "flips", key))


def _difference(row: Json) -> Cell:
    largest, relative = number(row.get("largest_difference")), number(row.get("relative_difference"))
    if largest is None:
        return Cell("–")
    return Cell(f"{largest:.2g}", "" if not largest or relative is None else f"{100 * relative:.2g}% of the range")


def _ends(value: object) -> Cell:
    low, high = (number(mapping(value).get(end)) for end in ("low", "high"))
    if low is None or high is None:
        return Cell("–")
    same = fixed(low, 2) == fixed(high, 2)
    return Cell(page.minus(fixed(low, 2) if same else f"{fixed(low, 2)} to {fixed(high, 2)}"))


def _yes_no(value: object) -> Cell:
    return Cell({True: "yes", False: "no"}.get(value, "–") if isinstance(value, bool) else "–")


def _open_loop(row: Json) -> Cell:
    """The share of other actions along the reference's trajectories, and how far that moved."""
    here, change = interval(row.get("open_loop")), interval(row.get("open_loop_change"))
    if here is None or change is None:
        return Cell("–")
    return Cell(percent(here.estimate, 2), page.minus(f"{fixed(100 * change.estimate, 2, sign=True)} pp"))


def _absent(found: Sequence[Json]) -> Part:
    made = tuple(
        (
            Cell(str(row.get("bundle"))),
            plain(row.get("environment")),
            plain(row.get("setting")),
            plain(str(row.get("status")).replace("_", " ")),
            prose(sentence(row.get("reason"))),
        )
        for row in found
    )
    heads = ("model", "environment", "setting", "status", "reason")
    return Part("", "Cells without answers, each with its reason.", (Table("Not measured", heads, made),))
