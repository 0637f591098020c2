"""How much of the data a run read, where that is less than all: said in its headline, its notes and its numbers."""

from __future__ import annotations

from gapshift.errors import WorkspaceError
from gapshift.reports.cells import Json
from gapshift.reports.load import ALL_LEVELS, Reference
from gapshift.reports.planned import MeasuredBundle, MeasuredCell, MeasuredRun, read_run
from gapshift.reports.sequential import JUDGED
from gapshift.schema import RunPlan
from gapshift.workspace import Workspace

NOT_DRAWN = "not-drawn"
"""The role of items that a budget leaves out."""


def reading_json(run: MeasuredRun) -> Json | None:
    """``summary["reading"]`` (see ``judge``); None where every item was judged."""
    plan = run.plan
    if plan.sequential:
        read, full = answers_read(run)
        saved = 1 - read / full if full else None
        errors = run.rule.errors
        return {
            "mode": "sequential",
            "budget": plan.budget,
            "read": read,
            "full": full,
            "saved": saved,
            "errors": errors and {"within": errors.alpha_within, "beyond": errors.alpha_beyond},
        }
    if plan.budget is None:
        return None
    judged, there = items_drawn(run)
    return {
        "mode": "budget",
        "budget": plan.budget,
        "read": judged,
        "full": there,
        "saved": 1 - judged / there if there else None,
    }


def whole_run(workspace: Workspace, plan: RunPlan | None = None, *, counts_alone: bool = False) -> MeasuredRun:
    """``read_run`` for what needs all items. Raises WorkspaceError for a sequential run, which answers only some."""
    run = read_run(workspace, plan, counts_alone=counts_alone)
    if run.plan.sequential:
        raise WorkspaceError(
            f"{workspace.root} is a sequential run: each level was read only until it was decided, and this needs all "
            f"items. Evaluate it whole first: gapshift evaluate {workspace.root} --no-sequential --out FOLDER."
        )
    return run


def answers_read(run: MeasuredRun) -> tuple[int, int]:
    """Answers that were asked for, and those of a full pass: every judged item in the reference and in every cell."""
    read = full = 0
    for bundle in run.bundles:
        reference = bundle.reference
        read += len(reference.records) if isinstance(reference, Reference) else 0
        read += sum(cell.answers for cell in bundle.cells)
        asked = [cell for cell in bundle.cells if cell.readings is not None and cell.answers]
        full += judged_items(bundle) * (1 + len(asked))
    return read, full


def judged_items(bundle: MeasuredBundle) -> int:
    """Items that a full pass judges."""
    return int((bundle.items.split == JUDGED).sum())


def items_drawn(run: MeasuredRun) -> tuple[int, int]:
    """Items that a budget drew, and those that were there, over all tasks."""
    tasks = {bundle.bundle.task: bundle.items for bundle in run.bundles}
    judged = sum(int((items.split == JUDGED).sum()) for items in tasks.values())
    return judged, judged + sum(int((items.split == NOT_DRAWN).sum()) for items in tasks.values())


def headline_words(run: MeasuredRun) -> str:
    """What was read, for the headline; empty where that was all."""
    found = reading_json(run)
    if found is None or not found["full"]:
        return ""
    share = f"{found['read']:,} of {found['full']:,}"
    if found["mode"] == "budget":
        return f"{share} items judged (budget)"
    return f"read in a drawn order until decided: {share} answers ({found['saved']:.0%} saved)"


def reading_notes(run: MeasuredRun) -> list[str]:
    """What the reader of a report must know of it, in sentences."""
    plan = run.plan
    if plan.sequential:
        limit = f", or {plan.budget:,} answers of a cell were given (the budget)" if plan.budget is not None else ""
        return [
            f"Sequential: each gated level's items were read in an order drawn by seed {plan.seed} until the level was "
            f"decided or its items were used up{limit}. A level passes or fails by its e-value, which may be looked at "
            "after every item; intervals are 95% confidence sequences, wider than those of a full pass. What needs all "
            "items is left out: tests, tilt, mean drop, calibration error, other traffic, monitoring, power. With "
            "the same seed a larger budget reads on; another seed is another try, for which these errors do not allow."
        ]
    if plan.budget is not None:
        judged, there = items_drawn(run)
        return [
            f"Budget: {judged:,} of {there:,} items were judged, drawn evenly over the levels by seed {plan.seed}; "
            "everything here is of those. Judging again with another budget or seed is another try."
        ]
    return []


def cell_reading(cell: MeasuredCell, margin: float) -> Json | None:
    """A cell's ``reading`` (see ``judge``); None where all its items were read."""
    if cell.readings is None:
        return None
    levels = {}
    for level in ALL_LEVELS:
        found = next(reading for band, reading in cell.readings.items() if level in band)
        within, beyond = found.e_values(margin)
        levels[str(level)] = {
            "band": list(found.band),
            "read": found.read,
            "there": found.there,
            "decided_after": found.counts.n if found.found else None,
            "finding": found.found,
            "e_within": within,
            "e_beyond": beyond,
        }
    there = sum(reading.there for reading in cell.readings.values())
    return {"read": cell.answers, "full": there, "levels": levels}
