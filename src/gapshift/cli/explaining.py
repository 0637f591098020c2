"""The command that says which deviation did the damage."""

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

LEVELS = ("1", "2", "3", "4", "5", "all", "mean")


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--environment",
    "-e",
    required=True,
    metavar="NAME",
    help="The environment to take apart: the run's, the catalog's or your own.",
)
@environment_file_option
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="NAME",
    help="A model of the run (default: all that were evaluated in the environment, or can be). Repeatable.",
)
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    help="The level that the sentences are about (default: where a model loses most).",
)
@click.option(
    "--no-shapley",
    is_flag=True,
    help="No shares: each deviation alone and all but each, where else every combination of up to eight is evaluated.",
)
@MOVED_DATA
@calibration_options
@click.option("--out", type=PATH, help="Folder of the explanation (default: RUN/explain).")
@json_option
@click.pass_context
def explain(context: click.Context, /, run: Path, out: Path | None, as_json: bool, **options: Any) -> int:
    """Switch an environment's deviations on in parts: which of them does the damage, and what still fails."""
    from gapshift.flows.explain import explain_run
    from gapshift.reports.renderers.attribution import console_attribution

    with Console() as reporter:
        summary, paths = explain_run(
            run,
            options.pop("environment"),
            out,
            shapley=not options.pop("no_shapley"),
            calibration_data=quantiser_source(options),
            reporter=reporter,
            debug=context.obj["debug"],
            **options,
        )
    show_found(console_attribution(summary), summary, paths, as_json)
    return 0
