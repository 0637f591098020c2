"""Tasks whose items are tensors: classes of images, texts and sounds, and spans of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gapshift.domains.base import Text
from gapshift.domains.spans import span_probability, span_records
from gapshift.errors import TrainingError
from gapshift.records import Records, records_from_scores
from gapshift.schema import Domain, Item, TextPreprocessing
from gapshift.train.loop import Fit, fit
from gapshift.train.predict import probabilities, scores
from gapshift.train.settings import TrainingSettings
from gapshift.train.sources import Tensors
from gapshift.train.tasks.base import Rows, Task

_ASKED_AT_ONCE = 512
"""A few at a time, from one array for all networks: many of them are asked at once."""


@final
class ClassTask(Task):
    """Items that are one of ``classes``; ``inputs`` (N, *shape) as the networks see them.

    ``augment`` (images only) None: as the training settings say. Chance is 1 / classes.
    Raises TrainingError where inputs, items and labels do not fit.
    """

    def __init__(
        self,
        items: Sequence[Item],
        inputs: NDArray[Any],
        domain: Domain,
        classes: int,
        *,
        content: str,
        augment: Literal["none", "shift", "shift-flip"] | None = None,
        vocabulary: int = 0,
    ) -> None:
        _validate(items, inputs)
        if items and not all(0 <= item.label < classes for item in items):
            low, high = min(item.label for item in items), max(item.label for item in items)
            raise TrainingError(f"Labels reach from {low} to {high}; with {classes} classes they are 0-{classes - 1}.")
        super().__init__(
            items,
            domain=domain,
            kind="classes",
            shape=inputs.shape[1:],
            outputs=classes,
            guessing=1 / classes,
            content=content,
            vocabulary=vocabulary,
        )
        self._inputs = inputs
        self._augment = augment

    def fit(
        self,
        model: nn.Module,
        draws: NDArray[np.int64],
        config: TrainingSettings,
        device: str = "auto",
        *,
        seed: int = 0,
        checkpoints: Sequence[float] = (),
        at_checkpoint: Callable[[float], None] | None = None,
        keep: Path | None = None,
    ) -> Fit:
        inputs, labels = torch.from_numpy(self._inputs), torch.from_numpy(self.labels)
        source = Tensors(inputs, labels, self._augment or config.augment)
        return fit(
            model,
            source,
            draws,
            config,
            device,
            seed=seed,
            checkpoints=checkpoints,
            at_checkpoint=at_checkpoint,
            keep=keep,
        )

    def truth(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        given = probabilities(self._scores(model, rows))
        return given[np.arange(len(rows)), self.labels[rows]].astype(np.float32)

    def error_norm(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        """EL2N (Paul et al. 2021): ``norm(p - onehot(label))``, in [0, sqrt(2)]."""
        error = probabilities(self._scores(model, rows))
        error[np.arange(len(rows)), self.labels[rows]] -= 1
        norms: NDArray[np.float32] = np.linalg.norm(error, axis=1).astype(np.float32)
        return norms

    def records(self, model: nn.Module, rows: Rows) -> Records:
        return records_from_scores([self.items[row] for row in rows], self._scores(model, rows), probabilities=False)

    def examples(self, model: nn.Module, count: int) -> NDArray[Any]:  # noqa: ARG002  # all networks meet the same
        return self._inputs[:count]

    def _scores(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        return _scores(model, self._inputs, rows, (self.outputs,))


@final
class SpanTask(Task):
    """Texts answered by a span; ``inputs`` (N, L) token ids, ``targets`` (N, 2) the answers' first and last token.

    Negative targets: truncation cut the answer away. Such a row adds nothing to the loss; the
    probability of its truth is 0. Chance is 0. Raises TrainingError where these do not fit.
    """

    def __init__(
        self,
        items: Sequence[Item],
        texts: Sequence[Text],
        inputs: NDArray[np.int64],
        targets: NDArray[np.int64],
        preprocessing: TextPreprocessing,
        *,
        content: str,
        vocabulary: int,
    ) -> None:
        _validate(items, inputs)
        if len(texts) != len(items) or targets.shape != (len(items), 2) or targets.max(initial=-1) >= inputs.shape[1]:
            raise TrainingError(
                f"{len(items)} items, {len(texts)} texts and targets of shape {targets.shape} up to "
                f"{targets.max(initial=-1)}; spans take one text each and ({len(items)}, 2) below {inputs.shape[1]}."
            )
        super().__init__(
            items,
            domain="text",
            kind="spans",
            shape=inputs.shape[1:],
            outputs=2,
            guessing=0.0,
            content=content,
            vocabulary=vocabulary,
        )
        self._texts = tuple(texts)
        self._inputs = inputs
        self._targets = targets
        self._preprocessing = preprocessing

    def fit(
        self,
        model: nn.Module,
        draws: NDArray[np.int64],
        config: TrainingSettings,
        device: str = "auto",
        *,
        seed: int = 0,
        checkpoints: Sequence[float] = (),
        at_checkpoint: Callable[[float], None] | None = None,
        keep: Path | None = None,
    ) -> Fit:
        source = Tensors(torch.from_numpy(self._inputs), torch.from_numpy(self._targets))
        return fit(
            model,
            source,
            draws,
            config,
            device,
            seed=seed,
            checkpoints=checkpoints,
            at_checkpoint=at_checkpoint,
            keep=keep,
        )

    def truth(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        return span_probability(self._scores(model, rows), self._targets[rows]).astype(np.float32)

    def error_norm(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        """EL2N over starts and ends together, in [0, 2]; the truth of a span that was cut away lies
        at a token that has no probability."""
        given, targets = probabilities(self._scores(model, rows)), self._targets[rows]
        right = np.take_along_axis(given, np.maximum(targets, 0)[:, :, None], axis=2)[:, :, 0]
        right = np.where((targets < 0).any(axis=1, keepdims=True), 0.0, right)
        # |p - e|^2 = |p|^2 - 2 p[truth] + 1 at each end
        squares = (given**2).sum(axis=2) - 2 * right + 1
        norms: NDArray[np.float32] = np.sqrt(np.maximum(squares, 0).sum(axis=1)).astype(np.float32)
        return norms

    def records(self, model: nn.Module, rows: Rows) -> Records:
        items, texts = [self.items[row] for row in rows], [self._texts[row] for row in rows]
        return span_records(items, texts, self._scores(model, rows), self._preprocessing)

    def examples(self, model: nn.Module, count: int) -> NDArray[Any]:  # noqa: ARG002  # all networks meet the same
        return self._inputs[:count]

    def _scores(self, model: nn.Module, rows: Rows) -> NDArray[np.float32]:
        return _scores(model, self._inputs, rows, (2, self._inputs.shape[1]))


def _scores(model: nn.Module, inputs: NDArray[Any], rows: Rows, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Scores of these rows, (len(rows), *shape)."""
    parts = [rows[at : at + _ASKED_AT_ONCE] for at in range(0, len(rows), _ASKED_AT_ONCE)]
    return np.concatenate([np.empty((0, *shape), np.float32), *(scores(model, inputs[part]) for part in parts)])


def _validate(items: Sequence[Item], inputs: NDArray[Any]) -> None:
    if len(items) != len(inputs) or inputs.ndim < 2:
        raise TrainingError(f"{len(items)} items and inputs of shape {inputs.shape}; a task takes one input per item.")
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        raise TrainingError("Inputs hold non-finite values. Leave out unreadable items, or look at mean and std.")
