"""A study on the page: its claims, its tasks, and the chapters of its comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gapshift.reports.renderers import comparisons, deployed
from gapshift.reports.renderers.page import minus
from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, chapter, footnotes, percent_cell, plain, prose
from gapshift.reports.renderers.view import LEVEL_KEYS, Json, fixed, interval, mapping, number, percent, rows

MARKS = {"supported": ("✓", "PASS"), "not supported": ("✗", "FAIL"), "cannot tell": ("?", "INCONCLUSIVE")}
"""Symbol and colour class of a claim's verdict."""
UNKNOWN = "cannot tell"
UNRELIABLE = "levels too unreliable"
LOW_CORRELATION = 0.5
ONE_BAND = 0.9
"""A scale that holds more than this share of a task's items in one band tells nothing there."""
CLAIMS_LEAD = (
    "Each claim of the published study, from this run's intervals alone. Claims are judged one by one at 95%, "
    "and nothing is called supported under five seeds."
)


@dataclass(frozen=True)
class Evidence:
    """What one task and family says about a claim."""

    task: str
    verdict: str
    text: str


@dataclass(frozen=True)
class Claim:
    """One claim with its verdict and why."""

    number: str
    text: str
    verdict: str
    why: str
    evidence: tuple[Evidence, ...]


def study_of(summary: Json) -> Json:
    """The study part of a summary; empty where nothing was trained."""
    return mapping(summary.get("study"))


def claim_verdict(row: Json) -> str:
    """A claim's verdict; an absent or unknown word is never a support."""
    word = row.get("verdict")
    return word if isinstance(word, str) and word in MARKS else UNKNOWN


def claim_badge(word: str) -> str:
    """A claim's verdict with its symbol, so that colour is never alone."""
    return f"{MARKS[word][0]} {word}"


def claim_css(word: str) -> str:
    """The colour class of a claim's verdict."""
    return MARKS[word][1]


def claims(summary: Json) -> list[Claim]:
    """The study's claims in its order."""
    return [
        Claim(
            number=str(row.get("claim") or "–"),
            text=str(row.get("text") or ""),
            verdict=claim_verdict(row),
            why=minus(str(row.get("why") or "No reason was recorded.")),
            evidence=tuple(_evidence(found) for found in rows(row, "tasks")),
        )
        for row in rows(study_of(summary), "claims")
    ]


def _evidence(row: Json) -> Evidence:
    where = " · ".join(str(row[key]) for key in ("task", "family") if row.get(key))
    return Evidence(where, claim_verdict(row), minus(str(row.get("evidence") or "none")))


def study_notes(summary: Json) -> list[str]:
    """How the study's numbers are to be taken."""
    found = study_of(summary).get("notes")
    return [minus(str(note)) for note in found] if isinstance(found, list | tuple) else []


def opening(summary: Json) -> list[Chapter]:
    """What was trained on, before anything is compared."""
    found = study_of(summary)
    parts = [_tasks(summary, found), _scale(found), _absolute(found)]
    return chapter("tasks", "Tasks, and one scale for them", "Tasks", parts)


def chapters(summary: Json) -> list[Chapter]:
    """The study's comparisons in reading order; what was not trained is left out."""
    found = study_of(summary)
    return [
        *chapter("matrix", "Trained on one level, tested on all", "Level by level", comparisons.one_level(found)),
        *chapter("controls", "Controls, wrong labels and size", "Controls", comparisons.controls(summary, found)),
        *chapter("transfer", "Transfer across tasks", "Transfer", [comparisons.transfer(found)]),
        *chapter("measures", "Other measures of difficulty", "Measures", [comparisons.measures(found)]),
        *chapter("critical", "Where deployment hits, and what order it keeps", "Order", deployed.after(found)),
    ]


def console_lines(summary: Json) -> list[str]:
    """The study in a few lines of plain words."""
    found, tasks = claims(summary), rows(study_of(summary), "tasks")
    counts = [(word, [claim.number for claim in found if claim.verdict == word]) for word in MARKS]
    lines = ["Claims: " + "; ".join(f"{word} {', '.join(numbers)}" for word, numbers in counts if numbers)]
    unlearnt = [str(row.get("task")) for row in tasks if row.get("learnable") is False]
    unknown = [str(row.get("task")) for row in tasks if row.get("learnable") is None]
    vague = [str(row.get("task")) for row in tasks if str(row.get("levels") or "").startswith(UNRELIABLE)]
    named = (
        ("Not learnable at this budget, in no claim", unlearnt),
        ("Learnable is not known, in no claim", unknown),
        ("Levels too unreliable, in no claim", vague),
    )
    return (lines if found else []) + [f"{said}: {', '.join(names)}" for said, names in named if names]


# ------------------------------------------------------------------------------ tasks

LEARNABLE = {
    True: Cell("✓ learnable"),
    False: Cell("✗ not learnable at this budget", "enters no claim"),
    None: Cell("? not known", "enters no claim"),
}


def _tasks(summary: Json, study: Json) -> Part | None:
    found = rows(study, "tasks")
    cards = {str(card.get("task")): card for card in rows(summary, "calibration")}
    data = {str(task.get("name")): mapping(task.get("data")) for task in rows(summary, "tasks")}
    heads = ("task", "domain", "kind", "accuracy of iid, %", "chance, %", "learnable", "reliability", "from")
    made = tuple(_task(row, mapping(cards.get(str(row.get("task")))), data) for row in found)
    lead = (
        "Read first whether a task was learnt at all: a task whose iid models do not clear chance by 5 pp enters "
        "no claim. Reliability is split-half, over the responders that rated the items: below 0.5 the levels say too "
        "little, and the task enters no claim either."
    )
    notes = footnotes((str(row.get("task")), str(row.get("note") or "").partition("; ")[2]) for row in found)
    return Part("", lead, (Table("Tasks of the study", heads, made, notes=notes),)) if made else None


def _task(row: Json, card: Json, data: dict[str, Json]) -> tuple[Cell, ...]:
    name, learnable = str(row.get("task")), row.get("learnable")
    source = str(mapping(data.get(name)).get("source") or "")
    return (
        Cell(name, source if source != name else ""),
        plain(row.get("domain")),
        plain(row.get("kind")),
        percent_cell(interval(row.get("accuracy"))),
        plain(percent(row.get("chance")).rstrip("%").replace("-", "–")),
        LEARNABLE[learnable if isinstance(learnable, bool) else None],
        Cell(minus(fixed(number(card.get("split_half")), 2)) or "–", _level_words(row)),
        prose(str(row.get("note") or "").partition("; ")[0]),
    )


def _level_words(row: Json) -> str:
    """What a task's reliability means for claims; nothing where five levels stand."""
    words = str(row.get("levels") or "").partition(" (")[0]
    return f"{words}: enters no claim" if words == UNRELIABLE else words


# ------------------------------------------------------------------------------ scale


def _scale(study: Json) -> Part | None:
    scale = mapping(study.get("scale"))
    pairs = {frozenset(map(str, row.get("tasks") or ())): row for row in rows(scale, "correlations")}
    names = list(dict.fromkeys(str(name) for row in rows(scale, "correlations") for name in row.get("tasks") or ()))
    if not names:
        return None
    made = tuple((Cell(one), *(_correlation(one, other, pairs) for other in names)) for one in names)
    shared = f"{number(scale.get('recipes')) or 0:.0f} recipes are shared by all tasks."
    table = Table(
        "Correlation of recipe abilities between tasks",
        ("task", *names),
        made,
        notes=(str(scale.get("assumes") or ""), *_low_correlations(rows(scale, "correlations"))),
    )
    lead = (
        "Levels compare between two tasks as far as the recipes that rated both stand in the same order: read how "
        f"high their abilities correlate. Pearson's r above Spearman's rho and the number of recipes. {shared}"
    )
    return Part("One scale across tasks", lead, (table,))


def _low_correlations(found: Sequence[Json]) -> Iterator[str]:
    for row in found:
        value, names = number(row.get("pearson")), [str(name) for name in row.get("tasks") or ()]
        if value is not None and value < LOW_CORRELATION:
            words = "low: do not compare level_abs between these two"
            yield minus(f"{' and '.join(names)}: {fixed(value, 2)}, {words}.")


def _correlation(one: str, other: str, pairs: dict[frozenset[str], Json]) -> Cell:
    if one == other:
        return Cell("·", css="dim")
    row = mapping(pairs.get(frozenset((one, other))))
    if number(row.get("pearson")) is None:
        return Cell("–", f"unknown, n = {number(row.get('n')) or 0:.0f}")
    low = "; low" * ((number(row.get("pearson")) or 0) < LOW_CORRELATION)
    below = f"rho {fixed(number(row.get('spearman')), 2)}, n = {number(row.get('n')) or 0:.0f}{low}"
    return Cell(minus(fixed(number(row.get("pearson")), 2)), minus(below))


def _absolute(study: Json) -> Part | None:
    found = rows(study, "absolute")
    cuts = [cut for row in found[:1] for cut in row.get("cuts") or ()]
    ends = f" (b* cut at {', '.join(fixed(number(cut), 2) for cut in cuts)})" if cuts else ""
    lead = (
        "Accuracy in % at the same difficulty on every task, as far as the linking holds: a column is the same "
        f"stretch of the linked scale in every table{minus(ends)}, and holds more items of one task than of another. "
        "Here accuracy is over items; elsewhere mean accuracy is over levels."
    )
    tables = tuple(_absolute_table(row) for row in found if rows(row, "regimes"))
    notes = tuple(note for row in found if (note := _one_band(row)))
    return Part("The same difficulty on every task", lead, tables, notes=notes) if tables else None


def _one_band(row: Json) -> str:
    """A sentence where nearly all items of a task lie at one absolute level; nothing elsewhere."""
    items = {key: number(mapping(row.get("items")).get(key)) or 0.0 for key in LEVEL_KEYS}
    key = max(items, key=lambda each: items[each])
    if items[key] <= ONE_BAND:
        return ""
    return (
        f"{row.get('task')}: {percent(items[key], 0)} of the held-out items lie at absolute level {key}, nearly all in "
        "one band: this scale tells nothing here."
    )


def _absolute_table(row: Json) -> Table:
    items = mapping(row.get("items"))
    shares = (Cell("share of items"), *(plain(percent(items.get(key), 0).replace("-", "–")) for key in LEVEL_KEYS))
    body = (_absolute_line(regime) for regime in rows(row, "regimes"))
    label = f"{row.get('task')} · {row.get('family')}, over the items of each absolute level"
    return Table(label, ("trained by", *(f"level {key}" for key in LEVEL_KEYS)), (shares, *body), label, css="heat")


def _absolute_line(row: Json) -> tuple[Cell, ...]:
    accuracy = mapping(row.get("accuracy"))
    return Cell(str(row.get("regime"))), *(comparisons.accuracy_cell(interval(accuracy.get(k))) for k in LEVEL_KEYS)
