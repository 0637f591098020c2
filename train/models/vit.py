"""A small vision transformer (Dosovitskiy et al. 2021), mean-pooled, pre-norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gapshift.train.models.trunk import Trunk, trunk_width

MOST_TOKENS = 64
LEAST_PATCH = 4


def patch_size(size: tuple[int, int]) -> int:
    """The smallest patch that divides both sides, leaves at most 64 tokens, and is no finer than it need be:
    4 pixels, or a quarter of the side where that is less.

    >>> patch_size((64, 64)), patch_size((32, 32)), patch_size((24, 24)), patch_size((16, 16)), patch_size((8, 8))
    (8, 4, 4, 4, 2)
    """
    side = math.gcd(*size)
    least = max(1, min(LEAST_PATCH, side // 4))
    divisors = (p for p in range(least, side + 1) if side % p == 0)
    return next((p for p in divisors if (size[0] // p) * (size[1] // p) <= MOST_TOKENS), side)


class Vit(nn.Module):
    """Patch embedding, learned positions, the trunk, mean over tokens, linear head.

    ``shape`` is (channels, height, width in pixels); ``width`` is rounded as ``trunk_width`` says.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        super().__init__()
        width = trunk_width(width)
        channels, *size = shape
        patch = patch_size((size[0], size[1]))
        tokens = (size[0] // patch) * (size[1] // patch)
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.trunk = Trunk(width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.trunk(tokens).mean(dim=1))
        return logits
