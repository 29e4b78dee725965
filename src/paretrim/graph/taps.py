"""Which taps of a kernel ever lie on the map, and not on padding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from paretrim.graph.node import Node
from paretrim.graph.operations.attributes import Shape
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Graph


def covered(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """Along one axis, for every output: the taps that lie on the map.

    >>> covered(2, 3, 1, 1, (1, 1))
    ((1, 2), (0, 1))

    Args:
        size: pixels of the map.
        kernel: taps.
        stride: pixels from one output to the next.
        dilation: pixels from one tap to the next.
        padding: pixels before and after the map.
    """
    before, after = padding
    count = (before + size + after - dilation * (kernel - 1) - 1) // stride + 1
    starts = (position * stride - before for position in range(count))
    return tuple(tuple(tap for tap in range(kernel) if 0 <= start + tap * dilation < size) for start in starts)


def without_weights_on_padding(graph: Graph) -> Graph:
    """Set the weights of convolutions to 0 that only ever multiply padding, as 8 of 9 do in a 3x3 kernel on a map of one pixel.

    No result changes. Their gradient is 0 too, so they stay 0; left as they are, they would take bytes, widen grids, and be kept
    by pruning in place of weights that matter. The graph shares all other weights.
    """
    cleared = {}
    for node, unused in _with_taps_on_padding(graph):
        weight = node.tensors["weight"].copy()
        weight[:, :, unused] = 0
        cleared[node.name] = replace(node, tensors={**node.tensors, "weight": weight})
    return replace(graph, nodes=tuple(cleared.get(node.name, node) for node in graph.nodes)) if cleared else graph


def weights_on_padding(graph: Graph) -> dict[str, int]:
    """How many weights of a node only ever multiply padding, by its name; nodes without such weights are left out."""
    taps = ((node, int(np.count_nonzero(unused))) for node, unused in _with_taps_on_padding(graph))
    return {node.name: count * math.prod(node.tensors["weight"].shape[:2]) for node, count in taps}


def _with_taps_on_padding(graph: Graph) -> Iterator[tuple[Node, npt.NDArray[np.bool_]]]:
    shapes = {name: kind.shape for name, kind in graph.types.items()}
    for node in graph.nodes:
        if node.op in WEIGHTED and node.tensors["weight"].ndim == 4 and (unused := _on_padding(node, shapes)) is not None:
            yield node, unused


def _on_padding(node: Node, shapes: Mapping[str, Shape]) -> npt.NDArray[np.bool_] | None:
    """Taps [kernel height, kernel width] that are on padding in every output; None if there are none."""
    settings = settings_of(node)
    (top, left, bottom, right), (_, *size) = settings.edges("padding"), shapes[node.inputs[0]]
    if not any((top, left, bottom, right)):
        return None
    rows, columns = (
        [tap not in set().union(*covered(extent, taps, stride, dilation, padding)) for tap in range(taps)]
        for extent, taps, stride, dilation, padding in zip(
            size,
            node.tensors["weight"].shape[2:],
            settings.pair("stride"),
            settings.pair("dilation"),
            ((top, bottom), (left, right)),
            strict=True,
        )
    )
    unused: npt.NDArray[np.bool_] = np.logical_or.outer(rows, columns)
    return unused if unused.any() else None
