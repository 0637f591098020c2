"""What the commands share: options, the data source, and how results are shown."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gapshift.errors import UsageError

if TYPE_CHECKING:
    from gapshift.flows.reporting import ConsoleReporter
    from gapshift.schema import DataSource

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


class NumberRange(click.FloatRange):
    """A range that NaN is outside of, which compares false with either end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises click's usage error for a value out of range."""
        number = super().convert(value, param, ctx)
        if number is not None and math.isnan(number):
            self.fail(f"{value!r} is no number between {self.min:g} and {self.max:g}.", param, ctx)
        return number


class _Margin(NumberRange):
    """Percentage points between 0 and 100, both excluded."""

    name = "margin"


MARGIN = _Margin(0, 100, min_open=True, max_open=True)


def json_option(command: Command) -> Command:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="End with one line of JSON on standard output.")(
        command
    )


def data_root_option(command: Command) -> Command:
    """``--data-root``."""
    return click.option(
        "--data-root",
        type=PATH,
        metavar="DIR",
        help="Where published data sets (cifar-10, sst-2, ...) lie (default: GAPSHIFT_DATA_ROOT).",
    )(command)


def _only_one(_context: click.Context, option: click.Parameter, given: tuple[Path, ...]) -> Path | None:
    """Raises click's usage error for a second file: click itself would drop the first without a word."""
    if len(given) > 1:
        raise click.BadParameter("one file may be given; put all your environments into it.", param=option)
    return given[0] if given else None


def environment_file_option(command: Command) -> Command:
    """``--environment-file``."""
    return click.option(
        "--environment-file",
        type=PATH,
        multiple=True,
        callback=_only_one,
        help="A TOML file with environments of your own, beside gapshift.toml's.",
    )(command)


def environment_options(command: Command) -> Command:
    """Which environments run, and which of them are gated."""
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
            help="Environments of a group or kind (equivalent, precision, mobile, ..., all): reported, gated only "
            "where equivalent. Repeatable.",
        ),
        environment_file_option,
    ):
        command = decorate(command)
    return command


MOVED_DATA = click.option(
    "--data", help="Where the run's data lies now, if it moved (TASK=PATH where it has several tasks)."
)

BUDGET = click.option(
    "--budget",
    type=click.IntRange(1),
    metavar="N",
    help="Judge at most N items, drawn evenly over the levels; with --sequential: at most N answers of a cell.",
)


def calibration_options(command: Command) -> Command:
    """Where a static quantiser's items come from."""
    for decorate in (
        click.option("--calibration-data", help="Items for the static quantiser (never judged)."),
        click.option("--calibration-split", help="Which of their splits to use (default: train)."),
    ):
        command = decorate(command)
    return command


def self_test_option(command: Command) -> Command:
    """``--self-test``."""
    return click.option(
        "--self-test",
        is_flag=True,
        help="Also repeat the reference and every gated environment in RUN/repeats with other threads, item orders and "
        "batch sizes (up to 11 times the gated cells), and say what the verdict would have been of each repeat.",
    )(command)


def quantiser_source(options: dict[str, Any]) -> DataSource | None:
    """Takes what ``calibration_options`` gave out of a command's options."""
    data, split = options.pop("calibration_data"), options.pop("calibration_split")
    return source(data, split) if data else None


def source(source: str, split: str | None = None, root: Path | None = None) -> DataSource:
    """The data that an option names, and where published data lies."""
    from gapshift.schema import DataSource

    if not source.strip():
        raise UsageError("The data source is empty. Give a path, or 'digits'.")
    return DataSource(source=source, split=split, root=str(root.resolve()) if root else None)


class Console:
    """A console reporter that leaves the terminal tidy however the block ends."""

    def __enter__(self) -> ConsoleReporter:
        from gapshift.flows.reporting import ConsoleReporter

        self._reporter = ConsoleReporter()
        return self._reporter

    def __exit__(self, *_: object) -> None:
        self._reporter.close()


def show(summary: Mapping[str, Any], paths: Mapping[str, Path], as_json: bool) -> None:
    """The verdict, the table and where the reports lie, the page last."""
    from gapshift.reports.renderers.console import render_console

    folder = str(next(iter(paths.values())).parent) if paths else "RUN"
    text = render_console(summary, run=shlex.quote(folder), color=sys.stdout.isatty() and not as_json)
    show_found(text, summary, dict(reversed(list(paths.items()))), as_json)


def show_found(text: str, summary: Mapping[str, Any], paths: Mapping[str, Path], as_json: bool) -> None:
    """What was found in words, where its files lie, and with ``--json`` the summary in the last line."""
    say(text, as_json)
    for path in paths.values():
        say(str(path), as_json)
    if as_json:
        click.echo(json.dumps(summary, allow_nan=False))


def say(text: str, as_json: bool) -> None:
    """For people: standard output, or standard error where standard output ends in JSON."""
    click.echo(text, err=as_json)
