"""Does the exported file answer as the network did?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gapshift.errors import EvaluationError
from gapshift.export.torch_onnx import require_symbolic
from gapshift.records import tie_gaps
from gapshift.schema import TIE_GAP, Contract, TextPreprocessing
from gapshift.train.predict import scores

BATCHES = (1, 7)
_NEXT = "Do not deploy this file; export again, or look for operations that depend on the batch or the length."


@dataclass(frozen=True)
class Parity:
    """``items`` compared, the largest absolute difference of any score, ties whose top-1 changed,
    and the lengths that were tried (empty where the model has none)."""

    items: int
    max_abs_difference: float
    tie_flips: int
    lengths: tuple[int, ...] = ()


def check_parity(
    model: nn.Module, path: Path, inputs: NDArray[Any], contract: Contract, *, length_axis: int | None = None
) -> Parity:
    """Compare ``model`` with the ONNX file on ``inputs`` (n, ...), in batches of 1 and 7.

    With a ``length_axis`` all of it is done once more with the inputs cut to two thirds of their
    length. Spans (n, 2, L) are compared by the highest start and the highest end. Raises
    EvaluationError where batch or length is no longer symbolic, a score is not finite, or a top-1
    answer outside ties differs.
    """
    if len(inputs) < max(BATCHES):
        raise EvaluationError(f"Parity needs at least {max(BATCHES)} items; got {len(inputs)}. Give more.")
    require_symbolic(path, length_axis)
    lengths = () if length_axis is None else _lengths(inputs.shape[length_axis])
    cuts = [inputs] if length_axis is None else [_cut(inputs, length_axis, size, contract) for size in lengths]
    results = [result for cut in cuts for result in _compare_batches(model, path, cut, contract, len(lengths) > 0)]
    return Parity(
        items=len(inputs),
        max_abs_difference=max(result.max_abs_difference for result in results),
        tie_flips=max(result.tie_flips for result in results),
        lengths=lengths,
    )


def _lengths(whole: int) -> tuple[int, ...]:
    """The inputs' own length and about two thirds of it. Raises EvaluationError where that is the same."""
    if whole < 2:
        raise EvaluationError(f"Parity needs inputs of length 2 or more to try a second one; got {whole}. Give longer.")
    return whole, max(1, whole * 2 // 3)


def _cut(inputs: NDArray[Any], axis: int, length: int, contract: Contract) -> NDArray[Any]:
    """The end without padding stays, so that every row keeps tokens of its text."""
    text = contract.preprocessing
    left = isinstance(text, TextPreprocessing) and text.padding_side == "left"
    start = inputs.shape[axis] - length if left else 0
    return np.ascontiguousarray(inputs[(slice(None),) * axis + (slice(start, start + length),)])


def _compare_batches(
    model: nn.Module, path: Path, inputs: NDArray[Any], contract: Contract, by_length: bool
) -> list[Parity]:
    where = f" and inputs of {inputs.shape[1:]}" if by_length else ""
    try:
        expected = scores(model, inputs)
    except RuntimeError as error:
        raise EvaluationError(
            f"The network behind {path} fails on inputs of {inputs.shape[1:]}: {error}. "
            "Parity tries two thirds of the length; give longer inputs, or export without a length axis."
        ) from error
    is_tie = ties(_without_padding(expected, inputs))
    return [
        _compare(expected, _onnx_scores(path, inputs, contract, batch), is_tie, f"{path} at batch {batch}{where}")
        for batch in BATCHES
    ]


def _without_padding(expected: NDArray[np.float32], ids: NDArray[Any]) -> NDArray[np.float32]:
    """Scores of spans (n, 2, L) whose [PAD] tokens have the lowest score of the others: a mask's
    huge negative ones would stretch the range until everything is a tie. Other scores as they are."""
    if expected.ndim < 3:
        return expected
    padding = (ids == 0)[:, None, :]
    lowest = np.where(padding, np.inf, expected).min(axis=-1, keepdims=True)
    return np.where(padding & np.isfinite(lowest), lowest, expected)


def _onnx_scores(path: Path, inputs: NDArray[Any], contract: Contract, batch: int) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    names = contract.model
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        parts = [
            session.run([names.output], {names.input: inputs[start : start + batch]})[0]
            for start in range(0, len(inputs), batch)
        ]
        answered: NDArray[np.float32] = np.concatenate(parts)
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise EvaluationError(
            f"{path} fails on a batch of {batch} inputs of {inputs.shape[1:]}: {' '.join(str(error).split())} {_NEXT}"
        ) from error
    return answered


def _compare(
    expected: NDArray[np.float32], answered: NDArray[np.float32], is_tie: NDArray[np.bool_], where: str
) -> Parity:
    if answered.shape != expected.shape or not np.isfinite(answered).all() or not np.isfinite(expected).all():
        raise EvaluationError(
            f"{where} gives {answered.shape} scores, {int((~np.isfinite(answered)).sum())} of them not "
            f"finite; the network gives {expected.shape}, {int((~np.isfinite(expected)).sum())} not finite. {_NEXT}"
        )
    changed = expected.argmax(axis=-1) != answered.argmax(axis=-1)  # (n,), or (n, 2) for start and end
    flips = np.flatnonzero((changed & ~is_tie).reshape(len(expected), -1).any(axis=1))
    difference = float(np.abs(expected - answered).max())
    if len(flips):
        raise EvaluationError(
            f"{where} answers {len(flips)} of {len(expected)} items differently from the network "
            f"(first: item {flips[0]}; largest score difference {difference:.2g}). {_NEXT}"
        )
    return Parity(len(expected), difference, int(changed.sum()))


def ties(scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Rows of logits ``scores`` (..., K) that are ties (``records.tie_gaps``).

    >>> import numpy as np
    >>> ties(np.array([[0.0, 1.0, 1.00001], [0.0, 1.0, 2.0]])).tolist()
    [True, False]
    """
    rows = np.asarray(scores, dtype=np.float64).reshape(-1, scores.shape[-1])
    is_tie: NDArray[np.bool_] = (tie_gaps(rows, probabilities=False) <= TIE_GAP).reshape(scores.shape[:-1])
    return is_tie
