"""Other traffic on the page: what the drops would be under other mixes, and each group's own drop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gapshift.reports.renderers.page import minus, step
from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, percent_cell, some, value_cell
from gapshift.reports.renderers.view import (
    Cells,
    EnvironmentRow,
    Group,
    Interval,
    Json,
    answered,
    bracket,
    environment_rows,
    fixed,
    groups,
    interval,
    mapping,
    number,
    percent,
    pool,
    rows,
    task_of,
    with_interval,
)

ROWS = 25
"""How many rows a table shows on the page."""
AS_IS = "as-is"
PICKED = ("worst-label", "worst-group")
"""Mixes that were picked for what they cost, so that no sentence leads with them."""
SENTENCES = 3
NOTABLE = 0.5
"""A drop that moves by less than this, in pp, gets no sentence."""

_HEADS = {
    AS_IS: "as it is",
    "mostly-easy": "mostly easy",
    "mostly-hard": "mostly hard",
    "labels-even": "labels even",
    "worst-label": "worst label ×3",
    "groups-even": "groups even",
    "worst-group": "worst group",
}
_PHRASES = {
    "mostly-easy": "under mostly easy traffic",
    "mostly-hard": "under mostly hard traffic",
    "labels-even": "with every label equally often",
    "groups-even": "with every group equally often",
}
_LEAD = (
    "The drop over all items holds for the mix of the evaluation data. Requests come in another mix where it is "
    "deployed, so the answers above are weighed anew here, without running anything again: mostly easy weighs levels "
    "1 to 5 by 5, 4, 3, 2, 1, mostly hard by 1, 2, 3, 4, 5. Nothing here is gated."
)
_CLUSTERS = (
    "Where items come in groups (speakers, paragraphs), the intervals of this section count the groups, not the items, "
    "as what was sampled; so they can be wider than those above."
)
_PICKED = (
    "Worst label ×3: one label three times as frequent, the one that costs most. It was picked after looking at all of "
    "them, and its interval allows for that."
)
_UNGROUPED = "The items come in no groups (speakers, paragraphs), so there is nothing to say group by group."
_PICKED_GROUP = "Worst group: nothing but the group that loses most; its interval allows for the picking, too."


def chapters(summary: Json, most: int = ROWS) -> list[Chapter]:
    """Other mixes and groups; nothing for a summary without them. ``most`` rows a table."""
    mixes = {str(mix.get("name")): mix for mix in rows(summary, "traffic")}
    lines = _lines(summary)
    if not mixes or not lines:
        return []
    by_group = _groups(lines, _counts(summary, lines), most)
    said = [Part("", sentence) for sentence in _sentences(mixes, lines)]
    found = [*said, _mixes(mixes, lines, most), by_group or Part("", _counts(summary, lines) or _UNGROUPED)]
    return [Chapter("traffic", "Under other traffic", "Other traffic", tuple(found))]


@dataclass(frozen=True)
class _Line:
    """One environment's cells of one group of models."""

    models: Group
    environment: EnvironmentRow
    cells: tuple[Json, ...]

    def drop(self, mix: str) -> Interval | None:
        """Mean drop of the models, in pp."""
        return pool(interval(found.get("drop_pp")) for found in self.found(mix))

    def found(self, mix: str) -> list[Json]:
        return [mapping(mapping(cell.get("traffic")).get(mix)) for cell in self.cells]

    @property
    def moved(self) -> bool:
        """Whether any answer went from right to wrong or back."""
        flips = [mapping(cell.get("flips")) for cell in self.cells]
        return any(number(mapping(flip.get(way)).get("all")) != 0 for flip in flips for way in flip)


def _lines(summary: Json) -> list[_Line]:
    """Every environment that ran with its cells that have a mix, by group of models."""
    cells, environments = Cells(summary), environment_rows(summary)
    found = [
        _Line(models, row, tuple(cell for cell in answered(cells.of(row.name, models.bundles)) if cell.get("traffic")))
        for models in groups(summary)
        for row in environments
    ]
    return [line for line in found if line.cells]


def _by_models(lines: Iterable[_Line]) -> dict[Group, list[_Line]]:
    found: dict[Group, list[_Line]] = {}
    for line in lines:
        found.setdefault(line.models, []).append(line)
    return found


# --------------------------------------------------------------------------- mixes


def _mixes(mixes: Json, lines: Sequence[_Line], most: int) -> Part:
    split = _by_models(lines)
    made = (_table(models, own, mixes, most, fold=len(split) > 1) for models, own in split.items())
    tables = tuple(table for table in made if table is not None)
    notes = [_own_mix(mix) for mix in mixes.values() if mix.get("weights")]
    notes += [_PICKED] if _defined("worst-label", lines) else []
    notes += [_PICKED_GROUP, _CLUSTERS] if _defined("worst-group", lines) else []
    if len(split) < len({bundle for models in split for bundle in models.bundles}):
        notes.append("A row is the mean over models that differ by seed alone, with the outermost ends.")
    return Part("", _LEAD, tables, notes=tuple(notes) if tables else ())


def _defined(mix: str, lines: Iterable[_Line]) -> bool:
    return any(line.drop(mix) is not None for line in lines)


def _own_mix(mix: Json) -> str:
    shares = {str(name): number(weight) or 0.0 for name, weight in mapping(mix.get("weights")).items()}
    total = sum(shares.values()) or 1.0
    what = "level " if mix.get("by") == "levels" else ""
    said = ", ".join(f"{percent(weight / total, 0)} {what}{name}" for name, weight in list(shares.items())[:8])
    more = f" and {len(shares) - 8} more" if len(shares) > 8 else ""
    about = f" ({mix['summary']})" if mix.get("summary") else ""
    return f"{mix.get('name')}{about}: {said}{more}."


def _sentences(mixes: Json, lines: Sequence[_Line]) -> list[str]:
    """Which drops another mix makes worse: of the deployments that were named, else of all but the mistakes."""
    if not any(line.moved for line in lines):
        return ["No environment turned a right answer wrong or a wrong one right, so no mix of requests has a drop."]
    named = [line for line in lines if line.environment.named]
    looked = named or [line for line in lines if line.environment.kind != "mistake"]
    grown = [(*found, line) for line in looked if (found := _growth(line, mixes, chosen=bool(named)))]
    grown.sort(key=lambda each: -each[0])
    whom = "a named deployment's" if named else "an environment's"
    lone = len(_by_models(lines)) == 1
    return [_sentence(line, mix, "" if lone else f" ({line.models.label})") for _, mix, line in grown[:SENTENCES]] or [
        f"Under none of these mixes, the worst label and the worst group aside, does {whom} drop grow by {NOTABLE} pp "
        "or more and lie clear of zero."
    ]


def _growth(line: _Line, mixes: Iterable[str], *, chosen: bool) -> tuple[float, str] | None:
    """By how much the mix that makes a drop worst does so, where that is notable and the drop clear of zero.

    Of environments that nobody chose the largest are shown: there the two intervals must lie apart, or chance alone
    would fill the page.
    """
    base = line.drop(AS_IS)
    others = {mix: line.drop(mix) for mix in mixes if mix not in (AS_IS, *PICKED)}
    found = [
        (value.estimate - base.estimate, mix)
        for mix, value in others.items()
        if base is not None
        and value is not None
        and value.estimate - base.estimate >= NOTABLE
        and (value.low or 0.0) > (0.0 if chosen else max(0.0, base.high or 0.0))
    ]
    return max(found, default=None)


def _sentence(line: _Line, mix: str, models: str) -> str:
    there, here = line.drop(mix), line.drop(AS_IS)
    phrase = _PHRASES.get(mix, f"under the mix {mix}")
    return minus(
        f"{line.environment.name}{models}: {phrase} the drop would be {with_interval(there)} pp "
        f"rather than {with_interval(here)}."
    )


def _table(models: Group, lines: Sequence[_Line], mixes: Json, most: int, *, fold: bool) -> Table | None:
    shown = [line for line in lines if line.moved]
    if not shown:
        return None
    columns = [mix for mix in mixes if any(line.drop(mix) is not None for line in shown)]
    kept = _largest(shown, columns, most)
    body = [(Cell("accuracy in the reference, %"), *(_accuracy(kept, mix) for mix in columns))]
    body += [(Cell(line.environment.name, _about(line)), *(_drop_cell(line, mix) for mix in columns)) for line in kept]
    return Table(
        label=f"Drop in pp under other mixes of requests{', ' + models.label if fold else ''}",
        heads=("environment", *(_HEADS.get(mix, mix) for mix in columns)),
        rows=tuple(body),
        fold=f"{models.label}: drops under {len(columns)} mixes" if fold else "",
        notes=tuple(_table_notes(lines, shown, kept, [mix for mix in mixes if mix not in columns])),
        css="heat",
    )


def _largest(lines: Sequence[_Line], columns: Sequence[str], most: int) -> list[_Line]:
    """Those that are named, and the largest drops of the rest, in the page's order."""

    def rank(line: _Line) -> tuple[bool, float]:
        drops = [value.estimate for mix in columns if (value := line.drop(mix)) is not None]
        return (not line.environment.named, -max(drops, default=float("-inf")))

    kept = set(map(id, sorted(lines, key=rank)[:most]))
    return [line for line in lines if id(line) in kept]


def _about(line: _Line) -> str:
    kind = line.environment.kind
    return f"{kind}, named" if line.environment.named else kind


def _accuracy(lines: Sequence[_Line], mix: str) -> Cell:
    """Reference accuracy under a mix; of cells on a subsample it can differ, so the first whole one is taken."""
    if mix in PICKED:
        return Cell("")
    line = next((each for each in lines if not any(cell.get("subsampled") for cell in each.cells)), lines[0])
    value = pool(interval(found.get("reference_accuracy")) for found in line.found(mix))
    return Cell(percent_cell(value).text)


def _drop_cell(line: _Line, mix: str) -> Cell:
    value = line.drop(mix)
    if value is None:
        return Cell("–", css="x")
    which = list(dict.fromkeys(str(found["which"]) for found in line.found(mix) if found.get("which")))
    name = f" ({shorten(which[0])}{', …' * (len(which) > 1)})" if which else ""
    css = step(value.estimate) + (" b" if value.clear else "")
    return Cell(f"{minus(fixed(value.estimate))}{name}", minus(bracket(value)), f"c {css}")


def shorten(name: str, most: int = 28) -> str:
    """A label's or group's name that fits into a cell: its end, which tells paths apart.

    >>> shorten("passages/p0227"), shorten("the critics called it great, yet I found it ugly")
    ('passages/p0227', '…great, yet I found it ugly')
    """
    return name if len(name) <= most else f"…{name[1 - most :].lstrip()}"


def _table_notes(
    lines: Sequence[_Line], shown: Sequence[_Line], kept: Sequence[_Line], undefined: Iterable[str]
) -> Iterable[str]:
    still = [line.environment.name for line in lines if not line.moved]
    if still:
        yield f"Without a single answer gained or lost, and so left out: {some(still)}."
    if len(kept) < len(shown):
        yield f"{len(shown) - len(kept)} more environments with smaller drops are in summary.json."
    reasons: dict[str, dict[str, None]] = {}
    for mix in undefined:
        for reason in (str(found["reason"]) for line in lines for found in line.found(mix) if "reason" in found):
            reasons.setdefault(reason, {})[_HEADS.get(mix, mix)] = None
    for reason, names in reasons.items():
        yield f"Not defined: {', '.join(names)}; {reason}."


# --------------------------------------------------------------------------- groups


def _groups(lines: Sequence[_Line], counted: str, most: int) -> Part | None:
    grouped = [line for line in lines if any(mapping(cell.get("groups")).get("listed") for cell in line.cells)]
    made = (_worst_groups(models, own, most) for models, own in _by_models(grouped).items())
    tables = [table for table in made if table is not None]
    lead = (
        "Each group by itself: its drop with Tango's interval, the loss (of its items that were right in the "
        "reference, the share that is now wrong) with Wilson's, and q, the share of false alarms among the groups of "
        "one environment that differ at least as clearly (Benjamini–Hochberg)."
    )
    return Part("Group by group", f"{lead} {counted}", tuple(tables)) if tables else None


def _counts(summary: Json, lines: Sequence[_Line]) -> str:
    """How many groups there are, and how many of them hold too few items, task by task; empty without any."""
    tasks, found = task_of(summary), dict[str, Json]()
    for line in lines:
        for cell in line.cells:
            if cell.get("groups"):
                found.setdefault(tasks.get(str(cell.get("bundle")), ""), mapping(cell["groups"]))
    return " ".join(_counted(task, groups) for task, groups in found.items())


def _counted(task: str, found: Json) -> str:
    count, small = int(number(found.get("count")) or 0), int(number(found.get("small")) or 0)
    said = f"The items of {task or 'this run'} come in {count:,} groups"
    if count == 1:
        return f"All items of {task or 'this run'} belong to one group: nothing is known of others."
    if small == count:
        return f"{said}, each with too few items to be judged by itself."
    return f"{said}; {small:,} of them have too few items to be judged by themselves." if small else f"{said}."


def _worst_groups(models: Group, lines: Sequence[_Line], most: int) -> Table | None:
    """The groups that lose most: named deployments first, mistakes last. None where no group loses."""
    found = [
        (line, cell, row)
        for line in lines
        for cell in line.cells
        for row in rows(mapping(cell.get("groups")), "listed")
        if _size(row) > 0
    ]
    if not found:
        return None
    found.sort(key=lambda each: (not each[0].environment.named, each[0].environment.kind == "mistake", -_size(each[2])))
    made = tuple(_group_row(*each, several=len(models.bundles) > 1) for each in found[:most])
    cut = len(found) > most or any(number(mapping(cell.get("groups")).get("left_out")) for _, cell, _ in found)
    heads = ("group", "environment", "items", "reference, %", "drop, pp", "loss, %", "q")
    fold = f"{models.label}: the groups that lose most"
    notes = ("More groups, with smaller drops, are in summary.json.",) if cut else ()
    return Table(f"Groups that lose most, {models.label}", heads, made, fold, notes)


def _size(row: Json) -> float:
    drop = interval(row.get("drop_pp"))
    return drop.estimate if drop else float("-inf")


def _group_row(line: _Line, cell: Json, row: Json, *, several: bool) -> tuple[Cell, ...]:
    drop, q = interval(row.get("drop_pp")), number(row.get("q"))
    return (
        Cell(shorten(str(row.get("group")), 48)),
        Cell(line.environment.name, str(cell.get("bundle")) if several else ""),
        Cell(f"{number(row.get('n')) or 0:,.0f}"),
        Cell(percent(row.get("reference_accuracy")).removesuffix("%")),
        value_cell(drop, css="b" if drop and drop.clear else ""),
        percent_cell(interval(row.get("loss"))),
        Cell("–" if q is None else "<0.001" if q < 0.001 else fixed(q, 3)),
    )
