"""Grids that the weights of a network already lie on: quantizing once more keeps them.

Steps are found from the weights alone, so those of weights that were rounded by what they do to outputs would not be found
again, and rounding to other steps would only add error.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.network.uniform import WeightQuantizer

_CLOSE = 2.0**-20
"""Largest relative difference of a weight from its grid: observed steps are computed anew from the largest weight."""


def take_grids_(network: Network) -> dict[str, WeightQuantizer]:
    """Take the grids of weights off a network; returned are the uniform ones on which all weights of their layer lie."""
    found = {}
    for name, layer in weighted_layers(network).items():
        grid, layer.quantizer = layer.quantizer, None
        if isinstance(grid, WeightQuantizer) and grid.priced is None:
            weight = layer.effective_weight().detach()
            with torch.no_grad():
                apart = (grid(weight) - weight).abs()
            if bool((apart <= _CLOSE * weight.abs()).all()):
                found[name] = grid
    return found


def keep_grids_(network: Network, held: Mapping[str, WeightQuantizer]) -> None:
    """Put layers back on the steps of the grids they lie on, where their new grid is of the same kind and width."""
    for name, layer in weighted_layers(network).items():
        grid, old = layer.quantizer, held.get(name)
        if old is not None and isinstance(grid, WeightQuantizer) and grid.priced is None and grid.bits == old.bits:
            weight = layer.masked_weight().detach()
            layer.quantizer = grid.moved(weight, old.scale_for(weight).detach())
