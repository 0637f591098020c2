"""The training regimes on the page: charts, the table beside the study's ranges, contrasts, shifts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gapshift.reports.renderers.charts import Gap, Series, accuracy_chart, gap_chart, shift_chart
from gapshift.reports.renderers.page import minus
from gapshift.reports.renderers.view import (
    ALL,
    LEVEL_KEYS,
    Interval,
    Json,
    fixed,
    group_key,
    interval,
    labels,
    mapping,
    number,
    rows,
    sentence,
    share,
    with_interval,
)


@dataclass(frozen=True)
class Charts:
    """The charts of the regimes of one task and family."""

    label: str
    accuracy: Markup | None
    gaps: Markup | None
    shifts: Markup | None


@dataclass(frozen=True)
class RegimeRow:
    """One line of the regimes table, everything already in words."""

    label: str
    seeds: str
    g1: str
    study: str
    against: str
    memorisation: str
    shift: str
    test: str
    levels: tuple[str, ...]
    g2: str
    g3: str
    note: str


def regime_charts(summary: Json, left_out: Collection[str] = ()) -> list[Charts]:
    """Charts per task and family, so that only regimes differ within one.

    Environments in ``left_out`` get no line in the chart of shifts.
    """
    return [_charts(label, own, left_out) for label, own in _by_family(rows(summary, "regimes")).items()]


def _charts(label: str, regimes: Sequence[Json], left_out: Collection[str]) -> Charts:
    series = [Series(str(row.get("regime")), _levels_of(row)) for row in regimes]
    gaps = [gap for row in regimes if (gap := _gap(row, left_out))]
    return Charts(
        label,
        accuracy_chart(series, f"Accuracy per level in the reference, {label}")
        if any(any(s.values) for s in series)
        else None,
        gap_chart(gaps, f"G1 with its interval beside the study's range, {label}") if gaps else None,
        shift_chart(gaps, f"G1 in the reference and in every environment, {label}")
        if any(g.environments for g in gaps)
        else None,
    )


def _levels_of(row: Json) -> tuple[Interval | None, ...]:
    return tuple(share(interval(mapping(row.get("test_accuracy")).get(key))) for key in LEVEL_KEYS)


def _gap(row: Json, left_out: Collection[str]) -> Gap | None:
    g1 = interval(row.get("g1_pp"))
    if g1 is None:
        return None
    shifts = (
        (str(name), interval(mapping(v).get("g1_shift_pp"))) for name, v in mapping(row.get("environments")).items()
    )
    moved = tuple((name, g1.estimate + shift.estimate) for name, shift in shifts if shift and name not in left_out)
    return Gap(str(row.get("regime")), g1, study_range(row), moved)


def study_range(row: Json) -> tuple[float, float] | None:
    """The study's range of G1 for this regime, if it gives one."""
    value = row.get("study_range_pp")
    if not isinstance(value, Sequence) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def beside_study(g1: Interval | None, study: tuple[float, float] | None) -> str:
    """Where the measured interval lies against the study's range, in words.

    >>> beside_study(Interval(5.0, 3.5, 6.5), (3.0, 8.0)), beside_study(Interval(1.0, 0.0, 2.0), (3.0, 8.0))
    ('inside', 'below')
    """
    if g1 is None or study is None:
        return ""
    low = g1.estimate if g1.low is None else g1.low
    high = g1.estimate if g1.high is None else g1.high
    if study[0] <= low and high <= study[1]:
        return "inside"
    if high < study[0]:
        return "below"
    return "above" if low > study[1] else "overlaps"


def regime_rows(summary: Json) -> list[RegimeRow]:
    """The regimes table."""
    regimes = rows(summary, "regimes")
    return [
        _regime_row(label, row) for label, row in zip(labels([group_key(r) for r in regimes]), regimes, strict=True)
    ]


def _regime_row(label: str, row: Json) -> RegimeRow:
    g1, study, accuracy = interval(row.get("g1_pp")), study_range(row), mapping(row.get("test_accuracy"))
    said = {
        key: minus(with_interval(interval(row.get(key)))) for key in ("memorisation_pp", "shift_pp", "g2_pp", "g3_pp")
    }
    return RegimeRow(
        label=label,
        seeds=str(row.get("seeds") or "–"),
        g1=minus(with_interval(g1)),
        study=f"{study[0]:g}–{study[1]:g}" if study else "–",
        against=beside_study(g1, study),
        memorisation=said["memorisation_pp"],
        shift=said["shift_pp"],
        test=minus(with_interval(share(interval(accuracy.get(ALL))))),
        levels=tuple("–" if v is None else fixed(v.estimate, 0) for v in _levels_of(row)),
        g2=said["g2_pp"],
        g3=said["g3_pp"],
        note=sentence(row.get("note")),
    )


def contrasts(summary: Json) -> list[tuple[str, str, str]]:
    """Contrasts between regimes: (regime, against what, difference and what it supports)."""
    return [(*_pair(entry), _contrast(entry)) for entry in rows(summary, "contrasts")]


def _pair(entry: Json) -> tuple[str, str]:
    first, second = (str(name) for name in entry["regimes"])
    return " · ".join([first, *(str(entry[key]) for key in ("task", "family") if entry.get(key))]), second


def _contrast(entry: Json) -> str:
    difference, supported = interval(entry.get("difference_pp")), entry.get("supported")
    words = [] if supported is None else ["supported" if supported else "not supported"]
    words += [str(entry["note"])] if entry.get("note") else []
    return " · ".join([minus(with_interval(difference)) + (" pp" if difference else ""), *words])


@dataclass(frozen=True)
class Shifts:
    """G1 shift and tilt per environment and regime, of one task and family."""

    label: str
    regimes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def g1_shifts(summary: Json) -> list[Shifts]:
    """A table for each task and family whose regimes met an environment."""
    found = [row for row in rows(summary, "regimes") if mapping(row.get("environments"))]
    return [_shifts(label, own) for label, own in _by_family(found).items()]


def _shifts(label: str, regimes: Sequence[Json]) -> Shifts:
    names = dict.fromkeys(name for row in regimes for name in mapping(row.get("environments")))
    made = ((name, tuple(_shift(mapping(row["environments"].get(name))) for row in regimes)) for name in names)
    return Shifts(label, tuple(str(row.get("regime")) for row in regimes), tuple(made))


def _by_family(regimes: Sequence[Json]) -> dict[str, list[Json]]:
    """Regimes by what they share: task and family."""
    found: dict[str, list[Json]] = {}
    for row in regimes:
        found.setdefault(" · ".join(str(row[key]) for key in ("task", "family") if row.get(key)), []).append(row)
    return found


def _shift(value: Json) -> tuple[str, str]:
    return minus(with_interval(interval(value.get("g1_shift_pp")))), minus(
        with_interval(interval(value.get("tilt_pp")))
    )
