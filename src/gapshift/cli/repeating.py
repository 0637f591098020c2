"""The command that repeats what should not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gapshift.cli.shared import (
    MOVED_DATA,
    PATH,
    Console,
    calibration_options,
    environment_file_option,
    json_option,
    quantiser_source,
    show_found,
)


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--environment",
    "-e",
    "environments",
    multiple=True,
    metavar="NAME",
    help="What to repeat; 'reference' is one, too (default: the reference and the run's named deployments). "
    "Repeatable.",
)
@environment_file_option
@click.option(
    "--bundle", "bundles", multiple=True, metavar="NAME", help="A model of the run (default: all). Repeatable."
)
@MOVED_DATA
@calibration_options
@click.option("--out", type=PATH, help="Folder of the repeats (default: RUN/repeats).")
@json_option
@click.pass_context
def repeat(context: click.Context, /, run: Path, out: Path | None, as_json: bool, **options: Any) -> int:
    """Repeat a run's answers with other threads, batches and item orders: what flips, and what makes it flip."""
    from gapshift.flows.repeat import repeat_run
    from gapshift.reports.renderers.repeats import console_repeats

    with Console() as reporter:
        summary, paths = repeat_run(
            run,
            out,
            calibration_data=quantiser_source(options),
            reporter=reporter,
            debug=context.obj["debug"],
            **options,
        )
    show_found(console_repeats(summary), summary, paths, as_json)
    return 0
