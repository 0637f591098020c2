"""The command that asks what a deployment's own monitoring would notice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gapshift.cli.shared import MARGIN, PATH, NumberRange, json_option, say
from gapshift.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from gapshift.schema import LoggingPolicy


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--environment",
    "-e",
    "environments",
    multiple=True,
    metavar="NAME",
    help="An environment of the run (default: its named deployments, else the one with the largest drop). Repeatable.",
)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="NAME",
    help="A model of the run (default: of each task the one with the largest drop there). Repeatable.",
)
@click.option(
    "--drop",
    "drops",
    type=MARGIN,
    multiple=True,
    metavar="PP",
    help="A drop to notice, in percentage points (default: the run's margin and 5). Repeatable.",
)
@click.option(
    "--level",
    "levels",
    type=click.Choice(["all", "1", "2", "3", "4", "5"]),
    multiple=True,
    help="Where it drops (default: at all levels alike, and at each alone). Repeatable.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="What is logged: full-with-labels, top-1-with-labels, late-labels, sampled-1%, no-labels-confidence, "
    "no-labels-rounded, no-labels-top-1 (default: all of them). Repeatable.",
)
@click.option(
    "--log",
    "outputs",
    type=click.Choice(["top-1", "confidence", "rounded-confidence"]),
    help="A policy of your own: what is logged of an answer. With --labels, --label-delay, --sample-rate, --decimals.",
)
@click.option("--labels", is_flag=True, help="Your policy's requests get labels.")
@click.option(
    "--label-delay",
    type=click.IntRange(0),
    metavar="REQUESTS",
    help="They come so many requests late; implies --labels.",
)
@click.option(
    "--sample-rate",
    type=NumberRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Your policy logs this share of the requests.",
)
@click.option(
    "--decimals",
    type=click.IntRange(0, 6),
    help="Decimals of your policy's rounded confidence (default: 1); implies --log rounded-confidence.",
)
@click.option(
    "--power",
    type=NumberRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Probability of noticing.",
)
@click.option(
    "--simulate",
    "repeats",
    type=click.IntRange(0, 1_000_000),
    default=0,
    metavar="N",
    help="Confirm every number on N simulated streams with the drop and N without.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the simulation.")
@json_option
def observe(run: Path, environments: tuple[str, ...], bundles: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """How many requests until a deployment's monitoring would notice a drop? Reads records; no model runs."""
    from gapshift.reports.observability import DROP_PP, STRATA, Question, observation, select
    from gapshift.reports.reading import whole_run
    from gapshift.workspace import Workspace

    policies = _policies(options)
    found = whole_run(Workspace(run))
    cells, notes = select(found, environments, bundles)
    question = Question(
        policies=policies,
        drops_pp=tuple(dict.fromkeys(options["drops"] or (found.plan.margin_pp, DROP_PP))),
        levels=tuple(key for key in STRATA if key in (options["levels"] or STRATA)),
        alpha=found.rule.alpha,
        **{name: options[name] for name in ("power", "repeats", "seed")},
    )
    result = observation(cells, question, notes)
    say(_text(result), as_json)
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    return 0


def _policies(options: dict[str, Any]) -> tuple[LoggingPolicy, ...]:
    """The policies that were named or composed; all built-in ones where none was."""
    from gapshift.schema import LOGGING_POLICIES, LoggingPolicy

    for name in options["policies"]:
        if name not in LOGGING_POLICIES:
            raise UnknownNameError("logging policy", name, LOGGING_POLICIES, "Or compose one with --log.")
    given = _composed(options)
    own = (LoggingPolicy(name="yours", **given),) if given else ()
    named = tuple(LOGGING_POLICIES[name] for name in dict.fromkeys(options["policies"]))
    return (*own, *named) or tuple(LOGGING_POLICIES.values())


def _composed(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of the user's own policy that options give, and those that they imply."""
    names = ("outputs", "label_delay", "sample_rate", "decimals")
    given = {name: options[name] for name in names if options[name] is not None}
    if options["labels"] or "label_delay" in given:
        given["labels"] = True
    if "decimals" in given and given.setdefault("outputs", "rounded-confidence") != "rounded-confidence":
        raise UsageError(
            f"--decimals rounds a confidence, and --log {given['outputs']} logs none rounded. Leave one out."
        )
    return given


def _text(result: dict[str, Any]) -> str:
    from gapshift.reports.renderers.observability import MEANING, check_notes, console_text

    said = []
    for cell in result["cells"]:
        said.append(f"{cell['bundle']} in {cell['environment']}: {cell['problem'] or cell['headline']}")
        if cell["lines"]:
            said.append(console_text(cell, result))
        said += [f"  - {note}" for note in (*cell["notes"], *check_notes(cell["lines"], result["power"]))]
        said.append("")
    return "\n".join([*said, MEANING, *result["notes"]])
