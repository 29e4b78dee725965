"""Plain steps of weights before they are rounded, so that settling changes no channel's gain afterwards.

A step that :func:`paretrim.network.settle.settle_` moves takes the whole channel with it, by up to 1.6 %. Training makes up for
that; without training the weights are better rounded to the plain step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from paretrim.graph.fold import folded_bias
from paretrim.graph.fusion import Fusion, fuse, grid_holders
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.plain import neighbouring_plain_scales
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.network import Network
from paretrim.network.uniform import WeightQuantizer


def choose_plain_steps_(network: Network) -> None:
    """Move the steps of uniform weight grids to plain ones, of the two beside each that with the smaller squared error.

    Only where settling moves them: not before float32 results, and not where no BatchNorm follows and steps are observed.
    """
    layers, holders = weighted_layers(network), grid_holders(network.structure)
    for run in fuse(network.graph(weights=False)):
        if run.head.op in WEIGHTED and run.end.name in holders:
            layer = layers[run.head.name]
            if isinstance(layer.quantizer, WeightQuantizer) and (run.batch_norm or layer.quantizer.trained_scale is not None):
                layer.quantizer.scale_by_(_factors(run, layer, layer.quantizer))


def _factors(run: Fusion, layer: WeightedLayer, grid: WeightQuantizer) -> Tensor:
    """The factor of the step of every output channel that makes it plain, float64 [Co]; 1 where BatchNorm multiplies by 0."""
    weight = layer.masked_weight().detach().double()
    own = grid.scale_for(layer.masked_weight()).detach().double()
    gain = np.abs(folded_bias(run.head, run.batch_norm)[0])
    gain = np.where(gain == 0, 1.0, gain)
    lower, upper = neighbouring_plain_scales(own.cpu().numpy() * gain)
    below, above = (torch.from_numpy(scales / gain).to(own.device) for scales in (lower, upper))
    better = _squared_error(weight, below, grid.top) < _squared_error(weight, above, grid.top)
    return torch.where(better, below, above) / own


def _squared_error(weight: Tensor, steps: Tensor, top: int) -> Tensor:
    """Of a weight [Co, ...] rounded to a grid with these steps [Co]; [Co]."""
    columns = steps.reshape(-1, *[1] * (weight.dim() - 1))
    rounded = (weight / columns).round_().clamp_(-top, top).mul_(columns)
    return rounded.sub_(weight).square_().flatten(1).sum(1)
