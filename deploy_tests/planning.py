"""What a session judges, known before anything runs, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapshift.deploy_tests.baseline import ITEMS
from gapshift.deploy_tests.results import LEVELS
from gapshift.deploy_tests.settings import PytestSettings
from gapshift.errors import SettingsError, UnknownNameError

if TYPE_CHECKING:
    from gapshift.flows.check import CheckRequest

DEMO_RUN = Path("runs/demo")


@dataclass(frozen=True)
class Judged:
    """What one test reports: one bundle in one environment at one level."""

    bundle: str
    environment: str
    level: int


def run_folder(settings: PytestSettings) -> Path:
    """Where the run lies. Raises SettingsError where that is the baseline's own folder."""
    from gapshift.flows.user_model import default_folder

    report, model, baseline = (settings.path(key) for key in ("report", "model", "baseline"))
    folder = report or (default_folder(model) if model else DEMO_RUN)
    if baseline is not None and baseline.resolve() == folder.resolve():
        raise SettingsError(
            f"The baseline {baseline} is the folder that this run is written to. Copy it, or give the run another "
            "folder with --gapshift-report (report in the configuration)."
        )
    return folder


def planned_cells(settings: PytestSettings) -> list[tuple[str, str]]:
    """Every bundle and environment of the run, in its order. Raises a UsageError, as ``gapshift check`` would."""
    return _user_cells(settings) if settings.model else _demo_cells()


def judgements(cells: Iterable[tuple[str, str]], levels: Iterable[int], asked: Mapping[str, Any]) -> list[Judged]:
    """Bundles and environments at each level, or those that a marker's keywords name.

    Raises UnknownNameError for a word that no marker has, and for what is not planned.
    """
    planned = [Judged(bundle, environment, level) for bundle, environment in cells for level in LEVELS]
    for key, value in asked.items():
        if key not in Judged.__annotations__:
            raise UnknownNameError("argument of the marker gapshift", key, Judged.__annotations__)
        known = {str(getattr(one, key)) for one in planned}
        if str(value) not in known:
            raise UnknownNameError(f"{key} of this run", str(value), known)
        planned = [one for one in planned if str(getattr(one, key)) == str(value)]
    return [one for one in planned if one.level in levels]


def _user_cells(settings: PytestSettings) -> list[tuple[str, str]]:
    from gapshift.envs.catalog import choose
    from gapshift.flows.user_model import applicable, user_bundle

    chosen = choose(settings.environments, settings.groups, settings.path("environment_file"))
    bundle = user_bundle(Path(str(settings.model)), settings.path("contract"))
    planned = applicable(chosen, bundle, settings.environments)
    if settings.sequential:
        from gapshift.flows.sequential import readable_environments

        planned, _ = readable_environments(planned, settings.environments)
    return [(bundle.name, environment.name) for environment in planned]


def _demo_cells() -> list[tuple[str, str]]:
    from gapshift.flows.demo import demo_settings
    from gapshift.flows.study import planned_environments
    from gapshift.flows.study_runs import model_runs
    from gapshift.schema import takes

    settings = demo_settings()
    runs = [run for run in model_runs(settings) if run.exported]
    return [
        (run.name, environment.name)
        for run in runs
        for environment in planned_environments(settings)
        if takes(settings.tasks[run.task].domain, environment)
    ]


# ------------------------------------------------------------------------------ evaluating


def evaluate(settings: PytestSettings, folder: Path) -> None:
    """Evaluate and judge the whole planned run; cells that exist are not run twice."""
    if settings.model is None:
        _demo(folder)
        return
    from gapshift.flows.check import check

    check(_request(settings, folder))


def _request(settings: PytestSettings, folder: Path) -> CheckRequest:
    from gapshift.flows.check import CheckRequest
    from gapshift.schema import DataSource

    calibration = settings.calibration_data
    return CheckRequest(
        model=Path(str(settings.model)),
        data=DataSource(source=str(settings.data), split=settings.split),
        out=folder,
        contract=settings.path("contract"),
        environments=settings.environments,
        groups=settings.groups,
        environment_file=settings.path("environment_file"),
        items=_items(settings),
        calibration_data=DataSource(source=calibration, split=settings.calibration_split) if calibration else None,
        margin_pp=settings.margin_pp,
        strict=settings.strict,
        allow_unlevelled=settings.allow_unlevelled,
        budget=settings.budget,
        sequential=settings.sequential,
    )


def _items(settings: PytestSettings) -> Path | None:
    """The file with the levels: named, or else the baseline's, so that levels stay from release to release."""
    baseline = settings.path("baseline")
    return settings.path("items") or (baseline / ITEMS if baseline else None)


def _demo(folder: Path) -> None:
    from gapshift.flows.demo import demo_settings
    from gapshift.flows.study import save_settings, study
    from gapshift.workspace import Workspace

    workspace = Workspace(folder)
    save_settings(workspace, demo_settings())
    study(workspace)
