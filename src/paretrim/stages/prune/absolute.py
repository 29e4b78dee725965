"""The network as a sum of paths: absolute weights, no biases, no activation functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paretrim.graph.operations.table import NORMALIZING, OPERATIONS, WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Array, Node
from paretrim.network.network import Network


def absolute(network: Network, *, spread: bool = False) -> Network:
    """A float64 network whose output is a sum over paths from the inputs: the product of the absolute weights on each path.

    Masked weights are replaced by their absolute values, BatchNorm by its absolute scale ``|gamma| / sqrt(variance + epsilon)``,
    biases and shifts by 0, functions of single values by the identity. ``spread`` turns max pools into average pools, so that
    every value of a window counts.
    """
    graph = network.graph()
    nodes = tuple(_absolute(node, spread=spread) for node in graph.nodes)
    made = Network(replace(graph, nodes=nodes)).double().eval()
    return made.to(next(network.parameters()).device)


def _absolute(node: Node, *, spread: bool) -> Node:
    if node.op in WEIGHTED:
        return replace(node, tensors={"weight": _positive(node.tensors["weight"])})
    if node.op in NORMALIZING:
        nothing = np.zeros_like(node.tensors["beta"])
        return replace(
            node, tensors={**node.tensors, "gamma": _positive(node.tensors["gamma"]), "beta": nothing, "mean": nothing}
        )
    if OPERATIONS[node.op].elementwise:
        return replace(node, op="dropout", attributes={"probability": 0.0})  # the identity in evaluation
    mean = OPERATIONS[node.op].averaged(settings_of(node)) if spread else None
    return node if mean is None else replace(node, op=mean[0], attributes=mean[1])


def _positive(values: Array) -> Array:
    return np.abs(values)
