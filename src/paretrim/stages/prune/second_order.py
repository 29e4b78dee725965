"""Pruning by its effect on every layer's output on calibration images, with the remaining weights refitted.

No labels and no training. :func:`second_order_scores` chooses the blocks; :func:`compensate_` fits the others.

Source: Frantar & Alistarh 2022, "Optimal brain compression", arXiv 2208.11580.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from paretrim.graph.fusion import fuse
from paretrim.graph.operations.channel_rules import groups_of
from paretrim.graph.types import Node
from paretrim.method import Method
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.layers import BatchNorm
from paretrim.network.network import Network
from paretrim.stages.layer_inputs import (
    Moments,
    as_columns,
    from_columns,
    input_squares,
    layer_moments,
    shift_outputs_,
)
from paretrim.stages.prune.patterns import Pattern
from paretrim.stages.prune.surgeon import damped, fitted, removal_costs
from paretrim.stages.quantize.gptq import on_its_grid_
from paretrim.train.resources import Resources

METHODS = (
    Method(
        name="obs",
        kind="score",
        source="Frantar & Alistarh 2022 (OBC), arXiv 2208.11580; Hassibi & Stork 1993",
        what="the error of the layer's output after a block is removed and the others are refitted; no labels",
        formula="score(block B)^2 = w_B^T ((H^-1)_BB)^-1 w_B at its turn, H = X X^T of the layer's inputs",
        recipe="obs",
        settings=("prune.compensate",),
    ),
    Method(
        name="compensate",
        kind="option",
        source="Frantar & Alistarh 2022 (OBC), arXiv 2208.11580",
        what="fit the remaining weights so that every layer keeps its outputs; no labels, no training",
        formula="argmin over masked W of ||W_0 X_0 - W X||^2, first layer to last, X the inputs from the layers fitted before",
        recipe="obs",
        settings=("prune.compensate",),
    ),
)


_WIDEST = 8192
"""Most weights of a row in layers that are pruned and fitted by second order: the moments of more would not fit into memory."""

_MOST = 2**46
"""Most outputs of such layers times the cube of a row's weights. 512 outputs of 4,608 weights each take two minutes of one core;
the first linear layer of VGG-16 would take days."""


def second_order_scores(network: Network, resources: Resources, *, names: Collection[str], pattern: Pattern) -> dict[str, Tensor]:
    """Scores of the weights of these layers: the error that removing their block adds to the layer's output, in its turn.

    Blocks are removed from a row one by one, the cheapest first, while the others compensate (:func:`.surgeon.removal_costs`).
    Errors are squared, and relative to the mean square of the layer's output, so that layers are comparable. Weighing them by the
    gradient of the loss instead was worse on trained networks, whose gradient is almost 0 on training images. Blocks whose inputs
    are constant score 0, such as those of a kernel position that only ever reads padding. Under an n:m pattern a weight is
    removed only while its group has more than its quota; the weights of a row that are never removed all score the same, more
    than the removed. Very large layers are scored as if their inputs were independent, by ``w^2`` and the variance of the input.

    Returns:
        By layer, float64 of the weight's shape; the squares over a block add up to its error.
    """
    layers, biased = weighted_layers(network), _followed_by_bias(network)
    scores: dict[str, Tensor] = {}

    def score(node: Node, moments: Moments) -> None:
        layer = layers[node.name]
        about = moments.centred() if node.name in biased else moments
        parts = torch.stack([_group_scores(layer, node, group, about, pattern) for group in range(groups_of(node))])
        weight = as_columns(layer.effective_weight().detach(), groups_of(node)).double()
        energy = float((about.targets * weight).sum())
        scores[node.name] = from_columns(parts / energy if energy > 0 else parts, layer.weight.shape).sqrt()

    in_turn = _feasible(layers, names)
    layer_moments(network, network, resources.calibration, in_turn, score)
    for name, (mean, squares) in input_squares(network, resources.calibration, {*names} - in_turn).items():
        weight, variance = as_columns(layers[name].effective_weight().detach(), len(mean)).double(), squares
        if name in biased:
            variance = (squares - mean.square()).clamp(min=0)
        costs = weight.square() * variance[:, None]
        energy = float(costs.sum())
        scores[name] = from_columns(costs / energy if energy > 0 else costs, layers[name].weight.shape).sqrt()
    return scores


def _feasible(layers: Mapping[str, WeightedLayer], names: Collection[str]) -> set[str]:
    """The layers that are small enough to remove blocks in turn, and to fit."""
    shapes = {name: (len(layers[name].weight), layers[name].weight[0].numel()) for name in names}
    return {name for name, (outputs, width) in shapes.items() if width <= _WIDEST and outputs * width**3 <= _MOST}


def _group_scores(layer: WeightedLayer, node: Node, group: int, moments: Moments, pattern: Pattern) -> Tensor:
    """Costs spread over the weights of their blocks, [R, D]."""
    kernel = math.prod(layer.weight.shape[2:])
    alive = torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask
    living = as_columns(alive, groups_of(node))[group]
    square = damped(moments.inputs[group])
    weight = as_columns(layer.masked_weight().detach(), groups_of(node))[group].double()
    if not bool(living.all()):
        weight = fitted(square, weight @ square, living)
    block, channels = pattern.block, layer.weight.shape[1]
    missing = -channels % (pattern.group if pattern.fixed else block)
    split = (len(weight), kernel, channels)
    padded = functional.pad(weight.reshape(split), (0, missing)).reshape(len(weight), -1)
    blocks = functional.pad(living.reshape(split), (0, missing)).reshape(len(weight), -1, block).any(2)
    quota = (pattern.quotas(channels).to(weight.device).repeat(kernel), pattern.group) if pattern.fixed else None
    varies = (moments.inputs[group].diagonal() > 0).reshape(kernel, channels)
    seen = functional.pad(varies, (0, missing)).reshape(-1, block).any(1)
    if quota or not bool(seen.any()):
        seen = torch.ones_like(seen)  # groups of a quota are adjacent blocks, of which none may be missing
    columns = torch.nonzero(seen.repeat_interleave(block)).flatten()
    wide = _padded_square(square, kernel, missing)[columns][:, columns]
    costs = torch.zeros(len(weight), len(seen), dtype=torch.float64, device=weight.device)
    costs[:, seen] = removal_costs(padded[:, columns], wide, block=block, alive=blocks[:, seen], quota=quota)
    sizes = torch.full((channels + missing,), float(block))
    if missing and not pattern.fixed:
        sizes[-block:] = block - missing
    spread = costs.repeat_interleave(block, 1).reshape(len(weight), kernel, -1) / sizes.to(costs.device)
    return spread[:, :, :channels].reshape(len(weight), -1)


def _padded_square(square: Tensor, kernel: int, missing: int) -> Tensor:
    """Second moments with ``missing`` more input channels per kernel position, independent of all others."""
    if not missing:
        return square
    channels = len(square) // kernel
    wide = torch.zeros(kernel, channels + missing, kernel, channels + missing, dtype=square.dtype, device=square.device)
    wide[:, :channels, :, :channels] = square.reshape(kernel, channels, kernel, channels)
    result = wide.reshape(kernel * (channels + missing), -1)
    return result + torch.diag((result.diagonal() == 0).to(square.dtype))


def compensate_(network: Network, reference: Network, images: Tensor, names: Collection[str], *, rounding: bool = False) -> None:
    """Fit the remaining weights so that every layer has the same outputs as in ``reference``, first layer to last.

    Each layer reads the current outputs of the layers before it, so it compensates for their errors as well. If a bias or a
    BatchNorm follows, it takes up the mean. Masked weights stay 0.

    Args:
        network: masked, perhaps quantized; changed in place.
        reference: the network before pruning or quantization.
        images: calibration images [N, C, H, W].
        names: the layers to fit; very large ones keep their weights.
        rounding: also round the weights of uniform grids in the same sweep, each compensating for those before it
            (:mod:`paretrim.stages.quantize.gptq`), from the same moments.
    """
    layers, originals = weighted_layers(network), weighted_layers(reference)
    norms, others, biased = network.batch_norms(), reference.batch_norms(), _followed_by_bias(network)

    def fit(node: Node, moments: Moments) -> None:
        layer, other = layers[node.name], originals[node.name]
        norm, before = (found.get(biased.get(node.name, "")) for found in (norms, others))
        # The reference output of the layer, expressed before its current BatchNorm or bias.
        (factor, offset), (wanted, shift) = _affine(layer, norm), _affine(other, before)
        alive = factor != 0
        safe = factor.where(alive, 1.0)
        given = (wanted / safe).where(alive, 1.0)
        moments = _in_unit(moments, given, ((shift - offset) / safe).where(alive, 0.0))
        original = other.effective_weight().detach()
        original = original * given.reshape(-1, *[1] * (original.dim() - 1))
        about = moments.centred() if node.name in biased else moments
        new = _fitted_rows(node, layer, about, original, factor if rounding else None)
        if node.name in biased:
            shift_outputs_(layer, norm, (moments.wanted - (new @ moments.mean[:, :, None])[:, :, 0]).flatten())

    layer_moments(network, reference, images, _feasible(layers, names), fit)


def _fitted_rows(node: Node, layer: WeightedLayer, about: Moments, original: Tensor, factor: Tensor | None) -> Tensor:
    """Give a layer its best weights, and return them as [G, R, D]; with ``factor`` [Co], what follows it, also on its grid."""
    groups = groups_of(node)
    masks = as_columns(torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask, groups)
    squares, parts = [], []
    for group, rows in enumerate(as_columns(original, groups).double()):
        square = damped(about.inputs[group])
        pull = square - about.inputs[group]  # damping pulls towards the original weights, not towards 0
        squares.append(square)
        varies = about.inputs[group].diagonal() > 0
        part = rows.where(masks[group], 0)  # weights of constant inputs do not affect the fit and are not changed
        if bool(varies.any()):
            wanted = (about.targets[group] + rows @ pull)[:, varies]
            part[:, varies] = fitted(square[varies][:, varies], wanted, masks[group][:, varies])
        parts.append(part)
    new = torch.stack(parts)
    if factor is not None:
        new = on_its_grid_(layer, new, squares, masks, factor)
    with torch.no_grad():
        layer.weight.copy_(from_columns(new, layer.weight.shape))
    return new


def _affine(layer: WeightedLayer, norm: BatchNorm | None) -> tuple[Tensor, Tensor]:
    """Factor and offset [Co], float64, of a layer's bias and BatchNorm."""
    bias = layer.effective_bias()
    nothing = torch.zeros(len(layer.weight), dtype=torch.float64, device=layer.weight.device)
    factor, offset = (nothing + 1, nothing) if norm is None else norm.affine()
    return factor, offset if bias is None else offset + factor * bias.detach().double()


def _in_unit(moments: Moments, factor: Tensor, offset: Tensor) -> Moments:
    """The moments for targets ``factor * y + offset``, both [Co]."""
    rows, shift = factor.reshape(moments.wanted.shape), offset.reshape(moments.wanted.shape)
    return dataclasses.replace(
        moments,
        targets=moments.targets * rows[:, :, None] + shift[:, :, None] * moments.mean[:, None],
        wanted=moments.wanted * rows + shift,
    )


def _followed_by_bias(network: Network) -> Mapping[str, str]:
    """The layers with a bias, with the name of the BatchNorm after them that has it; "" if it is their own."""
    layers = weighted_layers(network)
    found = {}
    for run in fuse(network.structure):
        if run.head.name in layers and (run.batch_norm is not None or layers[run.head.name].bias is not None):
            found[run.head.name] = "" if run.batch_norm is None else run.batch_norm.name
    return found
