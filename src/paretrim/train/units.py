"""The unit of every parameter, as a power of two: a network whose values are in an unusual unit trains like any other.

A gradient step depends on units: if weights are 1e-9 times as large, gradients are 1e9 times as large. Training therefore
counts every parameter in its unit. Powers of two change no digit of a float, so two networks that differ by such units train
alike to the last bit. A network whose sizes are all usual trains as it is, with all units 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from paretrim.graph.operations.table import NORMALIZING, OPERATIONS, WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Node
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.grids import ActivationGrid, WeightGrid
from paretrim.network.layers import BatchNorm
from paretrim.network.network import Network

USUAL = range(-2, 5)
"""Exponents (as in ``frexp``) of the usual sizes of a layer's output for inputs of size 1; from 2**-3 to 2**4."""

USUAL_NORM = range(-5, 6)
"""The same for images and around a BatchNorm, which compensates the weights before it and is small if a branch adds little."""

USUAL_LOGITS = range(-8, 9)
"""The same for the layer that gives the logits. Their unit is that of the loss, so it differs from 1 only if labels would lose
their meaning otherwise."""

MIDDLE = range(-2, 3)
"""The same for a network of unusual size."""

GRAIN = 2
"""Units are powers of 2**2: a size counted in a unit other than 1 is between half and twice that unit."""

_IMAGES = 64
"""How many images are sampled for their size."""


@dataclass(frozen=True, eq=False)
class Units:
    """Binary exponents of the unit of every parameter whose unit is not 1, and of every output."""

    parameters: Mapping[Tensor, int]
    outputs: tuple[int, ...]


def units_of(network: Network, images: Tensor) -> Units:
    """The units of a network's parameters and outputs, from their sizes and that of normalised images float32 [M, C, H, W].

    If any size is unusual, all sizes are brought closer to 1, since what is too large in one layer is too small in another.
    """
    size = _size(images[:_IMAGES])
    found = _UnitsByName(network, size, {"plain": USUAL, "norm": USUAL_NORM})
    if any(found.values.values()):
        found = _UnitsByName(network, size, {"plain": MIDDLE, "norm": MIDDLE})
    outputs = tuple(found.values[name] for name in network.structure.outputs)
    odd = {parameter: unit for parameter, unit in found.parameters.items() if unit}
    return Units(odd, tuple(0 if unit in USUAL_LOGITS else unit for unit in outputs))


class _UnitsByName:
    """Exponents of the units of values by name, and of parameters."""

    def __init__(self, network: Network, images: float, usual: Mapping[Literal["plain", "norm"], range]) -> None:
        self.layers, self.norms = weighted_layers(network), network.batch_norms()
        self.outputs, self.usual = network.structure.outputs, usual
        consumers = network.structure.consumers()
        self.normed = {name for name, readers in consumers.items() if any(node.op in NORMALIZING for node in readers)}
        self.values = {INPUT: _exponent(images, usual["norm"])}
        self.parameters: dict[Tensor, int] = {}
        for node in network.structure.nodes:
            self.add(node)
        for name, grid in network.quantizers().items():
            self.put_grid(grid, self.values[name])

    def put(self, module: nn.Module, name: str, unit: int) -> None:
        """Note the unit of a parameter, if the module has it."""
        parameter = dict(module.named_parameters(recurse=False)).get(name)
        if parameter is not None:
            self.parameters[parameter] = unit

    def put_grid(self, grid: WeightGrid | ActivationGrid, unit: int) -> None:
        """Note the unit of what a grid trains: that of the values on it."""
        for parameter in grid.parameters():
            self.parameters[parameter] = unit

    def add(self, node: Node) -> None:
        """Note the units of a node's parameters and result."""
        inputs = [self.values[name] for name in node.inputs]
        if node.op in WEIGHTED:
            self.values[node.name] = self._weighted(node, self.layers[node.name], inputs[0])
        elif node.op in NORMALIZING:
            self.values[node.name] = self._norm(self.norms[node.name], inputs[0])
        else:
            scaling = OPERATIONS[node.op].scaling(settings_of(node))
            self.values[node.name] = {"product": sum(inputs), "own": 0}.get(scaling, max(inputs))

    def _weighted(self, node: Node, layer: WeightedLayer, source: int) -> int:
        if not layer.weight.requires_grad:
            return source
        usual = USUAL_LOGITS if node.name in self.outputs else self.usual["norm" if node.name in self.normed else "plain"]
        weight = layer.masked_weight().detach()
        gain = _size(weight, int(weight.count_nonzero())) * math.sqrt(weight[0].numel())
        unit = _exponent(gain, usual, times=source)
        self.put(layer, "weight", unit - source)
        self.put(layer, "bias", unit)
        if layer.quantizer is not None:
            self.put_grid(layer.quantizer, unit - source)
        return unit

    def _norm(self, norm: BatchNorm, source: int) -> int:
        taken = 0 if norm.epsilon else source  # epsilon 0 marks a plain scale and shift
        gamma, beta = math.ldexp(_size(norm.gamma), taken), _size(norm.beta)
        unit = _exponent(max(gamma, beta), self.usual["norm"])
        self.put(norm, "gamma", unit - taken)
        self.put(norm, "beta", unit)
        return unit


def _size(values: Tensor, count: int | None = None) -> float:
    """Root mean square of all values, or of the ``count`` that are not 0; 0 for no values."""
    number = values.numel() if count is None else count
    return float(torch.linalg.vector_norm(values.detach(), dtype=torch.float64)) / math.sqrt(number) if number else 0.0


def _exponent(size: float, usual: range, *, times: int = 0) -> int:
    """The exponent of the unit of values that reach ``size * 2**times``; 0 if that is usual or undefined."""
    if not 0 < size < math.inf:
        return 0
    exponent = math.frexp(size)[1] + times
    return 0 if exponent in usual else GRAIN * (exponent // GRAIN)
