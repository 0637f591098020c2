"""``assert_level_drop``: a claim about one level, for a suite of one's own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NoReturn

from gapshift.deploy_tests.results import ALL, LEVELS, GapshiftCell, GapshiftLevel, GapshiftRun
from gapshift.errors import UsageError


def assert_level_drop(
    judged: GapshiftRun | GapshiftCell | GapshiftLevel,
    *,
    level: int | str | None = None,
    environment: str | None = None,
    bundle: str | None = None,
    below: float | None = None,
) -> GapshiftLevel:
    """Hold that accuracy drops by less than ``below`` percentage points (default: the run's margin) at a level.

    ``judged`` is the fixture ``gapshift_run``, then ``environment`` names the cell (and ``bundle`` the model where the
    run has several), or a cell of it; ``level`` is 1 to 5, or ``"all"``. Or it is a level.

    The claim is held where the upper end of the drop's interval lies below. A level at the floor, where nothing is left
    to lose, holds it only where the upper end of its churn does (|drop| is at most the churn). What was not measured,
    or not on what was asked for, holds nothing. Returns the level.

    Raises AssertionError where the claim is not held, UnknownNameError for an unknown environment, bundle or level,
    and UsageError where the call itself makes no sense.
    """
    __tracebackhide__ = True
    found = _level(judged, level, environment, bundle)
    limit = found.cell.run.margin_pp if below is None else below
    if isinstance(limit, bool) or not isinstance(limit, float | int) or not 0 < limit <= 100:
        raise UsageError(f"below is {limit!r}; it is a number of percentage points above 0 and up to 100.")
    if problem := _unmeasured(found):
        _fail(found, f"nothing shows a drop below {limit:g} pp: {problem}", limit)
    bound, what = _bound(found)
    if not bound < limit:  # a NaN is below nothing
        _fail(found, f"a drop below {limit:g} pp is not shown: {what} reaches {bound:.2f} pp", limit)
    return found


def _level(
    judged: GapshiftRun | GapshiftCell | GapshiftLevel,
    level: int | str | None,
    environment: str | None,
    bundle: str | None,
) -> GapshiftLevel:
    if isinstance(judged, GapshiftLevel):
        if level is not None and str(level) != judged.key:
            raise UsageError(f"This is {judged.name}, and another one is named. Leave level out, or give the cell.")
        return _cell(judged.cell, environment, bundle).level(judged.key)
    if level is None:
        raise UsageError("Name the level: assert_level_drop(..., level=5), 1 to 5 or 'all'.")
    return _cell(judged, environment, bundle).level(level)


def _cell(judged: GapshiftRun | GapshiftCell, environment: str | None, bundle: str | None) -> GapshiftCell:
    if isinstance(judged, GapshiftRun):
        if environment is None:
            raise UsageError("Of a run, name the environment: assert_level_drop(run, environment=..., level=...).")
        return judged.cell(environment, bundle)
    if not isinstance(judged, GapshiftCell):
        raise UsageError(f"assert_level_drop takes a run, a cell or a level of one; this is a {type(judged).__name__}.")
    if environment not in (None, judged.environment) or bundle not in (None, judged.bundle):
        raise UsageError(
            f"The cell is {judged.bundle} in {judged.environment}, and another one is named. Leave environment and "
            "bundle out, or give the run."
        )
    return judged


def _numbers(level: GapshiftLevel) -> tuple[float, float, float] | None:
    """Estimate and ends of the drop, where there are pairs and all three are finite."""
    drop = level.drop_pp or {}
    ends = (_number(drop.get("estimate")), _number(drop.get("low")), _number(drop.get("high")))
    return ends if level.n and all(map(math.isfinite, ends)) else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, float | int) else math.nan


def _unmeasured(level: GapshiftLevel) -> str:
    """Why the numbers of a level, if it has some, are none of what was asked for; empty where they are."""
    verdict = level.verdict
    if verdict not in ("PASS", "FAIL", "INCONCLUSIVE") and not (level.at_floor and verdict == "NO DATA"):
        return f"{verdict}: {level.reason}"
    if level.n == 0:
        return f"{level.name} has no pairs of answers"
    if level.drop_pp is None:
        why = ", whose levels were read unequally far" if level.cell.summary.get("reading") else ""
        return f"no drop was measured over {level.name} of this run{why}"
    if _numbers(level) is None:
        return f"the drop is no number: {dict(level.drop_pp)}"
    if len(level.band) == len(LEVELS) and not level.cell.run.summary["allow_unlevelled"]:
        return "the levels are too unreliable to be judged apart; ask for level 'all', or allow it (allow_unlevelled)"
    return ""


def _bound(level: GapshiftLevel) -> tuple[float, str]:
    """What has to lie below, in percentage points, and its name."""
    if not level.at_floor:
        _, _, high = _numbers(level) or (math.nan,) * 3
        return high, "the interval"
    churn = level.churn or {}
    return 100 * _number(churn.get("high")), "at the floor, where only churn can tell, churn's interval"


def _fail(level: GapshiftLevel, what: str, limit: float) -> NoReturn:
    __tracebackhide__ = True
    cell = level.cell
    head = f"{cell.bundle} in {cell.environment}, {level.name}: {what}"
    raise AssertionError("\n".join([head, *(f"  {name:<11} {text}" for name, text in _facts(level, limit))]))


def _facts(level: GapshiftLevel, limit: float) -> Iterator[tuple[str, str]]:
    cell, numbers, accuracy = level.cell, _numbers(level), level.reference_accuracy
    if numbers is not None:
        drop, low, high = numbers
        what = "confidence sequence" if cell.summary.get("reading") else "interval"
        share = f"{cell.run.summary['interval_level']:.0%} {what}"
        yield "drop", f"{drop:.2f} pp, {share} {low:.2f} to {high:.2f}, n = {level.n}"
        yield "changed", f"{level.lost} lost (right before, wrong now), {level.gained} gained"
    if accuracy is not None:
        yield "reference", f"{accuracy:.1%} right" + (", near chance: a floor" if level.at_floor else "")
    yield "deviations", "; ".join(f"{key} = {value!r}" for key, value in cell.deviations.items()) or "none"
    if numbers is not None:
        yield "to decide", _would_decide(level, limit)
    yield "gate", f"{level.verdict} (margin {cell.run.margin_pp:g} pp): {level.reason}"
    yield "report", str(cell.run.report)


def _would_decide(level: GapshiftLevel, limit: float) -> str:
    from gapshift.reports.statistics import items_to_decide

    run, cell = level.cell.run.summary, level.cell.summary
    if cell.get("reading"):
        return "read in a drawn order until the gate was decided; without --sequential every item is read"
    needed = items_to_decide(
        level.lost, level.gained, level.n, limit / 100, run["interval_level"], alpha=run["alpha"], family=1
    )
    if needed is None:
        return "no number of such items: the drop lies on the bound itself"
    where = "in all" if level.key == ALL else "at this level"
    groups = (cell.get("clustering") or {}).get(level.key)
    if groups:  # items that fail together count for less
        needed, where = math.ceil(needed * max(1.0, groups["design_effect"])), f"{where}, in groups like these"
    return f"about {needed} such items {where} ({level.n} here)" if needed > level.n else "decided: it is not below"
