"""Losses, gradients and curvature on calibration images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from paretrim.errors import TrainingFailed
from paretrim.network.constraints import WeightedLayer, living_weights, weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.network import Network
from paretrim.train.resources import Resources
from paretrim.train.task import Task

BATCH = 64
"""Calibration images per gradient."""


def calibration_losses(
    network: Network, resources: Resources, *, batch: int = BATCH, temperature: float = 1.0
) -> Iterator[tuple[float, Tensor]]:
    """For each batch of calibration images, its share of the images and its mean loss, with an autograd graph.

    The network computes in float32, in evaluation mode: BatchNorm uses its statistics, dropout is off. Its mode is restored.
    Outputs are divided by ``temperature``.

    Raises:
        DataUnavailable: calibration images have no labels.
    """
    images, labels = resources.labelled_calibration()
    device = next(network.parameters()).device
    for some, right in zip(torch.split(images, batch), torch.split(labels, batch), strict=True):
        with evaluating(network), torch.enable_grad():
            outputs = tuple(output / temperature for output in network.outputs(some.to(device)))
            loss = resources.task.loss(outputs, right.to(device), label_smoothing=0.0)
        yield len(some) / len(images), loss


def calibration_gradients(network: Network, resources: Resources, *, batch: int = BATCH) -> Iterator[Mapping[str, Tensor]]:
    """Gradients of the mean loss with respect to every weight, by layer, for each batch of calibration images.

    The network computes as in :func:`calibration_losses`; its ``grad`` is not touched. Masked weights have gradient 0.

    Raises:
        DataUnavailable: calibration images have no labels.
    """
    layers = weighted_layers(network)
    for _, loss in calibration_losses(network, resources, batch=batch):
        yield weight_gradients(loss, layers)


def weight_gradients(value: Tensor, layers: Mapping[str, WeightedLayer], *, differentiable: bool = False) -> dict[str, Tensor]:
    """Gradients of a scalar with respect to the weights, 0 for those that do not train; with ``differentiable``, twice so."""
    wanted = {name: layer.weight for name, layer in layers.items() if layer.weight.requires_grad}
    gradients = torch.autograd.grad(
        value, list(wanted.values()), create_graph=differentiable, allow_unused=True, materialize_grads=True
    )
    found = dict(zip(wanted, gradients, strict=True))
    return {name: found.get(name, torch.zeros_like(layer.weight)) for name, layer in layers.items()}


def hessian_traces(network: Network, resources: Resources, *, samples: int) -> dict[str, float]:
    """For every weighted layer the mean of the diagonal of the Hessian of the mean loss in its weights, at least 0.

    The Gauss-Newton matrix ``J' H J`` is used, with ``H`` the Hessian of the loss in the network's outputs and ``J`` the
    derivatives of the outputs by the weights. It equals the Hessian if outputs are linear in the weights of each single layer, as
    they are piecewise with ReLU and BatchNorm. The estimate is the mean of ``(J' z) (J' H z)`` with ``z`` of -1 and 1 for every
    output, over ``samples`` draws, each on the next batch of calibration images. This way the noise of one layer does not affect
    another, as it does if ``z`` is drawn for all weights together: on ResNet-20 such estimates had standard errors as large as
    themselves. Pruned weights do not count. The network computes as in :func:`calibration_gradients`.

    Raises:
        DataUnavailable: calibration images have no labels.
        TrainingFailed: an estimate is not finite.

    Source: Hutchinson 1990 for traces; Martens 2020, arXiv 1412.1193, section 8, for the Gauss-Newton matrix; for bits of
    layers Dong et al. 2020 (HAWQ-V2, arXiv 1911.03852), section 3.1.
    """
    images, labels = resources.labelled_calibration()
    batches = list(zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True))
    layers = {name: layer for name, layer in weighted_layers(network).items() if layer.weight.requires_grad}
    weights = [layer.weight for layer in layers.values()]
    sums = dict.fromkeys(weighted_layers(network), 0.0)
    device = weights[0].device
    for sample in range(samples):
        some, right = batches[sample % len(batches)]
        with evaluating(network), torch.enable_grad():
            outputs = network.outputs(some.to(device))
            signs = [2.0 * torch.randint(0, 2, output.shape).to(device) - 1.0 for output in outputs]
            bent = _curvature_along(outputs, right.to(device), signs, resources.task)
            first = _weights_along(outputs, weights, signs)
            second = _weights_along(outputs, weights, bent)
        for name, one, other in zip(layers, first, second, strict=True):
            sums[name] += float((one * other).double().sum())
    for name, total in sums.items():
        if not math.isfinite(total):
            raise TrainingFailed(f"layer '{name}': the curvature on calibration images is not finite; check the weights")
    alive = {name: max(living_weights(layer), 1) for name, layer in weighted_layers(network).items()}
    return {name: max(total, 0.0) / samples / alive[name] for name, total in sums.items()}


def _curvature_along(outputs: Sequence[Tensor], labels: Tensor, along: Sequence[Tensor], task: Task) -> tuple[Tensor, ...]:
    """The Hessian of the mean loss in the outputs, times ``along``; 0 where the loss is linear."""
    ends = [output.detach().requires_grad_() for output in outputs]
    loss = task.loss(tuple(ends), labels, label_smoothing=0.0)
    slopes = torch.autograd.grad(loss, ends, create_graph=True, allow_unused=True, materialize_grads=True)
    value = torch.stack([(slope * sign).sum() for slope, sign in zip(slopes, along, strict=True)]).sum()
    if not value.requires_grad:
        return tuple(torch.zeros_like(end) for end in ends)
    return torch.autograd.grad(value, ends, allow_unused=True, materialize_grads=True)


def _weights_along(outputs: Sequence[Tensor], weights: Sequence[Tensor], along: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Derivatives of the outputs, weighted by ``along``, with respect to the weights; the autograd graph is kept."""
    return torch.autograd.grad(outputs, weights, grad_outputs=along, retain_graph=True, allow_unused=True, materialize_grads=True)
