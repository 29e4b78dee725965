"""The size of a graph's weights: stored bytes, zeros, and the bound of an order-0 entropy coder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paretrim.graph.dtypes import count_zeros, type_name
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.outputs import layer_name
from paretrim.graph.types import Array, Graph


@dataclass(frozen=True)
class WeightSummary:
    """One weighted node, counted in its stored weight tensor; scales and bias are not in it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    zeros: int
    weights: int
    bytes: int
    entropy_bytes: float


def summarize_weights(graph: Graph) -> tuple[WeightSummary, ...]:
    """Size, zeros and entropy of every weighted node, in the order of the graph."""
    return tuple(_summarize(layer_name(graph, node), node.tensors["weight"]) for node in graph.nodes if node.op in WEIGHTED)


def order0_bytes(symbols: Array) -> float:
    """Shannon bound in bytes for coding these symbols one by one with their frequencies, which are not counted themselves.

    >>> order0_bytes(np.array([0, 0, 0, 0, 1, 1, 1, 1], dtype=np.int8))
    1.0
    """
    counts = np.unique(symbols, return_counts=True)[1].astype(np.float64)
    share: npt.NDArray[np.float64] = counts / counts.sum()
    # With a single symbol the sum is -0.0; the cost is 0.
    return abs(float((counts * np.log2(share)).sum())) / 8


def _summarize(name: str, weight: Array) -> WeightSummary:
    return WeightSummary(
        name=name,
        shape=weight.shape,
        dtype=type_name(weight),
        zeros=count_zeros(weight),
        weights=weight.size,
        bytes=weight.nbytes,
        entropy_bytes=order0_bytes(weight),
    )
