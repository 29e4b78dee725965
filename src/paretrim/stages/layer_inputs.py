"""Second moments of the inputs and target outputs of weighted layers: all that a least-squares fit needs.

A layer's output is linear in its weights, so the squared error of its output over calibration images is a quadratic function of
them, with one matrix that all output channels share. Columns are in the order [kh, kw, Ci]: input channels of one kernel position
are adjacent, as in the blocks of :mod:`paretrim.stages.prune.patterns`.

Source: Hassibi & Stork 1993, "Second order derivatives for network pruning: optimal brain surgeon"; layer by layer: Dong et al.
2017 (arXiv 1705.07565), Frantar & Alistarh 2022 (arXiv 2208.11580).
"""

from __future__ import annotations

import dataclasses
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
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.train.execution import fast_batches

_AT_ONCE = 2**24
"""Unfolded input values to process at once: more would take memory without being faster."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of a layer's inputs u [D], over all images and output positions, for each of its G groups; float64.

    Attributes:
        inputs: mean of ``u u^T``, [G, D, D].
        targets: mean of ``y u^T``, [G, R, D], where y [R] is the target output of the group's output channels, without bias.
        mean: mean of u, [G, D].
        wanted: mean of y, [G, R].
        energy: mean of ``y^2``, [G, R].
    """

    inputs: Tensor
    targets: Tensor
    mean: Tensor
    wanted: Tensor
    energy: Tensor

    def centred(self) -> Moments:
        """The same about the means: the part to fit if a bias follows."""
        return Moments(
            self.inputs - self.mean[:, :, None] * self.mean[:, None],
            self.targets - self.wanted[:, :, None] * self.mean[:, None],
            torch.zeros_like(self.mean),
            torch.zeros_like(self.wanted),
            self.energy - self.wanted.square(),
        )


def as_columns(weight: Tensor, groups: int) -> Tensor:
    """The weight [Co, Ci, kh, kw] or [Co, Ci] as [G, Co / G, D] with D in the order [kh, kw, Ci]."""
    return weight.reshape(len(weight), weight.shape[1], -1).transpose(1, 2).reshape(groups, len(weight) // groups, -1)


def from_columns(columns: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of :func:`as_columns`: [G, R, D] -> [Co, Ci, kh, kw] or [Co, Ci]."""
    return columns.reshape(shape[0], -1, shape[1]).transpose(1, 2).reshape(*shape)


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
            positions = math.prod(network.structure.types[node.name].shape[1:])
            fit(node, _moments(node, layers[node.name].effective_weight(), inputs, positions))


def inputs_of_both(
    network: Network, reference: Network, images: Tensor
) -> Iterator[tuple[Node, Sequence[tuple[Tensor, Tensor]]]]:
    """Every weighted node, first to last, with its inputs in the network and in the reference, in batches [N, ...].

    The caller may change the layer of the current node in ``network``; later nodes then get the changed values. If both are the
    same network, it is computed once. Without gradients, in evaluation mode.
    """
    network.eval()
    reference.eval()
    with torch.no_grad():
        parts = list(fast_batches(network, images))
        walks = [network.walk(part) for part in parts]
        others = walks if network is reference else [reference.walk(part) for part in parts]
        for steps in zip(*walks, strict=True):
            wanted = steps if others is walks else [next(other) for other in others]
            yield steps[0][0], [(own[1], other[1]) for own, other in zip(steps, wanted, strict=True)]


def _moments(node: Node, weight: Tensor, inputs: Sequence[tuple[Tensor, Tensor]], positions: int) -> Moments:
    """The moments of pairs of batches: the layer's inputs in the network, and its inputs in the reference."""
    columns = as_columns(weight, groups_of(node))
    groups, rows, width = columns.shape

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(groups, *shape, dtype=torch.float64, device=weight.device)

    totals = Moments(zeros(width, width), zeros(rows, width), zeros(width), zeros(rows), zeros(rows))
    at_once = max(1, _AT_ONCE // (groups * width * positions))
    for got, wanted in inputs:
        for first in range(0, len(got), at_once):
            u = _unfolded(node, got[first : first + at_once], weight.shape, groups)
            v = u if got is wanted else _unfolded(node, wanted[first : first + at_once], weight.shape, groups)
            y = columns @ v
            totals.inputs.add_(u @ u.transpose(1, 2))
            totals.targets.add_(y @ u.transpose(1, 2))
            totals.mean.add_(u.sum(2, dtype=torch.float64))
            totals.wanted.add_(y.sum(2, dtype=torch.float64))
            totals.energy.add_(y.square().sum(2, dtype=torch.float64))
    count = positions * sum(len(got) for got, _ in inputs)
    return Moments(*(total / count for total in dataclasses.astuple(totals)))


def _unfolded(node: Node, x: Tensor, weight_shape: Sequence[int], groups: int) -> Tensor:
    """The inputs of every output position, [G, D, N * positions] with D in the order [kh, kw, Ci]."""
    found = patches(node, x, weight_shape)
    count, _, places = found.shape
    split = found.reshape(count, groups, weight_shape[1], math.prod(weight_shape[2:]), places)
    return split.permute(1, 3, 2, 0, 4).reshape(groups, -1, count * places)


def patches(node: Node, x: Tensor, weight_shape: Sequence[int]) -> Tensor:
    """The inputs that a node with this weight shape reads at every output position, [N, groups * Ci * kh * kw, positions]."""
    if OPERATIONS[node.op].multiplies == "vector":
        return x[:, :, None]
    settings = settings_of(node)
    top, left, bottom, right = settings.edges("padding")
    padded = F.pad(x, (left, right, top, bottom)) if any((top, left, bottom, right)) else x
    return F.unfold(padded, (weight_shape[2], weight_shape[3]), settings.pair("dilation"), 0, settings.pair("stride"))
