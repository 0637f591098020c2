"""``gapshift check``: any ONNX classifier, a labelled evaluation set, a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapshift.domains.base import Dataset
from gapshift.envs.catalog import OWN_NAMES, choose
from gapshift.errors import DataError, GapshiftError, SettingsError, UnknownNameError
from gapshift.export.stamp import contract_from_toml, read_contract
from gapshift.flows.budget import check_budget, drawn_roles
from gapshift.flows.data import CALIBRATION, absolute, hold_out, open_calibration, open_source, with_role
from gapshift.flows.judging import Sets, report, run_cells
from gapshift.flows.levels import (
    TRAINED_ON,
    CalibrationSettings,
    Rated,
    given_levels,
    levels_from_file,
    rate,
    write_rated,
)
from gapshift.flows.reporting import Reporter, Silent
from gapshift.flows.self_test import refuse_sequential, repeat_gated
from gapshift.flows.sequential import check_readable, readable_environments
from gapshift.flows.splitting import TEST
from gapshift.flows.user_model import applicable, overridden, user_bundle
from gapshift.schema import (
    CALIBRATED_FORMATS,
    CLASS_OUTPUTS,
    Bundle,
    DataSource,
    Domain,
    Environment,
    RunPlan,
    TaskPlan,
    takes,
)
from gapshift.settings import user_traffic
from gapshift.workspace import Workspace


@dataclass(frozen=True)
class CheckRequest:
    """What to check. ``environments`` names deployments, which are gated; with neither
    names nor ``groups`` the whole catalog runs and only its equivalent entries are gated.
    ``budget`` and ``sequential``: see ``RunPlan``. ``self_test`` repeats what is gated."""

    model: Path
    data: DataSource
    out: Path
    contract: Path | None = None
    environments: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    environment_file: Path | None = None
    items: Path | None = None
    calibration_data: DataSource | None = None
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    margin_pp: float = 2.0
    alpha: float = 0.05
    seed: int = 0
    strict: bool = False
    allow_unlevelled: bool = False
    debug: bool = False
    budget: int | None = None
    sequential: bool = False
    self_test: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.margin_pp < 100:
            raise SettingsError(f"The margin is {self.margin_pp} pp; it lies between 0 and 100 (both excluded).")
        refuse_sequential(self.self_test, self.sequential)
        check_budget(self.budget)


def check(request: CheckRequest, reporter: Reporter | None = None) -> tuple[dict[str, Any], dict[str, Path]]:
    """The summary of the run and the paths of its reports.

    Raises a UsageError for a model, contract, data set or environment that cannot be used;
    what goes wrong in a single cell is that cell's status.
    """
    reporter = reporter or Silent()
    _names_exist(request)  # a typo costs no reading
    chosen = choose(request.environments, request.groups, request.environment_file)
    bundle = user_bundle(request.model, request.contract)
    environments, left_out = _asked(applicable(chosen, bundle, request.environments), request)
    workspace = Workspace(request.out)
    workspace.refuse_other_command("check")  # before responders are trained for nothing
    dataset = _open(request.data, bundle)
    judged, calibration = _divide(dataset, environments, request, bundle)
    rated = _rated(dataset, bundle, request, reporter)
    roles = {item.id: CALIBRATION for item in dataset.items} | {item.id: TEST for item in judged.items}
    roles = drawn_roles(roles, rated.strata(), request)
    judged = with_role(judged, roles, TEST)
    instead = overridden(request.model, request.contract)
    for note in instead:
        reporter.note(note)
    notes = (*instead, *left_out, *(note for note in rated.card.notes if note.endswith(TRAINED_ON)))
    plan = _plan(request, bundle, environments, judged, notes)
    check_readable(plan, judged, rated)
    with workspace.lock():
        workspace.refuse_other_command("check")
        write_rated(workspace.items_path, rated.with_roles(roles))
        workspace.write_plan(plan)
        sets = {bundle.task: Sets(judged, calibration)}
        run_cells(workspace, plan, sets, reporter, request.debug)
        if request.self_test:
            repeat_gated(workspace, plan, sets, reporter, request.debug)
        return report(workspace, reporter)


def _plan(
    request: CheckRequest,
    bundle: Bundle,
    environments: tuple[Environment, ...],
    judged: Dataset,
    notes: tuple[str, ...],
) -> RunPlan:
    task = TaskPlan(
        name=bundle.task,
        data=absolute(request.data),
        items=judged.digest(),
        calibration_data=absolute(request.calibration_data) if request.calibration_data else None,
    )
    return RunPlan(
        command="check",
        tasks=(task,),
        bundles=(bundle,),
        environments=environments,
        deployments=request.environments,
        margin_pp=request.margin_pp,
        alpha=request.alpha,
        seed=request.seed,
        strict=request.strict,
        allow_unlevelled=request.allow_unlevelled,
        traffic=user_traffic(),
        budget=request.budget,
        sequential=request.sequential,
        notes=notes,
    )


def _asked(
    environments: tuple[Environment, ...], request: CheckRequest
) -> tuple[tuple[Environment, ...], tuple[str, ...]]:
    """The environments to evaluate, and notes on those that a sequential reading leaves out."""
    return readable_environments(environments, request.environments) if request.sequential else (environments, ())


def _names_exist(request: CheckRequest) -> None:
    """Raise UnknownNameError for a misspelt environment, with those that the model's domain can have."""
    known = {each.name: each for each in choose((), (), request.environment_file)}
    unknown = [name for name in request.environments if name not in known]
    if not unknown:
        return
    domain = _domain(request)
    valid = [name for name, each in known.items() if domain is None or takes(domain, each)]
    told = "environment" if domain is None else f"environment for {domain} models"
    raise UnknownNameError(told, unknown[0], valid, OWN_NAMES)


def _domain(request: CheckRequest) -> Domain | None:
    """The domain in the model's contract, where there is one to read."""
    try:
        return (contract_from_toml(request.contract) if request.contract else read_contract(request.model)).domain
    except GapshiftError:
        return None


def class_labels(bundle: Bundle) -> tuple[str, ...] | None:
    """The data's classes as the model orders them; None where it answers otherwise than by a class."""
    interface = bundle.contract.model
    return interface.labels if interface.output_kind in CLASS_OUTPUTS else None


def _open(source: DataSource, bundle: Bundle) -> Dataset:
    """The data with the model's classes. Data of another kind is said to be that before its labels are looked at."""
    try:
        dataset = open_source(source, class_labels(bundle))
    except DataError:
        _same_domain(open_source(source), bundle)
        raise
    _same_domain(dataset, bundle)
    return dataset


def _same_domain(dataset: Dataset, bundle: Bundle) -> None:
    domain, kind = bundle.contract.domain, bundle.contract.model.output_kind
    wanted = {"spans": "spans", "actions": "episodes"}.get(kind, "classes")
    if (dataset.domain, dataset.kind) != (domain, wanted):
        raise DataError(
            f"{bundle.name} is a model of domain {domain} that answers by {wanted} (contract: domain, "
            f"model.output_kind); {dataset.name} is {dataset.domain} data answered by {dataset.kind}. "
            "Give data of the model's kind, or correct the contract."
        )


def _divide(
    dataset: Dataset, environments: tuple[Environment, ...], request: CheckRequest, bundle: Bundle
) -> tuple[Dataset, Dataset | None]:
    """The judged items, and those of the static quantiser, which are never judged."""
    needed = any(e.deviations.get("precision.format") in CALIBRATED_FORMATS for e in environments)
    if not needed:
        return dataset, None
    if request.calibration_data:
        return dataset, open_calibration(request.calibration_data, class_labels(bundle), dataset)
    withheld = hold_out(dataset.items, request.seed)
    if not withheld:  # too few to spare any: the static quantisers' cells say what they need
        return dataset, None
    roles = {item.id: CALIBRATION if item.id in withheld else TEST for item in dataset.items}
    return with_role(dataset, roles, TEST), with_role(dataset, roles, CALIBRATION)


def _rated(dataset: Dataset, bundle: Bundle, request: CheckRequest, reporter: Reporter) -> Rated:
    """Levels from ``--items``, from the data's level column, or else from responders."""
    if request.items:
        return levels_from_file(request.items, dataset, bundle.task)
    if any(item.level is not None for item in dataset.items):
        return given_levels(dataset, bundle.task)
    reporter.stage("calibrate")
    reporter.note(
        "No levels came with the data: rating its items by small networks cross-fitted on it. "
        "Keep the run's items.parquet with the evaluation set, so that levels stay the same from release to release."
    )
    return rate(
        dataset,
        request.calibration,
        task=bundle.task,
        seed=request.seed,
        reporter=reporter,
    )
