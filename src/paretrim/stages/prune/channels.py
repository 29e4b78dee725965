"""Channels of a trainable network: scoring them, silencing them during gradual pruning, and removing them for good."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelAllocation, ChannelGroups, channel_groups, choose, group_scores
from paretrim.graph.operations.channel_rules import is_depthwise
from paretrim.graph.restrict import ChannelIndices, Restriction, restrict
from paretrim.graph.types import Float64Array, IntArray, Node
from paretrim.network.constraints import WeightedLayer, set_mask_, weighted_layers
from paretrim.network.network import Network

SetSelector = Callable[[ChannelGroups], Sequence[bool]]
"""For every coupled set of channels, whether it may lose some."""


def choose_channels(
    network: Network,
    row_scores: Mapping[str, Tensor],
    sparsity: float,
    *,
    allocation: ChannelAllocation,
    multiple_of: int,
    keys: Sequence[Float64Array] | None = None,
    selected: SetSelector | None = None,
) -> tuple[ChannelGroups, IntArray]:
    """The channel classes with the smallest scores, as many as ``sparsity`` requires, silenced ones first.

    ``row_scores`` are the scores of the output channels of every weighted layer, float64 [Co]. ``keys`` as for
    :func:`paretrim.graph.channels.choose`, of the sets that ``selected`` allows to lose channels; without it, all may.

    Source: grouped as DepGraph (Fang et al. 2023, arXiv 2301.12900).
    """
    groups, scores = scored_classes(network, row_scores, selected)
    return groups, choose(groups, scores, sparsity, allocation=allocation, multiple_of=multiple_of, keys=keys)


def scored_classes(
    network: Network, row_scores: Mapping[str, Tensor], selected: SetSelector | None = None
) -> tuple[ChannelGroups, Float64Array]:
    """The channel classes of a network, with the selected sets, and the score of each class; silenced ones have the smallest."""
    groups = channel_groups(network.graph())
    norms = {name: scores.cpu().numpy() for name, scores in row_scores.items()}
    scores = group_scores(groups, norms, mean=True)
    # A channel whose weights happen to be 0 still has its bias, so silenced channels are removed before it.
    living = np.setdiff1d(np.concatenate([groups.classes[name] for name in groups.producers]), silenced(network, groups))
    scores[living] = np.maximum(scores[living], np.finfo(np.float64).tiny)
    if selected is not None:
        groups = dataclasses.replace(groups, sets=tuple(itertools.compress(groups.sets, selected(groups))))
    return groups, scores


def require_removable(sets: Sequence[IntArray], multiple_of: int, stage: str) -> None:
    """Refuse sets of coupled channels of which none can be removed; every set keeps at least one.

    Raises:
        InvalidRecipe: there are none, or all are left when the remaining ones are rounded up to ``multiple_of``.
    """
    largest = max((len(members) for members in sets), default=0)
    if largest < 2:
        raise InvalidRecipe(
            f"{stage}: no channels of this network can be removed: they are its outputs, go together with its input, or are the "
            "only ones of their layer; set single weights or blocks to zero instead"
        )
    if multiple_of >= largest:
        raise InvalidRecipe(
            f"{stage}: multiple_of is {multiple_of}, but no layer has more than {largest} channels, so none would be removed; "
            f"choose less than {largest}"
        )


def silenced(network: Network, groups: ChannelGroups) -> IntArray:
    """The classes of channels that :func:`silence_` has silenced, ascending."""
    found = [np.empty(0, dtype=np.int64)]
    for name, layer in weighted_layers(network).items():
        if layer.alive is not None:
            found.append(groups.classes[name][layer.alive.cpu().numpy() == 0])
    return np.unique(np.concatenate(found))


def silence_(network: Network, groups: ChannelGroups, removed: IntArray) -> None:
    """Make the full-size network compute what the smaller one will: removed channels are 0 and no layer reads them.

    Both are needed: a function in between, such as a sigmoid, may map 0 to another value, and the step of an observed weight
    must not depend on columns that will be removed.
    """
    nodes = {node.name: node for node in network.structure.nodes}
    for name, layer in weighted_layers(network).items():
        alive = _alive(groups.classes[name], removed, layer.weight.device)
        mask = alive[:, None] & _alive(_columns(nodes[name], layer, groups), removed, layer.weight.device)
        mask = mask.reshape(*mask.shape, *[1] * (layer.weight.dim() - 2)).expand_as(layer.weight)
        set_mask_(layer, mask.clone() if layer.mask is None else layer.mask & mask)  # a mask is written to on resumption
        layer.alive = alive.float() if layer.alive is None else layer.alive * alive
    for name, batch_norm in network.batch_norms().items():
        alive = _alive(groups.classes[name], removed, batch_norm.gamma.device)
        batch_norm.alive = alive.float() if batch_norm.alive is None else batch_norm.alive * alive


def _columns(node: Node, layer: WeightedLayer, groups: ChannelGroups) -> IntArray:
    """The classes of the channels that the columns of a weight read; -1 if every row reads its own."""
    columns = layer.weight.shape[1]
    if is_depthwise(node, tuple(layer.weight.shape)):
        return np.full(columns, -1, dtype=np.int64)
    return groups.classes[node.inputs[0]][:columns]  # all groups of a convolution lose the same relative positions


def _alive(classes: IntArray, removed: IntArray, device: torch.device) -> Tensor:
    return torch.from_numpy(~np.isin(classes, removed)).to(device)


def without_channels(network: Network, groups: ChannelGroups, removed: IntArray) -> Network:
    """The smaller network, with its masks and quantizers reduced accordingly."""
    return carried(network, restrict(network.graph(), groups, removed.tolist()))


def carried(network: Network, restriction: Restriction) -> Network:
    """The network on a graph with fewer or reordered channels; its masks and quantizers follow their rows."""
    smaller = Network(restriction.graph)
    old, new = weighted_layers(network), weighted_layers(smaller)
    for name, layer in new.items():
        _carry_(old[name], layer, restriction.kept[name])
    before = network.batch_norms()
    for name, batch_norm in smaller.batch_norms().items():
        batch_norm.frozen = before[name].frozen
        batch_norm.alive = _alive_among(before[name].alive, restriction.kept[name])
    for name, quantizer in network.quantizers().items():
        smaller.set_grid_(name, quantizer)
    return smaller.to(next(network.parameters()).device)


def _carry_(source: WeightedLayer, target: WeightedLayer, kept: ChannelIndices) -> None:
    outputs = torch.from_numpy(kept.outputs).to(source.weight.device)
    inputs = torch.from_numpy(kept.inputs).to(source.weight.device)
    if source.mask is not None:
        mask = source.mask.index_select(0, outputs).index_select(1, inputs)
        if not bool(mask.all()):
            set_mask_(target.to(source.weight.device), mask)
    target.alive = _alive_among(source.alive, kept)
    if source.quantizer is not None:
        target.quantizer = source.quantizer.rows(outputs, inputs)


def _alive_among(alive: Tensor | None, kept: ChannelIndices) -> Tensor | None:
    """The flags of the remaining channels; None if all of them compute, as is usual once the silenced ones are removed."""
    if alive is None:
        return None
    left = alive[torch.from_numpy(kept.outputs).to(alive.device)]
    return None if bool(left.all()) else left
