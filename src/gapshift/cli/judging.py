"""Commands that end in a judgement: check, evaluate, report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gapshift.cli.layers import layer_options, layer_settings, show_layers
from gapshift.cli.shared import (
    BUDGET,
    MARGIN,
    MOVED_DATA,
    PATH,
    Console,
    calibration_options,
    data_root_option,
    environment_options,
    json_option,
    quantiser_source,
    self_test_option,
    show,
    source,
)
from gapshift.errors import UsageError


@click.command(options_metavar="--data DATA [OPTIONS]")
@click.argument("model", type=PATH)
@click.argument("more_environments", nargs=-1, metavar="")
@click.option(
    "--data",
    required=True,
    help="Labelled evaluation set: a folder, a table, an .npz, CIFAR files, GLUE files, SQuAD's JSON, recordings, "
    "'cartpole', 'digits' and other built-in names, or published data by name.",
)
@click.option("--split", help="Which of the data's splits to judge (default: test).")
@data_root_option
@click.option("--contract", type=PATH, help="contract.toml, for a model without one in its metadata.")
@environment_options
@click.option(
    "--margin",
    type=MARGIN,
    default=2.0,
    show_default=True,
    metavar="PP",
    help="Largest drop per level that is acceptable, in percentage points.",
)
@click.option("--items", type=PATH, help="items.parquet with the levels of this evaluation set.")
@calibration_options
@BUDGET
@click.option("--sequential", is_flag=True, help="Read each gated level item by item, and stop when it is decided.")
@click.option("--out", type=PATH, help="Run folder (default: runs/check-MODEL).")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--cross-check", is_flag=True, help="Run py-irt beside em, whatever the size.")
@click.option("--strict", is_flag=True, help="Skipped environments and floors decide too.")
@click.option("--allow-unlevelled", is_flag=True, help="Accept a verdict over all items where levels are unreliable.")
@self_test_option
@json_option
@click.pass_context
def check(context: click.Context, /, model: Path, out: Path | None, as_json: bool, **options: Any) -> int:
    """Judge any ONNX classifier on labelled data, level by level. Exit code 0 is PASS."""
    from gapshift.flows.check import CheckRequest
    from gapshift.flows.check import check as run
    from gapshift.flows.levels import CalibrationSettings
    from gapshift.flows.user_model import default_folder

    named, more = options.pop("environments"), options.pop("more_environments")
    if more and not named:
        raise UsageError(f"Unexpected argument {more[0]!r}. Name deployments with --environment NAME.")
    request = CheckRequest(
        model=model,
        environments=(*named, *more),  # `--environment A B` names two
        data=source(options.pop("data"), options.pop("split"), options.pop("data_root")),
        out=out or default_folder(model),
        margin_pp=options.pop("margin"),
        calibration_data=quantiser_source(options),
        calibration=CalibrationSettings(cross_check=options.pop("cross_check") or None),
        debug=context.obj["debug"],
        **options,
    )
    with Console() as reporter:
        summary, paths = run(request, reporter)
    return _judged(summary, paths, as_json)


def _judged(summary: Mapping[str, Any], paths: Mapping[str, Path], as_json: bool) -> int:
    from gapshift.reports.gate import exit_code

    show(summary, paths, as_json)
    return exit_code(summary["verdict"])


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="Folder of the new run (default: RUN itself; with --layers RUN/layers).")
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="NAME",
    help="Only this bundle of the run; needs --out, but with --layers. Repeatable.",
)
@MOVED_DATA
@calibration_options
@environment_options
@click.option(
    "--margin",
    type=MARGIN,
    metavar="PP",
    help="Largest acceptable drop per level (default: the run's).",
)
@self_test_option
@BUDGET
@click.option(
    "--sequential/--no-sequential",
    default=None,
    help="Read each gated level item by item, and stop when it is decided (default: as the run did). A change of "
    "budget or of reading needs --out.",
)
@layer_options
@json_option
@click.pass_context
def evaluate(
    context: click.Context, /, run: Path, out: Path | None, margin: float | None, as_json: bool, **options: Any
) -> int:
    """Evaluate a run's bundles again; cells that exist are not run twice. With --layers: where its cells break."""
    layers = layer_settings(options)
    if layers is not None:
        return show_layers(context, run, out, as_json, layers, margin=margin, **options)
    from gapshift.flows.evaluate import evaluate_run

    with Console() as reporter:
        summary, paths = evaluate_run(
            run,
            out or run,
            margin_pp=margin,
            calibration_data=quantiser_source(options),
            reporter=reporter,
            debug=context.obj["debug"],
            **options,
        )
    show(summary, paths, as_json)
    return 0


@click.command()
@click.argument("run", type=PATH)
@json_option
def report(run: Path, as_json: bool) -> int:
    """Judge a run's records again and write its reports; no model runs."""
    from gapshift.flows.judging import report_again
    from gapshift.workspace import Workspace

    workspace = Workspace(run)
    workspace.read_plan()  # before the lock, which would make the folder
    with Console() as reporter, workspace.lock():
        summary, paths = report_again(workspace, reporter)
    show(summary, paths, as_json)
    return 0
