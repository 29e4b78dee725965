"""Moving scale between layers before quantization: a channel is divided where it is produced and multiplied where it is read.

The float function stays the same. What changes is the range of channels that share a grid: the values of a tensor share one step,
and so do the weights of an output channel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.graph.fusion import Fusion, fuse
from paretrim.graph.operations.channel_rules import Channels, Identities, groups_of
from paretrim.graph.operations.table import NORMALIZING, OPERATIONS, WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Graph, IntArray, Node
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.layers import BatchNorm, is_fixed
from paretrim.network.network import Network
from paretrim.train.execution import fast_batches

_ROUNDS = 50
"""Maximum rounds of equalization through the network; ten are usual."""

_STRENGTH = 0.5
"""How far the range of channels behind a BatchNorm that stands alone is moved into the weights, as published."""

_SETTLED = 1e-3
"""Stop after a round that changes no scale by more than this share."""


@dataclass(frozen=True, eq=False)
class ScaleGroups:
    """Which channels can be rescaled, and which only together.

    Attributes:
        inputs: for every weighted node, the group of each channel that it reads.
        outputs: for every weighted node, and every BatchNorm that is not folded into one, the group of each channel that it
            produces.
        free: whether a group can be rescaled, [groups]: its values are produced by those nodes, or are padding, and are read
            only by weighted layers, through operations that commute with scaling.
    """

    inputs: Mapping[str, IntArray]
    outputs: Mapping[str, IntArray]
    free: npt.NDArray[np.bool_]


def scale_groups(network: Network) -> ScaleGroups:
    """Track channels through a float network; unlike in pruning, depthwise layers also start new channels."""
    graph = network.graph(weights=False)
    identities, fixed = Identities(), []
    values = {INPUT: identities.fresh(graph.input.shape[0])}
    fixed.append(values[INPUT])
    shapes = {name: kind.shape for name, kind in graph.types.items()}
    folded = {run.batch_norm.name for run in fuse(graph) if run.batch_norm}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        if node.op in WEIGHTED:
            values[node.name] = identities.fresh(node.type.shape[0])
            fixed.extend([*inputs, values[node.name]] if is_fixed(node) else [])
            continue
        if node.op in NORMALIZING and node.name not in folded:  # it can produce its channels in any scale
            values[node.name] = identities.fresh(node.type.shape[0])
            fixed.extend(inputs)
            continue
        rule = OPERATIONS[node.op].channels
        assert rule is not None, f"a float graph contains no '{node.op}'"
        values[node.name] = rule.outputs(Channels(node, inputs, shapes[node.inputs[0]], identities))
        if node.name not in folded and OPERATIONS[node.op].scaling(settings_of(node)) != "homogeneous":
            fixed.extend([*inputs, values[node.name]])
    fixed.extend(values[name] for name in graph.outputs)
    return _numbered(graph, values, fixed, identities, folded)


def _numbered(
    graph: Graph, values: Mapping[str, IntArray], fixed: list[IntArray], identities: Identities, folded: Collection[str]
) -> ScaleGroups:
    roots = np.array([identities.root(one) for one in range(len(identities.parents))], dtype=np.int64)
    _, numbers = np.unique(roots, return_inverse=True)
    free = np.ones(int(numbers.max()) + 1, dtype=np.bool_)
    free[numbers[np.concatenate(fixed)]] = False
    weighted = [node for node in graph.nodes if node.op in WEIGHTED]
    inputs = {node.name: numbers[values[node.inputs[0]]] for node in weighted}
    makers = [node.name for node in graph.nodes if node.op in WEIGHTED or (node.op in NORMALIZING and node.name not in folded)]
    return ScaleGroups(inputs, {name: numbers[values[name]] for name in makers}, free)


class _Scales:
    """The weighted layers of a network, with the groups of their channels."""

    def __init__(self, network: Network) -> None:
        self.groups = scale_groups(network)
        layers, norms = weighted_layers(network), network.batch_norms()
        self.runs: dict[str, tuple[Fusion, WeightedLayer, BatchNorm | None]] = {}
        for run in fuse(network.structure):
            if run.head.op in WEIGHTED:
                norm = norms[run.batch_norm.name] if run.batch_norm else None
                self.runs[run.head.name] = (run, layers[run.head.name], norm)
        self.alone = {name: norm for name, norm in norms.items() if name in self.groups.outputs}

    def largest(self, of_channels: Mapping[str, Tensor], groups: Mapping[str, IntArray]) -> npt.NDArray[np.float64]:
        """The largest of the channels of each group, float64 [groups]."""
        found = np.zeros(len(self.groups.free))
        for name, values in of_channels.items():
            np.maximum.at(found, groups[name], values.detach().cpu().numpy().astype(np.float64))
        return found

    def read(self) -> npt.NDArray[np.float64]:
        """Largest weight that reads each group, [groups]."""
        return self.largest({name: _columns(run.head, layer) for name, (run, layer, _) in self.runs.items()}, self.groups.inputs)

    def made(self) -> npt.NDArray[np.float64]:
        """Largest weight, with BatchNorm folded in, that produces each group, [groups]."""
        rows = {}
        for name, (_, layer, norm) in self.runs.items():
            rows[name] = layer.masked_weight().detach().reshape(len(layer.weight), -1).abs().amax(1).double()
            if norm is not None:
                rows[name] = rows[name] * (norm.gamma.detach().double() / (norm.variance.double() + norm.epsilon).sqrt()).abs()
        return self.largest(rows, self.groups.outputs)

    def divide_(self, scales: npt.NDArray[np.float64]) -> None:
        """Divide the channels of each free group by its scale, and multiply the weights that read them."""
        used = np.where(self.groups.free, scales, 1.0)
        with torch.no_grad():
            for name, lone in self.alone.items():
                _multiply_norm_(lone, torch.from_numpy(1.0 / used[self.groups.outputs[name]]))
            for name, (run, layer, norm) in self.runs.items():
                _multiply_columns_(run.head, layer, torch.from_numpy(used[self.groups.inputs[name]]))
                factor = torch.from_numpy(1.0 / used[self.groups.outputs[name]])
                if norm is not None:
                    _multiply_norm_(norm, factor)
                    continue
                _multiply_rows_(layer.weight, factor)
                if layer.bias is not None:
                    _multiply_rows_(layer.bias, factor)


def _multiply_norm_(norm: BatchNorm, factor: Tensor) -> None:
    _multiply_rows_(norm.gamma, factor)
    _multiply_rows_(norm.beta, factor)


def _multiply_rows_(parameter: Tensor, factor: Tensor) -> None:
    column = factor.to(parameter.device).reshape(-1, *[1] * (parameter.dim() - 1))
    parameter.copy_((parameter.double() * column).float())


def _by_input(head: Node, weight: Tensor) -> Tensor:
    """The weights that read each input channel: a view [groups, columns, rows of a group, ...] of a weight [Co, columns, ...]."""
    groups = groups_of(head)
    return weight.reshape(groups, len(weight) // groups, weight.shape[1], -1).transpose(1, 2)


def _columns(head: Node, layer: WeightedLayer) -> Tensor:
    """Largest weight that reads each input channel, [Ci]."""
    return _by_input(head, layer.masked_weight().detach().abs()).flatten(2).amax(2).reshape(-1)


def _multiply_columns_(head: Node, layer: WeightedLayer, scales: Tensor) -> None:
    weight = _by_input(head, layer.weight.detach().contiguous())
    moved = weight.double() * scales.to(weight.device).reshape(*weight.shape[:2], 1, 1)
    layer.weight.copy_(moved.transpose(1, 2).reshape(layer.weight.shape).float())


def equalize_(network: Network) -> None:
    """Give the weights that produce a channel and those that read it the same range: cross-layer equalization.

    ``s = sqrt(r1 / r2)``, where r1 is the largest weight that produces a channel (BatchNorm folded in) and r2 the largest that
    reads it; the channel is divided by s. Repeated until scales converge. Channels that are added share one scale. A channel that
    passes through an operation that does not commute with scaling is not changed.

    Source: Nagel et al. 2019 (DFQ, arXiv 1906.04721) section 4.1, equation 11.
    """
    work = _Scales(network)
    for _ in range(_ROUNDS):
        made, read = work.made(), work.read()
        scales = np.sqrt(np.divide(made, read, out=np.ones_like(made), where=(made > 0) & (read > 0)))
        work.divide_(scales)
        if float(np.abs(np.log(np.where(work.groups.free, scales, 1.0))).max(initial=0.0)) < _SETTLED:
            return


def smooth_norms_(network: Network, images: Tensor) -> bool:
    """:func:`smooth_` for the channels of a BatchNorm that is not folded into a layer, as behind a ReLU.

    Its channels share the grid of one value and often have very different ranges. Other networks are not changed. Returns whether
    there is such a BatchNorm.
    """
    work = _Scales(network)
    if work.alone and len(images):
        produced = np.unique(np.concatenate([work.groups.outputs[name] for name in work.alone]))
        work.groups.free[np.setdiff1d(np.arange(len(work.groups.free)), produced)] = False
        _smooth_(network, images, _STRENGTH, work)
    return bool(work.alone)


def smooth_(network: Network, images: Tensor, strength: float) -> None:
    """Move outliers of activations into the weights that read them: SmoothQuant's migration of scale.

    ``s = max|x|^a / max|w|^(1 - a)`` for every channel: x are its values on normalised images float32 [M, C, H, W], w the weights
    that read it, a is the ``strength``. Values are divided by s where they are produced, and w is multiplied, so there is no cost
    at run time.

    Source: Xiao et al. 2023 (SmoothQuant, arXiv 2211.10438) section 4, equation 4; a = 0.5 there.
    """
    _smooth_(network, images, strength, _Scales(network))


def _smooth_(network: Network, images: Tensor, strength: float, work: _Scales) -> None:
    sources = tuple({run.head.inputs[0] for run, _, _ in work.runs.values()})
    seen: dict[str, Tensor] = {}
    with evaluating(network), torch.inference_mode():
        for part in fast_batches(network, images):
            for name, values in network.features(part, sources).items():
                largest = values.abs().amax(tuple(axis for axis in range(values.dim()) if axis != 1))
                seen[name] = largest.maximum(seen[name]) if name in seen else largest
    reach = work.largest({name: seen[run.head.inputs[0]] for name, (run, _, _) in work.runs.items()}, work.groups.inputs)
    read = work.read()
    alive = (reach > 0) & (read > 0) & np.isfinite(reach)
    work.divide_(np.where(alive, reach, 1.0) ** strength / np.where(alive, read, 1.0) ** (1 - strength))
