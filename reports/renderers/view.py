"""What all renderers read out of a run's summary: intervals, groups of bundles, rows, plain words.

Pure functions of the summary. Every key may be absent; an absent, null or non-finite number is
``None`` here, and never zero.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapshift.reports import order
from gapshift.schema import LEVELS, TRAINING

Json = Mapping[str, Any]

ALL = "all"
LEVEL_KEYS = tuple(str(level) for level in LEVELS)
COLUMNS = (*LEVEL_KEYS, ALL)
KINDS = ("equivalent", "lossy", "mistake", "stress")
SYMBOLS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "ERROR": "!", "NO DATA": "∅"}

_TRAINING_SUMMARY = "The answers of the training side beside the exported model's: what the export itself changed."

KIND_MEANING = {
    "equivalent": "should change nothing",
    "lossy": "a choice with a price",
    "mistake": "a bug that happens",
    "stress": "harder conditions",
}


@dataclass(frozen=True)
class Interval:
    """An estimate with the two ends of its 95% interval, where it has them."""

    estimate: float
    low: float | None = None
    high: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def number(value: Any) -> float | None:
    """A finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(value: Any) -> Interval | None:
    """An E of the summary (or a bare number), or None where nothing was estimated."""
    if not isinstance(value, Mapping):
        bare = number(value)
        return None if bare is None else Interval(bare)
    estimate = number(value.get("estimate"))
    if estimate is None:
        return None
    return Interval(estimate, number(value.get("low")), number(value.get("high")))


def mapping(value: Any) -> Json:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def rows(summary: Json, key: str) -> list[Json]:
    """The mappings listed under a key of the summary; none where the key is absent."""
    value = summary.get(key)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


def at(cell: Json, name: str, level: str) -> Interval | None:
    """One level's E of one measure of a cell."""
    return interval(mapping(cell.get(name)).get(level))


# ---------------------------------------------------------------------------- words


def fixed(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """A number in plain ASCII, never a negative zero; a dash for None.

    >>> fixed(-0.04), fixed(1.26, sign=True), fixed(None)
    ('0.0', '+1.3', '-')
    """
    if value is None:
        return "-"
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}"


def bracket(value: Interval | None, digits: int = 1) -> str:
    """The two ends in brackets, or nothing."""
    if value is None or value.low is None or value.high is None:
        return ""
    return f"[{fixed(value.low, digits)}, {fixed(value.high, digits)}]"


def with_interval(value: Interval | None, digits: int = 1) -> str:
    """The estimate followed by its interval.

    >>> with_interval(Interval(1.0, -0.5, 2.5))
    '1.0 [-0.5, 2.5]'
    """
    return "-" if value is None else f"{fixed(value.estimate, digits)} {bracket(value, digits)}".rstrip()


def percent(value: Any, digits: int = 1) -> str:
    """A share of 0-1 as a percentage."""
    share = number(value)
    return "-" if share is None else f"{fixed(100 * share, digits)}%"


def share(value: Interval | None) -> Interval | None:
    """The same in percent."""
    if value is None:
        return None
    low, high = (None if end is None else 100 * end for end in (value.low, value.high))
    return Interval(100 * value.estimate, low, high)


def sentence(value: Any) -> str:
    """A note as a sentence: a capital first, a full stop last."""
    text = str(value or "").strip()
    return text[:1].upper() + text[1:] + ("" if text[-1:] in ("", ".", "!", "?") else ".")


def margin(summary: Json) -> str:
    """The margin as written, in percentage points.

    >>> margin({"margin_pp": 2.0})
    '2'
    """
    value = number(summary.get("margin_pp"))
    return "?" if value is None else f"{value:g}"


def level_name(key: str) -> str:
    """What a level key is called: a level, a band of levels, or all items."""
    if key == ALL:
        return "all items"
    return f"level {key}" if key.isdigit() else f"levels {key}"


def verdict_of(summary: Json) -> str:
    """The run's verdict; an absent or unknown word is an ERROR, never a pass."""
    word = summary.get("verdict")
    return word if isinstance(word, str) and word in SYMBOLS else "ERROR"


def verdict_meaning(summary: Json) -> str:
    """The run's verdict in one plain sentence."""
    limit = margin(summary)
    return {
        "PASS": _passed(summary),
        "FAIL": f"At least one gated environment breaks its limit: it loses more than {limit} pp of accuracy at some "
        "level of difficulty, or changes predictions that it should not change.",
        "INCONCLUSIVE": _inconclusive(summary),
        "ERROR": "Something broke while the model was run or judged. This is not a pass; the numbers below may be "
        "incomplete.",
        "NO DATA": _no_data(summary),
    }[verdict_of(summary)]


def _no_data(summary: Json) -> str:
    if any(cell.get("gated") for cell in rows(summary, "cells")) or not rows(summary, "cells"):
        return "What was to be gated could not be judged on this machine with this data. This is not a pass."
    return "Nothing was gated: name what you deploy to with --environment. This is not a pass."


def _passed(summary: Json) -> str:
    """What held, from what was gated."""
    gated = [cell for cell in rows(summary, "cells") if cell.get("gated")]
    held = []
    if any(cell.get("kind") == "equivalent" for cell in gated):
        held.append("no setting that must change nothing changed a prediction")
    if any(cell.get("kind") != "equivalent" for cell in gated):
        held.append(f"every named deployment stays within {margin(summary)} pp at every judged level of difficulty")
    floors = any(cell.get("undecided_floor") for cell in gated)
    out = "; levels at the floor of chance were not judged" * floors
    return f"Everything that was gated held: {', and '.join(held) or 'see below'}{out}."


def _inconclusive(summary: Json) -> str:
    gated = [cell for cell in rows(summary, "cells") if cell.get("gated")]
    if gated and all(cell.get("verdict") == "PASS" for cell in gated):
        return (
            "Over all items together everything that was gated held, but the levels are too unreliable to be judged "
            "apart. This is not a pass: calibrate with more responders, or accept it with --allow-unlevelled."
        )
    whether = f"whether the drop stays within {margin(summary)} pp"
    return f"The data cannot tell yet {whether}. This is not a pass: more labelled items are needed."


def headline(summary: Json) -> str:
    """The run's headline without the verdict in front (which stands above it), or what the verdict means.

    >>> headline({"verdict": "FAIL", "headline": "FAIL: 1 of 5 gated cells fails."})
    '1 of 5 gated cells fails.'
    """
    text = str(summary.get("headline") or "").removeprefix(f"{verdict_of(summary)}:").strip()
    return text[:1].upper() + text[1:] if text else verdict_meaning(summary)


def reasons(summary: Json) -> list[str]:
    """The run's reasons, worst first, as the judge gave them."""
    given = summary.get("reasons")
    return [str(reason) for reason in given] if isinstance(given, Sequence) and not isinstance(given, str) else []


def next_steps(summary: Json) -> list[tuple[str, str]]:
    """What to ask next: a command, and the question that it answers."""
    return [(str(step.get("command")), str(step.get("question"))) for step in summary.get("next_steps") or ()]


def worst(verdicts: Iterable[Any]) -> str | None:
    """The worst of several verdicts, None where there is none; an unknown word counts as ERROR."""
    known = [word for word in verdicts if word]
    return order.worst(known) if known else None


def criterion(kind: Any, summary: Json) -> str:
    """What a gated environment must hold."""
    if kind == "equivalent":
        return "predictions must not change"
    return f"drop under {margin(summary)} pp per level"


# --------------------------------------------------------------------- bundles, cells


@dataclass(frozen=True)
class Group:
    """Bundles that differ by seed alone."""

    label: str
    bundles: tuple[str, ...]


def group_key(row: Json) -> tuple[str, ...]:
    """Task, family and regime of a bundle or regime row, those that are there; a task has one domain."""
    return tuple(str(row[key]) for key in ("task", "family", "regime") if row.get(key))


def groups(summary: Json) -> list[Group]:
    """Bundles grouped by regime (a bundle without one stands alone), labelled by what sets groups apart."""
    found: dict[tuple[str, ...], list[str]] = {}
    for bundle in rows(summary, "bundles"):
        name = str(bundle.get("name"))
        found.setdefault(group_key(bundle) if bundle.get("regime") else (name,), []).append(name)
    known = {name for names in found.values() for name in names}
    for cell in rows(summary, "cells"):
        if (name := str(cell.get("bundle"))) not in known:
            known.add(name)
            found[(name,)] = [name]
    return [Group(label, tuple(names)) for label, names in zip(labels(list(found)), found.values(), strict=True)]


def labels_among(summary: Json, own: Sequence[Group]) -> tuple[str, ...]:
    """Labels of some groups with what sets these apart, where a table shows no others."""
    about = {str(bundle.get("name")): bundle for bundle in rows(summary, "bundles")}
    first = [mapping(about.get(group.bundles[0])) for group in own]
    if not all(bundle.get("regime") for bundle in first):
        return tuple(group.label for group in own)
    return tuple(labels([group_key(bundle) for bundle in first]))


def labels(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Short labels: the last part (the regime), with those earlier parts that are not the same everywhere.

    >>> labels([("vision", "digits", "cnn", "random"), ("vision", "digits", "vit", "random")])
    ['random · cnn', 'random · vit']
    """
    width = max((len(key) for key in keys), default=0)
    whole = [key for key in keys if len(key) == width]
    varying = [place for place in range(width - 1) if len({key[place] for key in whole}) > 1]
    return [" · ".join([key[-1], *(key[p] for p in varying if p < len(key) - 1)]) for key in keys]


def task_of(summary: Json) -> dict[str, str]:
    """The task of each bundle; a bundle without one has an empty word."""
    return {str(bundle.get("name")): str(bundle.get("task") or "") for bundle in rows(summary, "bundles")}


class Cells:
    """The summary's cells by environment and by bundle."""

    def __init__(self, summary: Json) -> None:
        self.rows = rows(summary, "cells")
        self._by_pair = {(str(cell.get("bundle")), str(cell.get("environment"))): cell for cell in self.rows}

    def of(self, environment: str, bundles: Iterable[str] | None = None) -> list[Json]:
        """An environment's cells, of the bundles named or of all."""
        if bundles is None:
            return [cell for cell in self.rows if str(cell.get("environment")) == environment]
        pairs = ((bundle, environment) for bundle in bundles)
        return [self._by_pair[pair] for pair in pairs if pair in self._by_pair]


@dataclass(frozen=True)
class EnvironmentRow:
    """One environment with its cells over all bundles."""

    name: str
    kind: str
    gated: bool
    named: bool
    summary: str
    deviations: Json
    cells: tuple[Json, ...]

    @property
    def verdict(self) -> str | None:
        """The worst verdict over its gated cells."""
        return worst(cell.get("verdict") or "ERROR" for cell in self.cells if cell.get("gated"))

    @property
    def would_be(self) -> str | None:
        """The worst verdict over all its cells, gated or not."""
        return worst(cell.get("verdict") for cell in self.cells)


def environment_rows(summary: Json) -> list[EnvironmentRow]:
    """Environments, gated ones first, then by kind, then as planned."""
    about = {str(row.get("name")): row for row in rows(summary, "environments")}
    cells = Cells(summary)
    names = dict.fromkeys([*about, *(str(cell.get("environment")) for cell in cells.rows)])
    found = [_environment_row(name, mapping(about.get(name)), cells.of(name), summary) for name in names]
    return sorted(found, key=lambda row: (not row.gated, _kind_rank(row.kind)))


def _environment_row(name: str, about: Json, cells: Sequence[Json], summary: Json) -> EnvironmentRow:
    first: Json = cells[0] if cells else {}
    named = name in (summary.get("deployments") or ()) or any(cell.get("named") for cell in cells)
    return EnvironmentRow(
        name=name,
        kind=str(about.get("kind") or first.get("kind") or "-"),
        gated=any(cell.get("gated") for cell in cells),
        named=named,
        summary=str(about.get("summary") or (_TRAINING_SUMMARY if name == TRAINING else "")),
        deviations=mapping(about.get("deviations") or first.get("deviations")),
        cells=tuple(cells),
    )


def _kind_rank(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def answered(cells: Iterable[Json]) -> list[Json]:
    """Cells that ran."""
    return [cell for cell in cells if cell.get("status", "ok") == "ok"]


def pooled(cells: Iterable[Json], name: str, level: str) -> Interval | None:
    """Mean estimate over cells with the hull of their intervals (the widest honest reading of several seeds)."""
    return pool(at(cell, name, level) for cell in answered(cells))


def pool(values: Iterable[Interval | None]) -> Interval | None:
    """Mean of the estimates, lowest low, highest high."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    lows, highs = [v.low for v in found if v.low is not None], [v.high for v in found if v.high is not None]
    whole = len(lows) == len(found) == len(highs)
    return Interval(statistics.fmean(v.estimate for v in found), *((min(lows), max(highs)) if whole else (None, None)))


def at_floor(cells: Iterable[Json], level: str) -> bool:
    """Whether the level is at the floor in any of the cells."""
    return any(level in {str(value) for value in cell.get("floor") or ()} for cell in cells)


def executed(cell: Json) -> tuple[str, str, bool]:
    """Requested format, executed format, and whether they match (they do where nothing says otherwise)."""
    truth = mapping(cell.get("execution"))
    requested, ran = str(truth.get("requested") or ""), str(truth.get("executed") or "")
    return requested, ran, bool(truth.get("matches", requested == ran))
