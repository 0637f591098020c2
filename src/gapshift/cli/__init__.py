"""The command line. Exit codes: 0 PASS or done, 1 FAIL, 2 usage, 3 INCONCLUSIVE, 4 ERROR or NO DATA.

Heavy imports happen inside the commands, so that ``gapshift --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from typing import NoReturn

import click

import gapshift
from gapshift.cli.catalog import contract, doctor, envs
from gapshift.cli.explaining import explain
from gapshift.cli.judging import check, evaluate, report
from gapshift.cli.observing import observe
from gapshift.cli.planning import plan
from gapshift.cli.repeating import repeat
from gapshift.cli.searching import search
from gapshift.cli.studies import calibrate, demo, export, study, train
from gapshift.errors import GapshiftError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gapshift.__version__, prog_name="gapshift")
def cli() -> None:
    """Will a model that passed in training pass where it is deployed, level by level of difficulty?

    Add --debug to any command for tracebacks.
    """


for _command in (
    demo,
    check,
    study,
    calibrate,
    train,
    export,
    evaluate,
    repeat,
    search,
    explain,
    report,
    plan,
    observe,
    envs,
    contract,
    doctor,
):
    cli.add_command(_command)


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
        _stop(error.format_message(), 2, words)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. What was finished is kept; the same command goes on from there.", err=True)
        sys.exit(130)
    except GapshiftError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        _stop(str(error), error.exit_code, words)
    except Exception as error:
        if debug:
            raise
        text = f"{type(error).__name__}: {error}"
        click.echo(f"error: {text}\nRun again with --debug for the traceback.", err=True)
        _stop(text, 4, words)


def _stop(text: str, code: int, words: list[str]) -> NoReturn:
    """End with ``code``; under ``--json`` standard output ends in a line that says why."""
    if "--json" in words:
        click.echo(json.dumps({"error": text, "exit_code": code}))
    sys.exit(code)
