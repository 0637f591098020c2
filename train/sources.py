"""Where a training gets its batches from, and what it minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from gapshift.errors import TrainingError
from gapshift.train.data import augment as augmented

IGNORED = -100
"""Stands for the target of a span that the input does not hold: it adds nothing to the loss."""


class Source(ABC):
    """Items to train on, and the loss over them.

    A source that changes while it trains gives what changed as ``state`` and takes it back in
    ``restore``, so that an interrupted training can go on.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of items that draws may index."""

    @abstractmethod
    def on(self, device: torch.device) -> Source:
        """The same with its tensors on ``device``."""

    @abstractmethod
    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs (n, *shape) and targets (n, ...) of ``indices`` (n,); chance comes from ``generator`` alone."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar in float32."""

    def state(self) -> dict[str, Tensor]:
        """What has changed since the start; nothing, unless a source says otherwise."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027  # most sources have nothing to restore
        """Take back what ``state`` gave."""


class Tensors(Source):
    """Inputs (N, ...) with a class each, targets (N,), or a span each, targets (N, 2): first and last token.

    The loss is the mean cross-entropy; for spans that of the starts plus that of the ends, over
    the rows whose targets are not negative (cut away): without any it is 0. ``augment`` is for
    images (N, C, H, W). Raises TrainingError where these do not fit.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, augment: str = "none") -> None:
        _validate(inputs, targets, augment)
        self._inputs = inputs
        self._targets = targets.to(torch.int64)
        if targets.ndim == 2:
            self._targets = torch.where((self._targets < 0).any(dim=1, keepdim=True), IGNORED, self._targets)
        self._augment = augment

    def __len__(self) -> int:
        return len(self._inputs)

    def on(self, device: torch.device) -> Tensors:
        return Tensors(self._inputs.to(device), self._targets.to(device), self._augment)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        # index_select copies rows whole: four times faster than inputs[indices].
        inputs, targets = self._inputs.index_select(0, indices), self._targets.index_select(0, indices)
        return augmented(inputs, self._augment, generator), targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim == 1:
            return F.cross_entropy(outputs.float(), targets)
        summed = F.cross_entropy(
            outputs.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return summed / (targets[:, 0] != IGNORED).sum().clamp(min=1)


def _validate(inputs: Tensor, targets: Tensor, augment: str) -> None:
    if inputs.ndim < 2 or targets.shape not in ((len(inputs),), (len(inputs), 2)):
        raise TrainingError(
            f"inputs have shape {tuple(inputs.shape)} and targets {tuple(targets.shape)}; "
            "training takes (N, ...) with targets (N,), a class each, or (N, 2), a span each."
        )
    if augment != "none" and inputs.ndim != 4:
        raise TrainingError(
            f"augment {augment!r} shifts images (N, C, H, W), and the inputs have shape {tuple(inputs.shape)}. "
            "Set `augment` = 'none'."
        )
