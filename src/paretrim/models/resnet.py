"""ResNet-18 and ResNet-50 with torchvision's key names, in a stem for small images and in the ImageNet stem.

Source: He et al. 2016, "Deep residual learning for image recognition", table 1; the stride of a bottleneck sits on its 3x3
convolution, as in torchvision. The small stem is a 3x3 convolution of stride 1 without max-pool (the common CIFAR form).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from paretrim.models.initialise import initialise

Stem = Literal["small", "imagenet"]


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The 1x1 shortcut of a block that changes shape; none if the identity fits."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. [B, inputs, H, W] -> [B, width, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = _conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's activations."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        activations: torch.Tensor = self.relu(x + shortcut)
        return activations


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut. [B, inputs, H, W] -> [B, 4*width, H/stride, W/stride]."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's activations."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        activations: torch.Tensor = self.relu(x + shortcut)
        return activations


class ResNet(nn.Module):
    """Four stages of blocks between a stem and one linear layer. [B, channels, H, W] -> logits [B, classes]."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        classes: int,
        channels: int,
        stem: Stem,
    ) -> None:
        super().__init__()
        if stem == "small":
            self.conv1 = _conv3x3(channels, 64)
        else:
            self.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if stem == "small" else nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, depths[1], stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, depths[2], stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, classes)
        initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [B, classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return logits


def _stage(block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, *, stride: int) -> nn.Sequential:
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(depth - 1)))


def resnet18(*, classes: int, channels: int = 3) -> ResNet:
    """ResNet-18 for small images: 11,173,962 parameters with 10 classes."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes=classes, channels=channels, stem="small")


def resnet18_imagenet(*, classes: int, channels: int = 3) -> ResNet:
    """ResNet-18 as in torchvision: 11,689,512 parameters with 1000 classes."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes=classes, channels=channels, stem="imagenet")


def resnet50(*, classes: int, channels: int = 3) -> ResNet:
    """ResNet-50 for small images: 23,520,842 parameters with 10 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes, channels=channels, stem="small")


def resnet50_imagenet(*, classes: int, channels: int = 3) -> ResNet:
    """ResNet-50 as in torchvision: 25,557,032 parameters with 1000 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes, channels=channels, stem="imagenet")
