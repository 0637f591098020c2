"""The exception tree, the exit codes, and the nearest names."""

from __future__ import annotations

import re

import pytest

from gapshift import errors
from gapshift.errors import GapshiftError, UnknownNameError

EXIT_CODES = {
    "GapshiftError": 4,
    "UsageError": 2,
    "SettingsError": 2,
    "UnknownNameError": 2,
    "ContractError": 2,
    "ModelFileError": 2,
    "DataError": 2,
    "UnreadableItemError": 2,
    "EvaluationError": 4,
    "NotApplicableError": 4,
    "SkippedError": 4,
    "CalibrationError": 2,
    "TrainingError": 4,
    "WorkspaceError": 4,
}


def _classes() -> dict[str, type[GapshiftError]]:
    found = vars(errors).items()
    return {name: c for name, c in found if isinstance(c, type) and issubclass(c, GapshiftError)}


def test_every_error_has_its_exit_code() -> None:
    assert {name: found.exit_code for name, found in _classes().items()} == EXIT_CODES


def _drawn() -> dict[str, tuple[str, str | None]]:
    """Name → (parent, exit code where stated) in the drawing at the top of the module."""
    tree: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^ {4}([│ ├└─]*)(\w+Error)\b(?: +exit (\d))?", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            tree[match[2]] = (path[depth - 1] if depth else "", match[3])
    return tree


def test_the_drawing_is_the_tree() -> None:
    drawn, classes = _drawn(), _classes()
    assert set(drawn) == set(classes)
    for name, (parent, code) in drawn.items():
        assert not parent or classes[name].__bases__ == (classes[parent],)
        assert code is None or int(code) == classes[name].exit_code


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("beta", "Unknown word 'beta'. Did you mean 'betta'? Valid: alpha, betta, gamma. Look again."),
        ("qqqqq", "Unknown word 'qqqqq'. Valid: alpha, betta, gamma. Look again."),
        ("", "Unknown word ''. Valid: alpha, betta, gamma. Look again."),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_all_valid_ones(name: str, text: str) -> None:
    assert str(UnknownNameError("word", name, {"gamma", "alpha", "betta"}, "Look again.")) == text


def test_at_most_three_names_are_near_and_the_best_is_first() -> None:
    text = str(UnknownNameError("word", "item1", [f"item{n}" for n in range(2, 9)] + ["item1x"]))
    hint = re.search(r"Did you mean (.*)\?", text)
    assert hint is not None
    assert hint[1].split(" or ")[0] == "'item1x'"
    assert len(hint[1].split(" or ")) == 3


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("training.stepz", "Did you mean 'training.steps'? "),
        ("training.qqqq", "'training.qqqq'. Valid"),
        ("trainin.steps", "Did you mean 'training.steps'"),
    ],
)
def test_dotted_names_are_near_by_their_last_component(name: str, hint: str) -> None:
    valid = ["training.steps", "training.threads", "training.width"]
    assert hint in str(UnknownNameError("key", name, valid))
