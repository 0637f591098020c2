"""What properties of a run's records are judged of: known when tests are made, found once the run is judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gapshift.deploy_tests.settings import PytestSettings

if TYPE_CHECKING:
    from gapshift.deploy_tests.results import GapshiftRun
    from gapshift.reports.properties import Finding

Subject = tuple[str, str, str]
"""A property's name, a bundle's, and an environment's or a corruption's."""
ORDER, HARM = "confidence-order", "monotone-harm"


def planned_subjects(settings: PytestSettings, cells: Iterable[tuple[str, str]]) -> list[Subject]:
    """What the planned bundles and environments will have findings of, in their order."""
    from gapshift.envs.catalog import choose
    from gapshift.reports.properties import by_corruption, changes_precision_alone

    known = {environment.name: environment for environment in choose((), (), settings.path("environment_file"))}
    planned: dict[str, list[str]] = {}
    for bundle, name in cells:
        planned.setdefault(bundle, []).append(name)
    found: list[Subject] = []
    for bundle, names in planned.items():
        environments = [known[name] for name in names if name in known]
        found += [(ORDER, bundle, each.name) for each in environments if changes_precision_alone(each)]
        found += [(HARM, bundle, corruption) for corruption in by_corruption(environments)]
    return found


def findings_of(run: GapshiftRun, settings: PytestSettings) -> dict[Subject, Finding]:
    """Every finding of a judged run. Raises WorkspaceError."""
    from gapshift.reports.properties import confidence_orders, corruption_harm
    from gapshift.workspace import Workspace

    workspace, limits = Workspace(run.folder), settings.properties
    orders = confidence_orders(workspace, limits.confidence_apart, limits.confidence_swapped)
    return {
        (kind, finding.bundle, finding.subject): finding
        for kind, findings in ((ORDER, orders), (HARM, corruption_harm(workspace)))
        for finding in findings
    }
