"""What to ask next of a run that failed, stayed undecided or looks odd, as commands."""

from __future__ import annotations

from collections.abc import Iterator

from gapshift.reports.cells import Json
from gapshift.reports.reasons import levels_out_of_order, no_better_than_chance
from gapshift.reports.verdicts import JudgedCell
from gapshift.schema import TRAINING


def next_steps(cells: list[JudgedCell]) -> list[Json]:
    """The questions that a run's verdict raises, {question, command}; none where it passes and nothing looks odd.

    Commands say RUN for the run's folder.
    """
    gated = [cell for cell in cells if cell.measured.gated]
    failed = sorted((cell for cell in gated if cell.verdict == "FAIL"), key=_largest_drop, reverse=True)
    return [{"question": question, "command": f"gapshift {command}"} for question, command in _steps(gated, failed)]


def _steps(gated: list[JudgedCell], failed: list[JudgedCell]) -> Iterator[tuple[str, str]]:
    compound = next((cell for cell in failed if len(cell.measured.environment.deviations) > 1), None)
    if compound:
        count = len(compound.measured.environment.deviations)
        yield f"which of the {count} deviations does the damage?", f"explain RUN {_chosen(compound, gated)}"
    if failed:
        where = f"evaluate RUN --layers {_where(failed, gated)}"
        yield "at which layer, pass or input does it leave the reference?", where.rstrip()
    elif [*no_better_than_chance(gated), *levels_out_of_order(gated)]:
        yield "are inputs prepared otherwise than in training?", "evaluate RUN --layers"
    if any(cell.verdict == "INCONCLUSIVE" for cell in gated):
        yield "how many items would decide, and what can this run decide at all?", "plan RUN"


def _where(failed: list[JudgedCell], gated: list[JudgedCell]) -> str:
    """The cell that lost most; against training the reference itself is looked into, which needs no name."""
    first = failed[0]
    if first.measured.environment.name == TRAINING:
        return _bundle(first, gated)
    return _chosen(first, gated)


def _chosen(cell: JudgedCell, gated: list[JudgedCell]) -> str:
    return f"--environment {cell.measured.environment.name} {_bundle(cell, gated)}".rstrip()


def _bundle(cell: JudgedCell, gated: list[JudgedCell]) -> str:
    """Which model, where there are several."""
    several = len({each.measured.bundle.name for each in gated}) > 1
    return f"--bundle {cell.measured.bundle.name}" if several else ""


def _largest_drop(cell: JudgedCell) -> float:
    return max((counts.drop for counts in cell.measured.counts.values() if counts.n), default=0.0)
