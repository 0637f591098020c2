"""Networks over log-mel features (N, mels, frames); the number of frames may differ when they are asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gapshift.train.models.trunk import Trunk, sinusoids, trunk_width

FRAMES_PER_TOKEN = 4


class AudioCnn(nn.Module):
    """Temporal convolutions with the mel bands as channels (Choi et al. 2019), averaged over time.

    Four layers of convolution, batch norm and ReLU, widths ``width``, 2x, 2x and 4x; each but
    the third halves the frames.
    """

    def __init__(self, mels: int, classes: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(mels, width, kernel=5, stride=2),
            block(width, 2 * width, stride=2),
            block(2 * width, 2 * width),
            block(2 * width, 4 * width, stride=2),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(features).mean(dim=2))
        return logits


class AudioTransformer(nn.Module):
    """Four frames a token, sinusoidal positions, the trunk, mean over tokens, linear head."""

    def __init__(self, mels: int, classes: int, width: int) -> None:
        super().__init__()
        width = trunk_width(width)
        self.embed = nn.Conv1d(mels, width, FRAMES_PER_TOKEN, stride=FRAMES_PER_TOKEN, padding=FRAMES_PER_TOKEN // 2)
        self.trunk = Trunk(width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.embed(features).transpose(1, 2)
        positions = sinusoids(torch.arange(tokens.shape[1], device=tokens.device), tokens.shape[2])
        logits: Tensor = self.head(self.trunk(tokens + positions).mean(dim=1))
        return logits


def block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution over time with "same" padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
    )
