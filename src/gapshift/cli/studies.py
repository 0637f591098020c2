"""Commands that make models and levels: demo, study and its single stages, calibrate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gapshift.cli.shared import PATH, Console, NumberRange, data_root_option, json_option, say, show, source
from gapshift.errors import UsageError


@click.command()
@click.option("--out", type=PATH, default=Path("runs/demo"), show_default=True, help="Run folder.")
@json_option
@click.pass_context
def demo(context: click.Context, out: Path, as_json: bool) -> int:
    """The whole way on embedded data: a study of scikit-learn's digits, with a report at the end."""
    from gapshift.flows.demo import demo_settings

    return _study(demo_settings(), out, "report", as_json, context.obj["debug"])


@click.command()
@click.argument("settings", type=PATH, required=False)
@click.option("--out", type=PATH, help="Run folder (default: runs/NAME; of a repetition: RUN-again).")
@click.option("--reproduce", type=PATH, metavar="RUN", help="Repeat this finished study and say what differs.")
@data_root_option
@json_option
@click.pass_context
def study(
    context: click.Context,
    settings: Path | None,
    out: Path | None,
    reproduce: Path | None,
    data_root: Path | None,
    as_json: bool,
) -> int:
    """Difficulty, regimes, bundles, environments, report, as a study file says."""
    if settings is not None and reproduce is None:
        return _from_file(settings, out, "report", as_json, context.obj["debug"], data_root)
    if reproduce is not None and settings is None:
        return _reproduce(reproduce, out or reproduce.with_name(f"{reproduce.name}-again"), as_json, context)
    raise UsageError("Give either a study file or --reproduce RUN.")


@click.command()
@click.argument("settings", type=PATH)
@click.option("--out", type=PATH, help="Run folder (default: runs/NAME).")
@data_root_option
@json_option
@click.pass_context
def train(context: click.Context, settings: Path, out: Path | None, data_root: Path | None, as_json: bool) -> int:
    """Rate the items of a study and train its regimes (no export, no evaluation)."""
    return _from_file(settings, out, "train", as_json, context.obj["debug"], data_root)


@click.command()
@click.argument("run", type=PATH)
@json_option
@click.pass_context
def export(context: click.Context, run: Path, as_json: bool) -> int:
    """Export a trained study's models to ONNX bundles with contracts, checked against torch."""
    from gapshift.flows.study import read_settings
    from gapshift.workspace import Workspace

    return _study(read_settings(Workspace(run)), run, "export", as_json, context.obj["debug"])


@click.command()
@click.option("--responses", type=PATH, help="A response matrix made elsewhere: CSV, Parquet, or py-irt's JSON Lines.")
@click.option(
    "--orientation",
    type=click.Choice(["responders-by-items", "items-by-responders"]),
    help="What a row is (default: detected, and said).",
)
@click.option(
    "--guessing",
    type=NumberRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Chance of a right answer by guessing (1/K), for --responses.",
)
@click.option("--data", help="A data set to rate by cross-fitted responders, instead of --responses.")
@click.option("--split", help="Which of the data's splits to rate.")
@data_root_option
@click.option("--out", type=PATH, required=True, help="Folder for items.parquet.")
@click.option(
    "--engine", type=click.Choice(["em", "py-irt", "py-irt-1pl", "py-irt-2pl"]), default="em", show_default=True
)
@click.option("--cross-check", is_flag=True, help="Run py-irt beside em, whatever the size.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def calibrate(
    out: Path,
    responses: Path | None,
    data: str | None,
    split: str | None,
    data_root: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Rate items by item response theory: items.parquet and a calibration card."""
    from gapshift.flows.calibrate import calibrate_data, calibrate_responses

    if (responses is None) == (data is None):
        raise UsageError("Give either --responses FILE or --data DIR.")
    with Console() as reporter:
        if responses is not None:
            card, path = calibrate_responses(responses, out, reporter=reporter, **options)
        else:
            for name in ("orientation", "guessing"):
                options.pop(name)
            card, path = calibrate_data(source(str(data), split, data_root), out, reporter=reporter, **options)
    say(f"{path}\n{_card_lines(card.model_dump(mode='json'))}", as_json)
    if as_json:
        click.echo(json.dumps(card.model_dump(mode="json")))
    return 0


def _reproduce(run: Path, out: Path, as_json: bool, context: click.Context) -> int:
    from gapshift.flows.lock import BOUND_PP
    from gapshift.flows.study import reproduce

    with Console() as reporter:
        summary, paths, found = reproduce(run, out, reporter, context.obj["debug"])
    if as_json:
        summary = {**summary, "repetition": asdict(found)}
    verdict = (
        "the same, bit for bit"
        if found.identical
        else f"not bit for bit the same: accuracies moved by {_up_to(found.largest_pp)}, "
        + ("within" if found.within_bounds else "BEYOND")
        + f" the stated bound of {BOUND_PP:g} pp"
    )
    line = f"{out} repeats {run}: {verdict}."
    differences = [f"  differs: {difference}" for difference in found.differences]
    say("\n".join([line, *differences, ""]), as_json)
    show(summary, paths, as_json)
    say(line, as_json)
    return 0 if found.within_bounds else 4


def _up_to(largest_pp: float | None) -> str:
    return "an unknown amount (one is no number)" if largest_pp is None else f"up to {largest_pp:.2f} pp"


def _from_file(settings: Path, out: Path | None, until: Any, as_json: bool, debug: bool, data_root: Path | None) -> int:
    from gapshift.flows.study_settings import read_study

    read = read_study(settings, data_root)
    return _study(read, out or Path("runs") / read.name, until, as_json, debug)


def _study(settings: Any, out: Path, until: Any, as_json: bool, debug: bool) -> int:
    from gapshift.flows.study import save_settings
    from gapshift.flows.study import study as run
    from gapshift.workspace import Workspace

    workspace = Workspace(out)
    save_settings(workspace, settings)
    with Console() as reporter:
        result = run(workspace, reporter, until, debug)
    if result is None:
        say(f"{until} done: {out}", as_json)
        if as_json:
            click.echo(json.dumps({"stage": until, "run": str(out)}))
        return 0
    show(*result, as_json)
    return 0


def _card_lines(card: Mapping[str, Any]) -> str:
    return "\n".join(f"  {key}: {value}" for key, value in card.items())
