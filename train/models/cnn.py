"""A small convolutional network for images from 8x8 to 64x64 pixels."""

from __future__ import annotations

from torch import Tensor, nn


class Cnn(nn.Module):
    """Three stages of two convolutions (conv, batch norm, ReLU), halving between stages.

    Widths are ``width``, 2x and 4x; a global average pool makes the head independent of
    the image size. The stem halves images of 24 pixels and more: full resolution
    quadruples the cost and adds little at these widths. ``shape`` is (channels, height,
    width in pixels).
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int) -> None:
        super().__init__()
        channels, *size = shape
        stride = 2 if min(size) >= 24 else 1
        self.features = nn.Sequential(
            block(channels, width, kernel=5 if stride == 2 else 3, stride=stride),
            block(width, width),
            nn.MaxPool2d(2),
            block(width, 2 * width),
            block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            block(2 * width, 4 * width),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution with "same" padding, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
