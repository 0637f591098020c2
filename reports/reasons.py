"""A run's verdict in plain words: one headline, and the reasons, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gapshift.reports.gate import Band, worst
from gapshift.reports.planned import MeasuredRun
from gapshift.reports.verdicts import JudgedCell, level_words
from gapshift.schema import Verdict


def explain_run(cells: list[JudgedCell]) -> list[str]:
    """What failed and where, then errors, undecided levels, missing data, floors; never empty."""
    gated = [cell for cell in cells if cell.measured.gated]
    if not gated:
        return ["NO DATA: nothing is gated; name a deployment, or plan an environment that should change nothing"]
    return [
        *([_passed(gated)] if worst(cell.verdict for cell in gated) == "PASS" else []),
        *_bands(gated, "FAIL"),
        *_blocked(gated, "ERROR"),
        *_bands(gated, "INCONCLUSIVE"),
        *_blocked(gated, "NO DATA"),
        *_bands(gated, "NO DATA"),
    ]


def _bands(cells: list[JudgedCell], verdict: Verdict) -> Iterator[str]:
    """One line for each band with the verdict, the largest drop first, floors last.

    Environments of a bundle that share a band's very reason share its line.
    """
    found = [
        (cell, band, judged)
        for cell in cells
        if cell.measured.blocked is None
        for band, judged in cell.bands.items()
        if judged.verdict == verdict
    ]
    lines: dict[tuple[str, Band, str], list[str]] = {}
    for cell, band, judged in sorted(found, key=lambda each: (each[2].floor, -_drop(each[0], each[1]))):
        key = (cell.measured.bundle.name, band, judged.reason)
        lines.setdefault(key, []).append(cell.measured.environment.name)
    for (bundle, band, reason), names in lines.items():
        yield f"{verdict}: {bundle} in {', '.join(names)}, {level_words(band)}: {reason}"


def _blocked(cells: list[JudgedCell], verdict: Verdict) -> Iterator[str]:
    """One line for each reason that blocks cells of a bundle, naming all of their environments."""
    environments: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        blocked = cell.measured.blocked
        if blocked is not None and blocked.verdict == verdict:
            environments.setdefault((cell.measured.bundle.name, blocked.reason), []).append(
                cell.measured.environment.name
            )
    for (bundle, reason), names in environments.items():
        yield f"{verdict}: {bundle} in {', '.join(names)}: {reason}"


def _passed(gated: list[JudgedCell]) -> str:
    return f"PASS: the drop stays below the margin at every judged level of {_plural(len(gated), 'gated cell')}"


def headline(run: MeasuredRun, verdict: Verdict, cells: list[JudgedCell]) -> str:
    """One sentence: the verdict, its weightiest reason, and what the verdict leaves out."""
    gated = [cell for cell in cells if cell.measured.gated]
    parts = [_summary(verdict, gated), *_left_out(gated)]
    if not run.plan.deployments:
        parts.append("no deployment is named, so only what should change nothing is gated")
    if verdict == "INCONCLUSIVE" and worst(cell.verdict for cell in gated) == "PASS":
        parts.append("the levels are too unreliable to be judged apart")
    return f"{verdict}: {'; '.join(parts)}."


def _summary(verdict: Verdict, gated: list[JudgedCell]) -> str:
    if not gated:
        return "nothing is gated"
    share = f"{sum(cell.verdict == verdict for cell in gated)} of {_plural(len(gated), 'gated cell')}"
    words = {
        "PASS": f"all of {_plural(len(gated), 'gated cell')} stay below the margin at every judged level",
        "FAIL": f"{share} fail; worst is {_worst_place(gated)}",
        "ERROR": f"{share} could not be judged for an error",
        "INCONCLUSIVE": f"{share} need more items to decide",
        "NO DATA": f"{share} have nothing to judge",
    }
    return words[verdict]


def _worst_place(gated: list[JudgedCell]) -> str:
    failed = [(cell, band) for cell in gated for band, judged in cell.bands.items() if judged.verdict == "FAIL"]
    if not failed:
        return "unknown"
    cell, band = max(failed, key=lambda each: _drop(*each))
    return f"{_where(cell)} at {level_words(band)} ({_damage(cell, band)})"


def _damage(cell: JudgedCell, band: Band) -> str:
    counts = cell.measured.counts[band]
    if cell.measured.equivalent and counts.changed_outside_ties:
        return f"{counts.changed_outside_ties} of {counts.n} predictions change"
    return f"accuracy drops by {100 * counts.drop:.1f} pp"


def _left_out(gated: list[JudgedCell]) -> Iterator[str]:
    """The levels that no verdict covers because the reference is near chance there."""
    floors: dict[str, set[Band]] = {}
    for cell in gated:
        for band, judged in cell.bands.items():
            if judged.floor:
                floors.setdefault(cell.measured.bundle.name, set()).add(band)
    if floors:
        places = [f"{name} {_levels(bands)}" for name, bands in floors.items()]
        shown = ", ".join(places[:3]) + (f" and {len(places) - 3} more models" if len(places) > 3 else "")
        yield f"levels at the floor of chance are left out ({shown})"


def _levels(bands: Iterable[Band]) -> str:
    return " and ".join(level_words(band) for band in sorted(bands))


def _drop(cell: JudgedCell, band: Band) -> float:
    counts = cell.measured.counts.get(band)
    return counts.drop if counts and counts.n else 0.0


def _where(cell: JudgedCell) -> str:
    return f"{cell.measured.bundle.name} in {cell.measured.environment.name}"


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
