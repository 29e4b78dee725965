"""LeNet-300-100 and LeNet-5, on which early papers on pruning and quantization report.

Both take 28x28 pixels, as MNIST has them; images of another size are first resized to that, each pixel the average of the area it
covers. LeNet-5 is Caffe's form, with 20 and 50 channels, max-pooling and one ReLU.

Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition"; as in Han et al. 2016, arXiv 1510.00149.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from paretrim.models.initialise import initialise

SIDE = 28
"""Height and width that the networks compute on."""


def lenet_300_100(*, classes: int, channels: int = 1) -> nn.Module:
    """Two hidden linear layers of 300 and 100; 266,610 parameters with 1 channel and 10 classes."""
    layers = {
        "resize": nn.AdaptiveAvgPool2d(SIDE),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(channels * SIDE**2, 300),
        "relu1": nn.ReLU(),
        "fc2": nn.Linear(300, 100),
        "relu2": nn.ReLU(),
        "fc3": nn.Linear(100, classes),
    }
    return _initialised(layers)


def lenet_5(*, classes: int, channels: int = 1) -> nn.Module:
    """Two 5x5 convolutions and two linear layers; 431,080 parameters with 1 channel and 10 classes."""
    layers = {
        "resize": nn.AdaptiveAvgPool2d(SIDE),
        "conv1": nn.Conv2d(channels, 20, 5),
        "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(20, 50, 5),
        "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(800, 500),
        "relu1": nn.ReLU(),
        "fc2": nn.Linear(500, classes),
    }
    return _initialised(layers)


def _initialised(layers: dict[str, nn.Module]) -> nn.Module:
    network = nn.Sequential(OrderedDict(layers))
    initialise(network)
    return network
