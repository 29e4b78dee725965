"""AdaRound: learns from calibration images, layer by layer, whether to round each weight down or up.

Source: Nagel et al. 2020 (AdaRound, arXiv 2004.10568) sections 3 and 4, equations 21 to 25.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from paretrim.graph.operations.channel_rules import groups_of
from paretrim.graph.shapes import settings_of
from paretrim.network.network import Network
from paretrim.network.torch_forms import real_form
from paretrim.network.uniform import WeightQuantizer
from paretrim.stages.layer_inputs import patches
from paretrim.stages.quantize.corrections import LayerPair, affine_of, pairs

LOW, HIGH = -0.1, 1.1
"""The interval that the sigmoid is stretched to before it is clipped to [0, 1] (gamma and zeta)."""

_LAMBDA = 0.01
"""Weight of the regularizer that pushes roundings to 0 and 1."""

_FIRST_BETA, _LAST_BETA = 20.0, 2.0
_WARM = 0.2
"""Share of the steps before the regularizer starts."""

_REACH = 10.0
"""How far Adam can move a value over all steps: 10,000 steps of 0.001 in the paper; fewer steps are longer."""

_ROWS = 512
"""Output positions per step."""

_KEPT = 2**24
"""Input values of a layer to keep for sampling positions."""


def stretched(values: Tensor) -> Tensor:
    """How far each weight is rounded up, in [0, 1]: ``clip(sigmoid(v) * (zeta - gamma) + gamma, 0, 1)``."""
    return (torch.sigmoid(values) * (HIGH - LOW) + LOW).clamp(0, 1)


def unstretched(shares: Tensor) -> Tensor:
    """The inverse, for shares in [0, 1]."""
    return -torch.log((HIGH - LOW) / (shares - LOW) - 1)


def beta_at(progress: float) -> float:
    """The exponent of the regularizer, from 20 to 2 along a cosine, once ``progress`` in [0, 1] is past the warm-up."""
    rest = max(0.0, (progress - _WARM) / (1 - _WARM))
    return _LAST_BETA + 0.5 * (_FIRST_BETA - _LAST_BETA) * (1 + math.cos(math.pi * rest))


def adaround_(network: Network, reference: Network, images: Tensor, *, steps: int, seed: int) -> None:
    """Round the weights of uniform grids up or down so that every layer's outputs are close to those of the float network.

    Minimises ``|f(W x) - f(W~ x~)|^2 + lambda * sum(1 - |2 h - 1|^beta)`` over h, the share by which each weight is rounded up:
    x~ is the input from the rounded layers before it, f the layer's BatchNorm and ReLU. Outputs are in units of their root mean
    square. The weight itself is set to the integer times its scale. Pruned weights stay 0.
    """
    random = torch.Generator().manual_seed(seed)
    for pair in pairs(network, reference, images):
        if isinstance(pair.layer.quantizer, WeightQuantizer):
            _round_layer_(pair, pair.layer.quantizer, steps, random)


def _round_layer_(pair: LayerPair, quantizer: WeightQuantizer, steps: int, random: torch.Generator) -> None:
    layer, top = pair.layer, quantizer.top
    weight = layer.masked_weight().detach()
    scale = quantizer.scale_for(weight).detach()
    columns = scale.reshape(-1, *[1] * (weight.dim() - 1))
    below = torch.floor(weight / columns)
    free = torch.ones_like(weight) if layer.mask is None else layer.mask.float()
    values = unstretched((weight / columns - below).clamp(0, 1)).requires_grad_()
    problem = _Problem(pair, random)
    with torch.enable_grad():
        optimizer = torch.optim.Adam([values], lr=_REACH / steps)
        for step in range(steps):
            share = stretched(values) * free
            loss = problem.error((below + share).clamp(-top, top) * columns)
            if step >= _WARM * steps:
                loss = loss + _LAMBDA * (1 - (2 * share - 1).abs().pow(beta_at(step / steps))).sum()
            (values.grad,) = torch.autograd.grad(loss, [values])
            optimizer.step()
    rounded = (below + (stretched(values.detach()) >= 0.5) * free).clamp(-top, top) * columns
    layer.weight.copy_(rounded)
    if quantizer.trained_scale is None:  # the scale follows from the weight, whose maximum may have changed
        layer.quantizer = quantizer.moved(rounded, scale)


class _Problem:
    """Inputs and target outputs of a layer at sampled output positions of calibration images."""

    def __init__(self, pair: LayerPair, random: torch.Generator) -> None:
        head, weight = pair.run.head, pair.layer.weight
        self.random = random
        self.groups = groups_of(head)
        self.activation = pair.run.activation
        size = self.groups * weight[0].numel()
        places, images = math.prod(head.type.shape[1:]), sum(len(own) for own, _ in pair.inputs)
        some = min(places, max(1, _KEPT // (size * images)))
        inputs, targets = [], []
        factor, offset = (part.to(weight) for part in affine_of(pair.float_norm, len(weight)))
        for (own, _), (_, wanted) in zip(pair.inputs, pair.results(), strict=True):
            kept = torch.randperm(places, generator=random)[:some].to(weight.device)
            inputs.append(patches(head, own, weight.shape)[:, :, kept].transpose(1, 2).flatten(0, 1))
            rows = wanted.reshape(*wanted.shape[:2], places)[:, :, kept].transpose(1, 2).flatten(0, 1)
            targets.append(self.activated(rows * factor + offset))
        self.inputs, self.targets = torch.cat(inputs), torch.cat(targets)
        self.unit = float(self.targets.square().mean().sqrt()) or 1.0
        self.factor, self.offset = (part.to(weight) for part in affine_of(pair.norm, len(weight)))
        bias = pair.layer.effective_bias()
        self.offset = self.offset if bias is None else self.offset + self.factor * bias.detach()

    def activated(self, results: Tensor) -> Tensor:
        """Results [P, Co] after the layer's ReLU or clamp, if it has one."""
        if self.activation is None:
            return results
        return real_form(self.activation)(settings_of(self.activation), None, [results])

    def error(self, weight: Tensor) -> Tensor:
        """Squared error of a weight [Co, ...] on sampled positions: sum over channels, mean over positions, in output units."""
        some = torch.randint(len(self.inputs), (min(_ROWS, len(self.inputs)),), generator=self.random)
        inputs = self.inputs[some].reshape(len(some), self.groups, -1)
        given = torch.einsum("pgd,grd->pgr", inputs, weight.reshape(self.groups, len(weight) // self.groups, -1)).flatten(1)
        given = self.activated(given * self.factor + self.offset)
        return ((given - self.targets[some]) / self.unit).square().sum(1).mean()
