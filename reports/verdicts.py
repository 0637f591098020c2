"""Every measured cell with the verdicts of its levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gapshift.reports.gate import Band, BandVerdict, Rule, fail_p, holm_adjusted, judge_band, judge_cell
from gapshift.reports.load import ALL_LEVELS
from gapshift.reports.planned import MeasuredCell
from gapshift.reports.sequential import judge_reading
from gapshift.schema import Verdict


@dataclass(frozen=True, eq=False)
class JudgedCell:
    """A measured cell with the verdict of each of its bands."""

    measured: MeasuredCell
    verdict: Verdict
    bands: dict[Band, BandVerdict]
    p_fail_holm: dict[Band, float]

    def at(self, level: int) -> BandVerdict:
        """The verdict that a level shows: its band's."""
        return next(verdict for band, verdict in self.bands.items() if level in band)


def judge_cells(cells: tuple[MeasuredCell, ...], rule: Rule, family: int) -> list[JudgedCell]:
    """Verdicts of all cells, Holm-adjusted over the ``family`` of planned gated tests."""
    p = {(k, band): value for k, cell in enumerate(cells) for band, value in _fail_p(cell, rule).items()}
    gated = {key: value for key, value in p.items() if cells[key[0]].gated}
    adjusted = holm_adjusted(gated, family)
    judged = []
    for k, cell in enumerate(cells):
        own = {(k, band): p[k, band] for band in cell.bands if (k, band) in p}
        wider = family if cell.gated else family + len(cell.bands)
        mine = adjusted if cell.gated or not own else holm_adjusted(gated | own, wider)
        judged.append(_judge_cell(cell, {band: mine[k, band] for _, band in own}, rule, wider))
    return judged


Test = tuple[str, str, Band]
"""A planned test: its bundle, its environment, its band."""


def gated_p(cells: Iterable[MeasuredCell], rule: Rule) -> dict[Test, float]:
    """The p of every gated test that has one."""
    return {
        (cell.bundle.name, cell.environment.name, band): p
        for cell in cells
        if cell.gated
        for band, p in _fail_p(cell, rule).items()
    }


def judge_beside(cell: MeasuredCell, others: Mapping[Test, float], rule: Rule, family: int) -> JudgedCell:
    """The verdict that ``judge_cells`` gives a cell, where the gated tests of all others have these p."""
    own = {(cell.bundle.name, cell.environment.name, band): p for band, p in _fail_p(cell, rule).items()}
    wider = family if cell.gated else family + len(cell.bands)
    adjusted = holm_adjusted({**others, **own}, wider)
    return _judge_cell(cell, {test[2]: adjusted[test] for test in own}, rule, wider)


def judge_searched(cell: MeasuredCell, rule: Rule, tests: int) -> JudgedCell:
    """The verdict of one of ``tests`` that are chosen as results come in.

    Each p is multiplied by their number (Bonferroni, Holm's first step), so that it needs none of the others.
    """
    adjusted = {band: min(1.0, tests * p) for band, p in _fail_p(cell, rule).items()}
    return _judge_cell(cell, adjusted, rule, tests)


def _fail_p(cell: MeasuredCell, rule: Rule) -> dict[Band, float]:
    """The p of each band that has items; none where the cell cannot be judged, or was read until it was decided."""
    if cell.blocked is not None or cell.readings is not None:
        return {}
    found = {band: fail_p(counts, rule) for band, counts in cell.counts.items()}
    return {band: value for band, value in found.items() if value is not None}


def _judge_cell(cell: MeasuredCell, adjusted: dict[Band, float], rule: Rule, family: int) -> JudgedCell:
    if cell.blocked is not None:
        blocked = dict.fromkeys(cell.bands, cell.blocked)
        return JudgedCell(cell, cell.blocked.verdict, blocked, {})
    bands = {band: _judge_band(cell, band, adjusted.get(band), rule, family) for band in cell.bands}
    return JudgedCell(cell, judge_cell(list(bands.values()), rule.strict), bands, adjusted)


def _judge_band(cell: MeasuredCell, band: Band, p: float | None, rule: Rule, family: int) -> BandVerdict:
    if cell.readings is not None and rule.errors is not None:
        return judge_reading(cell.readings[band], rule, rule.errors)
    return judge_band(cell.counts[band], cell.equivalent, p, rule, family)


def cell_reason(cell: JudgedCell) -> str:
    """Why the cell got its verdict, in plain words: what blocks it, or its worst band."""
    measured = cell.measured
    blocked = measured.blocked
    stated = measured.info.reason if measured.info and blocked is None else ""
    verdict = blocked.reason if blocked is not None else _worst_band(cell)
    return "; ".join(part for part in (verdict, stated, *measured.remarks) if part)


def _worst_band(cell: JudgedCell) -> str:
    """The deciding band with the largest drop in full, and which others share its verdict."""
    deciding = [band for band, found in cell.bands.items() if found.verdict == cell.verdict]
    if cell.verdict == "PASS" or not deciding:
        return ""
    drops = {band: cell.measured.counts[band].drop if cell.measured.counts[band].n else 0.0 for band in deciding}
    first = max(deciding, key=lambda band: drops[band])
    others = ", ".join(level_words(band) for band in deciding if band != first)
    text = f"{level_words(first)}: {cell.bands[first].reason}"
    return f"{text}; likewise {others}" if others else text


def level_words(band: Band) -> str:
    """A band of levels in words."""
    if len(band) == len(ALL_LEVELS):
        return "all levels together"
    return f"level {band[0]}" if len(band) == 1 else f"levels {band[0]}-{band[-1]}"
