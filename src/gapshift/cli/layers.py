"""``--layers``: where cells of a finished run leave the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from gapshift.cli.shared import PATH, Console, quantiser_source, show_found
from gapshift.errors import EvaluationError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
_ITEMS = 500
_TAKEN = ("bundles", "environments", "environment_file", "data")
"""The options of an evaluation that choose what is looked at."""


def layer_options(command: Command) -> Command:
    """``--layers`` and what goes with it."""
    for decorate in (
        click.option(
            "--layers",
            is_flag=True,
            help="Evaluate nothing: say where the cells that drift (or those of --environment) leave the reference, "
            "layer by layer, and what made them.",
        ),
        click.option(
            "--layer-items",
            type=click.IntRange(min=0),
            metavar="N",
            help=f"With --layers: compare on N judged items, balanced over levels; 0: on all.  [default: {_ITEMS}]",
        ),
        click.option(
            "--against",
            type=PATH,
            help="With --layers: an ONNX file that takes the reference's place, or another run, whose answers to "
            "the same items are the right ones.",
        ),
    ):
        command = decorate(command)
    return command


def layer_settings(options: dict[str, Any]) -> dict[str, Any] | None:
    """Takes what ``layer_options`` gave out of a command's options; None without ``--layers``.

    Raises UsageError for what means nothing without it.
    """
    layers, items, against = (options.pop(name) for name in ("layers", "layer_items", "against"))
    if layers:
        return {"items": _ITEMS if items is None else items or None, "against": against}
    for name, value in (("--layer-items", items), ("--against", against)):
        if value is not None:
            raise UsageError(f"{name} means nothing without --layers. Add --layers, or leave it out.")
    return None


def _refuse(options: Mapping[str, Any]) -> None:
    """Every other option of an evaluation decides how cells run or are judged, and here none does."""
    for name, value in options.items():
        if name not in (*_TAKEN, "calibration_data", "calibration_split") and value not in (None, False, ()):
            flag = f"--{name.removesuffix('s') if name == 'groups' else name.replace('_', '-')}"
            raise UsageError(
                f"{flag} means nothing with --layers, which judges nothing. Name cells with --environment."
            )


def show_layers(
    context: click.Context, run: Path, out: Path | None, as_json: bool, layers: dict[str, Any], **options: Any
) -> int:
    """Examine, and print a line a cell. Raises UsageError for options of an evaluation."""
    from gapshift.flows.layers import layers_run
    from gapshift.reports.renderers.layers import console_layers

    _refuse(options)
    source = quantiser_source(options)
    kept = {name: options[name] for name in _TAKEN}
    with Console() as reporter:
        summary, paths = layers_run(
            run, out, calibration_data=source, reporter=reporter, debug=context.obj["debug"], **layers, **kept
        )
    show_found(console_layers(summary), summary, paths, as_json)
    cells = summary["cells"]
    return EvaluationError.exit_code if cells and all(each["status"] == "error" for each in cells) else 0
