"""Channels on a trainable network: scoring, silencing while a ramp runs, and removing for good."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.constraints import Weighted, set_mask_, weighted_layers
from paretrim.graph.channels import Allocation, ChannelGroups, channel_groups, choose, group_scores
from paretrim.graph.restrict import Kept, Restriction, restrict
from paretrim.network import Network

IntArray = npt.NDArray[np.int64]


def choose_channels(
    network: Network, sparsity: float, *, allocation: Allocation, multiple_of: int
) -> tuple[ChannelGroups, IntArray]:
    """The channel classes with the smallest L2 norm, as many as ``sparsity`` says.

    Source: Li et al. 2017 (arXiv 1608.08710) with the L2 norm, grouped as DepGraph (Fang et al. 2023, arXiv 2301.12900).
    """
    groups = channel_groups(network.graph())
    norms = {}
    with torch.no_grad():
        for name, layer in weighted_layers(network).items():
            rows = layer.effective_weight().reshape(len(layer.weight), -1)
            norms[name] = rows.double().norm(dim=1).cpu().numpy()
    scores = group_scores(groups, norms, mean=True)
    return groups, choose(groups, scores, sparsity, allocation=allocation, multiple_of=multiple_of)


def silence_(network: Network, groups: ChannelGroups, removed: IntArray) -> None:
    """Make the removed channels compute zero: what the smaller network will be, at full size."""
    for name, layer in weighted_layers(network).items():
        alive = _alive(groups, name, removed, layer.weight.device)
        rows = alive.reshape(-1, *[1] * (layer.weight.dim() - 1)).expand_as(layer.weight)
        set_mask_(layer, rows.clone() if layer.mask is None else layer.mask & rows)  # a mask is written to on resumption
        layer.alive = alive.float() if layer.alive is None else layer.alive * alive
    for name, batch_norm in network.batch_norms().items():
        alive = _alive(groups, name, removed, batch_norm.gamma.device)
        batch_norm.alive = alive.float() if batch_norm.alive is None else batch_norm.alive * alive


def _alive(groups: ChannelGroups, name: str, removed: IntArray, device: torch.device) -> Tensor:
    return torch.from_numpy(~np.isin(groups.classes[name], removed)).to(device)


def without_channels(network: Network, groups: ChannelGroups, removed: IntArray) -> Network:
    """The smaller network with its masks and quantizers cut alike."""
    return carried(network, restrict(network.graph(), groups, removed.tolist()))


def carried(network: Network, restriction: Restriction) -> Network:
    """The network on a graph with fewer channels or others in their places; its masks and quantizers go where their rows go."""
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


def _carry_(source: Weighted, target: Weighted, kept: Kept) -> None:
    outputs = torch.from_numpy(kept.outputs).to(source.weight.device)
    inputs = torch.from_numpy(kept.inputs).to(source.weight.device)
    if source.mask is not None:
        mask = source.mask.index_select(0, outputs).index_select(1, inputs)
        if not bool(mask.all()):
            set_mask_(target.to(source.weight.device), mask)
    target.alive = _alive_among(source.alive, kept)
    if source.quantizer is not None:
        target.quantizer = source.quantizer.rows(outputs)


def _alive_among(alive: Tensor | None, kept: Kept) -> Tensor | None:
    """The flags of the channels that are left; None where all of them compute, as is usual once the silenced ones are gone."""
    if alive is None:
        return None
    left = alive[torch.from_numpy(kept.outputs).to(alive.device)]
    return None if bool(left.all()) else left
