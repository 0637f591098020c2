"""A run's gate as a plan: its power and its false alarms, for every report and for ``gapshift plan RUN``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gapshift.errors import UnknownNameError
from gapshift.reports.cells import Json
from gapshift.reports.counts import Counts
from gapshift.reports.false_alarms import false_alarms_json, redraw_run
from gapshift.reports.gate import Rule
from gapshift.reports.planned import MeasuredCell, MeasuredRun
from gapshift.reports.power import TARGET, Question, run_power


def plan_json(
    run: MeasuredRun,
    rule: Rule,
    environments: Sequence[str] = (),
    items: Sequence[int] | None = None,
    target: float = TARGET,
    churn: Sequence[float] | None = None,
) -> Json:
    """``power`` and ``false_alarms`` (see ``judge``) of a run's gated cells, those in ``environments`` as if named.

    With ``items`` levels 1 to 5 have so many, at the churn that was observed or, with ``churn``, at these shares of
    levels 1 to 5: then nothing is redrawn and there are no ``false_alarms``. Raises UnknownNameError for an
    environment that the run did not plan.
    """
    planned = {cell.environment.name for cell in run.cells}
    for name in environments:
        if name not in planned:
            raise UnknownNameError("environment", name, planned, "The run's plan holds no other; evaluate it first.")
    cells = tuple(cell for cell in run.cells if cell.gated or cell.environment.name in environments)
    family = sum(len(cell.bands) for cell in cells)
    question = Question(rule, family, target)
    if churn is not None:
        return {"power": run_power(run, cells, question, None, items, churn)}
    redrawn = redraw_run(cells, rule, family, run.plan.seed, items)
    return {
        "power": run_power(run, redrawn.cells if redrawn else (), question, redrawn, items),
        "false_alarms": false_alarms_json(redrawn, run.plan.seed, list(_aside(run, cells))),
    }


def _aside(run: MeasuredRun, cells: Sequence[MeasuredCell]) -> Iterator[str]:
    """What keeps the run from passing whatever is drawn, or fails it with reason."""
    blocked = [cell.blocked.verdict for cell in cells if cell.blocked is not None]
    if blocked:
        yield (
            f"{len(blocked)} of {len(cells)} gated cells could not be judged ({', '.join(sorted(set(blocked)))}); they "
            "are left out here, and while they are so the run does not PASS"
        )
    tasks = sorted({cell.bundle.task for cell in cells if len(cell.bands) == 1})
    if tasks and not run.plan.allow_unlevelled:
        yield (
            f"the levels of {', '.join(tasks)} are too unreliable to be judged apart; what passes here is INCONCLUSIVE "
            "without --allow-unlevelled"
        )
    changed = sum(cell.equivalent and any(map(_changes, cell.counts.values())) for cell in cells if not cell.blocked)
    if changed:
        one = changed == 1
        yield (
            f"{changed} equivalent environment{'s change' * (not one)}{' changes' * one} predictions outside ties; a "
            "redrawn run fails by that as often as such items are drawn, which is no false alarm"
        )


def _changes(counts: Counts) -> bool:
    return counts.changed_outside_ties > 0
