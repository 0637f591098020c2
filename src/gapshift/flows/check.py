"""``gapshift check``: any ONNX classifier, a labelled evaluation set, a verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapshift.domains.base import Dataset
from gapshift.envs.catalog import choose
from gapshift.envs.runner import CALIBRATED_FORMATS
from gapshift.errors import SettingsError
from gapshift.export.model_file import describe, sha256
from gapshift.export.stamp import check_against, contract_from_toml, read_contract
from gapshift.flows.data import CALIBRATION, TEST, absolute, hold_out, open_calibration, open_source, with_role
from gapshift.flows.judging import report, run_cells
from gapshift.flows.levels import CalibrationSettings, Rated, given_levels, levels_from_file, rate, write_rated
from gapshift.flows.reporting import Reporter, Silent
from gapshift.schema import Bundle, DataSource, Environment, RunPlan
from gapshift.workspace import Workspace


@dataclass(frozen=True)
class CheckRequest:
    """What to check. ``environments`` names deployments, which are gated; with neither
    names nor ``groups`` the whole catalog runs and only its equivalent entries are gated."""

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

    def __post_init__(self) -> None:
        if not 0 < self.margin_pp < 100:
            raise SettingsError(f"The margin is {self.margin_pp} pp; it lies between 0 and 100 (both excluded).")


def check(request: CheckRequest, reporter: Reporter | None = None) -> tuple[dict[str, Any], dict[str, Path]]:
    """The summary of the run and the paths of its reports.

    Raises a UsageError for a model, contract, data set or environment that cannot be used;
    what goes wrong in a single cell is that cell's status.
    """
    reporter = reporter or Silent()
    environments = choose(request.environments, request.groups, request.environment_file)
    bundle = user_bundle(request.model, request.contract)
    dataset = open_source(request.data, bundle.contract.model.labels)
    judged, calibration = _divide(dataset, environments, request, bundle)
    rated = _rated(dataset, bundle, request, reporter)
    roles = {item.id: CALIBRATION for item in dataset.items} | {item.id: TEST for item in judged.items}
    plan = RunPlan(
        command="check",
        data=absolute(request.data),
        items=judged.digest(),
        calibration_data=absolute(request.calibration_data) if request.calibration_data else None,
        bundles=(bundle,),
        environments=environments,
        deployments=request.environments,
        margin_pp=request.margin_pp,
        alpha=request.alpha,
        seed=request.seed,
        strict=request.strict,
        allow_unlevelled=request.allow_unlevelled,
    )
    workspace = Workspace(request.out)
    with workspace.lock():
        workspace.refuse_other_command("check")
        write_rated(workspace.items_path, rated.with_roles(roles))
        workspace.write_plan(plan)
        run_cells(workspace, plan, judged, calibration, reporter, request.debug)
        return report(workspace, reporter)


def default_folder(model: Path) -> Path:
    """Where a check of ``model`` lies when nobody says otherwise."""
    return Path("runs") / f"check-{model.stem}"


def user_bundle(model: Path, contract: Path | None) -> Bundle:
    """A user's ONNX file as a bundle. Raises ModelFileError or ContractError."""
    description = describe(model)
    agreed = contract_from_toml(contract) if contract else read_contract(model)
    check_against(agreed, description)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.stem).lstrip("._-") or "model"
    return Bundle(name=name, path=str(model.resolve()), sha256=sha256(model), contract=agreed, task=name)


def _divide(
    dataset: Dataset, environments: tuple[Environment, ...], request: CheckRequest, bundle: Bundle
) -> tuple[Dataset, Dataset | None]:
    """The judged items, and those of the static quantiser, which are never judged."""
    needed = any(e.deviations.get("precision.format") in CALIBRATED_FORMATS for e in environments)
    if not needed:
        return dataset, None
    if request.calibration_data:
        return dataset, open_calibration(request.calibration_data, bundle.contract.model.labels, dataset)
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
