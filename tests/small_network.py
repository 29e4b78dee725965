"""Networks that are captured, trained and written in a moment, for recipes whose network does not matter."""

from torch import nn

from paretrim.models.resnet_cifar import CifarResNet


def make(classes, channels):
    """Three convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def resnet8(classes, channels):
    """ResNet-20 with one block a stage, not three."""
    return CifarResNet(1, classes=classes, channels=channels)
