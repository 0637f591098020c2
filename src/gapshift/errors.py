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
from collections.abc import Iterable


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
        known = sorted(valid)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        step = f" {next_step}" if next_step else ""
        super().__init__(f"Unknown {what} {name!r}.{hint} Valid: {', '.join(known)}.{step}")


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
