"""Short forms of the options, where this suite is what pytest was pointed at."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapshift.deploy_tests.options import add_short_forms
from gapshift.deploy_tests.state import SUITES

SUITES.add(Path(__file__).parent.resolve())


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--model`` and ``--data`` belong to this suite alone: elsewhere they may be somebody else's."""
    add_short_forms(parser)
