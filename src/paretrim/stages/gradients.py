"""Losses, gradients and curvature on calibration images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from paretrim.errors import TrainingFailed
from paretrim.network.constraints import WeightedLayer, living_weights, weighted_layers
from paretrim.network.network import Network
from paretrim.train.resources import Resources

BATCH = 64
"""Calibration images in one gradient."""


def calibration_losses(
    network: Network, resources: Resources, *, batch: int = BATCH, temperature: float = 1.0
) -> Iterator[tuple[float, Tensor]]:
    """The mean loss of each batch of calibration images, with a graph for gradients, and the batch's share of the images.

    The network computes in float32 as it does when it is evaluated: BatchNorm uses its statistics, dropout is off. Its mode is
    left as it was. Outputs are divided by ``temperature``.

    Raises:
        DataUnavailable: calibration images have no labels.
    """
    images, labels = resources.labelled_calibration()
    device = next(network.parameters()).device
    training = network.training
    for some, right in zip(torch.split(images, batch), torch.split(labels, batch), strict=True):
        network.eval()
        with torch.enable_grad():
            outputs = tuple(output / temperature for output in network.outputs(some.to(device)))
            loss = resources.task.loss(outputs, right.to(device), label_smoothing=0.0)
        network.train(training)
        yield len(some) / len(images), loss


def calibration_gradients(network: Network, resources: Resources, *, batch: int = BATCH) -> Iterator[Mapping[str, Tensor]]:
    """Gradients of the mean loss by every weight, one mapping by layer for each batch of calibration images.

    The network computes as in :func:`calibration_losses`; its ``grad`` is left as it was. Where a mask is False the gradient is
    0.

    Raises:
        DataUnavailable: calibration images have no labels.
    """
    layers = weighted_layers(network)
    for _, loss in calibration_losses(network, resources, batch=batch):
        yield weight_gradients(loss, layers)


def weight_gradients(value: Tensor, layers: Mapping[str, WeightedLayer], *, differentiable: bool = False) -> dict[str, Tensor]:
    """Gradients of a scalar by weights, 0 for those that do not train; ``differentiable`` ones can be differentiated again."""
    wanted = {name: layer.weight for name, layer in layers.items() if layer.weight.requires_grad}
    gradients = torch.autograd.grad(
        value, list(wanted.values()), create_graph=differentiable, allow_unused=True, materialize_grads=True
    )
    found = dict(zip(wanted, gradients, strict=True))
    return {name: found.get(name, torch.zeros_like(layer.weight)) for name, layer in layers.items()}


def hessian_traces(network: Network, resources: Resources, *, samples: int) -> dict[str, float]:
    """For every weighted layer the mean of the diagonal of the Hessian of the mean loss by its weights, at least 0.

    Hutchinson's estimate: the mean of ``z (H z)`` with ``z`` of -1 and 1 over ``samples`` draws, each on the next batch of
    calibration images and for all layers at once: what layers have in common is 0 on average. Pruned weights do not count. The
    network computes as in :func:`calibration_gradients`.

    Raises:
        DataUnavailable: calibration images have no labels.
        TrainingFailed: an estimate is not finite.

    Source: Hutchinson 1990; for bits of layers Dong et al. 2020 (HAWQ-V2, arXiv 1911.03852), section 3.1.
    """
    images, labels = resources.labelled_calibration()
    batches = list(zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True))
    layers = {name: layer for name, layer in weighted_layers(network).items() if layer.weight.requires_grad}
    weights = [layer.weight for layer in layers.values()]
    sums = dict.fromkeys(weighted_layers(network), 0.0)
    device, training = weights[0].device, network.training
    network.eval()
    for sample in range(samples):
        some, right = batches[sample % len(batches)]
        signs = [2.0 * torch.randint(0, 2, weight.shape).to(device) - 1.0 for weight in weights]
        with torch.enable_grad():
            loss = resources.task.loss(network.outputs(some.to(device)), right.to(device), label_smoothing=0.0)
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
            along = torch.stack([(gradient * sign).sum() for gradient, sign in zip(gradients, signs, strict=True)]).sum()
            bent = torch.autograd.grad(along, weights)
        for name, curve, sign in zip(layers, bent, signs, strict=True):
            sums[name] += float((curve * sign).double().sum())
    network.train(training)
    for name, total in sums.items():
        if not math.isfinite(total):
            raise TrainingFailed(f"layer '{name}': the curvature on calibration images is not finite; check the weights")
    alive = {name: max(living_weights(layer), 1) for name, layer in weighted_layers(network).items()}
    return {name: max(total, 0.0) / samples / alive[name] for name, total in sums.items()}
