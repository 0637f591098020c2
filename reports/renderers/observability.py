"""How many requests until monitoring notices a drop: a chapter of the page, and a table on a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table as RichTable

from gapshift.reports.renderers.tables import Cell, Chapter, Part, Table, chapter
from gapshift.reports.renderers.view import Json, mapping, number, rows, sentence, task_of
from gapshift.reports.streams import words

LEAD = (
    "How many requests the deployment serves until a drop is noticed, by what it logs: labels by the exact binomial "
    "test of accuracy, confidences by the z test of their mean, predicted classes by the chi-square test of their "
    "frequencies; the baseline is the reference, and traffic that of the judged items, so this is the best case."
)
MEANING = (
    "Requests of the whole traffic until the drop is noticed, k thousand, M million; in brackets, by a monitor of that "
    "level's requests alone. ~ the records cannot tell this shift from noise, and the true number may be far larger; "
    "- not defined, for the reason given."
)
_POLICY_WORDS = {"top-1": "predicted class", "confidence": "confidence", "rounded-confidence": "confidence"}


def policy_words(policy: Json) -> str:
    """What a policy logs, in words.

    >>> policy_words({"outputs": "top-1", "labels": True, "label_delay": 50, "sample_rate": 0.01})
    'predicted class, 1% of requests, labels 50 requests late'
    """
    outputs = str(policy.get("outputs"))
    places = number(policy.get("decimals")) or 0
    decimals = f" to {places:g} decimal{'s' * (places != 1)}" if outputs == "rounded-confidence" else ""
    rate, delay = number(policy.get("sample_rate")) or 1.0, number(policy.get("label_delay")) or 0
    labels = f"labels {delay:,.0f} requests late" if delay else "labels"
    sampled = f"{100 * rate:g}% of requests" if rate < 1 else ""
    said = (_POLICY_WORDS.get(outputs, outputs) + decimals, sampled, labels if policy.get("labels") else "no labels")
    return ", ".join(filter(None, said))


def short(requests: float) -> str:
    """A number of requests to two digits, thousands as k and millions as M.

    >>> short(31), short(2917), short(412_345), short(7_300_000), short(998_000)
    ('31', '2.9k', '410k', '7.3M', '1M')
    """
    rounded = float(f"{requests:.2g}")
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:g}{unit}"
    return f"{rounded:g}"


def requests_text(found: Sequence[Json]) -> str:
    """The numbers of some monitors' answers as one text, the range where they differ; a dash where none is defined.

    >>> requests_text([{"requests": 2917}, {"requests": 5200}]), requests_text([{"outcome": "never"}])
    ('2.9k to 5.2k', 'never')
    >>> requests_text([{"requests": 31, "outcome": "noticed", "beyond_noise": False}, {"outcome": "never"}])
    '~31 to never'
    """
    known = [value for each in found if (value := number(each.get("requests"))) is not None]
    hopeless = any(each.get("outcome") == "never" for each in found)
    ends = list(dict.fromkeys([short(min(known)), short(max(known))])) if known else []
    text = " to ".join((ends[:1] if hopeless else ends) + (["never"] if hopeless else []))
    doubt = any(each.get("requests") is not None and not each.get("beyond_noise", True) for each in found)
    return (f"~{text}" if doubt else text) or "–"


# ------------------------------------------------------------------------------ page


def observed(summary: Json) -> list[Chapter]:
    """The named deployments, a table for each and each task: policies by drop and level, a range over the models."""
    part, tasks = mapping(summary.get("observability")), task_of(summary)
    several = len(set(tasks.values())) > 1
    split: dict[str, list[Json]] = {}
    for cell in rows(part, "cells"):
        task = tasks.get(str(cell.get("bundle")), "") if several else ""
        split.setdefault(", ".join(filter(None, (str(cell.get("environment")), task))), []).append(cell)
    tables = [_table(name, cells, part) for name, cells in split.items() if any(rows(c, "lines") for c in cells)]
    power = number(part.get("power")) or 0.0
    settings = f"Power {power:g}, α = {number(part.get('alpha')) or 0.0:g}; k thousand, M million."
    lead = f"{LEAD} {settings}"
    return chapter("monitoring", "What monitoring would notice", "Monitoring", [Part("", lead, tuple(tables))])


def _table(name: str, cells: Sequence[Json], part: Json) -> Table:
    lines = [line for cell in cells for line in rows(cell, "lines")]
    columns = list(dict.fromkeys((line.get("drop_pp"), str(line.get("level"))) for line in lines))
    heads = [f"{drop:g} pp at {words(level)}" for drop, level in columns]
    made = [
        (Cell(str(policy.get("name")), policy_words(policy)), *(_cell(lines, policy, *column) for column in columns))
        for policy in rows(part, "policies")
    ]
    models = f", {len(cells)} models" if len(cells) > 1 else ""
    notes = (
        "Below, or in brackets: a monitor of that level's requests alone. ~: the records cannot tell it from noise.",
    )
    return Table(
        f"Requests until noticed in {name}", ("policy", *heads), tuple(made), f"{name}{models}", notes + _why(lines)
    )


def _cell(lines: Iterable[Json], policy: Json, drop: object, level: str) -> Cell:
    own = [
        line
        for line in lines
        if (line.get("policy"), line.get("drop_pp"), line.get("level")) == (policy.get("name"), drop, level)
    ]
    alone = [mapping(line["at_level"]) for line in own if line.get("at_level")]
    return Cell(requests_text([mapping(line.get("overall")) for line in own]), requests_text(alone) if alone else "")


def _why(lines: Iterable[Json]) -> tuple[str, ...]:
    """Why some have no number, each reason once with the policies that it is about."""
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        for seen in (mapping(line.get("overall")), mapping(line.get("at_level"))):
            if seen.get("reason"):
                found.setdefault(str(seen["reason"]), {})[str(line.get("policy"))] = None
    return tuple(f"{', '.join(policies)}: {sentence(reason)}" for reason, policies in found.items())


# -------------------------------------------------------------------------- terminal


def console_text(cell: Json, part: Json, width: int = 200) -> str:
    """One cell's tables, one for each drop, as plain text for a terminal or a pipe."""
    lines = rows(cell, "lines")
    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, highlight=False, markup=False, emoji=False)
    for drop in dict.fromkeys(line.get("drop_pp") for line in lines):
        here = [line for line in lines if line.get("drop_pp") == drop]
        console.print(f"A drop of {drop:g} pp:")
        console.print(_console_table(here, rows(part, "policies")))
    for note in _why(lines):
        console.print(f"  - {note}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _console_table(lines: Sequence[Json], policies: Sequence[Json]) -> RichTable:
    levels = list(dict.fromkeys(str(line.get("level")) for line in lines))
    drop = lines[0].get("drop_pp")
    table = RichTable(box=None, pad_edge=False, header_style="")
    for name in ("policy", *levels):
        table.add_column({"all": "all levels", "policy": name}.get(name, f"level {name}"), no_wrap=True)
    simulated = any(mapping(line.get("overall")).get("check") for line in lines)
    for name in ("power", "false alarms") if simulated else ():
        table.add_column(name, no_wrap=True)
    for policy in policies:
        cells = [_cell(lines, policy, drop, level) for level in levels]
        checks = _checks(lines, policy) if simulated else ()
        table.add_row(str(policy.get("name")), *(_bracketed(cell) for cell in cells), *checks)
    return table


def _bracketed(cell: Cell) -> str:
    text = cell.text.replace("–", "-")
    return text if not cell.below or cell.below == cell.text == "–" else f"{text} ({cell.below})"


def _checks(lines: Iterable[Json], policy: Json) -> tuple[str, str]:
    """The simulated power and false alarms of a policy, as ranges over its monitors."""
    found = [
        check
        for line in lines
        if line.get("policy") == policy.get("name")
        for key in ("overall", "at_level")
        if (check := mapping(mapping(line.get(key)).get("check")))
    ]
    return _range(found, "power"), _range(found, "false_alarms")


def _range(found: Sequence[Json], key: str) -> str:
    shares = [value for check in found if (value := number(check.get(key))) is not None]
    return " to ".join(dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares)))) if shares else "-"


def check_notes(lines: Iterable[Json], power: float) -> list[str]:
    """Where the simulation does not agree with the closed form: what it found instead."""
    said = []
    for line in lines:
        for key, seen in (
            ("whole traffic", mapping(line.get("overall"))),
            ("level alone", mapping(line.get("at_level"))),
        ):
            check = mapping(seen.get("check"))
            if check and not check.get("agrees"):
                better = number(check.get("requests"))
                instead = f"{better:,.0f} requests reach {power:.0%}" if better else f"none near it reaches {power:.0%}"
                said.append(
                    f"{line.get('policy')}, {line.get('drop_pp'):g} pp at {words(str(line.get('level')))}, {key}: "
                    f"power {check['power']:.0%} by simulation at {number(seen.get('requests')):,.0f}; {instead}"
                )
    return said
