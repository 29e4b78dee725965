"""What operations do to channels: which channel of the output comes from which of the inputs.

Every value carries one identity per channel (per feature after ``flatten``). :mod:`paretrim.graph.channels` follows them through
a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paretrim.errors import UnsupportedOperation
from paretrim.graph.node import Attribute, IntArray, Node
from paretrim.graph.operations.attributes import Shape


class Identities:
    """A union-find over channel identities; the smallest identity of a class is its root."""

    def __init__(self) -> None:
        self.parents: list[int] = []

    def fresh(self, count: int) -> IntArray:
        """``count`` new identities."""
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def root(self, identity: int) -> int:
        """The identity that represents the class of another."""
        parents = self.parents
        while parents[identity] != identity:
            parents[identity] = parents[parents[identity]]
            identity = parents[identity]
        return identity

    def unite(self, left: IntArray, right: IntArray) -> None:
        """Unite each identity on the left with the one at the same place on the right."""
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self.parents[high] = low

    def unite_groups(self, identities: IntArray, groups: int) -> None:
        """Unite the identities at the same relative position of ``groups`` equal runs."""
        runs = identities.reshape(groups, -1)
        for run in runs[1:]:
            self.unite(runs[0], run)


@dataclass(frozen=True, eq=False)
class Channels:
    """A node with the identities of its inputs' channels; ``shape`` is that of the first input."""

    node: Node
    inputs: list[IntArray]
    shape: Shape
    identities: Identities


@dataclass(frozen=True, eq=False)
class Order:
    """A node and, for every channel of its inputs and output, the old channel that goes there when channels move."""

    node: Node
    inputs: list[IntArray]
    output: IntArray
    shape: Shape


@dataclass(frozen=True, eq=False)
class Survivors:
    """A node and the channels that stay, of the ``count`` of its first input and of its output, when channels are removed."""

    node: Node
    inputs: IntArray
    outputs: IntArray
    count: int


@dataclass(frozen=True, eq=False)
class ChannelRule:
    """What an operation does to channels.

    Attributes:
        outputs: identities of the output's channels.
        follows: whether the operation makes the new order of its output from the new orders of its inputs.
        restricted: attributes that count channels, for the channels that stay.
        holds: why no channel of the first input can be removed; empty if any can.
        spread: how many channels of the input become the pixels of one of the output, if the operation does nothing but move or
            drop pixels; None if it does anything else. A scale and shift of channels may change places with it.
    """

    outputs: Callable[[Channels], IntArray]
    follows: Callable[[Order], bool]
    restricted: Callable[[Survivors], dict[str, Attribute]] = lambda _: {}
    holds: Callable[[Node], str] = lambda _: ""
    spread: Callable[[Node], int | None] = lambda _: None


def groups_of(node: Node) -> int:
    """The groups of a node with a weight; 1 where its operation has none."""
    return attribute_number(node, "groups")


def is_depthwise(node: Node, shape: tuple[int, ...] | None = None) -> bool:
    """Whether every input channel of a node with a weight is a group of its own, so that the outputs belong to it.

    ``shape`` is that of the weight, for a node that does not hold it.
    """
    if groups_of(node) == 1:
        return False
    return (shape or node.tensors["weight"].shape)[1] == 1


def channel_slice(node: Node, channels: int) -> slice:
    """Bounds of a ``slice`` node along axis 0, within 0 to ``channels``."""
    bounds = slice(attribute_number(node, "start"), attribute_number(node, "stop"), attribute_number(node, "step"))
    return slice(*bounds.indices(channels))


def attribute_number(node: Node, name: str) -> int:
    """An attribute that is an integer; ``step`` and ``groups`` are 1 where they are left out."""
    value = node.attributes.get(name, 1) if name in ("step", "groups") else node.attributes[name]
    assert isinstance(value, int), f"'{name}' of node '{node.name}' is not an integer"
    return value


def attribute_numbers(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a tuple of integers."""
    value = node.attributes[name]
    assert isinstance(value, tuple), f"'{name}' of node '{node.name}' is not a tuple"
    return value


def _spread(order: IntArray, times: int) -> IntArray:
    """The order of values that each become ``times`` consecutive ones."""
    return (order[:, None] * times + np.arange(times)).reshape(-1)


# Output channel c is made from input channel c.


def _passed(order: Order) -> bool:
    return all(np.array_equal(order.inputs[0], other) for other in (*order.inputs[1:], order.output))


PASSING = ChannelRule(lambda channels: channels.inputs[0], _passed)


# Both inputs lose a channel together or not at all.


def _united(channels: Channels) -> IntArray:
    (first, second), node = channels.inputs, channels.node
    if len(first) != len(second):
        raise UnsupportedOperation(
            f"node '{node.name}' ({node.op}, layer '{node.layer}') combines {len(first)} with {len(second)} channels; "
            "channels can be followed only where both have as many"
        )
    channels.identities.unite(first, second)
    return first


UNITING = ChannelRule(_united, _passed)


# A weight makes channels of its own; its groups tie them to each other or to the inputs.


def _weighted(channels: Channels) -> IntArray:
    node, inputs = channels.node, channels.inputs[0]
    rows, columns = node.tensors["weight"].shape[:2]
    groups = groups_of(node)
    if len(inputs) != columns * groups or rows % groups:
        raise UnsupportedOperation(
            f"node '{node.name}' (layer '{node.layer}') has a weight of shape {node.tensors['weight'].shape} in {groups} groups, "
            f"which does not fit an input of {len(inputs)} channels"
        )
    if is_depthwise(node):
        return np.repeat(inputs, rows // groups)
    outputs = channels.identities.fresh(rows)
    # A smaller grouped convolution needs equal groups, so every group loses the same positions.
    channels.identities.unite_groups(inputs, groups)
    channels.identities.unite_groups(outputs, groups)
    return outputs


def _weighted_order(order: Order) -> bool:
    first = order.inputs[0]
    if is_depthwise(order.node):
        return np.array_equal(_spread(first, len(order.output) // len(first)), order.output)
    return _alike(first, order.node) and _alike(order.output, order.node)


def _alike(order: IntArray, node: Node) -> bool:
    """Whether an order stays within the groups of a convolution and is the same in each."""
    runs = order.reshape(groups_of(node), -1)
    return bool((runs == runs[0] + np.arange(len(runs))[:, None] * runs.shape[1]).all())


def _fewer_groups(survivors: Survivors) -> dict[str, Attribute]:
    return {"groups": len(survivors.inputs)} if is_depthwise(survivors.node) else {}


WEIGHTED = ChannelRule(_weighted, _weighted_order, _fewer_groups)


# A pixel of a channel becomes a feature.


def _flattened(channels: Channels) -> IntArray:
    return np.repeat(channels.inputs[0], math.prod(channels.shape[1:]))


def _flattened_order(order: Order) -> bool:
    return np.array_equal(_spread(order.inputs[0], math.prod(order.shape[1:])), order.output)


FLATTEN = ChannelRule(_flattened, _flattened_order)


# Channels one input after the other.


def _joined_order(order: Order) -> bool:
    starts = np.cumsum([0, *(len(part) for part in order.inputs[:-1])])
    joined = np.concatenate([part + start for part, start in zip(order.inputs, starts, strict=True)])
    return np.array_equal(joined, order.output)


CONCAT = ChannelRule(lambda channels: np.concatenate(channels.inputs), _joined_order)


# Some of the channels, where axis 0 is cut.


def _cut(channels: Channels) -> IntArray:
    first, node = channels.inputs[0], channels.node
    return first[channel_slice(node, len(first))] if node.attributes["axis"] == 0 else first


def _cut_order(order: Order) -> bool:
    first = order.inputs[0]
    if order.node.attributes["axis"] != 0:
        return _passed(order)
    taken = np.arange(len(first))[channel_slice(order.node, len(first))]
    places = np.searchsorted(taken, first[taken])
    stays = np.array_equal(taken[np.minimum(places, len(taken) - 1)], first[taken])
    return stays and np.array_equal(places, order.output)


def _shorter_cut(survivors: Survivors) -> dict[str, Attribute]:
    node = survivors.node
    if node.attributes["axis"] != 0 or attribute_number(node, "step") != 1:
        return {}
    # Survivors of consecutive channels are consecutive among the survivors.
    start = int(np.searchsorted(survivors.inputs, channel_slice(node, survivors.count).start))
    return {"start": start, "stop": start + len(survivors.outputs)}


def _held_by_steps(node: Node) -> str:
    step = attribute_number(node, "step")
    return f"channels taken in steps of {step} by '{node.name}'" if node.attributes["axis"] == 0 and step != 1 else ""


SLICE = ChannelRule(
    _cut, _cut_order, _shorter_cut, holds=_held_by_steps, spread=lambda node: None if node.attributes["axis"] == 0 else 1
)


# Channels of zeros before and after.


def _padded(channels: Channels) -> IntArray:
    before, after = (attribute_numbers(channels.node, name)[0] for name in ("before", "after"))
    fore = channels.identities.fresh(before)
    return np.concatenate([fore, channels.inputs[0], channels.identities.fresh(after)])


def _padded_order(order: Order) -> bool:
    before, first = attribute_numbers(order.node, "before")[0], order.inputs[0]
    # Zeros may trade places with zeros only, so all other channels must stay among themselves.
    return np.array_equal(order.output[before : before + len(first)], first + before)


def _fewer_zeros(survivors: Survivors) -> dict[str, Attribute]:
    before, after = (attribute_numbers(survivors.node, name) for name in ("before", "after"))
    fore = int(np.searchsorted(survivors.outputs, before[0]))
    aft = len(survivors.outputs) - fore - len(survivors.inputs)
    return {"before": (fore, *before[1:]), "after": (aft, *after[1:])}


PAD = ChannelRule(_padded, _padded_order, _fewer_zeros)


# Channels [groups, C / groups] transposed.


def _shuffled(channels: Channels) -> IntArray:
    groups = attribute_number(channels.node, "groups")
    channels.identities.unite_groups(channels.inputs[0], groups)
    return channels.inputs[0].reshape(groups, -1).T.reshape(-1)


def _shuffled_order(order: Order) -> bool:
    first = order.inputs[0]
    shuffled = np.arange(len(first)).reshape(attribute_number(order.node, "groups"), -1).T.reshape(-1)
    return np.array_equal(np.argsort(shuffled)[first[shuffled]], order.output)


SHUFFLE = ChannelRule(_shuffled, _shuffled_order)


# Channels of one block become the pixels of one channel, so they can only be lost together.


def _of_a_block(node: Node) -> int:
    return math.prod(attribute_numbers(node, "factor"))


def _blocked(channels: Channels) -> IntArray:
    blocks = channels.inputs[0].reshape(-1, _of_a_block(channels.node))
    channels.identities.unite_groups(blocks.T.reshape(-1), blocks.shape[1])
    return blocks[:, 0]


PIXELS = ChannelRule(
    _blocked,
    lambda order: np.array_equal(_spread(order.output, _of_a_block(order.node)), order.inputs[0]),
    spread=_of_a_block,
)

BLOCKS = ChannelRule(
    lambda channels: np.repeat(channels.inputs[0], _of_a_block(channels.node)),
    lambda order: np.array_equal(_spread(order.inputs[0], _of_a_block(order.node)), order.output),
)
