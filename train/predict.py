"""Scores of a trained network."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def scores(model: nn.Module, images: Tensor | NDArray[np.float32], batch: int = 512) -> NDArray[np.float32]:
    """Raw scores (n, K) of ``images`` (n, C, H, W), in eval mode and true float32.

    Runs where the model is; its mode is put back. TensorFloat-32 convolutions, cuDNN's
    default, are off, so that these answers can be compared with the exported model's.
    """
    images = torch.as_tensor(images)
    place = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        exact = torch.backends.cudnn.flags(allow_tf32=False) if place.type == "cuda" else contextlib.nullcontext()
        with torch.inference_mode(), exact:
            parts = [model(part.to(place)).float().cpu().numpy() for part in torch.split(images, batch)]
    finally:
        model.train(was_training)
    return np.concatenate(parts)


def probabilities(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.exp(np.asarray(scores, dtype=np.float64) - scores.max(axis=-1, keepdims=True))
    total: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return total
