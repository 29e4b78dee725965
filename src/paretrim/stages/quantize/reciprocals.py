"""Grids of reciprocals, such as 1 / norm: values that only scale another value.

Where that other value is 0, their product is 0 whatever the reciprocal is. There it may be as large as 1e12 (``F.normalize`` of
a pixel that is 0 in all channels) or 1 / sqrt(eps) (a constant group of a GroupNorm), so a range that covers it would leave no
steps for all others. The range of a reciprocal is therefore the one with the smallest squared error of the products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.graph.fusion import grid_holders
from paretrim.graph.operations.table import NORMALIZING
from paretrim.graph.types import INPUT, Graph, Node
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.grids import Grid, grid_for_range
from paretrim.network.layers import is_fixed
from paretrim.network.network import Network
from paretrim.train.execution import fast_batches

_PER_OCTAVE = 16
"""Bins of magnitudes between two powers of two."""

_LEAST_EXPONENT, _LARGEST_EXPONENT = -127, 129

_MOST_RANGES = 512
"""Ranges to try."""


def reciprocals_of(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """Values that are a power below 0, or such a power repeated along axes, scaled or shifted, and that only products read.

    With the values that they are multiplied with, directly or behind such a step.
    """
    consumers = graph.consumers()
    found: dict[str, tuple[str, ...]] = {}
    for node in reversed(graph.nodes):
        if (partners := _partners(node, consumers[node.name], found)) and node.name not in graph.outputs:
            found[node.name] = partners
    roots: set[str] = {node.name for node in graph.nodes if _is_reciprocal(node)}
    for node in graph.nodes:
        if node.name in found and set(node.inputs) & roots:
            roots.add(node.name)
    return {name: partners for name, partners in found.items() if name in roots}


def _is_reciprocal(node: Node) -> bool:
    constant = node.attributes.get("constant")
    return node.attributes.get("function") == "power" and isinstance(constant, float) and constant < 0


def _partners(node: Node, readers: tuple[Node, ...], found: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """What a value is multiplied with, if all its readers are products or pass it on to products; else nothing."""
    partners: list[str] = []
    for reader in readers:
        if reader.op == "mul" and reader.inputs[0] != reader.inputs[1]:
            partners.append(reader.inputs[1] if reader.inputs[0] == node.name else reader.inputs[0])
        elif _spreads(node, reader) and reader.name in found:
            partners += found[reader.name]
        else:
            return ()
    return tuple(dict.fromkeys(partners))


def _spreads(node: Node, reader: Node) -> bool:
    """Whether an operation only repeats a value along axes, or scales and shifts it by constants."""
    before, after = node.type.shape, reader.type.shape
    fits = len(before) == len(after) and all(small in (1, large) for small, large in zip(before, after, strict=True))
    moves = reader.op == "pointwise" and reader.attributes["function"] in ("mul_constant", "add_constant")
    copies = is_fixed(reader) and before[0] == 1
    return fits and (moves or copies or reader.op in NORMALIZING or reader.op == "adaptive_avg_pool")


@dataclass
class _Magnitudes:
    """Magnitudes of a reciprocal in bins, with the squares of what they are multiplied with as weights."""

    low: float = 0.0
    high: float = 0.0
    weights: npt.NDArray[np.float64] = field(
        default_factory=lambda: np.zeros(_PER_OCTAVE * (_LARGEST_EXPONENT - _LEAST_EXPONENT), np.float64)
    )
    sums: npt.NDArray[np.float64] = field(
        default_factory=lambda: np.zeros(_PER_OCTAVE * (_LARGEST_EXPONENT - _LEAST_EXPONENT), np.float64)
    )

    def add_(self, values: Tensor, weights: Tensor) -> None:
        """Count values [N, ...] with weights of the same shape."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        sizes = values.abs().double().flatten()
        some = (sizes > 0) & (weights.flatten() > 0)
        sizes, heavy = sizes[some], weights.flatten()[some].double()
        places = ((sizes.log2() - _LEAST_EXPONENT) * _PER_OCTAVE).long().clamp_(0, len(self.weights) - 1)
        for into, what in ((self.weights, heavy), (self.sums, heavy * sizes)):
            into += torch.bincount(places, what, minlength=len(into)).cpu().numpy()

    def grid(self) -> Grid:
        """The grid with the smallest weighted squared error; where no value matters, that of zeros."""
        used = np.flatnonzero(self.weights)
        if not len(used):
            return grid_for_range(0.0, 0.0)
        weights, sizes = self.weights[used], self.sums[used] / self.weights[used]
        tops = 2.0 ** ((used + 1) / _PER_OCTAVE + _LEAST_EXPONENT)
        tops = tops[:: math.ceil(len(tops) / _MOST_RANGES)]
        tried = [grid_for_range(max(self.low, -float(top)), min(self.high, float(top))) for top in (*tops, tops[-1])]
        return min(tried, key=lambda grid: _error(grid, weights, sizes))


def _error(grid: Grid, weights: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> float:
    top = max(grid.top - grid.zero_point, grid.zero_point)
    return float((weights * (grid.scale * np.minimum(np.rint(sizes / grid.scale), top) - sizes) ** 2).sum())


def reciprocal_grids(network: Network, images: Tensor, grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """The grids of all reciprocals among ``grids``, from images float32 [M, C, H, W]; the others say where products are 0."""
    partners = {name: others for name, others in reciprocals_of(network.structure).items() if name in grids}
    if not partners:
        return {}
    holders = grid_holders(network.structure)
    counted = {name: _Magnitudes() for name in partners}
    wanted = tuple(dict.fromkeys([*partners, *(other for others in partners.values() for other in others)]))
    with evaluating(network), torch.inference_mode():
        for part in fast_batches(network, images):
            values = network.features(part, wanted)
            for name, others in partners.items():
                value = values[name].float()
                weights = sum(_squares(values[other], grids.get(holders.get(other, INPUT)), value) for other in others)
                assert isinstance(weights, Tensor)
                counted[name].add_(value, weights)
    return {name: seen.grid() for name, seen in counted.items()}


def _squares(other: Tensor, grid: Grid | None, value: Tensor) -> Tensor:
    """Squares of a value [N, ...] on its grid, summed over the axes along which ``value`` is repeated, in its shape."""
    moved = other.float()
    if grid is not None:
        moved = torch.round(moved / grid.scale).clamp_(-grid.zero_point, grid.top - grid.zero_point) * grid.scale
    squares = moved.square()
    axes = [axis for axis in range(1, value.dim()) if value.shape[axis] == 1 and squares.shape[axis] > 1]
    total = squares.sum(axes, keepdim=True) if axes else squares
    return total.expand(value.shape)
