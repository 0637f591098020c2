"""Which cells of a finished run drift from their reference, from its records alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gapshift.reports.load import RatedItems, Reference, load_items, pair, reference_of
from gapshift.reports.planned import planned_cell
from gapshift.schema import REFERENCE, REFERENCE_ENVIRONMENT, TRAINING, Bundle, Environment, RunPlan
from gapshift.workspace import Workspace

Json = dict[str, Any]


@dataclass(frozen=True)
class Drift:
    """A bundle in an environment. ``n`` items pair with the reference; ``changed`` of them have another prediction,
    ``lost`` became wrong and ``gained`` right. ``problem``: why there is nothing to compare. The environment
    ``reference`` is compared with the bundle's training-side answers."""

    bundle: str
    environment: str
    n: int = 0
    changed: int = 0
    lost: int = 0
    gained: int = 0
    problem: str = ""

    @property
    def share(self) -> float:
        """The share of predictions that changed."""
        return self.changed / self.n if self.n else 0.0

    def as_json(self) -> Json:
        """Plain values."""
        return {
            "bundle": self.bundle,
            "environment": self.environment,
            "n": self.n,
            "changed": self.changed,
            "lost": self.lost,
            "gained": self.gained,
            "problem": self.problem,
        }


def drifts(workspace: Workspace, plan: RunPlan) -> list[Drift]:
    """Every planned cell, the one with the most changed predictions first; a run's order among equals.

    Raises WorkspaceError where items cannot be read.
    """
    items_of, _ = load_items(workspace)
    found = [each for bundle in plan.bundles for each in _of_bundle(workspace, plan, bundle, items_of(bundle.task))]
    return sorted(found, key=lambda each: -each.share)


def _of_bundle(workspace: Workspace, plan: RunPlan, bundle: Bundle, items: RatedItems) -> list[Drift]:
    reference = reference_of(planned_cell(workspace, plan, bundle, REFERENCE_ENVIRONMENT), items)
    if isinstance(reference, str):
        return [Drift(bundle.name, REFERENCE, problem=reference)]
    cells = [_drift(workspace, plan, bundle, each, reference) for each in plan.environments_of(bundle)]
    return [*_against_training(workspace, bundle, reference), *cells]


def _drift(
    workspace: Workspace, plan: RunPlan, bundle: Bundle, environment: Environment, reference: Reference
) -> Drift:
    cell = planned_cell(workspace, plan, bundle, environment)
    if cell.info is None or cell.records is None or cell.info.status != "ok":
        reason = cell.problem if cell.info is None else f"{cell.info.status}: {cell.info.reason}"
        return Drift(bundle.name, environment.name, problem=reason)
    return _counted(bundle.name, environment.name, reference, cell.records)


def _against_training(workspace: Workspace, bundle: Bundle, reference: Reference) -> list[Drift]:
    answers = workspace.read_answers(bundle.name)
    if answers is None or answers[0].environment != TRAINING:
        return []
    return [_counted(bundle.name, REFERENCE, reference, answers[1])]


def _counted(bundle: str, environment: str, reference: Reference, records: Any) -> Drift:
    pairs = pair(reference, records, subsample=True).pairs
    return Drift(
        bundle,
        environment,
        n=len(pairs),
        changed=int(pairs.changed.sum()),
        lost=int((pairs.lost > 0).sum()),
        gained=int((pairs.lost < 0).sum()),
    )
