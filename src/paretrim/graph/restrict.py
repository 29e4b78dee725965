"""The smaller graph that is left when classes of channels are removed; NumPy only.

``paretrim.graph.channels`` says which classes there are and what removing one means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import ChannelGroups
from paretrim.graph.operations.channel_rules import Survivors, is_depthwise
from paretrim.graph.operations.table import OPERATIONS, WEIGHTED, WITH_TENSORS
from paretrim.graph.types import Array, Attribute, Graph, IntArray, Node


@dataclass(frozen=True, eq=False)
class ChannelIndices:
    """Indices of what stays of one node's tensors: ascending if channels are removed, in any order if they trade places.

    Attributes:
        outputs: into the first axis of the weight (and the bias, masks, quantizer scales), or into ``batch_norm`` vectors.
        inputs: into the second axis of the weight, that is within a group; the same as ``outputs`` without a weight.
    """

    outputs: IntArray
    inputs: IntArray


@dataclass(frozen=True, eq=False)
class Restriction:
    """A graph without the removed channels; ``kept`` has the indices of every node with tensors."""

    graph: Graph
    kept: Mapping[str, ChannelIndices]


def restrict(graph: Graph, groups: ChannelGroups, removed: Iterable[int]) -> Restriction:
    """Remove classes of channels: new shapes, sliced tensors, adjusted slices, pads and depthwise groups everywhere.

    Args:
        graph: a float graph; left as it is.
        groups: :func:`paretrim.graph.channels.channel_groups` of this graph.
        removed: indices of classes, such as :func:`paretrim.graph.channels.choose` returns.

    Raises:
        InvalidRecipe: a class does not exist or is frozen, or a value would have no channel left.
    """
    count = groups.count
    keep = np.ones(count, dtype=np.bool_)
    for index in map(int, removed):
        if not 0 <= index < count:
            raise InvalidRecipe(f"there is no channel class {index}; this graph has classes 0 to {count - 1}")
        if index in groups.frozen:
            raise InvalidRecipe(f"channel class {index} cannot be removed: {groups.frozen[index]}")
        keep[index] = False
    positions = {name: np.flatnonzero(keep[classes]) for name, classes in groups.classes.items()}
    for name, left in positions.items():
        if not len(left):
            raise InvalidRecipe(
                f"removing these channels leaves none of the {len(groups.classes[name])} of '{name}'; keep at least one"
            )
    kept = {node.name: _kept(node, positions) for node in graph.nodes if node.op in WITH_TENSORS}
    nodes = tuple(
        replace(
            node,
            type=replace(node.type, shape=(len(positions[node.name]), *node.type.shape[1:])),
            attributes={**node.attributes, **_changed_attributes(node, groups, positions)},
            tensors=kept_tensors(node, kept[node.name]) if node.name in kept else node.tensors,
        )
        for node in graph.nodes
    )
    return Restriction(replace(graph, nodes=nodes), kept)


def _kept(node: Node, positions: Mapping[str, IntArray]) -> ChannelIndices:
    outputs, inputs = positions[node.name], positions[node.inputs[0]]
    if node.op not in WEIGHTED:
        return ChannelIndices(outputs, outputs)
    if is_depthwise(node):
        return ChannelIndices(outputs, np.zeros(1, np.int64))
    # All groups lose the same relative positions, so the first group's columns stand for all.
    return ChannelIndices(outputs, inputs[inputs < node.tensors["weight"].shape[1]])


def kept_tensors(node: Node, kept: ChannelIndices) -> dict[str, Array]:
    """The tensors of a node with these channels, in their order."""
    return {
        name: tensor[np.ix_(kept.outputs, kept.inputs)] if name == "weight" else tensor[kept.outputs]
        for name, tensor in node.tensors.items()
    }


def _changed_attributes(node: Node, groups: ChannelGroups, positions: Mapping[str, IntArray]) -> dict[str, Attribute]:
    """Attributes that count channels."""
    rule, source = OPERATIONS[node.op].channels, node.inputs[0]
    if rule is None:
        return {}
    return rule.restricted(Survivors(node, positions[source], positions[node.name], len(groups.classes[source])))
