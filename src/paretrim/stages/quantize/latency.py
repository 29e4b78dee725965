"""How long every layer takes in the native runtime, measured here and now."""

from __future__ import annotations

import numpy as np

from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import Graph
from paretrim.runtime import plan

PROFILES = 3
"""Profiles of which the fastest time of every layer counts: other work on the machine only slows down."""


def layer_times_ns(graph: Graph) -> dict[str, int]:
    """Nanoseconds of every layer with weights by its name, for one image on one thread.

    Raises:
        UnsupportedOperation: the native runtime does not compute this graph.
    """
    session = plan(graph)
    shape, random = session.shape, np.random.default_rng(0)
    pixels = random.integers(0, 256, shape, np.uint8)
    image = pixels if session.takes_pixels else random.standard_normal(shape, np.float32)
    heads = {node.name for node in graph.nodes if node.op in WEIGHTED}
    found: dict[str, int] = {}
    for _ in range(PROFILES):
        for one in session.profile(image):
            head = one.name.split(" + ")[0]
            if head in heads:
                found[head] = min(found.get(head, one.time_ns), one.time_ns)
    return found
