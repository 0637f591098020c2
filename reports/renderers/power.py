"""What a run can decide and how often it would cry wolf: facts beside the verdict, a chapter, a text for terminals."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from gapshift.reports.order import WORST_FIRST
from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, chapter, plain
from gapshift.reports.renderers.view import Json, mapping, number, rows, sentence

ASSUMED = (
    "Levels count as independent. Items needed and margins are reckoned as if environments changed unrelated items, so "
    "they are enough also where they do not."
)
REDRAWN = (
    "Every gated cell's discordant pairs are drawn again at the observed churn and judged by the whole gate: floors, "
    "bands, Holm over all planned tests. Cells of one model share their items; levels and models are independent."
)
_HEADS = (
    "level", "items", "churn, %", "holds", "FAIL from, pp", "not PASS from, pp", "margin, pp", "items needed",
)  # fmt: skip


def share_words(value: object) -> str:
    """A share in words; one that never or always happened as the bound that the repeats give.

    >>> share_words({"estimate": 0.212, "low": 0.19, "high": 0.24})
    '21%'
    >>> share_words({"estimate": 0, "low": 0, "high": 0.0038})
    'under 0.4%'
    >>> share_words({"estimate": 1, "low": 0.996, "high": 1}), share_words(None)
    ('over 99.6%', '–')
    """
    found = mapping(value)
    estimate, low, high = (number(found.get(key)) for key in ("estimate", "low", "high"))
    if estimate is None or low is None or high is None:
        return "–"
    if estimate == 0 and high > 0:
        return f"under {_percent(high)}"
    return f"over {_percent(low)}" if estimate == 1 and low < 1 else _percent(estimate)


def _percent(share: float) -> str:
    """Whole percents, tenths near either end.

    >>> _percent(0.213), _percent(0.0213), _percent(0.998), _percent(0.0)
    ('21%', '2.1%', '99.8%', '0%')
    """
    near = min(share, 1 - share) < 0.0995
    return f"{100 * share:.1f}%".replace(".0%", "%") if near else f"{100 * share:.0f}%"


def facts(summary: Json) -> list[tuple[str, str]]:
    """The rates that stand beside the verdict; none where nothing was redrawn."""
    found = mapping(summary.get("false_alarms"))
    if not found.get("repeats"):
        return []
    one = mapping(found.get("false_pass_one_level"))
    return [
        (
            "were nothing wrong, such a run would (redrawn)",
            f"FAIL {share_words(found.get('false_fail'))}, not PASS {share_words(found.get('not_pass'))}",
        ),
        *([("were the margin lost at one level", f"PASS {share_words(one)} at most")] if one else []),
    ]


def lead(power: Json) -> str:
    """The plan in a few sentences."""
    said = [text] if (text := str(power.get("refused") or "")) else []
    target, margin = number(power.get("target")) or 0.0, number(power.get("margin_pp")) or 0.0
    if power.get("pass"):
        said.append(
            f"With nothing wrong, the whole run passes a margin of {margin:g} pp with probability {_passes(power)}."
        )
    said.append(_needed(power, target) if rows(power, "levels") else "")
    said.append(_time(power))
    return " ".join(filter(None, said))


def _passes(power: Json) -> str:
    """The probability; of a plan without a run also that of environments which change the same items."""
    same = number(power.get("pass_same_items"))
    text = share_words(power.get("pass"))
    if same is None or power.get("environments") == 1:
        return text
    return f"{text} ({_percent(same)} were the {power.get('environments')} environments to change the same items)"


def _needed(power: Json, target: float) -> str:
    needed = number(power.get("items_needed"))
    if needed is None:
        return f"No number of items is known to make that {target:.0%}: see the levels that have none."
    sizes = {row.get("items_needed") for row in rows(power, "levels") if row.get("items_needed")}
    each = "a level" if len(sizes) == 1 else "at the level that needs most"
    margins = [value for row in rows(power, "levels") if (value := number(row.get("margin_pp"))) is not None]
    wider = f"; with the items there are, a margin of {max(margins):g} pp" if margins and _short(power) else ""
    return f"For {target:.0%} it takes {needed:,.0f} items {each}{wider}."


def _short(power: Json) -> bool:
    """Whether some level has fewer items than it needs."""
    return any((number(row.get("items_needed")) or 0) > (number(row.get("n")) or 0) for row in rows(power, "levels"))


def _time(power: Json) -> str:
    now, needed = number(power.get("seconds")), number(power.get("seconds_needed"))
    if not now:
        return ""
    with_those = f", and {_duration(needed)} with those items" if needed is not None else ""
    return f"Its cells take {_duration(now)} of inference{with_those}."


def _duration(seconds: float) -> str:
    """Whole seconds, minutes from two on, hours from two on.

    >>> _duration(16.2), _duration(0.2), _duration(500), _duration(9000)
    ('about 16 s', 'under 1 s', 'about 8 min', 'about 2.5 h')
    """
    if seconds < 120:
        return f"about {seconds:.0f} s" if seconds >= 1 else "under 1 s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.3g} h"


# ------------------------------------------------------------------------------ page


def chapters(summary: Json) -> list[Chapter]:
    """Power, then false alarms; nothing of a summary that has neither."""
    power, alarms = mapping(summary.get("power")), mapping(summary.get("false_alarms"))
    parts = [_power(power) if rows(power, "levels") else None, _alarms(alarms) if alarms.get("repeats") else None]
    return chapter("power", "What this run can decide, and how often it would cry wolf", "Power", parts)


def _power(power: Json) -> Part:
    tables = tuple(
        Table(f"Power of each level{of}", _HEADS, tuple(_row(row) for row in own), notes=_remarks(own))
        for of, own in _by_task(power)
    )
    return Part("Power", lead(power), tables, notes=(f"{_columns(power)} {ASSUMED}",))


def _by_task(power: Json) -> Iterator[tuple[str, list[Json]]]:
    """Each task's rows, with words for its table where there are several tasks."""
    found = rows(power, "levels")
    tasks = list(dict.fromkeys(str(row.get("task")) for row in found))
    for task in tasks:
        yield f", {task}" * (len(tasks) > 1), [row for row in found if str(row.get("task")) == task]


def _columns(power: Json) -> str:
    """What the columns say."""
    detection, target = (number(power.get(key)) or 0.0 for key in ("detection", "target"))
    return (
        "Items: the fewest of a gated cell. Churn: right to wrong or back, in the cell that changes most. Holds: how "
        "often with nothing wrong all cells pass there, or are at the floor. FAIL from, not PASS from: the least drop "
        f"of that cell alone that ends so {detection:.0%} of the time. Margin: the least at which these items give the "
        f"whole run {target:.0%}; below it the one up to which they certify nothing."
    )


def _row(row: Json) -> tuple[Cell, ...]:
    levels, drop = [str(level) for level in row.get("levels") or ()], mapping(row.get("detectable_drop_pp"))
    churn, needed, least = (number(row.get(key)) for key in ("churn", "items_needed", "least_margin_pp"))
    return (
        Cell(_levels(levels)),
        plain(row.get("n")),
        Cell("–" if churn is None else f"{100 * churn:.2g}", str(row.get("most") or "")),
        Cell(share_words(row.get("pass"))),
        Cell(_points(drop.get("fail"))),
        Cell(_points(drop.get("not_pass"))),
        Cell(_points(row.get("margin_pp")), "" if least is None else f"over {least:.2f}"),
        Cell("–" if needed is None else f"{needed:,.0f}"),
    )


def _levels(levels: Sequence[str]) -> str:
    """Words for a band.

    >>> _levels(["1"]), _levels(["4", "5"]), _levels(["1", "2", "3", "4", "5"])
    ('1', '4–5', 'all')
    """
    return "all" if len(levels) == 5 else "–".join(dict.fromkeys((levels[0], levels[-1]))) if levels else "–"


def _level(levels: str) -> str:
    return "all levels together" if levels == "all" else f"level {levels}"


def _points(value: object) -> str:
    found = number(value)
    return "–" if found is None else f"{found:.2f}"


def _remarks(found: Sequence[Json]) -> tuple[str, ...]:
    """Cells that are not planned for, and items in groups; the levels that share the words in one line."""
    said = [{**row, "weight": f"{weight:.0%}" if (weight := number(row.get("weight"))) else ""} for row in found]
    return (
        *(f"Not planned for at {_level(levels)}: {why}." for why, levels in _alike(found, "left_out")),
        *(
            f"Items of {_level(levels)} come in groups: they say as much as {share} of as many independent ones would."
            for share, levels in _alike(said, "weight")
        ),
    )


def _alike(found: Sequence[Json], key: str) -> Iterator[tuple[str, str]]:
    """Each text that rows have under the key, and the levels that share it."""
    said: dict[str, list[str]] = {}
    for row in found:
        if row.get(key):
            said.setdefault(str(row[key]), []).append(_levels([str(level) for level in row.get("levels") or ()]))
    return ((text, ", ".join(levels)) for text, levels in said.items())


def _alarms(alarms: Json) -> Part:
    heads = ("redrawn", *WORST_FIRST)
    lines = (("with nothing wrong", "no_drop"), ("with the margin lost at every level", "at_margin"))
    made = tuple((Cell(name), *(_verdict_share(alarms, key, word) for word in WORST_FIRST)) for name, key in lines)
    notes = (*map(sentence, alarms.get("aside") or ()), *_least(alarms))
    return Part(
        "How often would this gate cry wolf?",
        f"{alarm_words(alarms)} {REDRAWN}",
        (Table("Verdicts of redrawn runs", heads, made, notes=notes),),
    )


def _verdict_share(alarms: Json, key: str, word: str) -> Cell:
    found = number(mapping(alarms.get(key)).get(word))
    return Cell("–" if found is None else _percent(found))


def alarm_words(alarms: Json) -> str:
    """The rates in one sentence with their Monte Carlo error."""
    repeats = number(alarms.get("repeats")) or 0
    one = mapping(alarms.get("false_pass_one_level"))
    worst = f" With it lost at one level alone {_with_error(one)} PASS at most: {_where(one)}." if one else ""
    return (
        f"Of {repeats:,.0f} redrawn runs with nothing wrong {_with_error(alarms.get('false_fail'))} FAIL and "
        f"{_with_error(alarms.get('not_pass'))} do not PASS; with the margin lost at every level "
        f"{_with_error(alarms.get('false_pass'))} PASS.{worst}"
    )


def _with_error(value: object) -> str:
    """A share with the ends that Monte Carlo error leaves."""
    found = mapping(value)
    low, high = number(found.get("low")), number(found.get("high"))
    text = share_words(value)
    if low is None or high is None or text.startswith(("under", "over")):
        return text
    return f"{text} ({_percent(low)} to {_percent(high)})"


def _where(found: Mapping[str, Any]) -> str:
    levels = _levels([str(level) for level in found.get("levels") or ()])
    return f"{found.get('bundle')} in {found.get('environment')} at {_level(levels)}"


def _least(alarms: Json) -> tuple[str, ...]:
    said = [f"{_where(row)}: {_percent(number(row.get('holds')) or 0.0)}" for row in rows(alarms, "least")]
    return (f"Hold least often with nothing wrong: {'; '.join(said)}.",) if said else ()


# -------------------------------------------------------------------------- terminal


def console_plan(power: Json, alarms: Json, width: int = 120) -> str:
    """A plan as plain text for a terminal or a pipe."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, highlight=False, markup=False, emoji=False)
    console.print(lead(power))
    for of, own in _by_task(power):
        console.print(f"\nBy level{of}:")
        console.print(_console_table(own))
        most = (f"Changes most at {_level(levels)}: {name}." for name, levels in _alike(own, "most"))
        for note in (*most, *_remarks(own)):
            console.print(f"  - {note}", soft_wrap=True)
    console.print(f"\n{_columns(power)} {ASSUMED}")
    if alarms.get("repeats"):
        console.print(f"\nHow often would this gate cry wolf? {alarm_words(alarms)} {REDRAWN}")
    for note in (*map(sentence, alarms.get("aside") or ()), *_least(alarms)):
        console.print(f"  - {note}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _console_table(own: Sequence[Json]) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="")
    for name in _HEADS:
        table.add_column(name, no_wrap=True, justify="left" if name == "level" else "right")
    for row in own:
        cells = _row(row)
        texts = [cell.text.replace("–", "-") for cell in cells]
        table.add_row(*texts[:6], cells[6].line.replace("–", "-"), *texts[7:])
    return table
