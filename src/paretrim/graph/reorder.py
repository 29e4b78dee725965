"""The same network with its channels in another order: the function stays, only which weights are neighbours changes.

Channels are moved by whole classes (``paretrim.graph.channels``): the rows of all layers that produce a class go where the rows
of another class of its coupled set were, and the columns of all layers that read it follow. Nothing is left to do when the
network runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelGroups, IntArray, attribute_number, attribute_numbers, channel_slice, is_depthwise
from paretrim.graph.restrict import Kept, Restriction
from paretrim.graph.types import INPUT, WEIGHTED, Array, Graph, Node


def reorderable(graph: Graph, groups: ChannelGroups) -> tuple[IntArray, ...]:
    """The coupled sets whose classes may change places freely, in the order of ``groups.sets``.

    A set is left out where an operation ties its channels to their places, such as the addition of a value and its own shuffle.
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
    """Move channels: where class c was, class ``source[c]`` comes to lie.

    Args:
        graph: a float graph; left as it is.
        groups: :func:`paretrim.graph.channels.channel_groups` of this graph.
        source: a permutation of the classes that maps every set of :func:`reorderable` to itself and leaves all others alone.

    Returns:
        The reordered graph; ``kept`` tells the old index of every row and column, as if all of them were kept.

    Raises:
        InvalidRecipe: ``source`` is no such permutation.
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
    kept = {node.name: _kept(node, positions) for node in graph.nodes if node.op in WEIGHTED or node.op == "batch_norm"}
    nodes = tuple(replace(node, tensors=_taken(node, kept[node.name])) if node.name in kept else node for node in graph.nodes)
    return Restriction(replace(graph, nodes=nodes), kept)


def _positions(groups: ChannelGroups, source: IntArray) -> dict[str, IntArray]:
    """For every value and channel, the old channel that comes there: the k-th of a class makes way for the k-th of another."""
    return {name: _position(classes, source) for name, classes in groups.classes.items()}


def _position(classes: IntArray, source: IntArray) -> IntArray:
    ordered = np.argsort(classes, kind="stable")
    first = np.searchsorted(classes[ordered], np.arange(len(source)))
    rank = np.empty(len(classes), dtype=np.int64)
    rank[ordered] = np.arange(len(classes)) - first[classes[ordered]]
    found: IntArray = ordered[np.minimum(first[source[classes]] + rank, len(classes) - 1)]
    return found


def _kept(node: Node, positions: Mapping[str, IntArray]) -> Kept:
    outputs = positions[node.name]
    if node.op == "batch_norm":
        return Kept(outputs, outputs)
    # All groups trade the same relative positions, so the first group's columns stand for all.
    return Kept(
        outputs, np.zeros(1, np.int64) if is_depthwise(node) else positions[node.inputs[0]][: node.tensors["weight"].shape[1]]
    )


def _taken(node: Node, kept: Kept) -> dict[str, Array]:
    return {
        name: tensor[np.ix_(kept.outputs, kept.inputs)] if name == "weight" else tensor[kept.outputs]
        for name, tensor in node.tensors.items()
    }


def _follows(graph: Graph, positions: Mapping[str, IntArray]) -> bool:
    """Whether every operation makes the new order of its output from the new orders of its inputs."""
    shapes = {INPUT: graph.input.shape} | {node.name: node.type.shape for node in graph.nodes}
    for node in graph.nodes:
        inputs = [positions[name] for name in node.inputs]
        if not _agrees(node, inputs, positions[node.name], shapes[node.inputs[0]]):
            return False
    return True


def _agrees(node: Node, inputs: list[IntArray], output: IntArray, shape: tuple[int, ...]) -> bool:
    first = inputs[0]
    channels = len(first)
    if node.op in WEIGHTED and not is_depthwise(node):
        return _alike(first, node) and _alike(output, node)
    if node.op in WEIGHTED:
        expected = _spread(first, len(output) // channels)
    elif node.op == "flatten":
        expected = _spread(first, math.prod(shape[1:]))
    elif node.op == "concat":
        starts = np.cumsum([0, *(len(part) for part in inputs[:-1])])
        expected = np.concatenate([part + start for part, start in zip(inputs, starts, strict=True)])
    elif node.op == "slice" and node.attributes["axis"] == 0:
        taken = np.arange(channels)[channel_slice(node, channels)]
        expected = np.searchsorted(taken, first[taken])
        if not np.array_equal(taken[np.minimum(expected, len(taken) - 1)], first[taken]):
            return False
    elif node.op == "pad":
        before = attribute_numbers(node, "before")[0]
        expected = output.copy()  # zeros may trade places with zeros, and do where all the others stay among themselves
        expected[before : before + channels] = first + before
    elif node.op == "channel_shuffle":
        shuffled = np.arange(channels).reshape(attribute_number(node, "groups"), -1).T.reshape(-1)
        expected = np.argsort(shuffled)[first[shuffled]]
    else:
        expected = first
        if any(not np.array_equal(first, other) for other in inputs[1:]):
            return False
    return np.array_equal(expected, output)


def _alike(order: IntArray, node: Node) -> bool:
    """Whether an order stays within the groups of a convolution and is the same in each."""
    groups = attribute_number(node, "groups") if node.op == "conv2d" else 1
    runs = order.reshape(groups, -1)
    return bool((runs == runs[0] + np.arange(groups)[:, None] * runs.shape[1]).all())


def _spread(order: IntArray, times: int) -> IntArray:
    """The order of values that each become ``times`` consecutive ones."""
    return (order[:, None] * times + np.arange(times)).reshape(-1)
