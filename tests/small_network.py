"""Networks that are captured, trained and written in a moment, for recipes whose network does not matter."""

import numpy as np
import torch
from torch import nn

from paretrim.graph.fusion import grid_values
from paretrim.models.resnet_cifar import CifarResNet
from paretrim.network.constraints import weighted_layers
from paretrim.network.grids import Grid
from paretrim.network.uniform import ActivationQuantizer, WeightQuantizer


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


def put_on_grids_(network, images):
    """The network with a quantizer wherever one belongs, its ranges those of the images."""
    with torch.no_grad():
        values = network.features(images, grid_values(network.structure))
    for name in grid_values(network.structure):
        low, high = min(float(values[name].min()), 0.0), float(values[name].max())
        scale = float(np.float32((high - low) / 255))
        network.set_grid_(name, ActivationQuantizer(Grid(scale, round(-low / scale)), scales="learned"))
    for layer in weighted_layers(network).values():
        layer.quantizer = WeightQuantizer(layer.weight.detach(), bits=8, scales="learned")
    return network


def dense_layers(classes, channels):
    """Of 8 x 8 pixels, without any map after the image."""
    size = 64 * channels
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, classes))
