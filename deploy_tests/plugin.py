"""The pytest plugin: hooks and fixtures. What they do lies in the files beside this one.

It is loaded in every pytest session of every user, so its top imports pytest and the standard library alone, and a
session that asks for nothing of gapshift's gets nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gapshift.deploy_tests.options import add_options, add_short_forms, given

if TYPE_CHECKING:
    from gapshift.deploy_tests.planning import Judged
    from gapshift.deploy_tests.results import GapshiftCell, GapshiftLevel, GapshiftRun
    from gapshift.deploy_tests.settings import PytestSettings
    from gapshift.deploy_tests.subject import GapshiftModel
    from gapshift.domains.base import Dataset

SUITE = Path(__file__).parent.resolve()


@dataclass
class State:
    """What one session knows. ``session`` is the same for all its workers; ``judged`` is the folder of its run."""

    session: str
    in_suite: bool = False
    settings: PytestSettings | None = None
    cells: list[tuple[str, str]] = field(default_factory=list)
    judged: Path | None = None


STATE = pytest.StashKey[State]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option group with one prefix."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> None:
    """Short forms for ``--pyargs gapshift.deploy_tests``, whose conftest.py is found too late for options."""
    known = early_config.known_args_namespace
    if known.pyargs and any(str(name).startswith("gapshift.deploy_tests") for name in known.file_or_dir):
        add_short_forms(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that --strict-markers accepts it."""
    worker = getattr(config, "workerinput", {})
    config.stash[STATE] = State(session=worker.get("gapshift_session") or uuid.uuid4().hex)
    config.addinivalue_line("markers", "gapshift: a judgement of a model in a deployment environment")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist: every worker belongs to this session."""
    node.workerinput["gapshift_session"] = node.config.stash[STATE].session


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """pytest-xdist: where the workers' run lies."""
    judged = getattr(node, "workeroutput", {}).get("gapshift_judged")
    if judged:
        node.config.stash[STATE].judged = Path(judged)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell pytest-xdist's controller where the run lies."""
    output, judged = getattr(session.config, "workeroutput", None), session.config.stash[STATE].judged
    if output is not None and judged is not None:
        output["gapshift_judged"] = str(judged)


# --------------------------------------------------------------------------- what is planned


def settings_of(config: pytest.Config) -> PytestSettings:
    """The session's settings. Raises SettingsError and UnknownNameError."""
    state = config.stash[STATE]
    if state.settings is None:
        from gapshift.deploy_tests.settings import merged

        state.settings = merged({}, "", None, given(config))
    return state.settings


def _cells(config: pytest.Config) -> list[tuple[str, str]]:
    """Every planned bundle and environment; a usage error ends the collection with its text."""
    from gapshift.deploy_tests.planning import planned_cells
    from gapshift.deploy_tests.words import refuse
    from gapshift.errors import GapshiftError

    state = config.stash[STATE]
    problem = ""
    if not state.cells:
        try:
            state.cells = planned_cells(settings_of(config))
        except GapshiftError as error:
            problem = str(error)
    if problem:
        refuse(problem)
    return state.cells


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test per bundle, environment and level, or per bundle, for tests that ask for them."""
    config = metafunc.config
    config.stash[STATE].in_suite |= metafunc.definition.path.resolve().parent == SUITE
    if "gapshift_judged" in metafunc.fixturenames:
        _per_level(metafunc)
    if "gapshift_model" in metafunc.fixturenames and config.stash[STATE].in_suite:
        bundles = list(dict.fromkeys(bundle for bundle, _ in _cells(config)))
        if len(bundles) > 1:
            metafunc.parametrize("gapshift_model", bundles, ids=bundles, indirect=True, scope="session")


def _per_level(metafunc: pytest.Metafunc) -> None:
    from gapshift.deploy_tests.planning import Judged

    cells, levels = _cells(metafunc.config), settings_of(metafunc.config).shown_levels
    several = len({bundle for bundle, _ in cells}) > 1
    judged = [Judged(bundle, environment, level) for bundle, environment in cells for level in levels]
    ids = [f"{one.bundle}-" * several + f"{one.environment}-level{one.level}" for one in judged]
    metafunc.parametrize("gapshift_judged", judged, ids=ids)


# -------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def gapshift_run(request: pytest.FixtureRequest) -> GapshiftRun:
    """The whole planned run, evaluated and judged once however many workers ask: ``.verdict``, ``.summary``,
    ``.cell(environment, bundle=None)``, ``.report`` and ``.folder`` (its records: ``gapshift.workspace.Workspace``)."""
    from gapshift.deploy_tests.planning import evaluate, run_folder
    from gapshift.deploy_tests.session import judged_once
    from gapshift.errors import GapshiftError

    state, problem = request.config.stash[STATE], ""
    try:
        settings = settings_of(request.config)
        folder = run_folder(settings)
        run = judged_once(folder, state.session, lambda: evaluate(settings, folder))
        state.judged = folder
        return run
    except GapshiftError as error:
        problem = str(error)
    pytest.fail(problem, pytrace=False)


@pytest.fixture(scope="session")
def gapshift_cell(gapshift_run: GapshiftRun) -> Callable[..., GapshiftCell | GapshiftLevel]:
    """``gapshift_cell("int8-dynamic")`` is a cell of the run, ``gapshift_cell("int8-dynamic", level=5)`` a level of it;
    ``bundle`` names the model where the run has several."""

    def find(environment: str, level: int | str | None = None, bundle: str | None = None) -> Any:
        cell = gapshift_run.cell(environment, bundle)
        return cell if level is None else cell.level(level)

    return find


@pytest.fixture(scope="session")
def gapshift_model(request: pytest.FixtureRequest, gapshift_run: GapshiftRun) -> GapshiftModel:
    """The model under test: ``.name``, ``.path`` (its ONNX file), ``.contract``, ``.bundle``. In the shipped suite a
    test that asks for it runs once for every model of the run."""
    from gapshift.deploy_tests.subject import model_of

    return model_of(gapshift_run, getattr(request, "param", None))


@pytest.fixture(scope="session")
def gapshift_items(gapshift_run: GapshiftRun, gapshift_model: GapshiftModel) -> Dataset:
    """The items that judge ``gapshift_model``, as a ``gapshift.domains.base.Dataset``."""
    from gapshift.deploy_tests.subject import items_of

    return items_of(gapshift_run, gapshift_model)


@pytest.fixture
def gapshift_level(request: pytest.FixtureRequest, gapshift_judged: Judged, gapshift_run: GapshiftRun) -> GapshiftLevel:
    """The level that a test of the shipped suite reports, its numbers in JUnit's properties.

    What could not be judged (ERROR, NO DATA) is no failure of the model: the test ends as an error in its setup.
    """
    from gapshift.deploy_tests.outcomes import properties, unjudged

    level = gapshift_run.cell(gapshift_judged.environment, gapshift_judged.bundle).level(gapshift_judged.level)
    # Not by record_property, which warns wherever the JUnit family is xunit2.
    request.node.user_properties.extend(properties(level).items())
    if level.decides and (problem := unjudged(level.verdict, level.reason)):
        pytest.fail(problem, pytrace=False)
    return level


@pytest.fixture
def gapshift_verdict(gapshift_run: GapshiftRun) -> GapshiftRun:
    """The run, where it was judged at all; ERROR and NO DATA end the test as an error in its setup."""
    from gapshift.deploy_tests.outcomes import unjudged

    if problem := unjudged(gapshift_run.verdict, "\n".join(["", *gapshift_run.reasons])):
        pytest.fail(problem, pytrace=False)
    return gapshift_run


@pytest.fixture(scope="session")
def gapshift_inconclusive(request: pytest.FixtureRequest) -> str:
    """What an INCONCLUSIVE test does: ``fail``, ``warn`` or ``xfail``."""
    return settings_of(request.config).inconclusive


# --------------------------------------------------------------------- what the session says


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Drops per level, and where the report lies, if this very session judged."""
    state = config.stash[STATE]
    if state.judged is None:
        return
    from gapshift.deploy_tests.session import judged_in
    from gapshift.deploy_tests.summary import write_summary

    run = judged_in(state.judged, state.session)
    if run is not None:
        write_summary(terminalreporter, run)
