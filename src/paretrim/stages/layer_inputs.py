"""Second moments of the inputs and target outputs of weighted layers: all that a least-squares fit needs.

A layer's output is linear in its weights, so the squared error of its output over calibration images is a quadratic function of
them, with one matrix that all output channels share. Columns are in the order [kh, kw, Ci]: input channels of one kernel position
are adjacent, as in the blocks of :mod:`paretrim.stages.prune.patterns`.

Source: Hassibi & Stork 1993, "Second order derivatives for network pruning: optimal brain surgeon"; layer by layer: Dong et al.
2017 (arXiv 1705.07565), Frantar & Alistarh 2022 (arXiv 2208.11580).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from paretrim.graph.operations.channel_rules import groups_of
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Node
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.layers import BatchNorm
from paretrim.network.network import Network
from paretrim.train.execution import fast_batches

_AT_ONCE = 2**24
"""Unfolded input values to process at once: more would take memory without being faster."""

_VALUES = 2**26
"""Input values that moments are taken from, at most: neighbours in a large map say nearly the same."""

_POSITIONS_A_WEIGHT = 64
"""Output positions for every weight of a row, at least, so that its moments are known well."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of a layer's inputs u [D], over images and output positions, for each of its G groups; float64.

    Of very many positions only those on a grid count, the same for inputs and targets.

    Attributes:
        inputs: mean of ``u u^T``, [G, D, D].
        targets: mean of ``y u^T``, [G, R, D], where y [R] is the target output of the group's output channels, without bias.
        mean: mean of u, [G, D].
        wanted: mean of y, [G, R].
    """

    inputs: Tensor
    targets: Tensor
    mean: Tensor
    wanted: Tensor

    def centred(self) -> Moments:
        """The same about the means: the part to fit if a bias follows."""
        return Moments(
            self.inputs - self.mean[:, :, None] * self.mean[:, None],
            self.targets - self.wanted[:, :, None] * self.mean[:, None],
            torch.zeros_like(self.mean),
            torch.zeros_like(self.wanted),
        )


def as_columns(weight: Tensor, groups: int) -> Tensor:
    """The weight [Co, Ci, kh, kw] or [Co, Ci] as [G, Co / G, D] with D in the order [kh, kw, Ci]."""
    return weight.reshape(len(weight), weight.shape[1], -1).transpose(1, 2).reshape(groups, len(weight) // groups, -1)


def from_columns(columns: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of :func:`as_columns`: [G, R, D] -> [Co, Ci, kh, kw] or [Co, Ci]."""
    return columns.reshape(shape[0], -1, shape[1]).transpose(1, 2).reshape(*shape)


def shift_outputs_(layer: WeightedLayer, norm: BatchNorm | None, shift: Tensor) -> None:
    """Add ``shift`` [Co] to a layer's output, in its bias or in the mean of the BatchNorm after it, which training takes anew."""
    with torch.no_grad():
        if norm is not None:
            norm.mean.sub_(shift)
        elif layer.bias is not None:
            layer.bias.add_(shift)


def layer_moments(
    network: Network, reference: Network, images: Tensor, names: Collection[str], fit: Callable[[Node, Moments], None]
) -> None:
    """Call ``fit`` for the layers in ``names``, first to last, with the moments of each layer's inputs and target outputs.

    Args:
        network: provides the inputs. ``fit`` may change the layer that it is called for; later layers then get its new
            output.
        reference: provides the targets: the outputs of its layers of the same names on their own inputs. It may be ``network``.
        images: calibration images [N, C, H, W].
        names: weighted layers.
        fit: called with a node and its moments.
    """
    layers = weighted_layers(reference)
    for node, inputs in inputs_of_both(network, reference, images):
        if node.name in names:
            fit(node, moments_of(node, layers[node.name].effective_weight(), inputs))


def input_squares(network: Network, images: Tensor, names: Collection[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The mean of u and of its square, float64 [G, D] each, for the layers in ``names``: all that is known of very wide rows."""
    layers, found = weighted_layers(network), {}
    for node, inputs in inputs_of_both(network, network, images):
        if node.name not in names:
            continue
        shape, groups = layers[node.name].weight.shape, groups_of(node)
        width = math.prod(shape[1:])
        sides = _grid(node, groups * width, 1, sum(len(got) for got, _ in inputs))
        mean = squares = torch.zeros(groups, width, dtype=torch.float64, device=layers[node.name].weight.device)
        count = 0
        for got, _ in inputs:
            u = _unfolded(node, got, shape, groups, sides).double()
            mean, squares, count = mean + u.sum(2), squares + u.square().sum(2), count + u.shape[2]
        found[node.name] = mean / count, squares / count
    return found


def inputs_of_both(
    network: Network, reference: Network, images: Tensor
) -> Iterator[tuple[Node, Sequence[tuple[Tensor, Tensor]]]]:
    """Every weighted node, first to last, with its inputs in the network and in the reference, in batches [N, ...].

    The caller may change the layer of the current node in ``network``; later nodes then get the changed values. If both are the
    same network, it is computed once. Without gradients, in evaluation mode.
    """
    with evaluating(network, reference), torch.no_grad():
        parts = list(fast_batches(network, images))
        walks = [network.walk(part) for part in parts]
        others = walks if network is reference else [reference.walk(part) for part in parts]
        for steps in zip(*walks, strict=True):
            wanted = steps if others is walks else [next(other) for other in others]
            yield steps[0][0], [(own[1], other[1]) for own, other in zip(steps, wanted, strict=True)]


def moments_of(node: Node, weight: Tensor, inputs: Sequence[tuple[Tensor, Tensor]]) -> Moments:
    """The moments of a node with this weight, from pairs of batches: its inputs in the network, and in the reference."""
    groups, same = groups_of(node), all(got is wanted for got, wanted in inputs)
    columns = as_columns(weight, groups)
    _, rows, width = columns.shape
    sides = _grid(node, groups * width, width, sum(len(got) for got, _ in inputs))
    of_outputs = 2 * rows < width  # then products with y take less time than products with the inputs that y comes from

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(groups, *shape, dtype=torch.float64, device=weight.device)

    size = rows if of_outputs else width
    squares, mean, products, other = zeros(width, width), zeros(width), zeros(size, width), zeros(size)
    at_once, count = max(1, _AT_ONCE // (groups * width * math.prod(map(len, sides)))), 0
    for got, wanted in inputs:
        for first in range(0, len(got), at_once):
            part = slice(first, first + at_once)
            u = _unfolded(node, got[part], weight.shape, groups, sides)
            squares.add_(u @ u.transpose(1, 2))
            mean.add_(u.sum(2))
            count += u.shape[2]
            if not same:
                v = _unfolded(node, wanted[part], weight.shape, groups, sides)
                v = columns @ v if of_outputs else v
                products.add_(v @ u.transpose(1, 2))
                other.add_(v.sum(2))
    squares, mean, products, other = squares / count, mean / count, products / count, other / count
    if same:
        products, other, of_outputs = squares, mean, False
    if not of_outputs:
        products, other = columns.double() @ products, (columns.double() @ other[:, :, None])[:, :, 0]
    return Moments(squares, products, mean, other)


def _grid(node: Node, values: int, width: int, images: int) -> list[range]:
    """The output positions that moments are taken from, down and across; ``values`` are the inputs of one position."""
    sides = node.type.shape[1:] if len(node.type.shape) == 3 else (1, 1)
    sparse = images * math.prod(sides) / max(_VALUES // values, _POSITIONS_A_WEIGHT * width)
    across = min(sides[1], math.ceil(math.sqrt(max(1.0, sparse))))
    down = min(sides[0], math.ceil(max(1.0, sparse / across)))
    return [range((step - 1) // 2, side, step) for side, step in zip(sides, (down, across), strict=True)]


def _unfolded(node: Node, x: Tensor, weight_shape: Sequence[int], groups: int, sides: Sequence[range]) -> Tensor:
    """The inputs of output positions on a grid, [G, D, N * positions] with D in the order [kh, kw, Ci]."""
    if OPERATIONS[node.op].multiplies == "vector":
        return x.T[None]
    settings, padded = settings_of(node), _padded(node, x)
    pixels = padded.permute(0, 2, 3, 1)  # contiguous, if x is in channels-last order
    kernel = list(itertools.product(range(weight_shape[2]), range(weight_shape[3])))
    found = x.new_empty(len(x), len(sides[0]), len(sides[1]), len(kernel), groups * weight_shape[1])
    for place, offsets in enumerate(kernel):
        down, across = (
            slice(offset * spread + side.start * stride, offset * spread + side[-1] * stride + 1, side.step * stride)
            for offset, spread, stride, side in zip(
                offsets, settings.pair("dilation"), settings.pair("stride"), sides, strict=True
            )
        )
        found[:, :, :, place] = pixels[:, down, across]
    split = found.reshape(-1, len(kernel), groups, weight_shape[1])
    return split.permute(2, 1, 3, 0).reshape(groups, len(kernel) * weight_shape[1], -1)


def _padded(node: Node, x: Tensor) -> Tensor:
    top, left, bottom, right = settings_of(node).edges("padding")
    return F.pad(x, (left, right, top, bottom)) if any((top, left, bottom, right)) else x


def patches(node: Node, x: Tensor, weight_shape: Sequence[int]) -> Tensor:
    """The inputs that a node with this weight shape reads at every output position, [N, groups * Ci * kh * kw, positions]."""
    if OPERATIONS[node.op].multiplies == "vector":
        return x[:, :, None]
    settings, padded = settings_of(node), _padded(node, x)
    return F.unfold(padded, (weight_shape[2], weight_shape[3]), settings.pair("dilation"), 0, settings.pair("stride"))
