"""Folding BatchNorm: a float graph without what only training needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paretrim.graph.fusion import fuse
from paretrim.graph.names import free_name
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Array, Attribute, Float64Array, Graph, Node, ValueType


def affine_of(batch_norm: Node) -> tuple[Float64Array, Float64Array]:
    """The affine map ``x * factor + offset`` that a BatchNorm in evaluation is; two float64 arrays [C]."""
    gamma, beta, mean, variance = (batch_norm.tensors[name].astype(np.float64) for name in ("gamma", "beta", "mean", "variance"))
    factor = gamma / np.sqrt(variance + settings_of(batch_norm).required_number("epsilon"))
    return factor, beta - mean * factor


def folded_bias(head: Node, batch_norm: Node | None) -> tuple[Float64Array, Float64Array]:
    """Factor per output channel and the bias of a weighted node with its BatchNorm folded in; two float64 arrays [Co]."""
    channels = head.tensors["weight"].shape[0]
    bias = head.tensors["bias"].astype(np.float64) if "bias" in head.tensors else np.zeros(channels)
    if batch_norm is None:
        return np.ones(channels), bias
    factor, offset = affine_of(batch_norm)
    return factor, bias * factor + offset


def deployed(node: Node) -> dict[str, Attribute]:
    """Attributes of a weighted node without what only training needs."""
    rules = OPERATIONS[node.op].attributes
    return {name: value for name, value in node.attributes.items() if rules[name].ships}


def fold(graph: Graph) -> Graph:
    """The same float function with BatchNorm folded into the layer before it where it can be, and dropout removed.

    Where the input takes pixels, their normalisation comes first.
    """
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    if graph.input.takes_pixels:
        renamed[INPUT] = free_name("normalized_images", graph.types)
        nodes.append(Node(renamed[INPUT], "normalize", (INPUT,), ValueType(graph.input.shape)))
    for run in fuse(graph):
        inputs = tuple(renamed.get(name, name) for name in run.head.inputs)
        if run.head.op == "dropout":
            renamed[run.head.name] = inputs[0]
            continue
        node = replace(run.head, inputs=inputs)
        if "weight" in node.tensors:
            node = replace(node, attributes=deployed(node), tensors=_folded_tensors(run.head, run.batch_norm))
        nodes.append(node)
        if run.batch_norm:
            renamed[run.batch_norm.name] = node.name
        if run.activation:
            nodes.append(replace(run.activation, inputs=(node.name,)))
    return replace(graph, nodes=tuple(nodes), output=renamed.get(graph.output, graph.output))


def _folded_tensors(head: Node, batch_norm: Node | None) -> dict[str, Array]:
    factor, bias = folded_bias(head, batch_norm)
    weight = head.tensors["weight"].astype(np.float64)
    scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    return {"weight": scaled.astype(np.float32), "bias": bias.astype(np.float32)}
