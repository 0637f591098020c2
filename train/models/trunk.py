"""The trunk that all transformers share, so that one of them can lend it to another."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DEPTH = 2
HEAD_WIDTH = 16
MASKED = -1e4
"""Stands for minus infinity in masks: finite, and within float16's range."""


def trunk_width(width: int) -> int:
    """The width that a trunk really has: 8, or the next multiple of HEAD_WIDTH.

    >>> [trunk_width(width) for width in (4, 8, 9, 16, 40)]
    [8, 8, 16, 16, 48]
    """
    return 8 if width <= 8 else HEAD_WIDTH * math.ceil(width / HEAD_WIDTH)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of ``positions`` (L,), shape (L, width), in [-1, 1] (Vaswani et al. 2017).

    Computed, not looked up: any length works, also one that training never saw.
    """
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device) * (-math.log(10000.0) / width))
    angles = positions.to(torch.float32)[:, None] * rates
    return torch.cat((torch.sin(angles), torch.cos(angles)), dim=1)


class Attention(nn.Module):
    """Multi-head self-attention in plain matrix products, which export to plain ONNX operators."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH)
        self.scale = (width // self.heads) ** -0.5
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        _, length, width = tokens.shape
        parts = self.query_key_value(tokens).view(-1, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        agreement = (query * self.scale) @ key.transpose(-2, -1)
        weights = torch.softmax(agreement if bias is None else agreement + bias, dim=-1)
        mixed: Tensor = self.output((weights @ value).transpose(1, 2).reshape(-1, length, width))
        return mixed


class Block(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, bias: Tensor | None) -> Tensor:
        tokens = tokens + self.attention(self.norm(tokens), bias)
        mixed: Tensor = tokens + self.perceptron(tokens)
        return mixed


class Trunk(nn.Module):
    """DEPTH pre-norm blocks from tokens (N, L, width) to tokens of the same shape.

    ``valid`` (N, L), where given, is False at padding, to which nothing attends; where all is
    padding, everything is attended to alike, and the outputs stay finite.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.blocks = nn.ModuleList(Block(width) for _ in range(DEPTH))

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        bias = None if valid is None else (~valid).to(tokens.dtype)[:, None, None, :] * MASKED
        for block in self.blocks:
            tokens = block(tokens, bias)
        return tokens
