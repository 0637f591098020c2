"""JUnit XML for CI servers: one suite per bundle, one case per environment and level.

The shape is what pytest and Maven Surefire write (xunit2 with per-case properties). A first suite,
``gapshift``, holds the run's own verdict, so that a run whose gate judged nothing still fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from gapshift.reports.renderers.problems import level_reason
from gapshift.reports.renderers.view import (
    Cells,
    Json,
    at,
    bracket,
    fixed,
    groups,
    mapping,
    number,
    verdict_meaning,
    verdict_of,
    with_interval,
    worst,
)

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(summary: Json) -> str:
    """A run's summary as JUnit XML.

    Gated: FAIL and INCONCLUSIVE are failures (``type`` holds the word); ERROR and NO DATA are errors, since what
    nobody could judge is no failure of the model.
    Not gated: skipped, with the measured drop in the message; so is a level that is left out at the floor,
    unless the run is strict. Characters that XML forbids become U+FFFD.
    """
    cells = Cells(summary)
    suites = [_run_suite(summary)]
    for name in (bundle for group in groups(summary) for bundle in group.bundles):
        mine = [cell for cell in cells.rows if str(cell.get("bundle")) == name]
        suites.append(_suite(f"gapshift.{name}", [case for cell in mine for case in _cases(cell, summary)], mine))
    root = ElementTree.Element("testsuites", {"name": "gapshift"} | _totals(suites))
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: object) -> str:
    return _ILLEGAL.sub("�", str(text))


def _totals(suites: list[ElementTree.Element]) -> dict[str, str]:
    totals = {key: str(sum(int(suite.get(key, "0")) for suite in suites)) for key in ("tests", "failures", "errors")}
    return totals | {"time": f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}"}


def _suite(name: str, cases: list[ElementTree.Element], cells: list[Json]) -> ElementTree.Element:
    seconds = sum(number(cell.get("seconds")) or 0.0 for cell in cells)
    suite = ElementTree.Element("testsuite", name=_clean(name), tests=str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{seconds:.3f}")
    suite.extend(cases)
    return suite


def _run_suite(summary: Json) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname="gapshift", name="verdict", time="0.000")
    _properties(case, {"margin_pp": summary.get("margin_pp"), "alpha": summary.get("alpha")})
    reasons = "\n".join(str(reason) for reason in summary.get("reasons") or ())
    _outcome(case, verdict_of(summary), verdict_meaning(summary), reasons)
    return _suite("gapshift", [case], [])


def _cases(cell: Json, summary: Json) -> Iterator[ElementTree.Element]:
    environment = cell.get("environment")
    verdicts = mapping(cell.get("levels"))
    verdict, seconds = cell.get("verdict"), number(cell.get("seconds")) or 0.0
    unexplained = bool(cell.get("gated")) and verdict != "PASS" and verdict not in verdicts.values()
    if not verdicts or unexplained:
        case = _case(cell, f"cell[{environment}]", 0.0 if verdicts else seconds)
        _judge_whole(case, cell)
        yield case
    for key, word in verdicts.items():
        name = f"level[{environment}-{'all' if key == 'all' else f'level{key}'}]"
        case = _case(cell, name, seconds / len(verdicts))
        _properties(case, _measures(cell, str(key), summary))
        _judge_level(case, cell, str(key), word, strict=bool(summary.get("strict")))
        yield case


def _case(cell: Json, name: str, seconds: float) -> ElementTree.Element:
    classname = _clean(f"gapshift.{cell.get('bundle')}")
    return ElementTree.Element("testcase", classname=classname, name=_clean(name), time=f"{seconds:.3f}")


def _judge_whole(case: ElementTree.Element, cell: Json) -> None:
    status, reason = str(cell.get("status") or "ok"), str(cell.get("reason") or "")
    message = f"{status.replace('_', ' ')}: {reason or 'no reason was recorded'}"
    excused = status == "not_applicable" and not cell.get("verdict")
    if not cell.get("gated") or excused:
        ElementTree.SubElement(case, "skipped", message=_clean(message))
        return
    fallback = "NO DATA" if status == "skipped" else "ERROR"
    _outcome(case, worst([cell.get("verdict") or fallback]) or "ERROR", message, reason)


def _judge_level(case: ElementTree.Element, cell: Json, key: str, word: object, *, strict: bool) -> None:
    if not cell.get("gated"):
        drop = with_interval(at(cell, "drop_pp", key))
        why = cell.get("reason") or "no drop was measured"
        text = f"not gated ({cell.get('kind')}): measured drop {drop} pp" if drop != "-" else f"not gated: {why}"
        ElementTree.SubElement(case, "skipped", message=_clean(text))
        return
    reason = level_reason(cell, key)
    if not strict and key in {str(level) for level in cell.get("undecided_floor") or ()}:
        ElementTree.SubElement(case, "skipped", message=_clean(reason))
        return
    _outcome(case, worst([word or "ERROR"]) or "ERROR", reason, reason)


def _outcome(case: ElementTree.Element, verdict: str, message: str, detail: str) -> None:
    """Attach a verdict: nothing for PASS, a failure for what was judged and did not pass, an error for the rest."""
    if verdict == "PASS":
        return
    tag = "failure" if verdict in ("FAIL", "INCONCLUSIVE") else "error"
    element = ElementTree.SubElement(case, tag, message=_clean(message), type=verdict)
    element.text = _clean(detail) or None


def _measures(cell: Json, key: str, summary: Json) -> dict[str, object]:
    drop, churn = at(cell, "drop_pp", key), at(cell, "churn", key)
    tests = mapping(mapping(cell.get("drop_pp")).get(key))
    return {
        "drop_pp": None if drop is None else fixed(drop.estimate, 3),
        "interval_pp": bracket(drop, 3) or None,
        "margin_pp": summary.get("margin_pp"),
        "n": mapping(cell.get("n_by_level")).get(key),
        "churn": None if churn is None else fixed(churn.estimate, 5),
        "p_change": tests.get("p_change"),
        "p_fail": tests.get("p_fail"),
        **_reading(cell, key),
        "kind": cell.get("kind"),
        "gated": str(bool(cell.get("gated"))).lower(),
    }


def _reading(cell: Json, key: str) -> dict[str, object]:
    """What a level that was read until it was decided took; nothing of any other."""
    found = mapping(mapping(mapping(cell.get("reading")).get("levels")).get(key))
    names = {"items_read": "read", "items_there": "there", "decided_after": "decided_after", "finding": "finding"}
    told = {name: found.get(key) for name, key in names.items()}
    return told | {name: _e_value(found.get(name)) for name in ("e_within", "e_beyond")} if found else {}


def _e_value(value: object) -> str | None:
    known = number(value)
    return None if known is None else f"{known:.4g}"


def _properties(case: ElementTree.Element, values: dict[str, object]) -> None:
    known = {name: value for name, value in values.items() if value is not None}
    if known:
        parent = ElementTree.SubElement(case, "properties")
        for name, value in known.items():
            ElementTree.SubElement(parent, "property", name=name, value=_clean(value))
