"""What did an environment's damage, on a terminal, as Markdown and as one HTML page; all from the summary alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from gapshift.reports.attribution_words import smallest_words, where
from gapshift.reports.renderers import page
from gapshift.reports.renderers.chapters import render_chapters
from gapshift.reports.renderers.tables import Cell, Chapter, Figure, Part, Table, plain, prose, value_cell
from gapshift.reports.renderers.view import LEVEL_KEYS, Json, at, mapping, rows, sentence
from gapshift.reports.renderers.waterfall import Step, waterfall_chart
from gapshift.settings import environment_toml

COLUMNS = (*LEVEL_KEYS, "all", "mean")
WORDS = (
    "A drop is paired accuracy in the reference minus accuracy here, in percentage points. Alone: with this deviation "
    "and no other. On top: what it adds to all others. A share is its Shapley value: what it adds, averaged over all "
    "orders in which the deviations could come; shares sum to the drop. Interaction: on top minus alone. Intervals are "
    "95% score intervals over items, each by itself; the level that the sentences are about was chosen by looking. "
    "A combination's verdict is what the environment would get at this run's gate, were it no more than that. Nothing "
    "here decides about the run."
)
_LINES = 24
"""How many models' findings a terminal gets; the page has three at its top and each in its chapter."""


def render_attribution(summary: Json, stem: str) -> dict[str, str]:
    """``STEM.html`` and ``STEM.md``, by file name."""
    return render_chapters(stem, _page(summary), "attribution")


def console_attribution(summary: Json) -> str:
    """The findings and the smallest failing sets, as plain text."""
    head = [title(summary), *filter(None, [lead(summary)]), effort(summary), ""]
    lines = [*head, *(f"  - {line}" for line in findings(summary, _LINES))]
    for words, snippet in smallest(summary):
        lines += ["", f"Fails still ({words}):", *(f"    {line}" for line in snippet.splitlines())]
    return "\n".join(lines) + "\n"


def title(summary: Json) -> str:
    """The page's heading."""
    return f"What did the damage: {summary.get('environment')}"


def lead(summary: Json) -> str:
    """Which deviation has the largest clear part in how many of several models; nothing of one."""
    found = [entry for entry in rows(summary, "explained") if rows(entry, "players")]
    leading = Counter(name for entry in found if (name := leader(entry)))
    if not found:
        return "Nothing could be measured."
    if len(found) == 1:
        return ""
    none = len(found) - leading.total()
    said = [f"{name} in {count}" for name, count in leading.most_common(3)] + [f"none in {none}"] * (none > 0)
    return f"The largest clear part, of {len(found)} models: {', '.join(said)}."


def effort(summary: Json) -> str:
    """What it took to find out, and what must be known of its items."""
    cells = mapping(summary.get("cells"))
    notes = "".join(f" {sentence(note)}" for note in summary.get("notes") or ())
    return (
        f"Combinations measured: {cells.get('needed')}, of which {cells.get('run')} were run for this and "
        f"{cells.get('shared')} are shared with the run and what was derived from it.{notes}"
    )


def leader(entry: Json) -> str | None:
    """The deviation with the largest share (without shares: the largest drop on top) that leaves out zero."""
    name = "together_pp" if entry.get("shares_missing") else "share_pp"
    known = [(player, at(player, name, str(entry.get("level")))) for player in rows(entry, "players")]
    clear = [(abs(value.estimate), str(player.get("name"))) for player, value in known if value and value.clear]
    return max(clear)[1] if clear else None


def findings(summary: Json, most: int) -> list[str]:
    """One line a model."""
    found = rows(summary, "explained")
    lines = [f"{entry.get('bundle')}: {entry.get('finding')}" for entry in found[:most]]
    return [*lines, f"and {len(found) - most} more below"] if len(found) > most else lines


def smallest(summary: Json) -> list[tuple[str, str]]:
    """Each smallest failing set with the models that it is of, and its environment as TOML."""
    models: dict[str, list[str]] = {}
    for entry in rows(summary, "explained"):
        for one in rows(mapping(entry.get("smallest")), "sets"):
            models.setdefault(json.dumps(one.get("deviations")), []).append(str(entry.get("bundle")))
    total = len(rows(summary, "explained"))
    ranked = sorted(models.items(), key=lambda item: -len(item[1]))
    return [
        (_of_models(names, total), _toml(summary, json.loads(deviations), place if len(ranked) > 1 else 0))
        for place, (deviations, names) in enumerate(ranked, start=1)
    ]


def _of_models(names: Sequence[str], total: int) -> str:
    if total == 1:
        return names[0]
    return f"all {total} models" if len(names) == total else f"{len(names)} of {total} models: {', '.join(names)}"


def _toml(summary: Json, deviations: Json, place: int) -> str:
    whole = str(summary.get("environment"))
    name = f"{whole}-smallest" + (f"-{place}" if place else "")
    return environment_toml(name, str(summary.get("kind")), f"The part of {whole} that still fails.", deviations)


# --------------------------------------------------------------------- the page


def _page(summary: Json) -> dict[str, object]:
    return {
        "title": title(summary),
        "lead": lead(summary),
        "effort": effort(summary),
        "about": sentence(summary.get("summary")),
        "lines": findings(summary, 3),
        "smallest": smallest(summary),
        "chapters": list(_chapters(summary)),
        "words": WORDS,
    }


def _chapters(summary: Json) -> Iterator[Chapter]:
    found = rows(summary, "explained")
    if len(found) > 1:
        yield Chapter("models", "All models", "Models", (_overview(found),))
    for place, entry in enumerate(found):
        name = str(entry.get("bundle"))
        yield Chapter(f"model-{place}", name, name, tuple(_parts(entry)))


def _overview(found: Sequence[Json]) -> Part:
    made = tuple(
        (
            Cell(str(entry.get("bundle"))),
            plain(entry.get("verdict")),
            plain(_level_words(entry)),
            value_cell(at(entry, "drop_pp", str(entry.get("level")))),
            prose(leader(entry) or "none is clear"),
            prose("; or ".join(" + ".join(map(str, one.get("names") or ())) for one in _sets(entry))),
        )
        for entry in found
    )
    heads = ("model", "verdict", "spoken of", "drop, pp", "largest clear part", "smallest part that fails")
    return Part("", "Each model at the level where it loses most.", (Table("Models", heads, made),))


def _level_words(entry: Json) -> str | None:
    level = entry.get("level")
    return where(str(level)).removeprefix("at ") if level else None


def _sets(entry: Json) -> list[Json]:
    return rows(mapping(entry.get("smallest")), "sets")


def _parts(entry: Json) -> Iterator[Part]:
    players = rows(entry, "players")
    if not players:
        yield Part("", sentence(entry.get("finding")), notes=_notes(entry))
        return
    shares = not entry.get("shares_missing")
    yield Part(
        "",
        page.minus(str(entry.get("finding"))),
        (_measure(entry, "share_pp", "Share of each deviation (Shapley), pp"),) if shares else (),
        figures=tuple(_waterfalls(entry)) if shares else (),
        notes=_notes(entry),
    )
    if len(players) > 1:
        tables = (
            _measure(entry, "alone_pp", "Drop with this deviation alone, pp", "alone"),
            _measure(entry, "together_pp", "Drop that it adds on top of all others, pp", "without"),
            _measure(entry, "interaction_pp", "Interaction: on top minus alone, pp"),
        )
        yield Part("Alone, and on top of the others", "", tables)
        yield Part("Combinations", smallest_words(entry), (_combinations(entry),))


def _notes(entry: Json) -> tuple[str, ...]:
    together = [
        f"counted as one: {player.get('name')}, since {player.get('why_together')}"
        for player in rows(entry, "players")
        if player.get("why_together")
    ]
    idle = [f"left out: {row.get('deviation')}: {row.get('reason')}" for row in rows(entry, "idle")]
    remarks = [str(text) for text in entry.get("remarks") or ()]
    floor = entry.get("floor") or ()
    levels = f"level{'s' * (len(floor) > 1)} {', '.join(map(str, floor))}"
    near = [f"near chance in the reference, so that a drop says little there: {levels}"] if floor else []
    return tuple(page.minus(sentence(text)) for text in (*together, *idle, *near, *remarks))


def _heads() -> tuple[str, ...]:
    return (*(f"level {key}" for key in LEVEL_KEYS), "all items", "mean of levels")


def _measure(entry: Json, name: str, label: str, outcome: str = "") -> Table:
    """One measure of every deviation by level; with ``outcome`` also the verdict of that combination."""
    made = [
        (
            prose(player.get("name")),
            *(value_cell(at(player, name, key)) for key in COLUMNS),
            *((_verdict(mapping(player.get(outcome))),) if outcome else ()),
        )
        for player in rows(entry, "players")
    ]
    if name == "share_pp":
        made.append((Cell("all together"), *(value_cell(at(entry, "drop_pp", key)) for key in COLUMNS)))
    verdict = {"alone": ("verdict alone",), "without": ("verdict without it",)}.get(outcome, ())
    return Table(label, ("deviation", *_heads(), *verdict), tuple(made))


def _verdict(outcome: Json) -> Cell:
    if outcome.get("status") in ("ok", "reference"):
        return plain(outcome.get("verdict") or "the reference")
    return Cell(str(outcome.get("status")).replace("_", " "), str(outcome.get("reason") or ""), "w")


def _combinations(entry: Json) -> Table:
    found = rows(entry, "combinations")
    made = tuple(
        (
            prose(" + ".join(map(str, row.get("names") or ()))),
            *(value_cell(at(row, "drop_pp", key)) for key in COLUMNS),
            _verdict(row),
        )
        for row in found
    )
    heads = ("deviations", *_heads(), "verdict")
    return Table("Drop of every combination, pp", heads, made, fold=f"{len(found)} combinations that were measured")


def _waterfalls(entry: Json) -> Iterator[Figure]:
    """The level that is spoken of, and the mean over the levels."""
    for level in dict.fromkeys((str(entry.get("level")), "mean")):
        total = at(entry, "drop_pp", level)
        steps = [Step(str(p.get("name")), value) for p in rows(entry, "players") if (value := at(p, "share_pp", level))]
        if total is not None and steps:
            caption = f"Drop {where(level)}, pp"
            yield Figure(caption, waterfall_chart(sorted(steps, key=_largest_first), total, caption))


def _largest_first(step: Step) -> float:
    return -step.share.estimate
