"""The thin ResNets of depth 6n+2 for CIFAR, with shortcuts that have no weights ("option A").

Key names are those of github.com/akamaster/pytorch_resnet_cifar10, so its weights load.

Source: He et al. 2016, "Deep residual learning for image recognition", section 4.2.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from paretrim.models.initialise import initialise


class PlainShortcutBlock(nn.Module):
    """Two 3x3 convolutions; [B, inputs, H, W] -> [B, width, H/stride, W/stride].

    Where the shape changes, the shortcut keeps every second pixel and pads half of the new channels with zeros on each side.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.padding = (width - inputs) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's activations."""
        shortcut = x
        if self.stride != 1:
            shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        activations: torch.Tensor = self.relu(x + shortcut)
        return activations


class CifarResNet(nn.Module):
    """Three stages of ``n`` blocks with widths 16, 32, 64. [B, channels, H, W] -> logits [B, classes]."""

    def __init__(self, n: int, *, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, n, stride=1)
        self.layer2 = _stage(16, 32, n, stride=2)
        self.layer3 = _stage(32, 64, n, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(torch.flatten(self.avgpool(x), 1))
        return logits


def _stage(inputs: int, width: int, n: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(PlainShortcutBlock(inputs, width, stride), *(PlainShortcutBlock(width, width, 1) for _ in range(n - 1)))


def resnet20(*, classes: int, channels: int = 3) -> CifarResNet:
    """ResNet-20 (n = 3): 269,722 parameters with 10 classes."""
    return CifarResNet(3, classes=classes, channels=channels)


def resnet32(*, classes: int, channels: int = 3) -> CifarResNet:
    """ResNet-32 (n = 5): 464,154 parameters with 10 classes."""
    return CifarResNet(5, classes=classes, channels=channels)


def resnet56(*, classes: int, channels: int = 3) -> CifarResNet:
    """ResNet-56 (n = 9): 853,018 parameters with 10 classes."""
    return CifarResNet(9, classes=classes, channels=channels)
