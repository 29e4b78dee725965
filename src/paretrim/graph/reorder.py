"""The same network with its channels in another order: the function stays the same, and other weights become neighbours.

Channels are moved by whole classes (``paretrim.graph.channels``): the rows of all layers that produce a class go where the rows
of another class of its coupled set were, and the columns of all layers that read it follow. It costs nothing when the network
runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelGroups
from paretrim.graph.operations.channel_rules import Order, is_depthwise
from paretrim.graph.operations.table import OPERATIONS, WEIGHTED, WITH_TENSORS
from paretrim.graph.restrict import ChannelIndices, Restriction, kept_tensors
from paretrim.graph.types import INPUT, Graph, IntArray, Node


def reorderable(graph: Graph, groups: ChannelGroups) -> tuple[IntArray, ...]:
    """The coupled sets whose classes may change places freely, in the order of ``groups.sets``.

    A set is left out if an operation ties its channels to their places, such as the addition of a value and its own shuffle.
    """
    found = []
    for members in groups.sets:
        swapped, turned = np.arange(groups.count), np.arange(groups.count)
        swapped[members[:2]] = members[:2][::-1]
        turned[members] = np.roll(members, 1)
        # Orders that every operation follows are closed under composition, and these two generate all orders of the set.
        if all(_follows(graph, _positions(groups, source)) for source in (swapped, turned)):
            found.append(members)
    return tuple(found)


def reorder(graph: Graph, groups: ChannelGroups, source: IntArray) -> Restriction:
    """Move channels: class ``source[c]`` goes where class c was.

    Args:
        graph: a float graph; left as it is.
        groups: :func:`paretrim.graph.channels.channel_groups` of this graph.
        source: a permutation of the classes that maps every set of :func:`reorderable` to itself and leaves all others alone.

    Returns:
        The reordered graph; ``kept`` holds the old index of every row and column.

    Raises:
        InvalidRecipe: ``source`` is not such a permutation.
    """
    classes = np.arange(groups.count)
    if source.shape != classes.shape or not np.array_equal(np.sort(source), classes):
        raise InvalidRecipe(f"an order of channels must name each of the {groups.count} classes once")
    moved = set(np.flatnonzero(source != classes).tolist())
    for members in reorderable(graph, groups) if moved else ():
        if set(source[members].tolist()) == set(members.tolist()):
            moved -= set(members.tolist())
    if moved:
        raise InvalidRecipe(
            f"channel class {min(moved)} cannot change its place; only classes of one reorderable set trade places"
        )
    positions = _positions(groups, source)
    kept = {node.name: _kept(node, positions) for node in graph.nodes if node.op in WITH_TENSORS}
    nodes = tuple(
        replace(node, tensors=kept_tensors(node, kept[node.name])) if node.name in kept else node for node in graph.nodes
    )
    return Restriction(replace(graph, nodes=nodes), kept)


def _positions(groups: ChannelGroups, source: IntArray) -> dict[str, IntArray]:
    """For every value and channel, the old channel that goes there: the k-th of one class replaces the k-th of another."""
    return {name: _position(classes, source) for name, classes in groups.classes.items()}


def _position(classes: IntArray, source: IntArray) -> IntArray:
    ordered = np.argsort(classes, kind="stable")
    first = np.searchsorted(classes[ordered], np.arange(len(source)))
    rank = np.empty(len(classes), dtype=np.int64)
    rank[ordered] = np.arange(len(classes)) - first[classes[ordered]]
    found: IntArray = ordered[np.minimum(first[source[classes]] + rank, len(classes) - 1)]
    return found


def _kept(node: Node, positions: Mapping[str, IntArray]) -> ChannelIndices:
    outputs = positions[node.name]
    if node.op not in WEIGHTED:
        return ChannelIndices(outputs, outputs)
    # All groups trade the same relative positions, so the first group's columns stand for all.
    return ChannelIndices(
        outputs, np.zeros(1, np.int64) if is_depthwise(node) else positions[node.inputs[0]][: node.tensors["weight"].shape[1]]
    )


def _follows(graph: Graph, positions: Mapping[str, IntArray]) -> bool:
    """Whether every operation makes the new order of its output from the new orders of its inputs."""
    shapes = {INPUT: graph.input.shape} | {node.name: node.type.shape for node in graph.nodes}
    for node in graph.nodes:
        rule = OPERATIONS[node.op].channels
        inputs = [positions[name] for name in node.inputs]
        if rule is None or not rule.follows(Order(node, inputs, positions[node.name], shapes[node.inputs[0]])):
            return False
    return True
