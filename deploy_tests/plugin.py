"""The pytest plugin: hooks and fixtures. What they do lies in the files beside this one.

It is loaded in every pytest session of every user, so its top imports pytest and the standard library alone, and a
session that asks for nothing of gapshift's gets nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gapshift.deploy_tests.options import add_options, add_short_forms
from gapshift.deploy_tests.state import (
    STATE,
    SUITES,
    State,
    baseline_of,
    cells_of,
    in_use,
    is_suite,
    judge_once,
    plan_of,
    refuse,
    run_of,
    settings_of,
)
from gapshift.errors import GapshiftError

if TYPE_CHECKING:
    from gapshift.deploy_tests.planning import Judged
    from gapshift.deploy_tests.results import GapshiftCell, GapshiftLevel, GapshiftRun
    from gapshift.deploy_tests.subject import GapshiftModel
    from gapshift.domains.base import Dataset


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option group with one prefix."""
    add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Iterator[None]:
    """Short forms for ``--pyargs gapshift.deploy_tests``, whose conftest.py is found too late for options.

    After the user's own conftest.py, whose ``--model`` stays its own.
    """
    yield
    known = early_config.known_args_namespace
    if known.pyargs and any(is_suite(str(name)) for name in known.file_or_dir):
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


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Where the suite is the target, what cannot be planned is a usage error before anything is collected."""
    config, problem = session.config, ""
    try:
        if any(map(is_suite, config.args)) and settings_of(config).model is not None:
            plan_of(config)
    except GapshiftError as error:
        problem = str(error)
    if problem:
        from gapshift.deploy_tests.words import in_pytest_words

        raise pytest.UsageError(f"gapshift: {in_pytest_words(problem)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test per bundle, environment and level, or per bundle, for tests that ask for them."""
    config, marker = metafunc.config, metafunc.definition.get_closest_marker("gapshift")
    if marker is None and not any(name.startswith("gapshift_") for name in metafunc.fixturenames):
        return
    config.stash[STATE].in_suite |= metafunc.definition.path.resolve().parent in SUITES
    asked = marker.kwargs if marker else {}
    if marker and marker.args:
        refuse(f"{metafunc.definition.nodeid}: the marker gapshift takes keywords; this is {marker.args[0]!r}.")
    if "gapshift_judged" in metafunc.fixturenames:
        _per_level(metafunc, asked)
    elif asked:
        refuse(
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
        refuse(problem)
    ids = [f"{one.bundle}-" * several + f"{one.environment}-level{one.level}" for one in judged]
    metafunc.parametrize("gapshift_judged", judged, ids=ids)


# -------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def gapshift_run(request: pytest.FixtureRequest) -> GapshiftRun:
    """The whole planned run, evaluated and judged once however many workers ask: ``.verdict``, ``.summary``,
    ``.cell(environment, bundle=None)``, ``.report`` and ``.folder`` (its records: ``gapshift.workspace.Workspace``)."""
    problem = ""
    try:
        return judge_once(request.config)
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
    if not writers or (run := run_of(session.config)) is None:
        return
    from gapshift.deploy_tests.summary import suite_properties

    for name, value in suite_properties(run, baseline_of(session.config)).items():
        for writer in writers:  # the fixture record_testsuite_property writes nothing under pytest-xdist
            writer.add_global_property(name, value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Drops per level, and where the report lies, if this very session judged."""
    state, run = config.stash.get(STATE, None), run_of(config)
    if state is None or state.judged is None:
        return
    from gapshift.deploy_tests.summary import write_replaced, write_summary

    if run is None:
        write_replaced(terminalreporter, state.judged)
    else:
        write_summary(terminalreporter, run, settings_of(config).inconclusive, baseline_of(config))
