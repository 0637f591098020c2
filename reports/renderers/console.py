"""The summary on a terminal: the verdict, the reasons, one compact table."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gapshift.reports.renderers.sections import facts
from gapshift.reports.renderers.study import console_lines
from gapshift.reports.renderers.view import (
    LEVEL_KEYS,
    SYMBOLS,
    EnvironmentRow,
    Interval,
    Json,
    at_floor,
    environment_rows,
    fixed,
    headline,
    interval,
    next_steps,
    pool,
    pooled,
    reasons,
    verdict_of,
)

STYLES = {"PASS": "bold green", "FAIL": "bold red", "ERROR": "bold red", "INCONCLUSIVE": "bold yellow"}
_PLAIN_WIDTH = 120
_MOST_REASONS = 10


def render_console(summary: Json, *, run: str = "RUN", width: int | None = None, color: bool = False) -> str:
    """Verdict, reasons and a table of drops in pp (mean over bundles) as text; ``run`` names its folder in commands.

    Without ``color`` the text holds no escape sequence and no box-drawing character, as a pipe needs it.
    """
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width or _default_width(color),
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    for line in _head(summary, run, color):
        console.print(line, soft_wrap=not color)
    if found := environment_rows(summary):
        console.print(_table(found, color))
        console.print(_legend(summary), soft_wrap=not color)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _default_width(color: bool) -> int:
    """The terminal's own width where there is one; a pipe gets a fixed one."""
    return shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns if color else _PLAIN_WIDTH


def _head(summary: Json, run: str, color: bool) -> Iterator[Text]:
    verdict = verdict_of(summary)
    symbol = f"{SYMBOLS[verdict]} " if color else ""
    yield Text(f"{symbol}{verdict}", style=STYLES.get(verdict, "bold"))
    yield Text(headline(summary))
    found = reasons(summary)
    for reason in found[:_MOST_REASONS]:
        yield Text(f"  - {reason}")
    if len(found) > _MOST_REASONS:
        yield Text(f"  - and {len(found) - _MOST_REASONS} more in report.html")
    for command, question in next_steps(summary):
        yield Text(f"  next: {command.replace(' RUN', f' {run}', 1)}    ({question})")
    yield Text("")
    if study := console_lines(summary):
        yield from map(Text, study)
        yield Text("")
    if numbers := facts(summary):
        yield Text("; ".join(f"{name}: {value}" for name, value in numbers))
        yield Text("")


def _table(found: list[EnvironmentRow], color: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if color else None, pad_edge=False, header_style="bold" if color else "")
    table.add_column("environment", overflow="fold")
    for name in ("kind", "gated"):
        table.add_column(name, no_wrap=True)
    for name in (*(f"L{key}" for key in LEVEL_KEYS), "tilt"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in found:
        table.add_row(*_values(row, color))
    return table


def _values(row: EnvironmentRow, color: bool) -> Iterator[str | Text]:
    yield row.name
    yield row.kind
    yield "yes" if row.gated else "no"
    for key in LEVEL_KEYS:
        yield _drop(pooled(row.cells, "drop_pp", key)) + ("*" if at_floor(row.cells, key) else "")
    yield _drop(pool(interval(cell.get("tilt_pp")) for cell in row.cells))
    yield _verdict(row, color)


def _drop(value: Interval | None) -> str:
    return "-" if value is None else fixed(value.estimate)


def _verdict(row: EnvironmentRow, color: bool) -> Text:
    word = row.verdict if row.gated else status_word(row)
    if word == "not gated" and row.would_be:
        word = f"not gated (would be {row.would_be})"
    return Text(word or "-", style=STYLES.get(word or "", "") if color else "")


def status_word(row: EnvironmentRow) -> str:
    """What to say of an environment that is not gated: that, or why it has no numbers."""
    states = {str(cell.get("status", "ok")) for cell in row.cells}
    return "not gated" if "ok" in states or not states else ", ".join(sorted(states)).replace("_", " ")


def _legend(summary: Json) -> Text:
    bundles = [str(cell.get("bundle")) for cell in summary.get("cells") or ()]
    n = len(set(bundles))
    each = len(bundles) == n * len({str(cell.get("environment")) for cell in summary.get("cells") or ()})
    which = f"{n} bundles" if each else f"those of {n} bundles that an environment applies to"
    over, some = (f", mean over {which}", " in some bundle") if n > 1 else ("", "")
    return Text(
        f"Drops in percentage points{over}; tilt = L5 - L1 where neither is at the floor; "
        f"* at the floor{some}; - not measured."
    )
