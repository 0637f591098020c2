"""A transformer that sees a window of observations (N, window, observation) and scores actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gapshift.train.models.trunk import Trunk, sinusoids, trunk_width


class Controller(nn.Module):
    """Linear embedding, sinusoidal positions, the trunk; the newest observation's token decides.

    Positions count back from the newest observation, which is the last, so that a window of
    another length keeps its meaning.
    """

    def __init__(self, observation: int, actions: int, width: int) -> None:
        super().__init__()
        width = trunk_width(width)
        self.embed = nn.Linear(observation, width)
        self.trunk = Trunk(width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, actions))

    def forward(self, observations: Tensor) -> Tensor:
        tokens = self.embed(observations)
        length = tokens.shape[1]
        age = length - 1 - torch.arange(length, device=tokens.device)
        logits: Tensor = self.head(self.trunk(tokens + sinusoids(age, tokens.shape[2]))[:, -1])
        return logits
