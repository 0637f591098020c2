"""The command that says what a run can decide before it is spent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gapshift.cli.shared import MARGIN, PATH, json_option, say
from gapshift.errors import UsageError

LEVELS = (1, 2, 3, 4, 5)


def _by_level(low: float, high: float, whole: bool = False) -> Callable[..., tuple[float, ...] | None]:
    """A callback that reads one number for all levels or five of them, from ``low`` to below ``high``."""

    def read(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[float, ...] | None:
        if value is None:
            return None
        try:
            numbers = [(int if whole else float)(word) for word in value.split(",")]
        except ValueError:
            raise click.BadParameter(f"{value!r}: give one number, or five for levels 1 to 5 (1,2,3,4,6).") from None
        wrong = [number for number in numbers if math.isnan(number) or not low <= number < high]
        if wrong:
            raise click.BadParameter(f"{wrong[0]:g} is not from {low:g} to below {high:g}.")
        if len(numbers) not in (1, len(LEVELS)):
            raise click.BadParameter(f"{value!r} holds {len(numbers)} numbers; give one, or five for levels 1 to 5.")
        return tuple(numbers) * (len(LEVELS) // len(numbers))

    return read


@click.command()
@click.argument("run", type=PATH, required=False)
@click.option(
    "--items",
    callback=_by_level(1, 10_000_001, whole=True),
    metavar="N[,...]",
    help="Items a level, or of levels 1 to 5: 600 or 600,600,600,900,900 (default: the run's own).",
)
@click.option(
    "--churn",
    callback=_by_level(0, 100),
    metavar="PERCENT[,...]",
    help="Share of the items whose answer goes from right to wrong or back, or that of levels 1 to 5 "
    "(default: what the RUN observed).",
)
@click.option(
    "--margin",
    type=MARGIN,
    metavar="PP",
    help="Largest acceptable drop per level, in percentage points (default: the run's, else 2).",
)
@click.option(
    "--environments", type=click.IntRange(1, 1000), metavar="N", help="How many environments are gated; without a RUN."
)
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    metavar="ITEMS",
    help="Items a second of the model, for the run time; without a RUN, which knows its own.",
)
@click.option(
    "--environment",
    "-e",
    "names",
    multiple=True,
    metavar="NAME",
    help="An environment of the RUN to plan for as if it were a named deployment. Repeatable.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    metavar="P",
    help="Probability of passing that the items needed are for.",
)
@json_option
def plan(run: Path | None, as_json: bool, **options: Any) -> int:
    """How likely does a run pass with nothing wrong, and how many items would it take? No model runs.

    With the folder of a RUN at the churn that it observed, or at one that you assume: gapshift plan runs/demo. Without
    one: gapshift plan --items 600 --churn 3 --margin 2 --environments 4 --speed 500. Exit code 2 where so few items
    could not certify the margin even if no answer changed.
    """
    from gapshift.reports.renderers.power import console_plan

    result = _assumed(options) if run is None else _observed(run, options)
    say(console_plan(result["power"], result.get("false_alarms") or {}), as_json)
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    return 2 if result["power"]["refused"] else 0


def _assumed(options: dict[str, Any]) -> dict[str, Any]:
    from gapshift.reports.gate import Rule
    from gapshift.reports.power import assumed_power

    missing = [f"--{name}" for name in ("items", "churn") if options[name] is None]
    if missing:
        raise UsageError(
            f"Without the folder of a run, {' and '.join(missing)} must be given: "
            "gapshift plan --items 600 --churn 3 --margin 2 --environments 4. Or give a run: gapshift plan runs/demo."
        )
    if options["names"]:
        raise UsageError("--environment names one of a run's. Give the folder of the run, or --environments N.")
    items = dict(zip(LEVELS, options["items"], strict=True))
    churn = {level: percent / 100 for level, percent in zip(LEVELS, options["churn"], strict=True)}
    rule = Rule(margin=(options["margin"] or 2.0) / 100, alpha=0.05)
    environments = options["environments"] or 1
    return {"power": assumed_power(items, churn, rule, environments, options["target"], options["speed"])}


def _observed(run: Path, options: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import replace

    from gapshift.reports.planning import plan_json
    from gapshift.reports.reading import whole_run
    from gapshift.workspace import Workspace

    for name in ("environments", "speed"):
        if options[name] is not None:
            raise UsageError(f"The run's records say what --{name} assumes. Leave out --{name}, or the run.")
    found = whole_run(Workspace(run))
    margin = options["margin"]
    rule = found.rule if margin is None else replace(found.rule, margin=margin / 100)
    churn = options["churn"] and [percent / 100 for percent in options["churn"]]
    return plan_json(found, rule, options["names"], options["items"], options["target"], churn)
