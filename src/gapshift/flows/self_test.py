"""``--self-test``: the reference and every gated environment repeated, for the verdict to be asked of each repeat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gapshift.errors import SettingsError
from gapshift.flows.again import derived_plan
from gapshift.flows.judging import Sets
from gapshift.flows.repeat import COMMAND, repeat_into
from gapshift.flows.reporting import Reporter
from gapshift.reports.planned import is_gated, planned_cell
from gapshift.schema import REFERENCE, REFERENCE_ENVIRONMENT, Environment, RunPlan
from gapshift.schema.repeats import FOLDER, SETTINGS, fixed, repeat_of
from gapshift.workspace import Workspace


def repeat_gated(source: Workspace, plan: RunPlan, sets: Mapping[str, Sets], reporter: Reporter, debug: bool) -> None:
    """Repeat what decides in a run whose cells have run, under every setting, in RUN/repeats.

    Cells that did not run in the run itself are not repeated. A second call runs what is missing. Raises
    WorkspaceError where RUN/repeats holds something else.
    """
    target = Workspace(source.root / FOLDER)
    target.refuse_other_command(COMMAND)
    repeats = derived_plan(plan, COMMAND, tuple(_with_repeats(_gated(source, plan))))
    repeat_into(source, target, repeats, sets, reporter, debug)


def refuse_sequential(self_test: bool, sequential: bool) -> None:
    """Raises SettingsError where both are asked for: a repeat answers every item, a sequential run stops before."""
    if self_test and sequential:
        raise SettingsError(
            "A self-test repeats every answer of the gated cells, and a sequential run stops as soon as it is decided: "
            "there is no verdict to compare. Leave one of --self-test and --sequential out."
        )


def _gated(source: Workspace, plan: RunPlan) -> Iterator[Environment]:
    """The environments with a gated cell that has answers."""
    for environment in plan.environments:
        bundles = (bundle for bundle in plan.bundles if environment in plan.environments_of(bundle))
        cells = (planned_cell(source, plan, bundle, environment) for bundle in bundles)
        named = environment.name in plan.deployments
        if any(c.info and c.info.status == "ok" and is_gated(environment, named, c, plan.strict) for c in cells):
            yield environment


def _with_repeats(environments: Iterator[Environment]) -> Iterator[Environment]:
    """Each with its repeats; without those that would be another environment."""
    for base in (REFERENCE_ENVIRONMENT, *environments):
        if base.name != REFERENCE:
            yield base
        yield from (repeat_of(base, setting) for setting in SETTINGS if not fixed(base, setting))
