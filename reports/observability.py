"""How many requests until a deployment's own monitoring notices a drop, from a run's records (docs/observability.md).

``observe`` gives the closed form for every policy, drop and level; ``simulate`` (reports/simulated.py) confirms one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from gapshift.errors import UnknownNameError
from gapshift.reports.load import ALL_LEVELS, Pairs
from gapshift.reports.monitors import Logged, Monitor, monitor_of
from gapshift.reports.planned import MeasuredCell, MeasuredRun
from gapshift.reports.simulated import Check, Watch, simulate
from gapshift.reports.streams import Stream, stream_of, words
from gapshift.schema import LOGGING_POLICIES, LoggingPolicy

Json = dict[str, object]
POWER = 0.8
DROP_PP = 5.0
"""The drop that is asked for beside the run's margin."""
STRATA = ("all", *map(str, ALL_LEVELS))
_ROUNDING = 1e-6
LIMIT = 1_000_000_000
"""More requests than this are as good as never."""


@dataclass(frozen=True)
class Seen:
    """One monitor's answer: the drop is noticed, never noticed, or the question has no answer here.

    ``requests`` are those that the deployment serves until the drop is noticed, ``logged`` the ones of them that the
    test uses; both null for the other outcomes, which have a ``reason``. Where ``beyond_noise`` is false the records
    cannot tell the shift that the test lives on from none, and the true number may be far larger.
    """

    outcome: Literal["noticed", "never", "undefined"]
    requests: int | None = None
    logged: int | None = None
    reason: str = ""
    beyond_noise: bool = True
    check: Check | None = None


@dataclass(frozen=True)
class Line:
    """One policy, one drop at one level: seen in the whole traffic, and by a monitor that knows each request's level.

    ``at_level`` is null for a drop over all levels, ``shape`` where no such drop can be (``streams``).
    """

    policy: str
    drop_pp: float
    level: str
    shape: str | None
    overall: Seen
    at_level: Seen | None

    def as_json(self) -> Json:
        return asdict(self)


@dataclass(frozen=True)
class Question:
    """What is asked of a cell's records."""

    policies: tuple[LoggingPolicy, ...] = tuple(LOGGING_POLICIES.values())
    drops_pp: tuple[float, ...] = (DROP_PP,)
    levels: tuple[str, ...] = STRATA
    alpha: float = 0.05
    power: float = POWER
    repeats: int = 0
    seed: int = 0


def observe(pairs: Pairs, output_kind: str, question: Question) -> list[Line]:
    """A line for each drop, level and policy of the question, in that order."""
    without = not (np.isfinite(pairs.reference_confidence).any() and np.isfinite(pairs.confidence).any())
    lines = []
    for drop in question.drops_pp:
        for at in question.levels:
            stream = stream_of(pairs, at, drop / 100)
            for policy in question.policies:
                monitor = monitor_of(policy, output_kind, without)
                lines.append(_line(stream, monitor, policy, drop, at, question))
    return lines


def _line(
    stream: Stream | str, monitor: Monitor | str, policy: LoggingPolicy, drop: float, at: str, question: Question
) -> Line:
    if isinstance(stream, str) or isinstance(monitor, str):
        nothing = Seen("undefined", reason=stream if isinstance(stream, str) else str(monitor))
        shape = None if isinstance(stream, str) else stream.shape
        return Line(policy.name, drop, at, shape, nothing, None if at == "all" else nothing)
    overall = _seen(stream, monitor, policy, None, question)
    at_level = None if at == "all" else _seen(stream, monitor, policy, int(at), question)
    return Line(policy.name, drop, at, stream.shape, overall, at_level)


def _seen(stream: Stream, monitor: Monitor, policy: LoggingPolicy, level: int | None, question: Question) -> Seen:
    logged = monitor.logged(stream, level)
    if isinstance(logged, str):
        return Seen("undefined", reason=logged)
    needed = monitor.needed(logged, question.alpha, question.power)
    if math.isinf(needed):
        return Seen("never", reason="what is logged has the same distribution with the drop as without")
    count = max(1, math.ceil(needed))
    delay = policy.label_delay if policy.labels else 0
    requests = math.ceil(count / (policy.sample_rate * logged.share_after) - _ROUNDING) + delay
    if requests > LIMIT:
        return Seen("never", reason=f"it would take more than {LIMIT:,} requests")
    seen = Seen("noticed", requests, count, beyond_noise=monitor.beyond_noise(stream, question.alpha))
    if not question.repeats:
        return seen
    return replace(seen, check=_check(logged, monitor, policy, requests, delay, question))


def _check(
    logged: Logged, monitor: Monitor, policy: LoggingPolicy, requests: int, delay: int, question: Question
) -> Check:
    watch = Watch(monitor, logged, policy.sample_rate, delay)
    return simulate(watch, requests, question.alpha, question.power, question.repeats, question.seed)


# --------------------------------------------------------------------------- a run


@dataclass(frozen=True)
class ObservedCell:
    """A cell's lines, or the ``problem`` that leaves it without. ``notes`` are what a reader must know of them."""

    bundle: str
    environment: str
    lines: tuple[Line, ...]
    problem: str = ""
    notes: tuple[str, ...] = ()

    def as_json(self) -> Json:
        return asdict(self) | {"notes": list(self.notes), "lines": [line.as_json() for line in self.lines]}


def observe_cell(cell: MeasuredCell, question: Question) -> ObservedCell:
    """A measured cell's lines. A cell that ended in ERROR or without records has a problem instead."""
    problem = cell.blocked.reason if cell.blocked is not None and cell.blocked.verdict == "ERROR" else ""
    if cell.pairs is None or not len(cell.pairs) or problem:
        why = problem or (cell.blocked.reason if cell.blocked else "no item is paired with the reference")
        return ObservedCell(cell.bundle.name, cell.environment.name, (), why)
    lines = observe(cell.pairs, cell.bundle.contract.model.output_kind, question)
    return ObservedCell(cell.bundle.name, cell.environment.name, tuple(lines), notes=_notes(cell, cell.pairs, lines))


def _notes(cell: MeasuredCell, pairs: Pairs, lines: Iterable[Line]) -> tuple[str, ...]:
    said = [cell.blocked.reason] if cell.blocked is not None else []
    without = int((~(np.isfinite(pairs.reference_confidence) & np.isfinite(pairs.confidence))).sum())
    if 0 < without < len(pairs):
        said.append(f"{without} of {len(pairs)} items lack a confidence on one side; tests of confidences leave it out")
    for shape, meaning in _SHAPES.items():
        found = dict.fromkeys(f"{line.drop_pp:g} pp at {words(line.level)}" for line in lines if line.shape == shape)
        if found:
            said.append(f"{meaning}: {', '.join(found)}")
    return tuple(said)


_SHAPES = {
    "lost items": "drops larger than the environment's own there, made of what it loses without what it gains",
    "extrapolated": "drops larger than anything these records lose there, drawn from the few items that they do lose",
    "unknown": "nothing is lost there, so what a drop would look like without labels is not known",
}


def observation(cells: Iterable[MeasuredCell], question: Question, notes: Sequence[str] = ()) -> Json:
    """The question and each cell's answer in strict JSON types, a headline with each."""
    return {
        "alpha": question.alpha,
        "power": question.power,
        "drops_pp": list(question.drops_pp),
        "policies": [policy.model_dump(mode="json") for policy in question.policies],
        "simulated": question.repeats,
        "seed": question.seed,
        "notes": list(notes),
        "cells": [
            found.as_json() | {"headline": headline(found.lines, question.policies, question.power)}
            for found in (observe_cell(cell, question) for cell in cells)
        ],
    }


def observability_json(run: MeasuredRun) -> Json:
    """``summary["observability"]``: the named deployments' cells, drops at all levels and at the hardest one."""
    drops = tuple(dict.fromkeys((run.plan.margin_pp, DROP_PP)))
    question = Question(drops_pp=drops, levels=("all", "5"), alpha=run.rule.alpha)
    return observation((cell for cell in run.cells if cell.named and cell.pairs is not None), question)


def select(
    run: MeasuredRun, environments: Sequence[str], bundles: Sequence[str]
) -> tuple[list[MeasuredCell], list[str]]:
    """The cells that a user names, or those that matter most; and what was chosen for want of a name.

    Without ``environments`` the named deployments, else of each task the one that drops most and is no mistake; without
    ``bundles`` of each task and environment the model that drops most. Raises UnknownNameError for a name that the run
    does not have.
    """
    _known("environment", environments, {cell.environment.name for cell in run.cells})
    _known("bundle", bundles, {bundle.bundle.name for bundle in run.bundles})
    cells, notes = [cell for cell in run.cells if not bundles or cell.bundle.name in bundles], []
    wanted = tuple(environments) or run.plan.deployments
    if wanted:
        cells = [cell for cell in cells if cell.environment.name in wanted]
    else:
        cells = _worst([cell for cell in cells if cell.environment.kind != "mistake"], lambda cell: cell.bundle.task)
        notes.append("No deployment is named: of each task what drops most is shown. Choose with --environment NAME.")
    if not bundles:
        chosen = _worst(cells, lambda cell: (cell.bundle.task, cell.environment.name))
        if len(chosen) < len(cells):
            notes.append("Of several models the one that drops most is shown. Choose with --bundle NAME.")
        cells = chosen
    return cells, notes


def _known(what: str, names: Iterable[str], valid: Iterable[str]) -> None:
    for name in names:
        if name not in set(valid):
            raise UnknownNameError(what, name, valid, "The run's plan holds no other.")


def _worst(cells: Iterable[MeasuredCell], key: Callable[[MeasuredCell], Hashable]) -> list[MeasuredCell]:
    """Of each group the cell with the largest drop over all items; one without numbers only where there is no other."""
    found: dict[Hashable, MeasuredCell] = {}
    for cell in cells:
        if key(cell) not in found or _drop(cell) > _drop(found[key(cell)]):
            found[key(cell)] = cell
    return list(found.values())


def _drop(cell: MeasuredCell) -> float:
    return float(cell.pairs.lost.mean()) if cell.pairs is not None and len(cell.pairs) else -math.inf


# ---------------------------------------------------------------------------- words


def about(requests: float) -> str:
    """A number of requests to two significant digits.

    >>> about(2917), about(31), about(412_345)
    ('2,900', '31', '410,000')
    """
    digits = max(0, math.floor(math.log10(requests)) - 1) if requests >= 1 else 0
    return f"{round(requests / 10**digits) * 10**digits:,}"


def headline(lines: Iterable[Line], policies: Sequence[LoggingPolicy], power: float) -> str:
    """One sentence: what labels cost, and what goes without them, for the largest drop at the hardest level."""
    found = list(lines)
    if not found:
        return "No records to observe."
    drop = max(line.drop_pp for line in found)
    level = max((line.level for line in found), key=STRATA.index)
    here = {line.policy: line.overall for line in found if (line.drop_pp, line.level) == (drop, level)}
    defined = [policy for policy in policies if policy.name in here and here[policy.name].outcome != "undefined"]
    if not defined:
        return f"Whether a drop of {drop:g} pp at {words(level)} is noticed has no answer: {_first(here).reason}."
    said = [f"{_takes(here[policy.name])} with {policy.name}" for policy in _telling(defined)]
    return f"A drop of {drop:g} pp at {words(level)} is noticed, at power {power:g}, {'; '.join(said)}."


def _first(here: Mapping[str, Seen]) -> Seen:
    return next(iter(here.values()))


def _telling(policies: Sequence[LoggingPolicy]) -> list[LoggingPolicy]:
    """The first policy with labels, and the first and the last without."""
    with_labels = [policy for policy in policies if policy.labels]
    without = [policy for policy in policies if not policy.labels]
    return list({policy.name: policy for policy in (*with_labels[:1], *without[:1], *without[-1:])}.values())


def _takes(seen: Seen) -> str:
    if seen.requests is None:
        return "never"
    doubt = "" if seen.beyond_noise else ", if that shift is more than these records' noise,"
    return f"after about {about(seen.requests)} requests{doubt}"
