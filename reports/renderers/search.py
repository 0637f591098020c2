"""What a search found, on a terminal, as Markdown and as one HTML page; all from its summary alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gapshift.reports.order import WORST_FIRST
from gapshift.reports.renderers.chapters import render_chapters
from gapshift.reports.renderers.page import minus
from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, plain, prose, value_cell
from gapshift.reports.renderers.view import COLUMNS, LEVEL_KEYS, Json, at, fixed, mapping, number, rows, sentence

TITLE = "Environments that nobody listed"
_SHOWN = 30
"""How many of the judged environments stand open on the page."""
_REASONS = 8
_ONE_MEMBER = (
    "The family has one member, so that nothing can be composed of it: give more with --group, --environment or "
    "--family."
)


def render_search(summary: Json) -> dict[str, str]:
    """``search.html`` and ``search.md``, by file name."""
    return render_chapters("search", _page(summary), "search")


def console_search(summary: Json) -> str:
    """What was found, as plain text, with the table that makes it a named environment."""
    found = mapping(summary.get("smallest"))
    lines = [TITLE, lead(summary), "", *(f"  - {line}" for line in findings(summary))]
    if found and not found.get("listed_as"):
        lines += ["", *str(found.get("toml")).splitlines()]
    return "\n".join([*lines, "", counted(summary), *(f"note: {note}" for note in summary.get("notes") or ())]) + "\n"


def lead(summary: Json) -> str:
    """The outcome in a sentence: the smallest that fails, or that none does and what that is worth."""
    found, counts = mapping(summary.get("smallest")), mapping(summary.get("counts"))
    if found:
        known = f", listed as {found.get('listed_as')}" if found.get("listed_as") else ", which nobody listed"
        return f"{summary.get('bundle')} fails with {_sets(found)}{known}."
    judged = (number(counts.get("judged")) or 0) - len(rows(summary, "alone"))
    if judged == 0:
        return f"Nothing could be judged: {_why_not(summary)}."
    one = "The one environment that was judged did not fail."
    none = one if judged == 1 else f"None of {judged:,.0f} environments failed."
    these = "this one holds" if judged == 1 else "these hold"
    if number(summary.get("members")) == 1:
        return f"{_ONE_MEMBER} {one} That does not prove that it holds: no FAIL is no PASS."
    return f"{none} That proves nothing of the rest of the family, and not that {these}: no FAIL is no PASS."


def _why_not(summary: Json) -> str:
    reasons = [*dict.fromkeys(f"{why}" for why, _ in _reasons(summary))]
    more = f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
    return ("; ".join(reasons[:3]) + more or "no environment was composed").rstrip(".")


def findings(summary: Json) -> list[str]:
    """What is behind it, line by line."""
    found = mapping(summary.get("smallest"))
    lines = [*_of_smallest(found, summary)] if found else [*_nearest(summary)]
    lines += _unseen(summary)
    if alone := rows(summary, "alone"):
        lines.append(f"fails alone, and is left out: {'; '.join(_sets(row) for row in alone)}")
    lines.append(_claim(summary))
    return lines


def _of_smallest(found: Json, summary: Json) -> Iterator[str]:
    if number(summary.get("members")) == 1:
        yield _ONE_MEMBER
    yield str(found.get("reason"))
    drops = "  ".join(f"L{key} {_point(found, key)}" for key in LEVEL_KEYS)
    yield f"drop in percentage points: {drops}  all {_point(found, 'all')}"
    alone = number(found.get("parts")) == 1
    if found.get("settled"):
        fewer = "it is one deviation" if alone else "without any one of its deviations it does not FAIL"
        tests = f"{number(summary.get('tests')) or 0:,.0f} tests"
        milder = "no milder value of the family fails (no FAIL is no PASS)"
        yield f"nothing smaller fails at {tests}: {fewer}, and {milder}"
    else:
        yield "the examples ran out before it was known to be the smallest; give more with --examples"
    yield from _at_gate(found, summary)
    if alone:
        yield "what fails only in combination is found with --interactions"


def _at_gate(found: Json, summary: Json) -> Iterator[str]:
    """Smaller parts that explain would call failing, and why the search does not."""
    gate = mapping(found.get("at_gate"))
    smaller = rows(gate, "smaller")
    if smaller:
        named = "; ".join(_setting(each) for each in smaller)
        yield (
            f"at the run's own gate, one of {number(gate.get('tests')) or 0:,.0f} tests, a smaller part fails already: "
            f"{named} "
            f"(gapshift explain judges so; a search makes {number(summary.get('tests')) or 0:,.0f} tests, so that it "
            "needs more evidence of each)"
        )


def _unseen(summary: Json) -> Iterator[str]:
    """Deviations of the family of which the search says nothing, those together that share a reason."""
    said: dict[str, list[str]] = {}
    for row in rows(summary, "unseen"):
        said.setdefault(str(row.get("reason")), []).append(f"{row.get('key')} = {row.get('value')}")
    for why, named in [*said.items()][:_REASONS]:
        yield f"in none of the judged: {', '.join(named)}: {why}"
    if more := sum(len(named) for named in [*said.values()][_REASONS:]):
        yield f"in none of the judged: {_count(more, 'deviation')} more; search.json names them under unseen"


def _nearest(summary: Json) -> Iterator[str]:
    """The judged environment that loses most."""
    alone = {row.get("environment") for row in rows(summary, "alone")}
    found = [row for row in _judged(summary) if row.get("environment") not in alone]
    most = max((row for row in found if row.get("verdict") != "NO DATA"), key=_largest, default=None)
    if most is not None:
        why = most.get("reason") or "holds at every level"
        yield f"nearest to failing: {_sets(most)}: {most.get('verdict')}: {why}"


def _claim(summary: Json) -> str:
    tests = number(summary.get("tests")) or 0
    most = min(number(summary.get("examples")) or 0, number(summary.get("members")) or 0)
    return (
        f"each p is multiplied by {tests:,.0f} tests, the run's own and those of up to "
        f"{_count(f'{most:,.0f}', 'environment')}, so that searching does not make "
        "failures; items that it was not found on are still the better proof"
    )


def counted(summary: Json) -> str:
    """How many environments were composed, and what became of them."""
    counts = {key: f"{number(value) or 0:,.0f}" for key, value in mapping(summary.get("counts")).items()}
    return (
        f"{_count(counts.get('composed'), 'environment')} composed of a family of "
        f"{_count(len(mapping(mapping(summary.get('family')).get('deviations'))), 'key')}: {counts.get('rejected')} "
        f"rejected as contradictions, {counts.get('without_answers')} without answers, {counts.get('judged')} judged "
        f"({counts.get('ran')} run, {counts.get('shared')} known already), {counts.get('failed')} failed"
        f"{f' and {alone} more alone' if (alone := len(rows(summary, 'alone'))) else ''}."
    )


def _count(said: object, noun: str) -> str:
    return f"{said} {noun}{'' if str(said) == '1' else 's'}"


def _sets(row: Json) -> str:
    return _setting(mapping(row.get("deviations")))


def _setting(deviations: Json) -> str:
    return " and ".join(f"{key} = {value}" for key, value in deviations.items())


def _point(row: Json, key: str) -> str:
    value = at(row, "drop_pp", key)
    return "-" if value is None else fixed(value.estimate)


def _judged(summary: Json) -> list[Json]:
    return [row for row in rows(summary, "environments") if row.get("status") == "ok"]


def _largest(row: Json) -> float:
    drops = (at(row, "drop_pp", key) for key in LEVEL_KEYS)
    return max((drop.estimate for drop in drops if drop is not None), default=float("-inf"))


# --------------------------------------------------------------------- the page


def _page(summary: Json) -> dict[str, object]:
    return {
        "title": TITLE,
        "lead": lead(summary),
        "lines": findings(summary),
        "notes": [sentence(note) for note in summary.get("notes") or ()],
        "snippet": mapping(summary.get("smallest")).get("toml"),
        "chapters": list(_chapters(summary)),
        "words": counted(summary),
    }


def _chapters(summary: Json) -> Iterator[Chapter]:
    found = mapping(summary.get("smallest"))
    if found:
        yield Chapter("smallest", "The smallest that fails", "Smallest", (_smallest(found),))
    yield Chapter("judged", "What was judged", "Judged", tuple(_parts(summary)))
    yield Chapter("family", "The family", "Family", (_family(summary),))


def _smallest(found: Json) -> Part:
    set_ = tuple((Cell(str(key)), plain(value)) for key, value in mapping(found.get("deviations")).items())
    drops = (Cell("drop, pp"), *(value_cell(at(found, "drop_pp", key)) for key in COLUMNS))
    verdicts = (Cell("verdict"), *(plain(mapping(found.get("levels")).get(key)) for key in LEVEL_KEYS), plain(""))
    heads = ("", *(f"level {key}" for key in LEVEL_KEYS), "all")
    return Part(
        "",
        f"Its records are those of {found.get('environment')}.",
        (Table("What it sets", ("key", "value"), set_), Table("What it costs", heads, (drops, verdicts))),
    )


def _parts(summary: Json) -> Iterator[Part]:
    judged = sorted(_judged(summary), key=lambda row: (_rank(row), -_largest(row)))
    tables = [_table("Worst first", judged[:_SHOWN])]
    if len(judged) > _SHOWN:
        tables.append(_table("The rest", judged[_SHOWN:], fold=f"{len(judged) - _SHOWN} more"))
    yield Part("", counted(summary), tuple(table for table in tables if table.rows))
    if refused := [*_refused(summary)]:
        heads = ("reason", "environments")
        yield Part(
            "Not judged", "Members that cannot be, or gave no answers.", (Table("Reasons", heads, tuple(refused)),)
        )


def _rank(row: Json) -> int:
    word = row.get("verdict")
    return WORST_FIRST.index(word) if word in WORST_FIRST else -1


def _table(label: str, judged: Sequence[Json], fold: str = "") -> Table:
    made = tuple(
        (
            prose(_sets(row)),
            plain(row.get("verdict")),
            *(value_cell(at(row, "drop_pp", key)) for key in COLUMNS),
        )
        for row in judged
    )
    return Table(label, ("sets", "verdict", *(f"level {key}" for key in LEVEL_KEYS), "all"), made, fold=fold)


def _reasons(summary: Json) -> Iterator[tuple[str, int]]:
    """Why members were not judged, and how many."""
    for row in rows(summary, "rejections"):
        yield str(row.get("reason")), int(number(row.get("count")) or 0)
    for row in rows(summary, "environments"):
        if row.get("status") != "ok":
            yield f"{str(row.get('status')).replace('_', ' ')}: {row.get('reason')}", 1


def _refused(summary: Json) -> Iterator[tuple[Cell, ...]]:
    found = [*_reasons(summary)]
    for why, count in found[:_REASONS]:
        yield prose(minus(why)), plain(count)
    if len(found) > _REASONS:
        yield prose(f"and {len(found) - _REASONS} more reasons"), plain(sum(count for _, count in found[_REASONS:]))


def _family(summary: Json) -> Part:
    family = mapping(summary.get("family"))
    made = tuple(
        (Cell(str(key)), prose(", ".join(map(str, values))))
        for key, values in mapping(family.get("deviations")).items()
    )
    most = number(family.get("most")) or 0
    return Part("", f"Up to {most:.0f} deviations at once.", (Table("Values", ("key", "mild to severe"), made),))
