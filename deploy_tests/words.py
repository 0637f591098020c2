"""Words that the plugin says, and its own category of warnings."""

from __future__ import annotations

import re

import pytest

from gapshift.deploy_tests.options import OPTIONS


class InconclusiveWarning(pytest.PytestWarning):
    """An INCONCLUSIVE judgement that was let through (``inconclusive = "warn"``)."""


_FLAGS = "|".join(option.flag for option in sorted(OPTIONS, key=lambda option: -len(option.flag)))
_COMMAND_OPTIONS = re.compile(rf"(?<![\w-])--({_FLAGS})\b(?!-)")


def in_pytest_words(text: str) -> str:
    """The command line's options as pytest knows them.

    >>> in_pytest_words("Give one with `--contract FILE`, or another folder with --out.")
    'Give one with `--gapshift-contract FILE`, or another folder with --gapshift-report.'
    """
    return _COMMAND_OPTIONS.sub(r"--gapshift-\1", text.replace("--out", "--gapshift-report"))
