"""What has to hold between cells of any run, whatever the model: order of confidences, harm of corruptions.

Both can be falsified by the records and never proven: ``violated`` is a claim at the run's alpha, ``holds`` says that
nothing of the kind was found, ``unjudged`` that nothing could have been. Neither is a verdict of the gate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gapshift.reports.load import Pairs, RatedItems, load_items, pair, reference_of
from gapshift.reports.planned import is_gated, planned_cell
from gapshift.reports.statistics import holm, mcnemar_midp, swapped_share
from gapshift.schema import REFERENCE, REFERENCE_ENVIRONMENT, Bundle, Environment, RunPlan, Shift
from gapshift.workspace import Workspace

APART = 0.1
"""Confidences that differ by more than this are told apart: below it lie the ties of saturated networks, whose order
is rounding."""
MOST_SWAPPED = 0.02
"""Share of such pairs that a conversion may turn. float16 and bfloat16 turned at most 0.2% of them, int8 with fitting
ranges up to 2%, int8 and fp8 that did harm 3 to 27%."""
_MOST_ITEMS = 5000
"""Pairs grow with the square of the items; of more, so many are taken, evenly."""

Outcome = Literal["holds", "violated", "unjudged"]


@dataclass(frozen=True)
class Finding:
    """What was found of one property: ``subject`` is an environment's name, or a corruption's.

    ``gated`` tells whether the user deploys what it is about. ``numbers`` stand behind ``reason``.
    """

    bundle: str
    subject: str
    outcome: Outcome
    reason: str
    gated: bool = False
    numbers: Mapping[str, float | int | None] = field(default_factory=dict)


def changes_precision_alone(environment: Environment) -> bool:
    """Whether the model gets the reference's inputs and computes in another number format.

    >>> changes_precision_alone(Environment(name="e", kind="lossy", summary="", deviations={"graph.gelu": "tanh"}))
    False
    """
    axes = {key.split(".")[0] for key in environment.deviations}
    return "precision" in axes and axes <= {"precision", "runtime", "graph"}


def corruption_of(environment: Environment) -> Shift | None:
    """The corruption that an environment is, where it is that and nothing else.

    >>> deviations = {"shift.corruption": "fog", "shift.severity": 5}
    >>> corruption_of(Environment(name="e", kind="stress", summary="", deviations=deviations)).severity
    5
    """
    keys = environment.deviations
    if "shift.corruption" not in keys or any(not key.startswith("shift.") for key in keys):
        return None
    return Shift.model_validate({key.removeprefix("shift."): value for key, value in keys.items()})


# ------------------------------------------------------------------- order of confidences


def confidence_orders(workspace: Workspace, apart: float = APART, most: float = MOST_SWAPPED) -> tuple[Finding, ...]:
    """A finding for every bundle in every planned environment that changes its number format alone.

    Violated where more than the share ``most`` of the pairs of items whose reference confidences lie more than
    ``apart`` apart come in the other order, by the lower end of the share's interval; each finding is by itself, not
    one of a family. Raises WorkspaceError where plan or items cannot be read.
    """
    return tuple(
        _order(cells, environment, apart, most)
        for cells in _bundles(workspace)
        for environment in cells.environments
        if changes_precision_alone(environment)
    )


def _order(cells: _Cells, environment: Environment, apart: float, most: float) -> Finding:
    gated = cells.gated(environment)
    pairs = cells.pairs(environment)
    if isinstance(pairs, str):
        return Finding(cells.bundle.name, environment.name, "unjudged", pairs, gated)
    scored = np.flatnonzero(np.isfinite(pairs.reference_confidence) & np.isfinite(pairs.confidence))
    if not len(scored):
        why = f"no item has a confidence in both cells ({cells.bundle.contract.model.output_kind})"
        return Finding(cells.bundle.name, environment.name, "unjudged", why, gated)
    rows = scored[np.unique(np.linspace(0, len(scored) - 1, min(_MOST_ITEMS, len(scored))).round().astype(np.intp))]
    before, after = pairs.reference_confidence[rows], pairs.confidence[rows]
    found = swapped_share(before, after, apart, 1 - cells.plan.alpha)
    numbers = {"items": len(rows), "pairs": found.pairs, "swapped": found.share, "swapped_low": found.low}
    if not found.pairs:
        why = f"no two of {len(rows)} items have reference confidences more than {apart:g} apart"
        return Finding(cells.bundle.name, environment.name, "unjudged", why, gated, {"items": len(rows), "pairs": 0})
    outcome: Outcome = "violated" if found.low > most else "holds"
    reason = (
        f"{found.share:.2%} of {found.pairs} pairs of items whose confidences differ by more than {apart:g} in the "
        f"reference come in the other order (at least {found.low:.2%}; up to {most:.0%} may)"
    )
    if found.worst is not None:
        reason += f"; {_turned(cells.ids(pairs)[rows], before, after, found.worst)}"
    return Finding(cells.bundle.name, environment.name, outcome, reason, gated, numbers)


def _turned(
    ids: NDArray[np.str_], before: NDArray[np.float64], after: NDArray[np.float64], worst: tuple[int, int]
) -> str:
    one, other = worst
    return (
        f"the clearest: {str(ids[one])!r} {before[one]:.3f} and {str(ids[other])!r} {before[other]:.3f} became "
        f"{after[one]:.3f} and {after[other]:.3f}"
    )


# ------------------------------------------------------------------------ monotone harm


def corruption_harm(workspace: Workspace) -> tuple[Finding, ...]:
    """A finding for every bundle and every corruption that the run plans for it.

    Violated where accuracy rises from one evaluated severity to the next (the reference is severity 0), on the same
    items, by more than chance: one-sided mid-p McNemar, Holm-adjusted over all such steps of the run, planned ones
    that did not run among them. Raises as ``confidence_orders``.
    """
    chains = [
        _Chain(cells, name, severities)
        for cells in _bundles(workspace)
        for name, severities in by_corruption(cells.environments).items()
    ]
    steps = [step for chain in chains for step in chain.steps]
    family = sum(chain.planned for chain in chains)
    adjusted = dict(zip(map(id, steps), holm([step.p for step in steps], family).tolist(), strict=True))
    return tuple(
        chain.finding([adjusted[id(step)] for step in chain.steps], family, chain.cells.plan.alpha) for chain in chains
    )


def by_corruption(environments: Iterable[Environment]) -> dict[str, dict[int, Environment]]:
    """Corruption to its environments by severity, mild ones first; the first where two are one and the same.

    Draws of another seed are another corruption, called so.
    """
    found: dict[str, dict[int, Environment]] = {}
    for environment in environments:
        shift = corruption_of(environment)
        if shift is not None:
            name = f"{shift.corruption}-seed{shift.seed}" if shift.seed else str(shift.corruption)
            found.setdefault(name, {}).setdefault(shift.severity, environment)
    return {name: dict(sorted(severities.items())) for name, severities in found.items()}


@dataclass(frozen=True)
class _Step:
    """From one severity to the next one that was evaluated: of n items, how many became wrong and how many right."""

    milder: int
    harsher: int
    n: int
    lost: int
    gained: int

    @property
    def p(self) -> float:
        """One-sided mid-p of "accuracy does not rise"; 1 where it does not rise in the sample."""
        return mcnemar_midp(self.lost, self.gained) / 2 if self.gained > self.lost else 1.0

    def __str__(self) -> str:
        start = "the reference" if not self.milder else f"severity {self.milder}"
        rise = 100 * (self.gained - self.lost) / self.n
        return f"from {start} to severity {self.harsher} accuracy changes by {rise:+.2f} pp on {self.n} items"


class _Chain:
    """One corruption of one bundle, at the severities that the run has."""

    def __init__(self, cells: _Cells, corruption: str, environments: Mapping[int, Environment]) -> None:
        self.cells, self._corruption, self.planned = cells, corruption, len(environments)
        self._gated = any(cells.gated(environment) for environment in environments.values())
        self._left_out: list[str] = []
        self.steps = list(self._walk(environments))

    def _walk(self, environments: Mapping[int, Environment]) -> Iterator[_Step]:
        answered: list[tuple[int, Pairs]] = []
        for severity, environment in environments.items():
            pairs = self.cells.pairs(environment)
            if isinstance(pairs, str):
                self._left_out.append(f"severity {severity} ({environment.name}): {pairs}")
            elif len(pairs):
                answered.append((severity, pairs))
        if answered:
            severity, pairs = answered[0]
            yield _step((0, severity), pairs.position, pairs.right, pairs.position, pairs.still_right)
        for (milder, one), (harsher, other) in pairwise(answered):
            yield _step((milder, harsher), one.position, one.still_right, other.position, other.still_right)

    def finding(self, p: list[float], family: int, alpha: float) -> Finding:
        outside = f"; left out: {'; '.join(self._left_out)}" if self._left_out else ""
        told: dict[str, Any] = {"bundle": self.cells.bundle.name, "subject": self._corruption, "gated": self._gated}
        if not self.steps:
            return Finding(outcome="unjudged", reason=f"no severity was answered{outside}", **told)
        least = min(range(len(p)), key=lambda place: (p[place], -self.steps[place].gained))
        numbers = {"steps": len(self.steps), "p_rise": p[least], "items": self.steps[least].n}
        if all(_Step(0, 0, step.n, 0, step.n).p * family >= alpha for step in self.steps):
            why = f"{self.steps[least].n} items are too few to show any rise{outside}"
            return Finding(outcome="unjudged", reason=why, numbers=numbers, **told)
        if p[least] < alpha:
            reason = f"{self.steps[least]}; more corruption does not help: Holm-adjusted p = {p[least]:.2g}{outside}"
            return Finding(outcome="violated", reason=reason, numbers=numbers, **told)
        walked = "; ".join(map(str, self.steps))
        return Finding(outcome="holds", reason=f"{walked}{outside}", numbers=numbers, **told)


def _step(
    severities: tuple[int, int],
    positions: NDArray[np.intp],
    right: NDArray[np.bool_],
    other_positions: NDArray[np.intp],
    other_right: NDArray[np.bool_],
) -> _Step:
    """Both sides on the items that both have."""
    _, mine, theirs = np.intersect1d(positions, other_positions, assume_unique=True, return_indices=True)
    before, after = right[mine], other_right[theirs]
    return _Step(*severities, len(mine), int((before & ~after).sum()), int((~before & after).sum()))


# ------------------------------------------------------------------------------- reading


class _Cells:
    """The cells of one bundle, paired with its reference as they are asked for."""

    def __init__(self, workspace: Workspace, plan: RunPlan, bundle: Bundle, items: RatedItems) -> None:
        self._workspace, self.plan, self.bundle, self._items = workspace, plan, bundle, items
        self.environments = tuple(each for each in plan.environments_of(bundle) if each.name != REFERENCE)
        self._reference = reference_of(planned_cell(workspace, plan, bundle, REFERENCE_ENVIRONMENT), items)

    def gated(self, environment: Environment) -> bool:
        """Whether the run's verdict hangs on this cell."""
        cell = planned_cell(self._workspace, self.plan, self.bundle, environment)
        return is_gated(environment, environment.name in self.plan.deployments, cell, self.plan.strict)

    def pairs(self, environment: Environment) -> Pairs | str:
        """The pairs with the reference, or why there are none."""
        cell = planned_cell(self._workspace, self.plan, self.bundle, environment)
        if isinstance(self._reference, str):
            return self._reference
        if cell.info is None or cell.records is None:
            return f"its cell {cell.problem}" if cell.problem == "did not run" else cell.problem
        if cell.info.status != "ok":
            return f"{cell.info.status.replace('_', ' ')}: {cell.info.reason or 'no reason was recorded'}"
        if self.plan.sequential and len(cell.records) < len(self._reference.records):
            return "it was read until the gate was decided: which items were read depends on their answers"
        paired = pair(self._reference, cell.records, environment.subsample)
        return "; ".join(paired.problems) or paired.pairs

    def ids(self, pairs: Pairs) -> NDArray[np.str_]:
        """The items' ids."""
        found: NDArray[np.str_] = self._items.index.ids[pairs.position]
        return found


def _bundles(workspace: Workspace) -> list[_Cells]:
    plan = workspace.read_plan()
    items_of, _ = load_items(workspace)
    return [_Cells(workspace, plan, bundle, items_of(bundle.task)) for bundle in plan.bundles]
