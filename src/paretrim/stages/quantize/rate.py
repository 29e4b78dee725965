"""The price of a bit of the coded file for every output channel, relative to the effect of its weights on the loss.

Everything follows from one Lagrangian: loss + ``rate`` * bits per weight, the mean over all weights of the network. Changing a
weight by d adds ``F d^2 / 2`` to the loss, F the diagonal of the Fisher information, for cross-entropy the Gauss-Newton
curvature.

Sources: Fisher diagonal from sampled labels, Martens 2020 (JMLR 21(146)) section 9; steps by sensitivity, reverse water-filling,
Cover & Thomas 2006 section 10.3.3; a learned rate term, Ballé et al. 2017 (arXiv 1611.01704).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from paretrim.errors import TrainingFailed
from paretrim.method import Method
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.grids import SMALLEST_SCALE
from paretrim.network.network import Network
from paretrim.train.losses import LossTerm, Outputs

_SAMPLE = 8
"""Images whose gradients are summed before squaring: labels are sampled independently, so cross terms vanish on average."""

_LEAST_SHARE = 1e-4
"""Minimum sensitivity of a channel, in units of its layer's mean: few images cannot distinguish 0 from small."""

_INSENSITIVE = 2.0**-86
"""Sensitivity assumed for a layer without any effect on calibration images: saving bits then outweighs almost any error."""

ROUNDS = 8
"""How often integers are chosen and counted before training."""

METHODS = (
    Method(
        name="rate",
        kind="option",
        source="Ballé et al. 2017, arXiv 1611.01704; decision 30",
        what="make the coded file smaller: a bit per weight has a price in loss, which rounding takes into account",
        formula="minimise loss + rate * bits per weight; step^2 = 12 rate / (weights * F * ln 2), F the Fisher information",
        recipe="rate",
        settings=("quantize.rate",),
    ),
)


def prices(network: Network, images: Tensor, *, rate: float, seed: int) -> dict[str, Tensor]:
    """The price of a bit in units of the squared weight, for every output channel of every layer that trains; float32 [Co].

    Fixed weights, which express norms or data movement, have no price.

    Args:
        network: float, in evaluation mode; its gradients are not changed.
        images: normalised training images float32 [M, C, H, W]; labels are sampled from the network's predictions.
        rate: price of a bit per weight, in nats of loss.
        seed: seed for the labels.

    Raises:
        TrainingFailed: a gradient is not finite.
    """
    every = weighted_layers(network)
    layers = {name: layer for name, layer in every.items() if layer.weight.requires_grad}
    weights = sum(layer.weight.numel() for layer in every.values())
    sensitivities = _fisher(network, layers, images, seed)
    found = {}
    for name, layer in layers.items():
        fisher, alive = sensitivities[name], torch.ones_like(layer.weight) if layer.mask is None else layer.mask
        rows = fisher.reshape(len(fisher), -1).sum(1) / alive.reshape(len(fisher), -1).sum(1).clamp_min(1)
        if not bool(torch.isfinite(rows).all()):
            raise TrainingFailed(f"layer '{name}': a gradient on calibration images is not finite; check the weights")
        least = rows.mean() * _LEAST_SHARE
        worth = 2 * rate / (weights * torch.where(least > 0, rows.maximum(least), _INSENSITIVE))
        found[name] = torch.ldexp(torch.ldexp(worth, _unit(layer)), _unit(layer))
        if not bool((torch.isfinite(found[name]) & (found[name] >= SMALLEST_SCALE)).all()):
            raise TrainingFailed(
                f"layer '{name}': its largest weight is {float(layer.weight.detach().abs().max()):.2g}, so the price of a bit is "
                "outside the range of float32; rescale the weights, or set rate to 0"
            )
    return found


def _fisher(network: Network, layers: dict[str, WeightedLayer], images: Tensor, seed: int) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of a mean loss, by layer; of the shape of its weight, in units of :func:`_unit`."""
    device = next(network.parameters()).device
    random = torch.Generator().manual_seed(seed)
    parameters = [layer.weight for layer in layers.values()]
    sums = [torch.zeros_like(weight) for weight in parameters]
    units = {name: _unit(layer) for name, layer in layers.items()}
    for part in torch.split(images, _SAMPLE):
        logits = network(part.to(device)).float()
        labels = torch.multinomial(logits.detach().nan_to_num().softmax(1).cpu(), 1, generator=random)[:, 0].to(device)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        for name, total, gradient in zip(layers, sums, torch.autograd.grad(loss, parameters), strict=True):
            total.add_(torch.ldexp(gradient, units[name]).square())
    return {name: total / len(images) for name, total in zip(layers, sums, strict=True)}


def _unit(layer: WeightedLayer) -> Tensor:
    """Exponent of the power of two just above the largest weight, int32 []; in this unit squares stay within float32."""
    return torch.frexp(layer.weight.detach().abs().amax())[1]


def coarser_clips(weight: Tensor, clips: Tensor, price: Tensor, top: int) -> Tensor:
    """Shares of the range [Co], not below ``clips``, whose steps are as coarse as the price of bits justifies.

    Halving a step costs a bit and reduces the error step^2 / 12 to a quarter, so the optimum is ``step^2 = 6 price / ln 2``. No
    step is larger than the largest weight of its channel.
    """
    peak = weight.reshape(len(weight), -1).abs().amax(1)
    step = torch.minimum((6 * price / math.log(2)).sqrt(), peak)
    return torch.where(peak > 0, torch.maximum(clips, step * top / peak), clips)


def recount_(network: Network) -> None:
    """Recount the price list of every layer."""
    with torch.no_grad():
        for layer in weighted_layers(network).values():
            if layer.quantizer is not None and layer.quantizer.priced is not None:
                layer.quantizer.priced.recount_(layer.masked_weight())


def rate_term(rate: float) -> LossTerm:
    """Bits per weight of the coded file, by each layer's own frequencies; differentiable in weights and steps."""
    return LossTerm(_bits_per_weight, weight=rate, penalty=True)


def _bits_per_weight(outputs: Outputs) -> Tensor:
    bits = outputs.logits.new_zeros((), dtype=torch.float32)
    with torch.autocast(outputs.logits.device.type, enabled=False):
        for layer in outputs.layers:
            if layer.quantizer is not None and layer.quantizer.priced is not None:
                bits = bits + layer.quantizer.priced.bits_of(layer.masked_weight())
    return bits / max(sum(layer.weight.numel() for layer in outputs.layers), 1)
