"""Words that the plugin says, and its own category of warnings."""

from __future__ import annotations

import re

import pytest

from gapshift.deploy_tests.options import OPTIONS


class InconclusiveWarning(pytest.PytestWarning):
    """An INCONCLUSIVE judgement that was let through (``inconclusive = "warn"``)."""


_FLAGS = "|".join(option.flag for option in sorted(OPTIONS, key=lambda option: -len(option.flag)))
_COMMAND_OPTIONS = re.compile(rf"(?P<kept>`gapshift [^`]*`)|(?<![\w-])--(?P<flag>out|{_FLAGS})\b(?!-)")


def in_pytest_words(text: str) -> str:
    """The command line's options as pytest knows them; a quoted command stays as it is typed.

    >>> in_pytest_words("Give one with `--contract FILE`, or another folder with --out.")
    'Give one with `--gapshift-contract FILE`, or another folder with --gapshift-report.'
    >>> in_pytest_words("Rate it with `gapshift calibrate --data DIR`, and name it with --items.")
    'Rate it with `gapshift calibrate --data DIR`, and name it with --gapshift-items.'
    """
    return _COMMAND_OPTIONS.sub(_in_pytest, text)


def _in_pytest(found: re.Match[str]) -> str:
    return found["kept"] or f"--gapshift-{'report' if found['flag'] == 'out' else found['flag']}"
