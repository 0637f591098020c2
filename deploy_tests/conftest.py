"""Short forms of the options, where this suite is what pytest was pointed at."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--model`` and ``--data`` belong to this suite alone: elsewhere they may be somebody else's."""
    group = parser.getgroup("gapshift")
    group.addoption("--model", metavar="ONNX", help="short for --gapshift-model")
    group.addoption("--data", metavar="DATA", help="short for --gapshift-data")
    group.addoption("--contract", metavar="TOML", help="short for --gapshift-contract")
    group.addoption(
        "--environment", action="append", default=[], metavar="NAME", help="short for --gapshift-environment"
    )
