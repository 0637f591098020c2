"""Does the exported file answer as the network did?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gapshift.errors import EvaluationError
from gapshift.export.model_file import describe
from gapshift.schema import TIE_GAP, Contract
from gapshift.train.predict import scores

BATCHES = (1, 7)
_NEXT = "Do not deploy this file; export again, or look for operations that depend on the batch."


@dataclass(frozen=True)
class Parity:
    """``items`` compared, the largest absolute difference of any score, and ties whose top-1 changed."""

    items: int
    max_abs_difference: float
    tie_flips: int


def check_parity(model: nn.Module, path: Path, images: NDArray[np.float32], contract: Contract) -> Parity:
    """Compare ``model`` with the ONNX file on ``images`` (n, C, H, W), in batches of 1 and 7.

    Raises EvaluationError where the batch dimension is no longer symbolic, a score is not
    finite, or a top-1 answer outside ties differs.
    """
    if len(images) < max(BATCHES):
        raise EvaluationError(f"Parity needs at least {max(BATCHES)} images; got {len(images)}. Give more.")
    _require_symbolic_batch(path)
    expected = scores(model, images)
    ours = {batch: _onnx_scores(path, images, contract, batch) for batch in BATCHES}
    results = [_compare(expected, answered, path, batch) for batch, answered in ours.items()]
    return Parity(
        items=len(images),
        max_abs_difference=max(result.max_abs_difference for result in results),
        tie_flips=max(result.tie_flips for result in results),
    )


def _require_symbolic_batch(path: Path) -> None:
    graph = describe(path)
    ports = (*graph.inputs, *graph.outputs)
    frozen = [f"{port.name} {port.shape}" for port in ports if port.shape is None or port.shape[:1] != (None,)]
    if frozen:
        raise EvaluationError(f"The export of {path} froze the batch dimension: {', '.join(frozen)}. {_NEXT}")


def _onnx_scores(path: Path, images: NDArray[np.float32], contract: Contract, batch: int) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = contract.model
    parts = [
        session.run([names.output], {names.input: images[start : start + batch]})[0]
        for start in range(0, len(images), batch)
    ]
    answered: NDArray[np.float32] = np.concatenate(parts)
    return answered


def _compare(expected: NDArray[np.float32], answered: NDArray[np.float32], path: Path, batch: int) -> Parity:
    if answered.shape != expected.shape or not np.isfinite(answered).all() or not np.isfinite(expected).all():
        raise EvaluationError(
            f"{path} at batch {batch} gives {answered.shape} scores, {int((~np.isfinite(answered)).sum())} of them not "
            f"finite; the network gives {expected.shape}, {int((~np.isfinite(expected)).sum())} not finite. {_NEXT}"
        )
    changed = expected.argmax(axis=1) != answered.argmax(axis=1)
    flips = np.flatnonzero(changed & ~ties(expected))
    difference = float(np.abs(expected - answered).max())
    if len(flips):
        raise EvaluationError(
            f"{path} at batch {batch} answers {len(flips)} of {len(expected)} images differently from the network "
            f"(first: image {flips[0]}; largest score difference {difference:.2g}). {_NEXT}"
        )
    return Parity(len(expected), difference, int(changed.sum()))


def ties(scores: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Rows of ``scores`` (n, K) whose two highest values lie within TIE_GAP of the row's range.

    >>> import numpy as np
    >>> ties(np.array([[0.0, 1.0, 1.00001], [0.0, 1.0, 2.0]])).tolist()
    [True, False]
    """
    ordered = np.sort(scores, axis=1)
    is_tie: NDArray[np.bool_] = ordered[:, -1] - ordered[:, -2] <= TIE_GAP * (ordered[:, -1] - ordered[:, 0])
    return is_tie
