"""The run judged again with the answers of its repeats: a fact beside the verdict, and a chapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gapshift.reports.order import WORST_FIRST
from gapshift.reports.renderers.page import minus
from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, chapter, plain, prose
from gapshift.reports.renderers.view import COLUMNS, LEVEL_KEYS, Json, fixed, mapping, number, rows, sentence
from gapshift.schema import listing

REPEATED = (
    "Each alternative run replaces every gated cell, and the reference, by its repeat under one setting and goes "
    "through the whole gate. A cell keeps its own answers where its environment says itself what the setting would "
    "change, and where it has no such setting."
)
ALIKE = (
    "Arithmetic that repeats to the bit gives the same verdict however often it is repeated: agreement there says "
    "nothing about chance in the items, which the redrawn runs are for."
)


def facts(summary: Json) -> list[tuple[str, str]]:
    """What stands beside the verdict; nothing of a run that was not repeated."""
    found = mapping(summary.get("self_test"))
    count = len(rows(found, "alternatives"))
    return [(f"judged again on repeats ({count} alternative runs)", _verdicts(found))] if count else []


def _verdicts(found: Json) -> str:
    """How often each verdict, worst first, and how many could not be had."""
    given = Counter(str(row.get("verdict")) for row in rows(found, "alternatives") if _has_verdict(row))
    words = [f"{given[word]} {word}" for word in WORST_FIRST if given[word]]
    missing = number(found.get("not_repeated"))
    return ", ".join([*words, *([f"{missing:.0f} not repeated"] if missing else [])])


def _has_verdict(row: Json) -> bool:
    return row.get("outcome") in ("same", "other")


def lead(found: Json) -> str:
    """How many agree, which do not and where, and what agreement is worth."""
    count, same, other = len(rows(found, "alternatives")), number(found.get("same")), number(found.get("other"))
    agree = f"Of {count} alternative runs {same or 0:.0f} give the verdict of this run, {found.get('verdict')}"
    parts = [
        f"{other or 0:.0f} another",
        *([f"{gone:.0f} none"] if (gone := number(found.get("not_repeated"))) else []),
    ]
    return " ".join([f"{agree}; {', '.join(parts)}.", *_others(found), _changes(found), ALIKE])


def _others(found: Json) -> Iterator[str]:
    """The alternative runs with another verdict, those that the same level decides in one sentence."""
    settings: dict[str, list[str]] = {}
    for row in rows(found, "alternatives"):
        if row.get("outcome") == "other":
            first = next(iter(rows(row, "decides")), None)
            where = f", decided by {_place(first)} ({first.get('was')} before)" if first else ""
            settings.setdefault(f"the run would be {row.get('verdict')}{where}", []).append(str(row.get("setting")))
    for said, names in settings.items():
        yield f"Under {listed(names)} {said}."


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _place(row: Json) -> str:
    return f"{row.get('bundle')} in {row.get('environment')} at {_levels(row)}"


def _levels(row: Json) -> str:
    levels = [str(level) for level in row.get("levels") or ()]
    if len(levels) == len(LEVEL_KEYS):
        return "all levels"
    return f"level {levels[0]}" if len(levels) == 1 else f"levels {levels[0]}–{levels[-1]}" if levels else "no level"


def _changes(found: Json) -> str:
    """In how many repeated cells some prediction changed."""
    repeated = [row for row in (*rows(found, "cells"), *rows(found, "references")) if number(row.get("repeated"))]
    moved = sum(1 for row in repeated if number(row.get("flips")))
    if not moved:
        return f"No prediction changes in any repeat of {len(repeated)} cells."
    return f"In {moved} of {len(repeated)} repeated cells, references among them, some prediction changes."


# ------------------------------------------------------------------------------ page


def chapters(summary: Json) -> list[Chapter]:
    """The chapter; nothing of a run that was not repeated."""
    found = mapping(summary.get("self_test"))
    if not rows(found, "alternatives"):
        return []
    notes = tuple(sentence(text) for text in found.get("aside") or ())
    tables = (_alternatives(found), _ranges(found))
    part = Part("", f"{lead(found)} {REPEATED}", tuple(each for each in tables if each.rows or each.notes), notes=notes)
    return chapter("self-test", "Would another repeat decide otherwise?", "Repeats", [part])


def _alternatives(found: Json) -> Table:
    made = tuple(
        (
            Cell(str(row.get("setting")), listing(mapping(row.get("deviations")))),
            plain(row.get("verdict") if _has_verdict(row) else None),
            plain(row.get("outcome")),
            *(plain(row.get(key)) for key in ("repeated", "fixed", "missing")),
            prose("; ".join([*_deciding(row), *_missing(row)])),
        )
        for row in rows(found, "alternatives")
    )
    heads = ("setting", "verdict", "outcome", "repeated", "kept", "not repeated", "decided by")
    return Table("Alternative runs", heads, made)


def _deciding(row: Json) -> Iterator[str]:
    for each in rows(row, "decides"):
        yield minus(f"{_place(each)}: {each.get('verdict')}, {each.get('was')} before: {each.get('reason')}")
    if more := number(row.get("more")):
        yield f"and {more:.0f} more"


def _missing(row: Json) -> Iterator[str]:
    """Repeats that are missing, the cells with the same reason together."""
    reasons: dict[str, list[str]] = {}
    for each in rows(row, "missing_listed"):
        reasons.setdefault(str(each.get("reason")), []).append(f"{each.get('bundle')} in {each.get('environment')}")
    for why, cells in reasons.items():
        yield f"not repeated: {', '.join(cells)}: {why}"
    rest = (number(row.get("missing")) or 0) - len(rows(row, "missing_listed"))
    if rest > 0:
        yield f"and {rest:.0f} more not repeated"


def _ranges(found: Json) -> Table:
    """The cells whose repeats differ, those with the most changes first; the others are counted."""
    cells = [row for row in rows(found, "cells") if number(row.get("repeated"))]
    moved = sorted((row for row in cells if _moves(row)), key=lambda row: -(number(row.get("flips")) or 0))
    made = tuple(
        (
            Cell(str(row.get("environment")), str(row.get("bundle"))),
            plain(_counts(mapping(row.get("verdicts")))),
            _flips(row),
            *(_ends(mapping(row.get("drop_range_pp")).get(key)) for key in COLUMNS),
        )
        for row in moved
    )
    heads = ("cell", "verdicts", "changed", *(f"level {key}" for key in LEVEL_KEYS), "all")
    still = len(cells) - len(moved)
    notes = [f"Cells that no repeat moves, in no prediction and no drop: {still}."] if still else []
    notes += _moved_references(rows(found, "references"))
    return Table(
        "Drop over the repeats, pp, least to largest, and predictions changed", heads, made, notes=tuple(notes)
    )


def _moves(row: Json) -> bool:
    """Whether some repeat of the cell, or of its reference, gave another prediction, drop or verdict."""
    ends = [mapping(each) for each in mapping(row.get("drop_range_pp")).values()]
    return bool(
        number(row.get("flips"))
        or any(each.get("low") != each.get("high") for each in ends)
        or set(mapping(row.get("verdicts"))) - {row.get("verdict")}
    )


def _counts(verdicts: Json) -> str:
    return ", ".join(f"{verdicts[word]} {word}" for word in WORST_FIRST if verdicts.get(word))


def _flips(row: Json) -> Cell:
    flips, n = number(row.get("flips")), number(row.get("n"))
    return Cell("–") if flips is None else Cell(f"{flips:,.0f}", f"of {n or 0:,.0f}")


def _moved_references(found: Sequence[Json]) -> Iterable[str]:
    moved = [f"{row.get('bundle')} ({number(row.get('flips')):,.0f})" for row in found if number(row.get("flips"))]
    return [f"Predictions of the reference itself change in {', '.join(moved)}."] if moved else []


def _ends(value: object) -> Cell:
    low, high = (number(mapping(value).get(end)) for end in ("low", "high"))
    if low is None or high is None:
        return Cell("–")
    ends = dict.fromkeys((fixed(low, 2), fixed(high, 2)))
    return Cell(minus(" to ".join(ends)))
