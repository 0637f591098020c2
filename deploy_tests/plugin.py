"""The pytest plugin: hooks and fixtures. What they do lies in the files beside this one.

It is loaded in every pytest session of every user, so its top imports pytest and the standard library alone, and a
session that asks for nothing of gapshift's gets nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from gapshift.deploy_tests.options import add_options, add_short_forms, given
from gapshift.errors import GapshiftError, SettingsError
from gapshift.settings_file import find_settings

if TYPE_CHECKING:
    from gapshift.deploy_tests.baseline import Baseline
    from gapshift.deploy_tests.planning import Judged
    from gapshift.deploy_tests.results import GapshiftCell, GapshiftLevel, GapshiftRun
    from gapshift.deploy_tests.settings import PytestSettings
    from gapshift.deploy_tests.subject import GapshiftModel
    from gapshift.domains.base import Dataset

SUITE = Path(__file__).parent.resolve()
PACKAGE = "gapshift.deploy_tests"


@dataclass
class State:
    """What one session knows. ``session`` is the same for all its workers; ``judged`` is the folder of its run."""

    session: str
    in_suite: bool = False
    settings: PytestSettings | None = None
    where: str = ""
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
    if known.pyargs and any(_is_suite(str(name)) for name in known.file_or_dir):
        add_short_forms(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that --strict-markers accepts it, and read the settings where there are some."""
    worker = getattr(config, "workerinput", {})
    config.stash[STATE] = State(session=worker.get("gapshift_session") or uuid.uuid4().hex)
    config.addinivalue_line(
        "markers",
        "gapshift(environment=None, level=None, bundle=None): a judgement of a model in a deployment environment; "
        "the arguments choose what the fixture gapshift_level is",
    )
    problem = ""
    try:
        if in_use(config):
            settings_of(config)
    except GapshiftError as error:
        problem = str(error)
    if problem:
        raise pytest.UsageError(f"gapshift: {problem}")


def in_use(config: pytest.Config) -> bool:
    """Whether this session asks for something of gapshift's: an option, the suite, a table in the user's settings."""
    return bool(given(config) or any(map(_is_suite, config.args)) or "pytest" in find_settings().tables)


def _is_suite(target: str) -> bool:
    """Whether a path or a module on the command line is the shipped suite or a part of it."""
    name = target.split("::")[0]
    return (
        name == PACKAGE
        or name.startswith(f"{PACKAGE}.")
        or SUITE in (path := Path(name).resolve()).parents
        or path == SUITE
    )


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


# --------------------------------------------------------------------------- what is planned


def settings_of(config: pytest.Config) -> PytestSettings:
    """The session's settings. Raises SettingsError and UnknownNameError."""
    state = config.stash[STATE]
    if state.settings is None:
        from gapshift.deploy_tests.settings import session_settings

        state.settings, state.where = session_settings(given(config))
    return state.settings


def _baseline(config: pytest.Config) -> Baseline | None:
    """The baseline, where one is named. Raises SettingsError."""
    from gapshift.deploy_tests.baseline import read_baseline

    folder = settings_of(config).path("baseline")
    return read_baseline(folder) if folder else None


def _check_request(config: pytest.Config) -> None:
    """Raise SettingsError where no run can be made: no model (the suite has the demo's), no such baseline."""
    if settings_of(config).model is None and not config.stash[STATE].in_suite:
        raise SettingsError(
            "No model is named. Give --gapshift-model and --gapshift-data, or `model` and `data` in [pytest] of "
            "gapshift.toml ([tool.gapshift.pytest] of pyproject.toml)."
        )
    _baseline(config)


def cells_of(config: pytest.Config) -> list[tuple[str, str]]:
    """Every planned bundle and environment; a usage error ends the collection with its text."""
    from gapshift.deploy_tests.planning import planned_cells, run_folder

    state = config.stash[STATE]
    problem = ""
    if not state.cells:
        try:
            _check_request(config)
            run_folder(settings_of(config))
            state.cells = planned_cells(settings_of(config))
        except GapshiftError as error:
            problem = str(error)
    if problem:
        _refuse(problem)
    return state.cells


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test per bundle, environment and level, or per bundle, for tests that ask for them."""
    config = metafunc.config
    config.stash[STATE].in_suite |= metafunc.definition.path.resolve().parent == SUITE
    marker = metafunc.definition.get_closest_marker("gapshift")
    asked = marker.kwargs if marker else {}
    if marker and marker.args:
        _refuse(f"{metafunc.definition.nodeid}: the marker gapshift takes keywords; this is {marker.args[0]!r}.")
    if "gapshift_judged" in metafunc.fixturenames:
        _per_level(metafunc, asked)
    elif asked:
        _refuse(
            f"{metafunc.definition.nodeid}: the marker's {', '.join(asked)} choose what gapshift_level is; ask for it."
        )
    if "gapshift_model" in metafunc.fixturenames and config.stash[STATE].in_suite:
        bundles = list(dict.fromkeys(bundle for bundle, _ in cells_of(config)))
        if len(bundles) > 1:
            metafunc.parametrize("gapshift_model", bundles, ids=bundles, indirect=True, scope="session")


def _per_level(metafunc: pytest.Metafunc, asked: Mapping[str, Any]) -> None:
    from gapshift.deploy_tests.planning import judgements

    cells = cells_of(metafunc.config)
    several, problem = len({bundle for bundle, _ in cells}) > 1, ""
    try:
        judged = judgements(cells, settings_of(metafunc.config).shown_levels, asked)
    except GapshiftError as error:
        problem = f"{metafunc.definition.nodeid}: {error}"
    if problem:
        _refuse(problem)
    ids = [f"{one.bundle}-" * several + f"{one.environment}-level{one.level}" for one in judged]
    metafunc.parametrize("gapshift_judged", judged, ids=ids)


def _refuse(text: str) -> NoReturn:
    """A usage error that is found while tests are made: its text without a traceback, and no test runs."""
    from gapshift.deploy_tests.words import in_pytest_words

    raise pytest.Collector.CollectError(f"gapshift: {in_pytest_words(text)}")


# -------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def gapshift_run(request: pytest.FixtureRequest) -> GapshiftRun:
    """The whole planned run, evaluated and judged once however many workers ask: ``.verdict``, ``.summary``,
    ``.cell(environment, bundle=None)``, ``.report`` and ``.folder`` (its records: ``gapshift.workspace.Workspace``)."""
    problem = ""
    try:
        return _judged(request.config)
    except GapshiftError as error:
        problem = str(error)
    pytest.fail(problem, pytrace=False)


def _judged(config: pytest.Config) -> GapshiftRun:
    from gapshift.deploy_tests.planning import evaluate, run_folder
    from gapshift.deploy_tests.session import judged_once

    state, settings = config.stash[STATE], settings_of(config)
    _check_request(config)
    folder = run_folder(settings)
    run = judged_once(folder, state.session, lambda: evaluate(settings, folder))
    state.judged = folder
    return run


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
    """A level of the run, its numbers in JUnit's properties: a test that asks for it is made for every planned bundle,
    environment and level, or for those that ``@pytest.mark.gapshift(environment=..., level=..., bundle=...)`` names.

    What could not be judged (ERROR, NO DATA) is no failure of the model: the test ends as an error in its setup.
    """
    from gapshift.deploy_tests.outcomes import properties, was_judged

    level = gapshift_run.cell(gapshift_judged.environment, gapshift_judged.bundle).level(gapshift_judged.level)
    # Not by record_property, which warns wherever the JUnit family is xunit2.
    request.node.user_properties.extend(properties(level).items())
    if level.decides and not was_judged(level.verdict):
        pytest.fail(f"{level.verdict}: {level.reason}", pytrace=False)
    return level


@pytest.fixture
def gapshift_verdict(gapshift_run: GapshiftRun) -> GapshiftRun:
    """The run, where it was judged at all; ERROR and NO DATA end the test as an error in its setup."""
    from gapshift.deploy_tests.outcomes import was_judged, why

    if not was_judged(gapshift_run.verdict):
        pytest.fail(why(gapshift_run), pytrace=False)
    return gapshift_run


@pytest.fixture(scope="session")
def gapshift_inconclusive(request: pytest.FixtureRequest) -> str:
    """What an INCONCLUSIVE test does: ``fail``, ``warn`` or ``xfail``."""
    return settings_of(request.config).inconclusive


# --------------------------------------------------------------------- what the session says


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is tested, on which machine, against which baseline; nothing in sessions that do not use gapshift."""
    if config.stash[STATE].settings is None:
        return []
    from gapshift.deploy_tests.header import header

    return header(settings_of(config), config.stash[STATE].where)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The run's own facts for JUnit; a worker tells the controller, which writes them, where the run lies."""
    state = session.config.stash.get(STATE, None)
    if state is None or state.judged is None:
        return
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["gapshift_judged"] = str(state.judged)
        return
    writers = [each for each in session.config.pluginmanager.get_plugins() if hasattr(each, "add_global_property")]
    if not writers or (run := _run_of(session.config)) is None:
        return
    from gapshift.deploy_tests.summary import suite_properties

    for name, value in suite_properties(run, _baseline(session.config)).items():
        for writer in writers:  # the fixture record_testsuite_property writes nothing under pytest-xdist
            writer.add_global_property(name, value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Drops per level, and where the report lies, if this very session judged."""
    run = _run_of(config)
    if run is not None:
        from gapshift.deploy_tests.summary import write_summary

        write_summary(terminalreporter, run, settings_of(config).inconclusive, _baseline(config))


def _run_of(config: pytest.Config) -> GapshiftRun | None:
    """The run that this very session judged, here or in one of its workers."""
    state = config.stash[STATE]
    if state.judged is None:
        return None
    from gapshift.deploy_tests.session import judged_in

    return judged_in(state.judged, state.session)
