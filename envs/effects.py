"""Whether a cell's deviations change any item at all: a silent no-op is never passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gapshift.domains.corruptions.apply import is_silent
from gapshift.domains.prepare import no_effect
from gapshift.envs.cells import Cell
from gapshift.envs.prepare import Prepared, Preparer
from gapshift.envs.resolve import preprocessing_deviations, shift_deviations
from gapshift.envs.runtimes.base import Interface
from gapshift.errors import NotApplicableError
from gapshift.schema import AnyPreprocessing, ControlPreprocessing, Preprocessing, Service, ServiceTally, listing


def effect(cell: Cell, judged: Preparer) -> str:
    """A note where preprocessing or the corruption changes no item.

    ``judged`` prepares the task's judged items. Raises NotApplicableError where nothing else deviates.
    """
    prepared, corrupt = preprocessing_deviations(cell.environment), shift_deviations(cell.environment)
    reasons = {
        "preprocessing": _same_preparation(cell, prepared, judged) if prepared else None,
        "corruption": _same_items(cell, judged) if corrupt else None,
    }
    silent = {axis: reason for axis, reason in reasons.items() if reason}
    inert = ("preprocessing" in silent) * len(prepared) + ("corruption" in silent) * len(corrupt)
    if silent and inert == len(cell.environment.deviations):
        raise NotApplicableError("; ".join(silent.values()))
    return "; ".join(f"its {axis} changes no item: {reason}" for axis, reason in silent.items())


def _same_preparation(cell: Cell, deviations: Mapping[str, Any], judged: Preparer) -> str | None:
    """Why preparing otherwise changes nothing, if so.

    A reason that a sample of clean items gives is believed only if every tensor stays the same,
    corrupted where the deployment's items are.
    """
    contract, deployed = cell.bundle.contract, cell.deployment
    reason = no_effect(cell.task.dataset, contract.domain, contract.preprocessing, deviations)
    if reason is None or isinstance(deployed.preprocessing, ControlPreprocessing):
        return reason
    if _channels(deployed.preprocessing) != _channels(contract.preprocessing):
        return reason
    mine, theirs = (judged.prepared(each, deployed.shift) for each in (deployed.preprocessing, contract.preprocessing))
    return reason if mine.same_as(theirs) else None


def _same_items(cell: Cell, judged: Preparer) -> str | None:
    """Why the corruption reaches no model's input, if so: the sample first, then every item."""
    how, shift = cell.deployment.preprocessing, cell.deployment.shift
    if not is_silent(cell.task.dataset, shift, how):
        return None
    said = f"shift.corruption = {shift.corruption} at severity {shift.severity}"
    if isinstance(how, ControlPreprocessing):
        return f"{said}: every episode stays the same"
    same = judged.prepared(how, shift).same_as(judged.prepared(how))
    return f"{said}: every item reaches the model as the same tensor" if same else None


def service_effect(cell: Cell, tally: ServiceTally | None) -> str:
    """A note where the deployment's service changes no item's input.

    Raises NotApplicableError where nothing else deviates.
    """
    if cell.deployment.service == Service() or (tally and tally.fallbacks + tally.stale + tally.corrupted):
        return ""
    found = f"{tally.requests if tally else 0} requests for these items, and every one gets its own answer"
    if all(key.startswith("service.") for key in cell.environment.deviations):
        raise NotApplicableError(f"{listing(cell.environment.deviations)}: {found}")
    return f"its service changes no item: {found}"


def require_fit(cell: Cell, inputs: Prepared | None, takes: Interface) -> None:
    """Raises NotApplicableError where deviations, not the contract, make inputs that the graph cannot take."""
    deviations = preprocessing_deviations(cell.environment)
    if inputs is None or takes.input is None or not inputs.readable.any() or not deviations:
        return
    problem = takes.misfit(inputs.tensor)
    if problem:
        raise NotApplicableError(f"it sets {listing(deviations)}, which contradicts the graph: it {problem}")


def batch_effect(cell: Cell, fixed: int | None) -> str:
    """A note where another batch size is asked for and the model takes one alone, ``fixed``.

    Raises NotApplicableError where nothing else deviates.
    """
    if fixed is None or "runtime.batch_size" not in cell.environment.deviations:
        return ""
    said = f"runtime.batch_size changes nothing: the model takes batches of {fixed} alone"
    if len(cell.environment.deviations) == 1:
        raise NotApplicableError(said)
    return said


def unreadable(cell: Cell, inputs: Prepared | None) -> str:
    """How many items cannot be decoded, and why the first of them cannot."""
    if inputs is None or not inputs.problems:
        return ""
    first = min(inputs.problems)
    item = cell.task.dataset.items[first]
    return f"{len(inputs.problems)} items cannot be decoded, {item.id!r} first: {inputs.problems[first]}"


def unreadable_calibration(calibration: Prepared | None) -> str:
    """How many of the quantiser's items cannot be decoded: it saw fewer than were meant for it."""
    if calibration is None or not calibration.problems:
        return ""
    count, total = len(calibration.problems), len(calibration.readable)
    why = calibration.problems[min(calibration.problems)]
    return f"the quantiser calibrated without {count} of its {total} items, which cannot be decoded: {why}"


def _channels(preprocessing: AnyPreprocessing) -> int | None:
    return preprocessing.channels if isinstance(preprocessing, Preprocessing) else None
