"""VGG-11, 13, 16 and 19, with and without BatchNorm, for small images and in torchvision's 224-pixel form.

The small form ends in one linear layer on 512 averaged features and needs images of at least 32x32; the 224 form has
torchvision's key names, 7x7 pooling and three-layer head with dropout. ``width`` makes every convolution narrower.

Source: Simonyan & Zisserman 2015, "Very deep convolutional networks", table 1 (configurations A, B, D, E).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from paretrim.models.initialise import initialise

Depth = Literal[11, 13, 16, 19]
Head = Literal["small", "imagenet"]

CONVOLUTIONS: dict[Depth, tuple[int, int, int, int, int]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""3x3 convolutions in each of the five stages."""

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the five stages."""


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each ended by a 2x2 max-pool. [B, channels, H, W] -> logits [B, classes]."""

    def __init__(self, depth: Depth, *, batch_norm: bool, classes: int, channels: int, head: Head, width: float) -> None:
        super().__init__()
        widths = [round(width * one) for one in WIDTHS]
        self.features = _features(depth, widths, batch_norm=batch_norm, channels=channels)
        self.avgpool = nn.AdaptiveAvgPool2d(1 if head == "small" else 7)
        self.classifier = nn.Linear(widths[-1], classes) if head == "small" else _imagenet_head(widths[-1], classes)
        initialise(self, linear_std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes]."""
        logits: torch.Tensor = self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
        return logits


def _features(depth: Depth, widths: Sequence[int], *, batch_norm: bool, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = channels
    for width, count in zip(widths, CONVOLUTIONS[depth], strict=True):
        for _ in range(count):
            layers.append(nn.Conv2d(inputs, width, kernel_size=3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            inputs = width
        layers.append(nn.MaxPool2d(kernel_size=2))
    return nn.Sequential(*layers)


def _imagenet_head(features: int, classes: int) -> nn.Sequential:
    hidden = 4096
    return nn.Sequential(
        nn.Linear(features * 7 * 7, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, classes),
    )


def vgg(depth: Depth, *, batch_norm: bool, head: Head, classes: int, channels: int = 3, width: float = 1.0) -> VGG:
    """Any member of the family; VGG-16 with BatchNorm and the small head has 14,728,266 parameters with 10 classes."""
    return VGG(depth, batch_norm=batch_norm, classes=classes, channels=channels, head=head, width=width)
