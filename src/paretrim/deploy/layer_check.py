"""Checks a file of a large float network layer by layer, on some channels of each.

The interpreter rounds every product and sum for itself, a thousand times as slowly as a runtime: one image through a large
float network takes it minutes. But what a layer gives to one channel depends on the layer's inputs and on no other channel. So
the runtime is asked for the values of all nodes, and of each the interpreter computes as many channels as it can afford, from
the inputs that the runtime had. That the values of the last nodes are those that the file itself gives ends the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paretrim.errors import ExportMismatch
from paretrim.graph.interpreter import affordable_share, compute, rounds_elsewhere
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, FloatArray, Graph, Node
from paretrim.graph.windows import Values
from paretrim.runtime import plan

LIBRARY_BOUND = 1e-4
"""How far, relative to the largest, values of a float network may be from the interpreter's if functions of a mathematics
library, like SiLU, have a part in them, which may round a number in 10^8 to its neighbour."""

_SAME_NUMBERS = ("flatten", "unflatten", "dropout")
"""Operations whose values are their input's in another shape, which the runtime has no second copy of."""


def check_layers(graph: Graph, images: Values, found: Sequence[FloatArray], *, threads: int = 1) -> None:
    """Check that the runtime computes a float graph as the interpreter does, and that ``found`` is what comes of it.

    Args:
        graph: a float graph.
        images: [N, C, H, W] as it takes them.
        found: the outputs of its file for these images.
        threads: of the runtime.

    Raises:
        ExportMismatch: they differ; the message names the first node that does.
    """
    names = [node.name for node in graph.nodes if node.op not in _SAME_NUMBERS]
    session = plan(replace(graph, outputs=tuple(names), classes=()), threads=threads, measure=False)
    values: dict[str, Values] = {INPUT: images, **dict(zip(names, session.outputs(images), strict=True))}
    share = affordable_share(graph) / len(images)
    for node in graph.nodes:
        channels = _channels(node, share)
        part = node if channels is None else _part(node, channels)
        inputs, types = tuple(values[name] for name in node.inputs), tuple(graph.types[name] for name in node.inputs)
        expected = compute(part, inputs, types, graph.input)
        if node.op in _SAME_NUMBERS:
            values[node.name] = expected
        actual = values[node.name] if channels is None else values[node.name][:, channels]
        if not same(actual, expected, exact=not rounds_elsewhere(node)):
            raise ExportMismatch(
                f"in {session.runtime} {session.version} node '{node.name}' ({node.op}, layer '{node.layer}') is the first that"
                " differs from the reference interpreter, given the same inputs; please report this network"
            )
    for name, output in zip(graph.outputs, found, strict=True):
        if not same(output, values[name], exact=True):
            raise ExportMismatch(
                f"in {session.runtime} {session.version} every node is right on its own, and the file gives other values of"
                f" '{name}'; please report this network"
            )


def same(actual: Values, expected: Values, *, exact: bool) -> bool:
    """Whether values have the same bits, or are near enough where they need not."""
    if exact or expected.dtype != np.float32:
        return actual.shape == expected.shape and actual.tobytes() == expected.tobytes()
    return bool(np.allclose(actual, expected, rtol=0, atol=LIBRARY_BOUND * float(np.abs(expected).max(initial=0))))


def _channels(node: Node, share: float) -> Values | None:
    """The output channels of a layer that are computed, of every group the same; None for all, and for what has no weight."""
    if node.op not in WEIGHTED or share >= 1:
        return None
    outputs = len(node.tensors["weight"])
    groups = settings_of(node).integer("groups") if node.op == "conv2d" else 1
    size = outputs // groups
    count = max(1, round(share * size))
    within = (np.arange(count) * size // count + node_offset(node)) % size
    return np.sort((np.arange(groups)[:, None] * size + within).reshape(-1))


def node_offset(node: Node) -> int:
    """Where the channels of a layer begin: not all layers look at their first."""
    return sum(map(ord, node.name))


def _part(node: Node, channels: Values) -> Node:
    kind = replace(node.type, shape=(len(channels), *node.type.shape[1:]))
    return replace(node, type=kind, tensors={name: tensor[channels] for name, tensor in node.tensors.items()})
