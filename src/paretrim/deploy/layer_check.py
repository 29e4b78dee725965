"""Checks the file of a large float network layer by layer, on some channels of each layer.

The interpreter rounds every product and sum separately and is a thousand times slower than a runtime: one image takes minutes
in a large float network. But an output channel depends only on the layer's inputs, not on other output channels. So the check
takes the value of every step from the session, and the interpreter computes as many of its channels as it can afford, from the
inputs that the step had. For nodes fused into one step, such as a convolution, an add and a ReLU, it computes the same channels
one after another. Finally, the outputs of the same run must equal the values of the last steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from paretrim.errors import ExportMismatch
from paretrim.graph.interpreter import affordable_share, compute, rounds_elsewhere
from paretrim.graph.operations.channel_rules import groups_of
from paretrim.graph.operations.table import OPERATIONS, WEIGHTED
from paretrim.graph.types import INPUT, FloatArray, Graph, InputSpec, Node, ValueType
from paretrim.graph.windows import Values
from paretrim.runtime import Session

LIBRARY_VALUES = 2**16
"""About how many values of a node with such a function are computed: NumPy has none for GELU, so they are computed one by one."""

LIBRARY_BOUND = 1e-4
"""Largest error, relative to the largest value, of nodes that use functions of a math library, such as SiLU. Libraries may round
one value in 10^8 differently."""


def check_layers(graph: Graph, images: Values, session: Session, *, threads: int = 1) -> tuple[FloatArray, ...]:
    """Check that a session computes a float graph like the interpreter, and return its outputs.

    Args:
        graph: a float graph.
        images: [N, C, H, W], as the graph takes them.
        session: the session of its file.
        threads: nodes checked at the same time.

    Raises:
        ExportMismatch: they differ; the message names the first node that does.
    """
    outputs, steps = session.outputs_and_step_values(images)
    values: dict[str, Values] = {INPUT: images, **steps}
    checked: dict[str, Future[_Part | None]] = {}
    share, types = affordable_share(graph) / len(images), graph.types

    def check(node: Node, awaited: Mapping[str, Future[_Part | None]]) -> _Part | None:
        """The value of a node, if the session has none: nodes that read it wait for it."""
        parts = {name: part for name, future in awaited.items() if (part := future.result()) is not None}
        held = next((part for part in parts.values() if not part.whole), None)
        channels = _channels(node, share) if held is None else held.channels
        kinds = tuple(types[name] for name in node.inputs)
        expected = _computed(node, kinds, graph.input, channels=channels, values=values, parts=parts)
        if node.name not in steps:  # of operations that keep all values the runtime often makes no copy
            return _Part(expected, channels, whole=OPERATIONS[node.op].same_values)
        actual = steps[node.name] if channels is None else steps[node.name][:, channels]
        if not same(actual, expected, exact=not rounds_elsewhere(node)):
            raise ExportMismatch(
                f"in {session.runtime} {session.version} node '{node.name}' ({node.op}, layer '{node.layer}') is the first that"
                " differs from the reference interpreter, given the same inputs; please report this network"
            )
        return None

    with ThreadPoolExecutor(threads) as pool:
        try:
            for node in _needed(graph):
                # Only those before it, which begin before it, so that some thread always goes on.
                awaited = {name: checked[name] for name in node.inputs if name in checked and name not in steps}
                checked[node.name] = pool.submit(check, node, awaited)
            for name, future in checked.items():
                part = future.result()  # raises what the first node raised that differs
                if part is not None and part.whole:
                    values[name] = part.value
        finally:
            pool.shutdown(cancel_futures=True)
    for name, output in zip(graph.outputs, outputs, strict=True):
        if name not in values or not same(output, values[name], exact=True):
            raise ExportMismatch(
                f"in {session.runtime} {session.version} every single node is right, but the whole file gives other values of"
                f" '{name}'; please report this network"
            )
    return outputs


@dataclass(frozen=True, eq=False)
class _Part:
    """Some channels (all if None) of a value inside a fused step, as the interpreter computed them."""

    value: Values
    channels: Values | None
    whole: bool
    """Whether it is no part, but a value that the runtime has no copy of."""


def _needed(graph: Graph) -> list[Node]:
    """The nodes that the outputs depend on; the runtime computes no others."""
    needed, nodes = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
            nodes.append(node)
    return nodes[::-1]


def _computed(
    node: Node,
    types: tuple[ValueType, ...],
    spec: InputSpec,
    *,
    channels: Values | None,
    values: Mapping[str, Values],
    parts: Mapping[str, _Part],
) -> Values:
    """Channels of a node, by the interpreter. A layer reads all inputs of their groups, a node fused to it only these."""
    part, reads = (node, None) if channels is None else _part(node, channels)

    def read(name: str) -> Values:
        if name in parts and not parts[name].whole:
            return parts[name].value
        value = parts[name].value if name in parts else values[name]
        return value if reads is None else value[:, reads]

    return compute(part, tuple(map(read, node.inputs)), types, spec)


def same(actual: Values, expected: Values, *, exact: bool) -> bool:
    """Whether values have the same bits or, if not ``exact``, are close enough."""
    if exact or expected.dtype != np.float32:
        return actual.shape == expected.shape and actual.tobytes() == expected.tobytes()
    return bool(np.allclose(actual, expected, rtol=0, atol=LIBRARY_BOUND * float(np.abs(expected).max(initial=0))))


def _channels(node: Node, share: float) -> Values | None:
    """The output channels of a node to check; None for all.

    Of a layer the same channels in every group or, if one channel per group is too much, one channel in some groups. Of nodes
    without weights all, but of functions of a mathematics library on many values some, with the first and the last.
    """
    if rounds_elsewhere(node) and node.type.size > LIBRARY_VALUES:
        channels = node.type.shape[0]
        inner = _spread(max(1, channels * LIBRARY_VALUES // node.type.size), channels, node_offset(node))
        return np.union1d(inner, [0, channels - 1])
    if node.op not in WEIGHTED or share >= 1:
        return None
    outputs, groups = len(node.tensors["weight"]), groups_of(node)
    size = outputs // groups
    some = groups if share * size >= 1 else max(1, round(share * outputs))
    within = _spread(max(1, round(share * size)), size, node_offset(node))
    return (_spread(min(some, groups), groups, node_offset(node))[:, None] * size + within).reshape(-1)


def _spread(count: int, size: int, offset: int) -> Values:
    """``count`` of the numbers 0 .. size - 1, ascending and about evenly spaced."""
    return np.sort((np.arange(count) * size // count + offset) % size)


def node_offset(node: Node) -> int:
    """Offset of a layer's checked channels, so that layers do not all check the first ones."""
    return sum(map(ord, node.name))


def _part(node: Node, channels: Values) -> tuple[Node, Values | None]:
    """A node that computes only these channels of a node, and the input channels that it reads (None for all)."""
    kind = replace(node.type, shape=(len(channels), *node.type.shape[1:]))
    part = replace(node, type=kind, tensors={name: tensor[channels] for name, tensor in node.tensors.items()})
    if node.op not in WEIGHTED:
        return part, channels
    groups = groups_of(node)
    if groups == 1:
        return part, None
    depth = node.tensors["weight"].shape[1]
    taken = np.unique(channels // (node.type.shape[0] // groups))
    reads = (taken[:, None] * depth + np.arange(depth)).reshape(-1)
    return replace(part, attributes={**node.attributes, "groups": len(taken)}), reads
