"""The command line. Exit codes: 0 PASS or done, 1 FAIL, 2 usage, 3 INCONCLUSIVE, 4 ERROR or NO DATA.

Heavy imports happen inside the commands, so that ``gapshift --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import gapshift
from gapshift.errors import GapshiftError, UsageError

if TYPE_CHECKING:
    from gapshift.flows.reporting import ConsoleReporter
    from gapshift.schema import DataSource, Environment

Command = TypeVar("Command", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: runs a command; an error is its text on standard error, never a traceback.

    ``--debug``, anywhere on the line, lets the traceback through.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = cli.main(words, prog_name="gapshift", standalone_mode=False, obj={"debug": debug})
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. What was finished is kept; the same command goes on from there.", err=True)
        sys.exit(130)
    except GapshiftError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        click.echo(f"error: {type(error).__name__}: {error}\nRun again with --debug for the traceback.", err=True)
        sys.exit(4)


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="End with one line of JSON on standard output.")(
        command
    )


def _environment_options(command: Command) -> Command:
    for decorate in (
        click.option(
            "--environment",
            "-e",
            "environments",
            multiple=True,
            metavar="NAME",
            help="An environment that you deploy to: it is evaluated and gated. Repeatable.",
        ),
        click.option(
            "--group",
            "groups",
            multiple=True,
            metavar="GROUP",
            help="Environments of a group or kind (equivalent, precision, mobile, ...). Repeatable.",
        ),
        click.option("--environment-file", type=_PATH, help="A TOML file with environments of your own."),
    ):
        command = decorate(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gapshift.__version__, prog_name="gapshift")
def cli() -> None:
    """Will a model that passed in training pass where it is deployed, level by level of difficulty?

    Add --debug to any command for tracebacks.
    """


# ------------------------------------------------------------------------------- check


@cli.command(options_metavar="--data DATA [OPTIONS]")
@click.argument("model", type=_PATH)
@click.argument("more_environments", nargs=-1, metavar="")
@click.option(
    "--data", required=True, help="Labelled evaluation set: a folder, a table, an .npz, CIFAR files, or 'digits'."
)
@click.option("--split", help="Which of the data's splits to judge (default: test).")
@click.option("--contract", type=_PATH, help="contract.toml, for a model without one in its metadata.")
@_environment_options
@click.option(
    "--margin",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    default=2.0,
    show_default=True,
    metavar="PP",
    help="Largest drop per level that is acceptable, in percentage points.",
)
@click.option("--items", type=_PATH, help="items.parquet with the levels of this evaluation set.")
@click.option("--calibration-data", help="Items for the static quantiser (never judged).")
@click.option("--out", type=_PATH, help="Run folder (default: runs/check-MODEL).")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--cross-check", is_flag=True, help="Run py-irt beside em, whatever the size.")
@click.option("--strict", is_flag=True, help="Skipped environments and floors decide too.")
@click.option("--allow-unlevelled", is_flag=True, help="Accept a verdict over all items where levels are unreliable.")
@_json_option
@click.pass_context
def check(context: click.Context, /, model: Path, out: Path | None, as_json: bool, **options: Any) -> int:
    """Judge any ONNX classifier on labelled data, level by level. Exit code 0 is PASS."""
    from gapshift.flows.check import CheckRequest
    from gapshift.flows.check import check as run
    from gapshift.flows.levels import CalibrationSettings

    named, more = options.pop("environments"), options.pop("more_environments")
    if more and not named:
        raise UsageError(f"Unexpected argument {more[0]!r}. Name deployments with --environment NAME.")
    calibration_data = options.pop("calibration_data")
    request = CheckRequest(
        model=model,
        environments=(*named, *more),  # `--environment A B` names two
        data=_source(options.pop("data"), options.pop("split")),
        out=out or Path("runs") / f"check-{model.stem}",
        margin_pp=options.pop("margin"),
        calibration_data=_source(calibration_data) if calibration_data else None,
        calibration=CalibrationSettings(cross_check=options.pop("cross_check") or None),
        debug=context.obj["debug"],
        **options,
    )
    with _Console() as reporter:
        summary, paths = run(request, reporter)
    return _judged(summary, paths, as_json)


# ------------------------------------------------------------------------------- study


@cli.command()
@click.option("--out", type=_PATH, default=Path("runs/demo"), show_default=True, help="Run folder.")
@_json_option
@click.pass_context
def demo(context: click.Context, out: Path, as_json: bool) -> int:
    """The whole way on embedded data: a study of scikit-learn's digits, with a report at the end."""
    from gapshift.flows.demo import demo_settings

    return _study(demo_settings(), out, "report", as_json, context.obj["debug"])


@cli.command()
@click.argument("settings", type=_PATH)
@click.option("--out", type=_PATH, help="Run folder (default: runs/NAME).")
@_json_option
@click.pass_context
def study(context: click.Context, settings: Path, out: Path | None, as_json: bool) -> int:
    """Difficulty, regimes, bundles, environments, report, as a study file says."""
    from gapshift.flows.study_settings import read_study

    read = read_study(settings)
    return _study(read, out or Path("runs") / read.name, "report", as_json, context.obj["debug"])


@cli.command()
@click.argument("settings", type=_PATH)
@click.option("--out", type=_PATH, help="Run folder (default: runs/NAME).")
@_json_option
@click.pass_context
def train(context: click.Context, settings: Path, out: Path | None, as_json: bool) -> int:
    """Rate the items of a study and train its regimes (no export, no evaluation)."""
    from gapshift.flows.study_settings import read_study

    read = read_study(settings)
    return _study(read, out or Path("runs") / read.name, "train", as_json, context.obj["debug"])


@cli.command()
@click.argument("run", type=_PATH)
@_json_option
@click.pass_context
def export(context: click.Context, run: Path, as_json: bool) -> int:
    """Export a trained study's models to ONNX bundles with contracts, checked against torch."""
    from gapshift.flows.study import read_settings
    from gapshift.workspace import Workspace

    return _study(read_settings(Workspace(run)), run, "export", as_json, context.obj["debug"])


@cli.command()
@click.argument("run", type=_PATH)
@click.option("--out", type=_PATH, help="Folder of the new run (default: RUN itself).")
@click.option("--data", help="Where the run's data lies now, if it moved.")
@_environment_options
@click.option(
    "--margin",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    metavar="PP",
    help="Largest acceptable drop per level (default: the run's).",
)
@_json_option
@click.pass_context
def evaluate(
    context: click.Context, /, run: Path, out: Path | None, margin: float | None, as_json: bool, **options: Any
) -> int:
    """Evaluate a run's bundles again; cells that exist are not run twice."""
    from gapshift.flows.evaluate import evaluate_run

    with _Console() as reporter:
        summary, paths = evaluate_run(
            run, out or run, margin_pp=margin, reporter=reporter, debug=context.obj["debug"], **options
        )
    _show(summary, paths, as_json)
    return 0


@cli.command()
@click.argument("run", type=_PATH)
@_json_option
def report(run: Path, as_json: bool) -> int:
    """Judge a run's records again and write its reports; no model runs."""
    from gapshift.flows.judging import report as run_report
    from gapshift.workspace import Workspace

    with _Console() as reporter:
        summary, paths = run_report(Workspace(run), reporter)
    _show(summary, paths, as_json)
    return 0


@cli.command()
@click.option("--responses", type=_PATH, help="A response matrix made elsewhere: CSV, Parquet, or py-irt's JSON Lines.")
@click.option(
    "--orientation",
    type=click.Choice(["responders-by-items", "items-by-responders"]),
    help="What a row is (default: detected, and said).",
)
@click.option(
    "--guessing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Chance of a right answer by guessing (1/K), for --responses.",
)
@click.option("--data", help="A data set to rate by cross-fitted responders, instead of --responses.")
@click.option("--split", help="Which of the data's splits to rate.")
@click.option("--out", type=_PATH, required=True, help="Folder for items.parquet.")
@click.option(
    "--engine", type=click.Choice(["em", "py-irt", "py-irt-1pl", "py-irt-2pl"]), default="em", show_default=True
)
@click.option("--cross-check", is_flag=True, help="Run py-irt beside em, whatever the size.")
@click.option("--seed", type=int, default=0, show_default=True)
@_json_option
def calibrate(
    out: Path, responses: Path | None, data: str | None, split: str | None, as_json: bool, **options: Any
) -> int:
    """Rate items by item response theory: items.parquet and a calibration card."""
    from gapshift.flows.calibrate import calibrate_data, calibrate_responses

    if (responses is None) == (data is None):
        raise UsageError("Give either --responses FILE or --data DIR.")
    with _Console() as reporter:
        if responses is not None:
            card, path = calibrate_responses(responses, out, reporter=reporter, **options)
        else:
            for name in ("orientation", "guessing"):
                options.pop(name)
            card, path = calibrate_data(_source(str(data), split), out, reporter=reporter, **options)
    _say(f"{path}\n{_card_lines(card.model_dump(mode='json'))}", as_json)
    if as_json:
        click.echo(json.dumps(card.model_dump(mode="json")))
    return 0


# --------------------------------------------------------------------- catalog, machine


@cli.group()
def envs() -> None:
    """The catalog of deployment environments."""


@envs.command("list")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Only a group or kind. Repeatable.")
@click.option("--environment-file", type=_PATH, help="A TOML file with environments of your own, listed too.")
@_json_option
def envs_list(groups: tuple[str, ...], environment_file: Path | None, as_json: bool) -> int:
    """Every environment: name, kind, groups, and where it is met."""
    from gapshift.flows.check import selected

    environments = selected((), groups, environment_file)
    if as_json:
        click.echo(json.dumps([environment.model_dump(mode="json") for environment in environments]))
        return 0
    width = max(len(environment.name) for environment in environments)
    for environment in environments:
        click.echo(f"{environment.name:<{width}}  {environment.kind:<10}  {environment.summary}")
    return 0


@envs.command("show")
@click.argument("name")
@click.option("--environment-file", type=_PATH, help="A TOML file with environments of your own.")
@_json_option
def envs_show(name: str, environment_file: Path | None, as_json: bool) -> int:
    """One environment and its deviations."""
    from gapshift.flows.check import selected

    (environment,) = selected((name,), (), environment_file)
    if as_json:
        click.echo(json.dumps(environment.model_dump(mode="json")))
        return 0
    click.echo(_environment_lines(environment))
    return 0


@cli.command()
@click.argument("model", type=_PATH)
@_json_option
def contract(model: Path, as_json: bool) -> int:
    """Print the contract inside an ONNX file as contract.toml, to read or to edit."""
    from gapshift.export.stamp import contract_to_toml, read_contract

    found = read_contract(model)
    click.echo(json.dumps(found.model_dump(mode="json")) if as_json else contract_to_toml(found), nl=as_json)
    return 0


@cli.command()
@_json_option
def doctor(as_json: bool) -> int:
    """Which runtimes, providers, engines and instructions this machine has."""
    from gapshift.flows.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found))
        return 0
    for section, rows in found.items():
        click.echo(section)
        for key, value in rows.items():
            click.echo(f"  {key:<24} {value}")
    return 0


# ----------------------------------------------------------------------------- plumbing


def _source(source: str, split: str | None = None) -> DataSource:
    from gapshift.schema import DataSource

    return DataSource(source=source, split=split)


def _study(settings: Any, out: Path, until: Any, as_json: bool, debug: bool) -> int:
    from gapshift.flows.study import save_settings
    from gapshift.flows.study import study as run
    from gapshift.workspace import Workspace

    workspace = Workspace(out)
    save_settings(workspace, settings)
    with _Console() as reporter:
        result = run(workspace, reporter, until, debug)
    if result is None:
        _say(f"{until} done: {out}", as_json)
        if as_json:
            click.echo(json.dumps({"stage": until, "run": str(out)}))
        return 0
    _show(*result, as_json)
    return 0


class _Console:
    """A console reporter that leaves the terminal tidy however the block ends."""

    def __enter__(self) -> ConsoleReporter:
        from gapshift.flows.reporting import ConsoleReporter

        self._reporter = ConsoleReporter()
        return self._reporter

    def __exit__(self, *_: object) -> None:
        self._reporter.close()


def _judged(summary: Mapping[str, Any], paths: Mapping[str, Path], as_json: bool) -> int:
    from gapshift.reports.gate import exit_code

    _show(summary, paths, as_json)
    return exit_code(summary["verdict"])


def _show(summary: Mapping[str, Any], paths: Mapping[str, Path], as_json: bool) -> None:
    from gapshift.reports.renderers.console import render_console

    _say(render_console(summary, color=sys.stdout.isatty() and not as_json), as_json)
    for path in paths.values():
        _say(str(path), as_json)
    if as_json:
        click.echo(json.dumps(summary, allow_nan=False))


def _say(text: str, as_json: bool) -> None:
    """For people: standard output, or standard error where standard output ends in JSON."""
    click.echo(text, err=as_json)


def _card_lines(card: Mapping[str, Any]) -> str:
    return "\n".join(f"  {key}: {value}" for key, value in card.items())


def _environment_lines(environment: Environment) -> str:
    lines = [environment.name, f"  {environment.summary}", f"  kind: {environment.kind}"]
    lines += [f"  groups: {', '.join(environment.groups)}", "  deviations:"]
    return "\n".join(lines + [f"    {key} = {json.dumps(value)}" for key, value in environment.deviations.items()])
