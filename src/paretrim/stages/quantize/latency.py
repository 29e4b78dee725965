"""Time of every layer in the native runtime, measured on this machine."""

from __future__ import annotations

import numpy as np

from paretrim.graph.fusion import fuse
from paretrim.graph.operations.table import BOUNDING, OPERATIONS, WEIGHTED
from paretrim.graph.types import Graph
from paretrim.runtime import plan

PROFILES = 3
"""Number of profiles; the fastest time of every layer counts, because other processes can only slow it down."""


def layer_times_ns(graph: Graph) -> dict[str, int]:
    """Time of every layer with weights in ns, by its name, for one image on one thread.

    The time of a layer that computes in float32 between integer layers includes dequantizing its input and quantizing its output.

    Raises:
        UnsupportedOperation: the native runtime does not compute this graph.
    """
    session = plan(graph)
    shape, random = session.shape, np.random.default_rng(0)
    pixels = random.integers(0, 256, shape, np.uint8)
    image = pixels if session.takes_pixels else random.standard_normal(shape, np.float32)
    owners = _owners(graph)
    fastest: dict[str, int] = {}
    for _ in range(PROFILES):
        for one in session.profile(image):
            head = one.name.split(" + ")[0]
            if head in owners:
                fastest[head] = min(fastest.get(head, one.time_ns), one.time_ns)
    found = dict.fromkeys((node.name for node in graph.nodes if node.op in WEIGHTED), 0)
    for head, time in fastest.items():
        found[owners[head]] += time
    return found


def _owners(graph: Graph) -> dict[str, str]:
    """For each node with weights, and for the conversions around it, the node with weights."""
    owners = {node.name: node.name for node in graph.nodes if node.op in WEIGHTED}
    readers, types = graph.consumers(), graph.types
    for node in graph.nodes:
        operation = OPERATIONS[node.op]
        behind = operation.grid == "enters" or node.op in BOUNDING  # between a layer that computes in float32 and its grid
        if operation.grid == "leaves" and readers[node.name] and readers[node.name][0].op in WEIGHTED:
            owners[node.name] = readers[node.name][0].name
        elif behind and node.inputs[0] in owners and not types[node.inputs[0]].quantized:
            owners[node.name] = owners[node.inputs[0]]
    return owners


def alternating(graph: Graph) -> tuple[frozenset[str], frozenset[str]]:
    """The nodes with weights of a float graph in two halves, such that none reads the value of another in its own half.

    There is no grid between two layers that compute in float32. If one half is float and the other integer, every float layer
    has grids around it.
    """
    ends = {run.end.name: run.head.name for run in fuse(graph)}
    halves: dict[str, int] = {}
    for node in graph.nodes:
        if node.op in WEIGHTED:
            halves[node.name] = 1 - halves.get(ends.get(node.inputs[0], ""), 1)
    first, second = (frozenset(name for name, half in halves.items() if half == which) for which in (0, 1))
    return first, second
