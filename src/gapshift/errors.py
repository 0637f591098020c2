"""Every error that gapshift raises on purpose.

    GapshiftError
    ├── UsageError              exit 2: the request cannot be understood
    │   ├── SettingsError       a configuration file or option has a bad key or value
    │   ├── UnknownNameError    a name that exists nowhere (with the nearest ones)
    │   ├── ContractError       a model without a usable contract
    │   ├── ModelFileError      a file that is not a loadable ONNX model
    │   ├── CalibrationError    responses that cannot rate items
    │   └── DataError           a data set that cannot be read as one
    │       └── UnreadableItemError   one item that cannot be decoded (recorded, never dropped)
    ├── EvaluationError         exit 4: a model or a runtime failed while it ran
    │   ├── NotApplicableError  an environment that cannot apply to a model or its items
    │   └── SkippedError        an environment that this machine cannot provide
    ├── TrainingError           exit 4: training stopped (a NaN loss names its step)
    └── WorkspaceError          exit 4: a run folder that cannot be read or written

An error's text says what, where, the valid values and the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_CUTOFF = 0.5
"""Least similarity (difflib's ratio, 0 to 1) of a name that is offered for a mistyped one."""
_MARGIN = 0.15
"""How much less similar than the best another offered name may be."""
_MOST_LISTED, _LISTED_OF_MANY = 90, 12
"""So many valid names are all listed; of more, so many."""


class GapshiftError(Exception):
    """Base of all errors; ``exit_code`` is what the command line returns for it."""

    exit_code = 4


class UsageError(GapshiftError):
    """The request cannot be understood."""

    exit_code = 2


class SettingsError(UsageError):
    """A configuration file or option has a bad key or value."""


class UnknownNameError(UsageError):
    """A name that exists nowhere; the text holds the nearest valid ones."""

    def __init__(self, what: str, name: str, valid: Iterable[str], next_step: str = "") -> None:
        known = sorted(set(valid))
        near = _nearest(name, known)
        hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        step = f" {next_step}" if next_step else ""
        super().__init__(f"Unknown {what} {name!r}.{hint} Valid: {_listed(name, known)}.{step}")


def _listed(name: str, known: Sequence[str]) -> str:
    """All valid names, or where they fill a screen those most like the wrong one."""
    if len(known) <= _MOST_LISTED:
        return ", ".join(known)
    ratios = _likeness(name, known)
    near = sorted(known, key=lambda each: -ratios[each])[:_LISTED_OF_MANY]
    return f"{', '.join(near)} and {len(known) - len(near)} more"


def _nearest(name: str, known: Sequence[str]) -> list[str]:
    """At most three names near ``name`` and nearly as near as the best, which comes first.

    Dotted names are compared by their last component where the tables before it are the same: what
    two keys share in front makes no typo. A table's own name means the keys that it holds.
    """
    inside = [each for each in known if each.startswith(f"{name}.")]
    if inside:
        return inside[:3]
    parent, _, last = name.rpartition(".")
    sharing = {each.rpartition(".")[2]: each for each in known if parent and each.rpartition(".")[0] == parent}
    if sharing:
        return [sharing[each] for each in _close(last, sharing)]
    return _close(name, known)


def _close(name: str, known: Iterable[str]) -> list[str]:
    """At most three names as difflib finds them, without those that are further off than the best by _MARGIN."""
    ratios = _likeness(name, known)
    near = [each for each in sorted(ratios, key=lambda each: -ratios[each]) if ratios[each] >= _CUTOFF][:3]
    return [each for each in near if ratios[each] >= ratios[near[0]] - _MARGIN]


def _likeness(name: str, known: Iterable[str]) -> dict[str, float]:
    """difflib's ratio of each known name to ``name``; small and capital letters are alike."""
    return {each: difflib.SequenceMatcher(None, each.lower(), name.lower()).ratio() for each in known}


class ContractError(UsageError):
    """A model without a usable contract."""


class ModelFileError(UsageError):
    """A file that is not a loadable ONNX model."""


class DataError(UsageError):
    """A data set that cannot be read as one."""


class UnreadableItemError(DataError):
    """One item that cannot be decoded; the runner records it and goes on."""


class CalibrationError(UsageError):
    """Responses that cannot rate items."""


class EvaluationError(GapshiftError):
    """A model or a runtime failed while it ran."""


class NotApplicableError(EvaluationError):
    """An environment that cannot apply to a model or its items."""


class SkippedError(EvaluationError):
    """An environment that this machine cannot provide."""


class TrainingError(GapshiftError):
    """Training stopped; the text names the step."""


class WorkspaceError(GapshiftError):
    """A run folder that cannot be read or written."""
