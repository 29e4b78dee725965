"""The optimizer of a stage, and what happens to gradients before it uses them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from paretrim.network.constraints import WeightedLayer
from paretrim.network.grids import PacedValue
from paretrim.train.budget import Budget
from paretrim.train.muon import aim_, keep_norms_

LAST_SLOW_SHARE = 0.95**5
"""What slow weights keep of themselves at the end of training, per averaging."""

MOST_CHANGE = 0.01
"""Largest change of a trained scale or shared value in one step, as a share of its size."""

_USUAL: Mapping[Tensor, int] = MappingProxyType({})


def make_optimizer(
    parameters: Iterable[Tensor],
    budget: Budget,
    units: Mapping[Tensor, int] = _USUAL,
    batchnorm_biases: Collection[Tensor] = (),
    hidden: Collection[Tensor] = (),
) -> torch.optim.Optimizer:
    """The budget's optimizer; weight decay acts on weights only.

    ``units`` are the binary exponents of the units of parameters, where not 1. A group has a ``unit``, by which its learning rate
    is multiplied, its weight decay divided, and its gradients multiplied in :func:`count_in_units_`: the same as training the
    parameters divided by it. Its ``rate`` multiplies the learning rate too, and nothing else: the budget's
    ``batchnorm_bias_rate`` for ``batchnorm_biases``, 1 for the rest. With ``muon`` the ``hidden`` weights turn
    (:mod:`paretrim.train.muon`), and the rest trains as with ``sgd``.
    """
    turning = {id(weight) for weight in hidden} if budget.optimizer == "muon" else set()
    faster = {id(bias) for bias in batchnorm_biases}
    members: dict[tuple[bool, int, float], list[Tensor]] = defaultdict(list, {(True, 0, 1.0): [], (False, 0, 1.0): []})
    turned = []
    for parameter in parameters:
        if id(parameter) in turning:
            turned.append(parameter)
            continue
        rate = budget.batchnorm_bias_rate if id(parameter) in faster else 1.0
        members[parameter.dim() > 1, units.get(parameter, 0), rate].append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "params": found,
            "unit": 2.0**exponent,
            "rate": rate,
            "weight_decay": budget.weight_decay / 2.0**exponent if decays else 0.0,
        }
        for (decays, exponent, rate), found in members.items()
    ]
    if budget.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=budget.learning_rate)
    nesterov = budget.nesterov and budget.momentum > 0
    if turned:  # the momentum is in the direction that they get
        groups.append(_turning(turned, budget))
    return torch.optim.SGD(groups, lr=budget.learning_rate, momentum=budget.momentum, nesterov=nesterov)


def _turning(weights: Sequence[Tensor], budget: Budget) -> dict[str, Any]:
    """The group of weights that turn by ``muon_rate``, whatever their unit."""
    rate = budget.muon_rate / budget.learning_rate
    plain = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    return {"params": weights, "unit": 1.0, "rate": rate, "turning": budget.momentum, **plain}


def hidden_weights(layers: Mapping[str, WeightedLayer]) -> list[Tensor]:
    """The weights of all layers but the first and the last, and of none whose outputs see one value each (scales of channels)."""
    weights = [layer.weight for layer in layers.values()][1:-1]
    return [weight for weight in weights if weight.dim() > 1 and weight[0].numel() > 1]


def count_in_units_(optimizer: torch.optim.Optimizer) -> None:
    """Turn gradients into those with respect to parameters counted in their group's unit."""
    for group in optimizer.param_groups:
        if group["unit"] != 1:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(group["unit"])


def step_within_(optimizer: torch.optim.Optimizer, paced: Sequence[PacedValue]) -> None:
    """One step of the optimizer, in which none of these values changes by more than :data:`MOST_CHANGE` of its size.

    A scale is as small as one step of its grid, but its gradient is that of all values on the grid, as is that of a value which
    many weights share. With a high learning rate or large gradients it would jump to many times its size, or through zero
    (docs/decisions/0053).
    """
    with torch.no_grad():
        before = [(one.value.clone(), one.size() * MOST_CHANGE) for one in paced]
        turned = aim_(optimizer)
    optimizer.step()
    with torch.no_grad():
        keep_norms_(turned)
        for one, (old, reach) in zip(paced, before, strict=True):
            one.value.clamp_(old - reach, old + reach)


def look_ahead_(optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Move the slow weights towards the trained ones, and set these to them; progress in [0, 1].

    The slow weights keep ``0.774 * progress ** 3`` of themselves: they follow at once while the rate is high, and average many
    steps at the end. They are in the optimizer's state, and so in its checkpoints.

    Source: Zhang, Lucas, Hinton & Ba 2019, "Lookahead Optimizer" (arXiv 1907.08610), algorithm 1; the rising share is that of
    Jordan 2024 (arXiv 2404.00498), section 3.4.
    """
    kept = LAST_SLOW_SHARE * progress**3
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue  # AdamW begins a parameter's state at its first gradient, and only if it is empty
                state = optimizer.state[parameter]
                slow = state.get("slow")
                if slow is None:
                    state["slow"] = parameter.detach().clone()
                else:
                    parameter.copy_(slow.lerp_(parameter, 1 - kept))


def remake_optimizer(before: torch.optim.Optimizer, made: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """``made``, with the state of the previous optimizer for parameters that both have."""
    for group in made.param_groups:
        for parameter in group["params"]:
            if parameter in before.state:
                made.state[parameter] = before.state[parameter]
    return made


def parameters_of(module: nn.Module) -> list[Tensor]:
    """Every parameter, in the order of ``module.parameters()`` but in a fraction of its time, which every training step pays."""
    found: list[Tensor] = []
    waiting = [module]
    while waiting:
        present = waiting.pop()
        found += [parameter for parameter in present._parameters.values() if parameter is not None]
        waiting += [child for child in reversed(present._modules.values()) if child is not None]
    return found


def see_through_masks_(layers: Mapping[str, WeightedLayer], through: bool) -> None:
    """Whether backward passes give gradients of pruned weights too."""
    for layer in layers.values():
        layer.dense_gradients = through


def take_dense_gradients_(layers: Mapping[str, WeightedLayer]) -> dict[str, Tensor]:
    """The gradients of all weights, pruned ones included; they are replaced by gradients that are 0 for pruned weights."""
    dense = {name: layer.weight.grad for name, layer in layers.items() if layer.weight.grad is not None}
    for name, gradient in dense.items():
        layer = layers[name]
        layer.weight.grad = gradient if layer.mask is None else gradient * layer.mask
    see_through_masks_(layers, through=False)
    return dense
