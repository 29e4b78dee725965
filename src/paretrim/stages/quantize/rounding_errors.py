"""Without training: rounding the weights of short rows by the error of their outputs, and biases that make up for the mean error.

In the row of a depthwise layer nine weights add up, so their rounding errors hardly average out, and neighbouring inputs are
nearly equal, so what counts most is the error of the weights' sum. Longer rows gain less than they take time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paretrim.graph.fusion import fuse
from paretrim.graph.operations.channel_rules import groups_of
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Node
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.layers import BatchNorm
from paretrim.network.network import Network
from paretrim.network.torch_forms import real_form
from paretrim.network.uniform import WeightQuantizer
from paretrim.stages.layer_inputs import as_columns, from_columns, inputs_of_both, moments_of, shift_outputs_
from paretrim.stages.prune.surgeon import damped
from paretrim.stages.quantize.corrections import LARGEST_VALUE, affine_of, moments_by_channel
from paretrim.stages.quantize.gptq import on_its_grid_

SHORT = 32
"""Most weights of a row that is rounded by the error of its outputs: depthwise layers, and the first one of most networks."""

_MEAN_IMAGES = 64
"""Images that mean inputs are taken from: each gives as many values as a map has positions."""

_MOMENT_IMAGES = 32
"""Images that second moments are taken from."""


_NOISE = 2.0**-15
"""Rounding errors of second moments that were summed up in float32, as a share of these, at most."""


@dataclass(frozen=True, eq=False)
class TypicalInputs:
    """What a layer reads on calibration images.

    Attributes:
        mean: the mean over images, [1, ...].
        squares: for short rows, second moments of the inputs about their means, float64 [G, D, D], of every group; D in the order
            [kh, kw, Ci].
    """

    mean: Tensor
    squares: Tensor | None


def typical_inputs(network: Network, images: Tensor) -> dict[str, TypicalInputs]:
    """The inputs of every layer that trains, on normalised images float32 [M, C, H, W]."""
    largest = max(kind.size for kind in network.structure.types.values())
    layers, found = weighted_layers(network), {}
    for node, inputs in inputs_of_both(network, network, images[: min(_MEAN_IMAGES, max(1, LARGEST_VALUE // largest))]):
        layer, parts = layers[node.name], [part for part, _ in inputs]
        if layer.weight.requires_grad:
            total = torch.stack([part.double().sum(0, keepdim=True) for part in parts]).sum(0)
            mean = (total / sum(map(len, parts))).to(parts[0])
            found[node.name] = TypicalInputs(mean, _squares(node, layer.effective_weight(), parts))
    return found


def _squares(node: Node, weight: Tensor, parts: Sequence[Tensor]) -> Tensor | None:
    """Second moments of a convolution with short rows, from its inputs in batches; None for other layers."""
    if weight.dim() == 2 or weight[0].numel() > SHORT:
        return None
    starts = itertools.accumulate(map(len, parts), initial=0)
    some = [part[: _MOMENT_IMAGES - start] for part, start in zip(parts, starts, strict=False) if start < _MOMENT_IMAGES]
    _, exponent = math.frexp(max(float(part.abs().max()) for part in some))
    scaled = [torch.ldexp(part, torch.tensor(-exponent, device=part.device)) for part in some]  # squares may leave float32
    moments = moments_of(node, weight, [(part, part) for part in scaled])
    noise = _NOISE * moments.inputs.diagonal(dim1=1, dim2=2).mean(1)  # about means far from 0, little else is left
    identity = torch.eye(moments.inputs.shape[1], dtype=noise.dtype, device=noise.device)
    return (moments.centred().inputs + noise[:, None, None] * identity) * 4.0**exponent


def correct_rounding_(network: Network, inputs: Mapping[str, TypicalInputs]) -> None:
    """Round short rows by the error of their outputs, and take the mean error of every rounded row out of its channel.

    A layer is linear, so the mean error of its outputs is its error on the mean input. Errors of activations are left as they
    are: where few values are clipped, their mean is no good correction for all others. A layer with neither a BatchNorm after it
    nor a bias is rounded as it was, and not corrected; the rows of grids that are not uniform, or whose bits have a price, are
    only corrected.

    Source: Nagel et al. 2019 (DFQ, arXiv 1906.04721), section 4.2, equation 17, with the mean of calibration images for E[x];
    rows as in :mod:`paretrim.stages.quantize.gptq`.
    """
    layers, norms = weighted_layers(network), network.batch_norms()
    with torch.no_grad():
        for run in fuse(network.structure):
            head, given = run.head, inputs.get(run.head.name)
            if given is None:
                continue
            layer, norm = layers[head.name], None if run.batch_norm is None else norms[run.batch_norm.name]
            grid = layer.quantizer
            if grid is None or (norm is None and layer.bias is None):
                continue
            form, settings = real_form(head), settings_of(head)
            layer.quantizer = None
            exact, _ = moments_by_channel([form(settings, layer, [given.mean])])
            layer.quantizer = grid
            if given.squares is not None:
                _round_short_(head, layer, norm, given.squares)
            rounded, _ = moments_by_channel([form(settings, layer, [given.mean])])
            shift_outputs_(layer, norm, (exact - rounded).to(layer.weight))


def _round_short_(node: Node, layer: WeightedLayer, norm: BatchNorm | None, squares: Tensor) -> None:
    """Move the rows of a layer to grids with a smaller error of their outputs, about their mean; pruned weights stay 0.

    A row for which the search finds none keeps its integers.
    """
    grid, groups = layer.quantizer, groups_of(node)
    if not isinstance(grid, WeightQuantizer) or grid.priced is not None:
        return
    masks = torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask
    weight = layer.masked_weight().detach()
    rows, nearest = (as_columns(one, groups).double() for one in (weight, grid(weight)))
    factor, _ = affine_of(norm, len(weight))
    about = [damped(square) for square in squares]
    found = on_its_grid_(layer, rows, about, as_columns(masks, groups), factor.to(rows.device))
    moved = layer.quantizer
    assert isinstance(moved, WeightQuantizer), "it was a grid of this kind before"
    before, after = (((one - rows) @ torch.stack(about) * (one - rows)).sum(2) for one in (nearest, found))
    better = after < before
    chosen = from_columns(found.where(better[:, :, None], nearest), weight.shape).to(weight)
    steps = moved.scale_for(from_columns(found, weight.shape).to(weight)).where(better.flatten(), grid.scale_for(weight))
    layer.quantizer = grid.moved(chosen, steps.detach())
    layer.weight.copy_(chosen)
