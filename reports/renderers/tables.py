"""Tables, parts and chapters of the report as plain data, for the page and for Markdown alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from gapshift.reports.renderers.page import minus
from gapshift.reports.renderers.view import Interval, bracket, fixed, sentence, share

NAMED = 3
"""How many names a list gives before it counts them."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller second line (the interval), and its CSS classes on the page."""

    text: str
    below: str = ""
    css: str = ""

    @property
    def line(self) -> str:
        """Both on one line.

        >>> Cell("1.0", "[0.5, 1.5]").line, Cell("iid", "cnn").line, Cell("no").line
        ('1.0 [0.5, 1.5]', 'iid (cnn)', 'no')
        """
        if not self.below:
            return self.text
        return f"{self.text} {self.below}" if self.below.startswith("[") else f"{self.text} ({self.below})"


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows. With ``fold`` the page shows it closed, under these words."""

    label: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    fold: str = ""
    notes: tuple[str, ...] = ()
    css: str = "r"


@dataclass(frozen=True)
class Figure:
    """A chart with its caption."""

    caption: str
    chart: Markup


@dataclass(frozen=True)
class Part:
    """One comparison: what to read from it in a sentence, then charts and tables."""

    title: str
    lead: str
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """A section of the page: ``key`` is its anchor, ``short`` its word in the menu."""

    key: str
    title: str
    short: str
    parts: tuple[Part, ...]


def chapter(key: str, title: str, short: str, parts: Iterable[Part | None]) -> list[Chapter]:
    """The chapter, or none where no part has anything to show."""
    found = tuple(part for part in parts if part is not None and (part.tables or part.figures))
    return [Chapter(key, title, short, found)] if found else []


def value_cell(value: Interval | None, digits: int = 1, css: str = "") -> Cell:
    """An estimate above its interval; a dash where there is none."""
    return Cell(minus(fixed(value.estimate if value else None, digits)), minus(bracket(value, digits)), css)


def percent_cell(value: Interval | None, css: str = "") -> Cell:
    """A share in percent above its interval."""
    return value_cell(share(value), css=css)


def plain(text: object) -> Cell:
    """A short text; a dash for None and for nothing."""
    return Cell("–" if text in (None, "") else str(text))


def prose(text: object) -> Cell:
    """A text that may wrap."""
    return Cell(str(text or "–"), css="w")


def footnotes(rows: Iterable[tuple[str, object]]) -> tuple[str, ...]:
    """Notes of rows as (name, note), each remark once with the rows that it is about.

    >>> footnotes([("a", "one seed; no chance"), ("b", "one seed")])
    ('One seed.', 'No chance (a).')
    """
    found: dict[str, dict[str, None]] = {}
    names: dict[str, None] = {}
    for name, note in rows:
        names[name] = None
        for remark in filter(None, str(note or "").split("; ")):
            found.setdefault(remark, {})[name] = None
    return tuple(minus(sentence(remark + _about(list(own), len(names)))) for remark, own in found.items())


def _about(own: list[str], total: int) -> str:
    """The rows in brackets; nothing where it is all of them."""
    return "" if len(own) == total else f" ({some(own)})"


def some(names: Iterable[str]) -> str:
    """The first names, each once, and how many more.

    >>> some(["iid", "level-1", "iid", "level-2", "level-3"])
    'iid, level-1, level-2 and 1 more'
    """
    known = list(dict.fromkeys(names))
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(known[:NAMED]) + more
