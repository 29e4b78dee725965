"""Joint calibration: ranges of activations chosen together, by the outputs of the network.

Source: after Nahshan et al. 2021, "Loss aware post-training quantization" (LAPQ), arXiv 1911.07190: from the ranges of single
layers on, one range after the other is moved. Here the loss is the squared error of the outputs, so that no labels are needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paretrim.graph.fusion import fuse
from paretrim.graph.operations.table import WEIGHTED
from paretrim.network.grids import Grid
from paretrim.network.network import Network
from paretrim.network.uniform import ActivationQuantizer

FACTORS = (0.85, 1.15)
"""Factors applied to a range as long as that helps."""

_MOST = 3
"""Most moves of a range."""

IMAGES = 128
"""Calibration images evaluated for every move of every range."""


def calibrate_jointly_(network: Network, reference: Network, images: Tensor) -> None:
    """Move the ranges of layer outputs, first to last, to where the network's outputs are closest to those of the float network.

    Ranges of pixels, sums, products, averages and concatenations stay: their steps keep results from lying half-way between two.
    """
    network.eval()
    reference.eval()
    some = images[:IMAGES]
    grids = network.quantizers()
    with torch.no_grad():  # grids that are made here train later
        wanted = reference.outputs(some)
        best = _error(network, some, wanted)
        for run in fuse(network.structure):
            quantizer = grids.get(run.end.name)
            if run.head.op in WEIGHTED and isinstance(quantizer, ActivationQuantizer):
                best = _moved_(network, run.end.name, quantizer, best, (some, wanted))


def _moved_(
    network: Network, name: str, quantizer: ActivationQuantizer, best: float, problem: tuple[Tensor, tuple[Tensor, ...]]
) -> float:
    """Move one range as long as that helps, in one direction; the error that is left."""
    start, chosen = quantizer.grid(), quantizer
    for factor in FACTORS:
        for power in range(1, _MOST + 1):
            grid = Grid(start.scale * factor**power, start.zero_point)
            tried = ActivationQuantizer.fitted(grid, quantizer.scales).to(problem[0].device).eval()
            network.set_grid_(name, tried)
            error = _error(network, *problem)
            if not error < best:
                break
            best, chosen = error, tried
        if chosen is not quantizer:
            break
    network.set_grid_(name, chosen)
    return best


def _error(network: Network, images: Tensor, wanted: tuple[Tensor, ...]) -> float:
    """Squared error of the outputs."""
    found = zip(network.outputs(images), wanted, strict=True)
    return sum(float((output - expected).double().square().sum()) for output, expected in found)
