"""A weight with different channels, every number format fitted to it, and helpers for tests over all formats."""

import pytest
import torch

from paretrim.network.formats import ACTIVATION_GRIDS, WEIGHT_GRIDS
from paretrim.network.grids import WeightSettings

FITS = [
    pytest.param(kind, bits, scales, priced, id=f"{kind}-{bits}-{scales}{'-priced' * priced}")
    for kind, grid in WEIGHT_GRIDS.items()
    for bits in grid.widths
    for scales in ("learned", "observed")
    for priced in (False, True)
]

GROUP = 2
"""Input channels of a group; the weight has three groups, the last of one channel."""

every_weight_grid = pytest.mark.parametrize(("kind", "bits", "scales", "priced"), FITS)
every_activation_grid = pytest.mark.parametrize("kind", ACTIVATION_GRIDS)
every_unit = pytest.mark.parametrize("unit", [1e-30, 1e-6, 1.0, 1e6, 1e30])


def a_weight(unit=1.0):
    """Dense and sparse channels, one all zero and one much smaller than the others."""
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 3, 3)
    weight[1][torch.rand(5, 3, 3) < 0.6] = 0
    weight[2] = 0
    weight[3] *= 1e-4
    return weight * unit


def fitted(weight, kind, bits, scales, priced):
    price = (weight.abs().amax() * 0.02).square().expand(len(weight)).clone() if priced else None
    grid = WEIGHT_GRIDS[kind].fitted(weight, WeightSettings(bits, scales, torch.full((len(weight),), 0.9), price, group=GROUP))
    if grid.priced is not None:
        grid.priced.recount_(weight)
    return grid


def in_columns(scale):
    return scale.reshape(-1, 1, 1, 1)
