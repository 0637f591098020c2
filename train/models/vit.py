"""A small vision transformer (Dosovitskiy et al. 2021), mean-pooled, pre-norm."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DEPTH = 4
HEAD_WIDTH = 16
MOST_TOKENS = 64


def patch_size(size: tuple[int, int]) -> int:
    """The smallest patch that divides both sides and leaves at most 64 tokens.

    >>> patch_size((32, 32)), patch_size((24, 24)), patch_size((8, 8))
    (4, 3, 1)
    """
    side = math.gcd(*size)
    fits = (p for p in range(1, side + 1) if side % p == 0 and (size[0] // p) * (size[1] // p) <= MOST_TOKENS)
    return next(fits, side)


class Attention(nn.Module):
    """Multi-head self-attention in plain matrix products, which export to plain ONNX operators."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        _, length, width = tokens.shape
        parts = self.query_key_value(tokens).view(-1, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.scale, dim=-1)
        mixed: Tensor = self.output((weights @ value).transpose(1, 2).reshape(-1, length, width))
        return mixed


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and with a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        mixed: Tensor = tokens + self.perceptron(tokens)
        return mixed


class Vit(nn.Module):
    """Patch embedding, learned positions, DEPTH blocks, mean over tokens, linear head.

    ``width`` is rounded up to a multiple of HEAD_WIDTH.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int, width: int) -> None:
        super().__init__()
        heads = max(1, math.ceil(width / HEAD_WIDTH))
        width = heads * HEAD_WIDTH
        patch = patch_size(size)
        tokens = (size[0] // patch) * (size[1] // patch)
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(DEPTH)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.blocks(tokens).mean(dim=1))
        return logits
