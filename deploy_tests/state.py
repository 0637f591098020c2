"""What one pytest session knows: its settings, its plan, its run. Hooks, fixtures and the shipped tests ask here.

Loaded in every pytest session, so what is heavy is imported where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from gapshift.deploy_tests.options import given
from gapshift.errors import GapshiftError, SettingsError
from gapshift.settings_file import find_settings

if TYPE_CHECKING:
    from gapshift.deploy_tests.baseline import Baseline
    from gapshift.deploy_tests.results import GapshiftRun
    from gapshift.deploy_tests.settings import PytestSettings

SUITES = {Path(__file__).parent.resolve()}
"""Where the shipped suite lies; its conftest.py adds a checkout's beside the installed one."""
PACKAGE = "gapshift.deploy_tests"


@dataclass
class State:
    """What one session knows. ``session`` is the same for all its workers; ``judged`` is the folder of its run."""

    session: str
    in_suite: bool = False
    settings: PytestSettings | None = None
    where: str = ""
    cells: list[tuple[str, str]] = field(default_factory=list)
    baseline: Baseline | None = None
    judged: Path | None = None


STATE = pytest.StashKey[State]()


def in_use(config: pytest.Config) -> bool:
    """Whether this session asks for something of gapshift's: an option, the suite, a table in the user's settings."""
    return bool(given(config) or any(map(is_suite, config.args)) or "pytest" in find_settings().tables)


def is_suite(target: str) -> bool:
    """Whether a path or a module on the command line is the shipped suite or a part of it."""
    name = target.split("::")[0]
    path = Path(name).resolve()
    return name == PACKAGE or name.startswith(f"{PACKAGE}.") or not SUITES.isdisjoint((path, *path.parents))


def settings_of(config: pytest.Config) -> PytestSettings:
    """The session's settings. Raises SettingsError and UnknownNameError."""
    state = config.stash[STATE]
    if state.settings is None:
        from gapshift.deploy_tests.settings import session_settings

        state.settings, state.where = session_settings(given(config))
    return state.settings


def baseline_of(config: pytest.Config) -> Baseline | None:
    """The baseline, where one is named. Raises SettingsError."""
    from gapshift.deploy_tests.baseline import read_baseline

    state, folder = config.stash[STATE], settings_of(config).path("baseline")
    if state.baseline is None and folder is not None:
        state.baseline = read_baseline(folder)
    return state.baseline


def _check_request(config: pytest.Config) -> None:
    """Raise SettingsError where no run can be made: no model (the suite has the demo's), no such baseline."""
    if settings_of(config).model is None and not config.stash[STATE].in_suite:
        raise SettingsError(
            "No model is named. Give --gapshift-model and --gapshift-data, or `model` and `data` in [pytest] of "
            "gapshift.toml ([tool.gapshift.pytest] of pyproject.toml)."
        )
    baseline_of(config)


def plan_of(config: pytest.Config) -> list[tuple[str, str]]:
    """Every planned bundle and environment. Raises a UsageError of gapshift's."""
    from gapshift.deploy_tests.planning import planned_cells, run_folder

    state = config.stash[STATE]
    if not state.cells:
        _check_request(config)
        run_folder(settings_of(config))
        state.cells = planned_cells(settings_of(config))
    return state.cells


def cells_of(config: pytest.Config) -> list[tuple[str, str]]:
    """Every planned bundle and environment; a usage error ends the collection with its text."""
    cells, problem = [], ""
    try:
        cells = plan_of(config)
    except GapshiftError as error:
        problem = str(error)
    if problem:
        refuse(problem)
    return cells


def refuse(text: str) -> NoReturn:
    """A usage error that is found while tests are made: its text without a traceback, and no test runs."""
    from gapshift.deploy_tests.words import in_pytest_words

    raise pytest.Collector.CollectError(f"gapshift: {in_pytest_words(text)}")


def judge_once(config: pytest.Config) -> GapshiftRun:
    """The session's run, evaluated by whoever comes first. Raises NotJudgedError and what a plan raises."""
    from gapshift.deploy_tests.planning import evaluate, run_folder
    from gapshift.deploy_tests.session import judged_once

    state, settings = config.stash[STATE], settings_of(config)
    _check_request(config)
    folder = run_folder(settings)
    run = judged_once(folder, state.session, lambda: evaluate(settings, folder))
    state.judged = folder
    return run


def run_of(config: pytest.Config) -> GapshiftRun | None:
    """The run that this very session judged, here or in one of its workers."""
    state = config.stash[STATE]
    if state.judged is None:
        return None
    from gapshift.deploy_tests.session import judged_in

    return judged_in(state.judged, state.session)
