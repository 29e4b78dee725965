"""Gradients of the loss on calibration images, for scores and for methods that look at curvature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.train.resources import Resources

BATCH = 64
"""Calibration images in one gradient."""


def calibration_gradients(network: Network, resources: Resources) -> Iterator[Mapping[str, Tensor]]:
    """Gradients of the mean loss by every weight, one mapping by layer for each batch of calibration images.

    The network computes in float32 as it does when it is evaluated: BatchNorm uses its statistics, dropout is off. Its
    mode and its ``grad`` are left as they were. Where a mask is False the gradient is 0.

    Raises:
        DataUnavailable: calibration images have no labels.
    """
    images, labels = resources.labelled_calibration()
    layers = weighted_layers(network)
    device = next(network.parameters()).device
    training = network.training
    for some, right in zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True):
        network.eval()
        with torch.enable_grad():
            loss = resources.task.loss((network(some.to(device)),), right.to(device), label_smoothing=0.0)
            wanted = {name: layer.weight for name, layer in layers.items() if layer.weight.requires_grad}
            found = dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))
        network.train(training)
        yield {name: found.get(name, torch.zeros_like(layer.weight)) for name, layer in layers.items()}
