"""Short forms of the options, where this suite is what pytest was pointed at."""

from __future__ import annotations

import pytest

from gapshift.deploy_tests.options import add_short_forms


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--model`` and ``--data`` belong to this suite alone: elsewhere they may be somebody else's."""
    add_short_forms(parser)
