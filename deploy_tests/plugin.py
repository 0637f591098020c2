"""The pytest plugin: options, the one judged run, a test per environment and level, a summary.

It is loaded in every pytest session of every user, so it imports nothing heavy at its top.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

_RUN_FOLDER = pytest.StashKey[Path]()
_SESSION = pytest.StashKey[str]()
_STARTED = pytest.StashKey[float]()
DEMO_RUN = Path("runs/demo")
SHORT_FORMS = ("model", "data", "environment", "contract")
_COMMAND_OPTIONS = re.compile(
    r"(?<![\w-])--(contract|items|split|calibration-data|calibration-split|environment-file|margin|allow-unlevelled)\b"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option group with one prefix."""
    group = parser.getgroup("gapshift", "deployment tests of an ONNX model")
    group.addoption("--gapshift-model", metavar="ONNX", help="the model to test (default: the demo's bundles)")
    group.addoption("--gapshift-data", metavar="DATA", help="labelled evaluation set, as for gapshift check")
    group.addoption("--gapshift-split", metavar="NAME", help="which of the data's splits to judge (default: test)")
    group.addoption("--gapshift-contract", metavar="TOML", help="contract.toml, for a model without one inside")
    group.addoption("--gapshift-items", metavar="PARQUET", help="items.parquet with the evaluation set's levels")
    group.addoption("--gapshift-calibration-data", metavar="DATA", help="items for the static quantiser (never judged)")
    group.addoption("--gapshift-calibration-split", metavar="NAME", help="which of their splits (default: train)")
    group.addoption(
        "--gapshift-environment",
        action="append",
        default=[],
        metavar="NAME",
        help="an environment that you deploy to: evaluated and gated (repeatable)",
    )
    group.addoption(
        "--gapshift-group",
        action="append",
        default=[],
        metavar="GROUP",
        help="environments of a group or kind (repeatable)",
    )
    group.addoption("--gapshift-environment-file", metavar="TOML", help="environments of your own")
    group.addoption(
        "--gapshift-margin",
        type=float,
        default=2.0,
        metavar="PP",
        help="largest acceptable drop per level in percentage points (default: 2)",
    )
    group.addoption("--gapshift-report", metavar="DIR", help="run folder (default: runs/check-MODEL)")
    group.addoption("--gapshift-strict", action="store_true", help="skipped environments and floors decide too")
    group.addoption(
        "--gapshift-allow-unlevelled",
        action="store_true",
        help="accept a verdict over all items where levels are unreliable",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, so that --strict-markers accepts it, and note when this session began."""
    config.stash[_STARTED] = time.time()
    config.addinivalue_line("markers", "gapshift: a judgement of a model in a deployment environment")


@dataclass(frozen=True)
class Judged:
    """What one test reports: one bundle in one environment at one level."""

    bundle: str
    environment: str
    level: int


@pytest.fixture(scope="session")
def gapshift_run(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The summary of the whole run, evaluated and judged once however many workers ask."""
    from filelock import FileLock

    from gapshift.errors import GapshiftError

    config = request.config
    folder = _run_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    session, problem = folder / f".session-{_session_id(config)}", ""
    try:
        with FileLock(folder / ".session.lock"):
            if not session.exists():
                _evaluate(config, folder)
                for old in folder.glob(".session-*"):
                    old.unlink()
                session.touch()
    except GapshiftError as error:
        problem = str(error)
    if problem:
        pytest.fail(_in_pytest_words(problem), pytrace=False)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test per bundle, environment and level for every test that asks for ``gapshift_judged``."""
    if "gapshift_judged" not in metafunc.fixturenames:
        return
    judged = _planned(metafunc.config)
    several = len({one.bundle for one in judged}) > 1
    ids = [f"{one.bundle}-" * several + f"{one.environment}-level{one.level}" for one in judged]
    metafunc.parametrize("gapshift_judged", judged, ids=ids)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Drops per level, and where the report lies, if this very session judged."""
    folder = config.stash.get(_RUN_FOLDER, None)
    path = folder / "summary.json" if folder else None
    if folder is None or path is None or not path.exists() or path.stat().st_mtime < config.stash[_STARTED]:
        return
    from gapshift.reports.renderers.console import render_console

    summary = json.loads(path.read_text(encoding="utf-8"))
    terminalreporter.section("gapshift")
    terminalreporter.write_line(render_console(summary, width=max(100, terminalreporter._tw.fullwidth), color=False))
    terminalreporter.write_line(f"report: {folder / 'report.html'}")


# ------------------------------------------------------------------------------ the run


def _option(config: pytest.Config, name: str) -> Any:
    """An option by its short form, where the suite itself is the target, or by its long one."""
    short = config.getoption(f"--{name}", default=None) if name in SHORT_FORMS else None
    return short or config.getoption(f"--gapshift-{name}")


def _path(config: pytest.Config, name: str) -> Path | None:
    value = _option(config, name)
    return Path(value) if value else None


def _run_folder(config: pytest.Config) -> Path:
    from gapshift.flows.check import default_folder

    model, report = _path(config, "model"), _path(config, "report")
    return report or (default_folder(model) if model else DEMO_RUN)


def _session_id(config: pytest.Config) -> str:
    """The same for every worker of one pytest run."""
    worker = getattr(config, "workerinput", None)
    if worker:
        return str(worker["testrunuid"])
    return config.stash.setdefault(_SESSION, uuid.uuid4().hex)


def _evaluate(config: pytest.Config, folder: Path) -> None:
    if not _option(config, "model"):
        _demo(folder)
        return
    from gapshift.flows.check import check

    check(_request(config, folder))


def _request(config: pytest.Config, folder: Path) -> Any:
    from gapshift.flows.check import CheckRequest
    from gapshift.schema import DataSource

    calibration = _option(config, "calibration-data")
    return CheckRequest(
        model=Path(_option(config, "model")),
        data=DataSource(source=_option(config, "data"), split=_option(config, "split")),
        out=folder,
        contract=_path(config, "contract"),
        environments=tuple(_option(config, "environment")),
        groups=tuple(_option(config, "group")),
        environment_file=_path(config, "environment-file"),
        items=_path(config, "items"),
        calibration_data=DataSource(source=calibration, split=_option(config, "calibration-split"))
        if calibration
        else None,
        margin_pp=_option(config, "margin"),
        strict=_option(config, "strict"),
        allow_unlevelled=_option(config, "allow-unlevelled"),
    )


def _demo(folder: Path) -> None:
    from gapshift.flows.demo import demo_settings
    from gapshift.flows.study import save_settings, study
    from gapshift.workspace import Workspace

    workspace = Workspace(folder)
    save_settings(workspace, demo_settings())
    study(workspace)


# --------------------------------------------------------------------- what is planned


def _planned(config: pytest.Config) -> list[Judged]:
    """Every judgement of the planned run, known before anything runs."""
    from gapshift.errors import GapshiftError
    from gapshift.schema import LEVELS

    if bool(_option(config, "model")) != bool(_option(config, "data")):
        _refuse("--model and --data go together: an ONNX file and a labelled evaluation set.")
    if not 0 < _option(config, "margin") < 100:
        _refuse(f"--gapshift-margin is {_option(config, 'margin')} pp; it lies between 0 and 100.")
    config.stash[_RUN_FOLDER] = _run_folder(config)
    cells, problem = [], ""
    try:
        cells = _user_cells(config) if _option(config, "model") else _demo_cells()
    except GapshiftError as error:
        problem = str(error)
    if problem:
        _refuse(problem)
    return [Judged(bundle, environment, level) for bundle, environment in cells for level in LEVELS]


def _refuse(text: str) -> NoReturn:
    """A usage error, found while tests are made: its text without a traceback, and no test runs."""
    raise pytest.Collector.CollectError(f"gapshift: {_in_pytest_words(text)}")


def _in_pytest_words(text: str) -> str:
    """The command line's options as pytest knows them.

    >>> _in_pytest_words("Give one with `--contract FILE`.")
    'Give one with `--gapshift-contract FILE`.'
    """
    return _COMMAND_OPTIONS.sub(r"--gapshift-\1", text.replace("--out", "--gapshift-report"))


def _user_cells(config: pytest.Config) -> list[tuple[str, str]]:
    from gapshift.envs.catalog import choose
    from gapshift.flows.check import applicable, user_bundle

    names, groups = tuple(_option(config, "environment")), tuple(_option(config, "group"))
    chosen = choose(names, groups, _path(config, "environment-file"))
    bundle = user_bundle(Path(_option(config, "model")), _path(config, "contract"))
    return [(bundle.name, environment.name) for environment in applicable(chosen, bundle, names)]


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


# ---------------------------------------------------------------------- reading verdicts


def find_cell(summary: Mapping[str, Any], bundle: str, environment: str) -> Mapping[str, Any]:
    """A cell of the summary. Raises LookupError where the run does not have it."""
    for cell in summary["cells"]:
        if cell["bundle"] == bundle and cell["environment"] == environment:
            found: Mapping[str, Any] = cell
            return found
    raise LookupError(f"The run has no cell of {bundle} in {environment}: it was planned and did not run.")
