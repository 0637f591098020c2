"""Every example in a docstring says what really comes out."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import gapshift


def _has_examples(name: str) -> bool:
    found = importlib.util.find_spec(name)
    return bool(found and found.origin and ">>>" in Path(found.origin).read_text(encoding="utf-8"))


MODULES = [
    module.name for module in pkgutil.walk_packages(gapshift.__path__, "gapshift.") if _has_examples(module.name)
]


def test_every_statistic_has_an_example() -> None:
    folder = "gapshift.reports.statistics."
    statistics = {
        folder + module.name for module in pkgutil.iter_modules(importlib.import_module(folder[:-1]).__path__)
    }
    assert statistics <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
