"""Joint calibration: activation ranges chosen together, by their effect on the network's outputs.

Source: after Nahshan et al. 2021, "Loss aware post-training quantization" (LAPQ), arXiv 1911.07190: starting from the ranges of
single layers, adjust one range at a time. Here the loss is the squared error of the outputs, so no labels are needed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from paretrim.graph.fusion import fuse
from paretrim.graph.operations.table import WEIGHTED
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.network import Network
from paretrim.network.uniform import ActivationQuantizer

FACTORS = (0.85, 1.15)
"""Factors applied to a range as long as that helps."""

_MOST = 3
"""Maximum number of changes of a range."""

IMAGES = 128
"""Calibration images evaluated for every change of every range."""


def calibrate_jointly_(network: Network, reference: Network, images: Tensor) -> None:
    """Adjust the ranges of layer outputs, first to last, to bring the network's outputs closest to those of the float network.

    Ranges of pixels, sums, products, averages and concatenations are kept: calibration chose their steps to avoid ties.
    """
    some = images[:IMAGES]
    grids = network.quantizers()
    with evaluating(network, reference), torch.no_grad():  # not inference_mode: the grids made here train later
        wanted = reference.outputs(some)
        best = _error(network, some, wanted)
        for run in fuse(network.structure):
            quantizer = grids.get(run.end.name)
            if run.head.op in WEIGHTED and isinstance(quantizer, ActivationQuantizer):
                best = _moved_(network, run.end.name, quantizer, best, (some, wanted))


def _moved_(
    network: Network, name: str, quantizer: ActivationQuantizer, best: float, problem: tuple[Tensor, tuple[Tensor, ...]]
) -> float:
    """Change one range in one direction as long as that helps; returns the remaining error."""
    start, chosen = quantizer.grid(), quantizer
    for factor in FACTORS:
        for power in range(1, _MOST + 1):
            grid = replace(start, scale=start.scale * factor**power)
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
