"""The command that composes environments nobody listed."""

from __future__ import annotations

from typing import Any

import click

from gapshift.cli.shared import (
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
@click.option("--bundle", metavar="NAME", help="The model (needed where the run has several).")
@click.option(
    "--environment",
    "-e",
    "environments",
    multiple=True,
    metavar="NAME",
    help="Compose of this environment's deviations (default: of the run's own environments). Repeatable.",
)
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Compose of a group's deviations. Repeatable.")
@environment_file_option
@click.option("--family", type=PATH, help="A TOML file that says which keys may take which values, mild to severe.")
@click.option("--most", type=click.IntRange(min=1), help="Deviations at once (default: 3).")
@click.option(
    "--examples",
    type=click.IntRange(min=4),
    default=100,
    show_default=True,
    help="Most environments that are judged; every one counts as a test.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--interactions",
    is_flag=True,
    help="Judge every deviation alone first, and compose of those that do not fail alone.",
)
@click.option("--sample", is_flag=True, help="Answer a level-balanced sample of the items instead of all.")
@click.option("--data", help="Where the run's data lies now, if it moved.")
@calibration_options
@click.option("--out", type=PATH, help="Folder of the search (default: RUN/search).")
@json_option
@click.pass_context
def search(context: click.Context, /, as_json: bool, **options: Any) -> int:
    """Compose environments that nobody listed, and find the smallest that fails."""
    from gapshift.flows.search import SearchRequest, search_run
    from gapshift.reports.renderers.search import console_search

    source = quantiser_source(options)
    request = SearchRequest(calibration_data=source, debug=context.obj["debug"], **options)
    with Console() as reporter:
        summary, paths = search_run(request, reporter)
    show_found(console_search(summary), summary, paths, as_json)
    return 0
