"""The plugin's options: one table for the command line, the configuration file and the documentation.

Loaded in every pytest session, so it imports nothing but the standard library and pytest.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Literal

import pytest

Kind = Literal["text", "number", "count", "list", "levels", "flag"]


@dataclass(frozen=True)
class Option:
    """``--gapshift-FLAG`` on the command line, ``key`` in a configuration file.

    ``short`` says that ``--FLAG`` does too, where the shipped suite is what pytest was pointed at. ``path`` says
    that a relative value in a configuration file is relative to that file.
    """

    key: str
    flag: str
    help: str
    kind: Kind = "text"
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    short: bool = True
    path: bool = False

    @property
    def dest(self) -> str:
        """Its name in pytest's namespace, the same for the long and the short form."""
        return f"gapshift_{self.key}"


OPTIONS = (
    Option("model", "model", "the ONNX model to test", metavar="ONNX", path=True),
    Option("data", "data", "labelled evaluation set, as for gapshift check", metavar="DATA", path=True),
    Option("split", "split", "which of the data's splits to judge (default: test)", metavar="NAME"),
    Option("contract", "contract", "contract.toml, for a model without one inside", metavar="TOML", path=True),
    Option(
        "baseline",
        "baseline",
        "an earlier run's folder: its levels, and its drops beside today's",
        metavar="RUN",
        path=True,
    ),
    Option(
        "items", "items", "items.parquet with the levels (default: the baseline's)", metavar="PARQUET", path=True
    ),
    Option(
        "environments",
        "environment",
        "an environment that you deploy to: evaluated and gated (repeatable)",
        kind="list",
        metavar="NAME",
    ),
    Option(
        "groups",
        "group",
        "environments of a group or kind: reported, gated only where equivalent (repeatable)",
        kind="list",
        metavar="GROUP",
    ),
    Option(
        "environment_file", "environment-file", "environments of your own", metavar="TOML", path=True
    ),
    Option("levels", "level", "show the tests of this level alone (repeatable); all are judged", "levels", "1-5"),
    Option("margin_pp", "margin", "largest acceptable drop per level in pp (default: 2)", "number", "PP"),
    Option("budget", "budget", "most items that are judged; with sequential, most answers of a cell", "count", "N"),
    Option("sequential", "sequential", "read items of each level only until it is decided", "flag"),
    Option(
        "calibration_data", "calibration-data", "the static quantiser's items (never judged)", metavar="DATA", path=True
    ),
    Option("calibration_split", "calibration-split", "which of their splits (default: train)", metavar="NAME"),
    Option("report", "report", "run folder (default: runs/check-MODEL)", metavar="DIR", path=True),
    Option("strict", "strict", "skipped environments and floors decide too", "flag", short=False),
    Option(
        "allow_unlevelled", "allow-unlevelled", "accept a verdict over all items where levels are unreliable", "flag"
    ),
    Option(
        "inconclusive",
        "inconclusive",
        "what an INCONCLUSIVE test does: fail (default), warn or xfail",
        metavar="WORD",
        choices=("fail", "warn", "xfail"),
    ),
)  # fmt: skip


def add_options(parser: pytest.Parser) -> None:
    """One option group with one prefix."""
    group = parser.getgroup("gapshift", "deployment tests of an ONNX model")
    for option in OPTIONS:
        group.addoption(f"--gapshift-{option.flag}", **_attributes(option, option.help))


def add_short_forms(parser: pytest.Parser) -> None:
    """``--model`` and the like, which elsewhere may be somebody else's; what another plugin already has stays its."""
    group = parser.getgroup("gapshift")
    for option in OPTIONS:
        if option.short:
            try:
                group.addoption(f"--{option.flag}", **_attributes(option, f"short for --gapshift-{option.flag}"))
            except (
                ValueError,
                argparse.ArgumentError,
            ):  # taken: by this very suite's conftest.py, or by another plugin
                continue


def given(config: pytest.Config) -> dict[str, Any]:
    """What stands on the command line, by key."""
    values = {option.key: config.getoption(option.dest, default=None) for option in OPTIONS}
    return {key: value for key, value in values.items() if value not in (None, [])}


def _attributes(option: Option, text: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"dest": option.dest, "help": text, "default": None}
    if option.kind == "flag":
        return {**attributes, "action": "store_true"}
    types = {"number": float, "count": int, "levels": int}
    attributes |= {"metavar": option.metavar, "choices": option.choices, "type": types.get(option.kind, str)}
    return {**attributes, "action": "append"} if option.kind in ("list", "levels") else attributes
