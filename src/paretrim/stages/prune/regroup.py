"""Channel orders that group small weights in the same blocks of four, so that pruning blocks loses less, free at run time.

Channels may have any order as long as every layer that reads them follows (``paretrim.graph.reorder``). With one threshold per
layer, a mask keeps ``sum(max(energy of block - threshold, 0))`` above the threshold; channels are swapped between blocks while
that grows. The thresholds are those of the masks that pruning would choose. They are updated after every round, as long as the
share of squared magnitude that the masks keep grows.

Source: Pool & Yu 2021, "Channel permutations for N:M sparsity" (NeurIPS), whose search also swaps channels between groups.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from paretrim.graph.channels import ChannelGroups, channel_groups
from paretrim.graph.operations.channel_rules import is_depthwise
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.reorder import reorder, reorderable
from paretrim.graph.types import Graph, IntArray
from paretrim.method import Method
from paretrim.network.network import Network
from paretrim.stages.prune.channels import carried
from paretrim.stages.prune.patterns import Pattern, block_alive, block_scores

ROUNDS = 2
"""Maximum rounds of new thresholds; four find nothing more on a trained ResNet-20."""

SWEEPS = 4
"""Maximum passes over all pairs of blocks, which end early after a pass without a swap; twenty find nothing more there."""

ROWS = 4096
"""Maximum rows used to judge an order, sampled from those of all readers: sets of 512 channels have tens of thousands."""

GAIN = 1e-9
"""Minimum gain of a swap, as a share: rounding differences are smaller, and would cause endless swaps."""

METHODS = (
    Method(
        name="regroup",
        kind="option",
        source="Pool & Yu 2021, Channel permutations for N:M sparsity (NeurIPS)",
        what="reorder channels so that blocks of four keep more magnitude; the function stays the same",
        formula="swap channels between blocks while sum over blocks of max(energy(block) - threshold, 0) grows",
        recipe="regroup",
        settings=("prune.regroup",),
    ),
)

Masks = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""From weights by layer to the masks that pruning would choose."""


def regrouped(network: Network, names: Collection[str], pattern: Pattern, masks: Masks) -> Network:
    """The same function with channels in an order in which ``masks`` keep more; the network itself if none is found.

    Args:
        network: not changed; the result has its masks and quantizers, in the new order.
        names: the layers that will be pruned.
        pattern: a pattern whose blocks are consecutive input channels.
        masks: chooses the masks of these layers from their weights.
    """
    graph = network.graph()
    groups = channel_groups(graph)
    sets = [members for members in reorderable(graph, groups) if len(members) > pattern.block]
    source: IntArray = np.arange(groups.count)
    weights = _weights(graph, names)
    best = kept_share(weights, chosen := masks(weights))
    for _ in range(ROUNDS):
        tried = source.copy()
        thresholds = {name: _threshold(weights[name], chosen[name], pattern) for name in names}
        for members in sets:
            readers = _readers(graph, groups, members, weights, pattern)
            if readers:
                energies = torch.cat([energy for _, energy in readers], 1)
                levels = torch.cat([energy.new_full((energy.shape[1],), thresholds[name]) for name, energy in readers])
                if len(levels) > ROWS:
                    drawn = torch.randperm(len(levels), generator=torch.Generator().manual_seed(0))[:ROWS]
                    energies, levels = energies[:, drawn], levels[drawn]
                tried[members] = source[members[arranged(energies, levels, pattern.block)]]
        weights = _weights(reorder(graph, groups, tried).graph, names)
        share = kept_share(weights, chosen := masks(weights))
        if share <= best:
            break
        source, best = tried, share
    moved = bool((source != np.arange(groups.count)).any())
    return carried(network, reorder(graph, groups, source)) if moved else network


def kept_share(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> float:
    """Share of the squared magnitude of all layers together that the masks keep; 1 for weights that are all zero."""
    squares = {name: weight.double().square() for name, weight in weights.items()}
    total = sum(float(square.sum()) for square in squares.values())
    return sum(float((squares[name] * masks[name]).sum()) for name in squares) / total if total else 1.0


def arranged(energies: Tensor, thresholds: Tensor, block: int) -> IntArray:
    """An order of channels, by swaps from the one given, with more energy above the thresholds in blocks of neighbours.

    Args:
        energies: [channels, rows]: contribution of a channel to its block, for every row.
        thresholds: [rows]: what a block must exceed to be kept.
        block: channels in a block; the last one may have fewer.

    Returns:
        The channel for every position, [channels].
    """
    places = [list(range(start, min(start + block, len(energies)))) for start in range(0, len(energies), block)]
    sums = torch.stack([energies[members].sum(0) for members in places])
    worth = [float(functional.relu(total - thresholds).sum()) for total in sums]
    for _ in range(SWEEPS):
        swapped = False
        for left in range(len(places)):
            for right in range(left + 1, len(places)):
                change = energies[places[right]][None] - energies[places[left]][:, None]
                gained = functional.relu(sums[left] + change - thresholds).sum(2)
                other = functional.relu(sums[right] - change - thresholds).sum(2)
                best = int((gained + other).argmax())
                i, j = divmod(best, len(places[right]))
                if float(gained[i, j] + other[i, j]) <= (worth[left] + worth[right]) * (1 + GAIN):
                    continue
                places[left][i], places[right][j] = places[right][j], places[left][i]
                for group in (left, right):
                    sums[group] = energies[places[group]].sum(0)
                    worth[group] = float(functional.relu(sums[group] - thresholds).sum())
                swapped = True
        if not swapped:
            break
    return np.array([channel for members in places for channel in members], dtype=np.int64)


def _weights(graph: Graph, names: Collection[str]) -> dict[str, Tensor]:
    return {node.name: torch.from_numpy(node.tensors["weight"]) for node in graph.nodes if node.name in names}


def _threshold(weight: Tensor, mask: Tensor, pattern: Pattern) -> float:
    """The smallest energy of a kept block; infinite if there is none."""
    stay = block_alive(mask, pattern)
    return float(block_scores(weight, pattern)[stay].min()) if bool(stay.any()) else float("inf")


def _readers(
    graph: Graph, groups: ChannelGroups, members: IntArray, weights: Mapping[str, Tensor], pattern: Pattern
) -> list[tuple[str, Tensor]]:
    """The layers that read the set block by block, with energies [channels of the set, rows].

    Layers that read it in another way, for example after a shuffle or from the middle of a block, do not affect the order.
    """
    found = []
    for node in graph.nodes:
        if node.op not in WEIGHTED or node.name not in weights or is_depthwise(node):
            continue
        weight = weights[node.name]
        columns = groups.classes[node.inputs[0]][: weight.shape[1]]  # the other groups of a convolution have the same ones
        if not np.isin(members, columns).all():
            continue
        places = np.array([np.flatnonzero(columns == member)[0] for member in members])
        if _in_blocks(places, len(columns), pattern.block):
            found.append((node.name, weight[:, places].double().square().movedim(1, 0).reshape(len(members), -1)))
    return found


def _in_blocks(places: IntArray, columns: int, block: int) -> bool:
    """Whether every ``block`` of a set's channels is one block of the columns, and the last one, if smaller, is at their end."""
    for start in range(0, len(places), block):
        run = places[start : start + block]
        if run[0] % block or not np.array_equal(run, run[0] + np.arange(len(run))):
            return False
        if len(run) < block and run[-1] != columns - 1:
            return False
    return True
