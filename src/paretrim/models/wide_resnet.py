"""Wide residual networks: pre-activation blocks, three stages, any depth 6n+4 and any width.

Source: Zagoruyko & Komodakis 2016, "Wide residual networks", arXiv 1605.07146, table 1 (without dropout).
"""

from __future__ import annotations

import torch
from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.models.initialise import initialise


class PreActivationBlock(nn.Module):
    """BatchNorm and ReLU before each 3x3 convolution. [B, inputs, H, W] -> [B, outputs, H/stride, W/stride].

    Where the number of channels changes, a 1x1 shortcut starts from the activated input, as in the authors' code.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's sum, not yet activated."""
        active = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        total: torch.Tensor = self.conv2(self.relu(self.bn2(self.conv1(active)))) + shortcut
        return total


class WideResNet(nn.Module):
    """Stages of widths 16k, 32k, 64k. [B, channels, H, W] -> logits [B, classes]."""

    def __init__(self, depth: int, width: int, *, classes: int, channels: int) -> None:
        super().__init__()
        n = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, kernel_size=3, padding=1, bias=False)
        self.layer1 = _stage(16, 16 * width, n, stride=1)
        self.layer2 = _stage(16 * width, 32 * width, n, stride=2)
        self.layer3 = _stage(32 * width, 64 * width, n, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = self.relu(self.bn1(x))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _stage(inputs: int, outputs: int, n: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        PreActivationBlock(inputs, outputs, stride), *(PreActivationBlock(outputs, outputs, 1) for _ in range(n - 1))
    )


def wide_resnet(depth: int, width: int, *, classes: int, channels: int = 3) -> WideResNet:
    """Wide ResNet of any depth 6n+4 and width (the paper's k).

    Raises:
        InvalidRecipe: the depth is not 6n+4 with n >= 1, or the width is below 1.
    """
    if depth < 10 or (depth - 4) % 6:
        raise InvalidRecipe(f"a wide ResNet cannot have depth {depth}: allowed are 10, 16, 22, 28, ... (6n+4)")
    if width < 1:
        raise InvalidRecipe(f"a wide ResNet cannot have width {width}: it multiplies 16 channels and must be 1 or more")
    return WideResNet(depth, width, classes=classes, channels=channels)


def wide_resnet_16_2(*, classes: int, channels: int = 3) -> WideResNet:
    """WRN-16-2: 691,674 parameters with 10 classes."""
    return wide_resnet(16, 2, classes=classes, channels=channels)


def wide_resnet_22_2(*, classes: int, channels: int = 3) -> WideResNet:
    """WRN-22-2: 1,079,642 parameters with 10 classes."""
    return wide_resnet(22, 2, classes=classes, channels=channels)


def wide_resnet_28_10(*, classes: int, channels: int = 3) -> WideResNet:
    """WRN-28-10: 36,479,194 parameters with 10 classes."""
    return wide_resnet(28, 10, classes=classes, channels=channels)


def wide_resnet_40_2(*, classes: int, channels: int = 3) -> WideResNet:
    """WRN-40-2: 2,243,546 parameters with 10 classes."""
    return wide_resnet(40, 2, classes=classes, channels=channels)
