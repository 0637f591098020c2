"""Scores of a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gapshift.train.data import intra_op_threads


def scores(model: nn.Module, inputs: Tensor | NDArray[Any], batch: int = 512) -> NDArray[np.float32]:
    """Raw scores (n, ...) of ``inputs`` (n, ...) of whatever shape and type, in eval mode and true float32.

    Runs where the model is; its mode is put back. On the CPU one thread computes them, so
    that they do not depend on the machine's cores; on CUDA TensorFloat-32 is off, so that
    they can be compared with the exported model's.
    """
    inputs = torch.as_tensor(inputs)
    place = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), intra_op_threads(1) if place.type == "cpu" else _true_float32():
            parts = [model(part.to(place)).float().cpu().numpy() for part in torch.split(inputs, batch)]
    finally:
        model.train(was_training)
    return np.concatenate(parts)


@contextmanager
def _true_float32() -> Iterator[None]:
    """No TensorFloat-32 in cuDNN's convolutions (its default) and in matrix products; the rest as it was."""
    convolution, product = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolution.allow_tf32, product.allow_tf32
    convolution.allow_tf32 = product.allow_tf32 = False
    try:
        yield
    finally:
        convolution.allow_tf32, product.allow_tf32 = before


def probabilities(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.exp(np.asarray(scores, dtype=np.float64) - scores.max(axis=-1, keepdims=True))
    total: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return total
