"""Every example in the statistics' docstrings is run."""

import doctest
import importlib
import pkgutil

import pytest

from gapshift.reports import statistics

MODULES = sorted(module.name for module in pkgutil.iter_modules(statistics.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"{statistics.__name__}.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
