"""What every calibration engine takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapshift.errors import CalibrationError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ItemParameters:
    """A fitted model: P(right) = c + (1 - c) / (1 + exp(-a (theta - b))).

    ``b`` (difficulty), ``a`` (discrimination), ``c`` (guessing) and ``se_b`` (standard
    error of b) have shape (items,); ``theta`` (ability) has shape (responders,).
    ``converged`` is False where an iterative engine stopped at its limit of rounds.
    """

    b: Floats
    a: Floats
    c: Floats
    se_b: Floats
    theta: Floats
    converged: bool = True


class Engine(ABC):
    """Fits item parameters to a response matrix. Members implement ``_fit``."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The engine's name on the command line and in calibration cards."""

    @final
    def fit(self, responses: ArrayLike, guessing: ArrayLike = 0.0, seed: int = 0) -> ItemParameters:
        """Item parameters of ``responses`` (responders, items).

        Responses lie in [0, 1]: right/wrong, or the probability of the true class
        (soft); NaN is missing. ``guessing`` is fixed: one value or one per item, in
        [0, 1). Raises CalibrationError where the matrix cannot rate items.
        """
        matrix = np.asarray(responses, dtype=np.float64)
        validate(matrix)
        return self._fit(matrix, fixed_guessing(guessing, matrix.shape[1]), seed)

    @abstractmethod
    def _fit(self, responses: Floats, guessing: Floats, seed: int) -> ItemParameters:
        """Fit validated responses (responders, items) with guessing (items,)."""


def validate(responses: Floats) -> None:
    """Raise CalibrationError unless the matrix can rate items: the first reason found."""
    if responses.ndim != 2:
        raise CalibrationError(
            f"Responses have {responses.ndim} dimension(s); give a matrix of shape (responders, items)."
        )
    responders, items = responses.shape
    if responders < 2 or items < 2:
        raise CalibrationError(
            "A calibration needs at least 2 responders and 2 items; "
            f"got {responders} responder(s) and {items} item(s). "
            "Add responders, or check the matrix's orientation (rows are responders, columns are items)."
        )
    _validate_values(responses)


def _validate_values(responses: Floats) -> None:
    answered = ~np.isnan(responses)
    outside = answered & ~((responses >= 0) & (responses <= 1))
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise CalibrationError(
            f"Response {responses[row, column]:g} of responder {row} to item {column} lies outside [0, 1] "
            f"({int(outside.sum())} such). Valid: 0 (wrong) to 1 (right), NaN where missing."
        )
    for axis, what in ((0, "item"), (1, "responder")):
        silent = np.flatnonzero(~answered.any(axis=axis))
        if len(silent):
            raise CalibrationError(
                f"{len(silent)} {what}(s) have no response at all: {first_few(silent.tolist())} (counted from 0). "
                f"Leave them out, or collect responses for them."
            )
    known = responses[answered]
    if known.min() == known.max():
        raise CalibrationError(
            f"Every response is {known[0]:g}: without right and wrong answers no item can be called "
            "harder than another. Add weaker or stronger responders."
        )


def right_or_wrong(responses: Floats) -> Floats:
    """Soft responses as answers: right (1) from 0.5 on, else wrong (0); NaN stays.

    >>> right_or_wrong(np.array([0.5, 0.49, np.nan])).tolist()
    [1.0, 0.0, nan]
    """
    return np.where(np.isnan(responses), np.nan, (responses >= 0.5).astype(np.float64))


def first_few(values: Sequence[object], limit: int = 5) -> str:
    """The first values, comma-separated, and whether there are more."""
    return ", ".join(str(value) for value in values[:limit]) + (", …" if len(values) > limit else "")


def fixed_guessing(guessing: ArrayLike, items: int) -> Floats:
    """Guessing per item, shape (items,). Raises CalibrationError outside [0, 1) or of another shape."""
    value = np.asarray(guessing, dtype=np.float64)
    if value.shape not in ((), (items,)):
        raise CalibrationError(f"Guessing has shape {value.shape}; give one number or one per item: ({items},).")
    if not ((value >= 0) & (value < 1)).all():
        raise CalibrationError(
            "Guessing lies outside [0, 1). Valid: 1/K for classification into K classes, "
            "0 where nothing can be guessed."
        )
    return np.array(np.broadcast_to(value, (items,)))
