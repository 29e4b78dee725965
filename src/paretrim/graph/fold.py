"""Folding BatchNorm: a float graph without what only training needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from paretrim.graph.fusion import Fusion, fuse, norms_behind_moves
from paretrim.graph.names import free_name
from paretrim.graph.operations.data_movement import PAD
from paretrim.graph.operations.table import OPERATIONS, TRAINING_ONLY
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Array, Attribute, Float64Array, FloatArray, Graph, Node, ValueType

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""A channel whose scale is smaller counts as having no weights."""


def affine_of(batch_norm: Node) -> tuple[Float64Array, Float64Array]:
    """Factor and offset of the affine map ``x * factor + offset`` that a BatchNorm computes in evaluation; float64 [C] each."""
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


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A weight [Co, ...] that is not stored as float32: float16, the bits of bfloat16, or int8 with its scale [Co] float32."""

    values: Array
    scale: FloatArray | None = None


def fold(graph: Graph, stored: Mapping[str, StoredWeight | None] = MappingProxyType({})) -> Graph:
    """The same float function with BatchNorm folded into the layer before it where it can be, and dropout removed.

    If the input takes pixels, their normalisation comes first. ``stored`` holds weights of other types by node: a BatchNorm after
    one goes into its scale, and its sign into the weight.
    """
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    if graph.input.takes_pixels:
        renamed[INPUT] = free_name("normalized_images", graph.types)
        nodes.append(Node(renamed[INPUT], "normalize", (INPUT,), ValueType(graph.input.shape)))
    for run in fuse(_with_norms_in_front(graph)):
        inputs = tuple(renamed.get(name, name) for name in run.head.inputs)
        if run.head.op in TRAINING_ONLY:
            renamed[run.head.name] = inputs[0]
            continue
        node = replace(run.head, inputs=inputs)
        if "weight" in node.tensors:
            node = replace(node, attributes=deployed(node), tensors=folded_tensors(run, stored.get(run.head.name)))
        nodes.append(node)
        if run.batch_norm:
            renamed[run.batch_norm.name] = node.name
        if run.activation:
            nodes.append(replace(run.activation, inputs=(node.name,)))
    return replace(graph, nodes=tuple(nodes), outputs=tuple(renamed.get(name, name) for name in graph.outputs))


def _with_norms_in_front(graph: Graph) -> Graph:
    """The same function, with a BatchNorm behind what only moves a layer's pixels right behind the layer instead."""
    names = dict[str, Node]()
    inserted = dict[str, Node]()
    taken = set(graph.types)
    behind = norms_behind_moves(graph)
    for found in behind:
        norm, first, last = found.batch_norm, found.moves[0], found.moves[-1]
        name = free_name(f"{norm.name}.in_front", taken)
        taken.add(name)
        tensors = {key: np.repeat(values, found.places) for key, values in norm.tensors.items()}
        inserted[found.head.name] = replace(norm, name=name, inputs=(found.head.name,), type=found.head.type, tensors=tensors)
        names[first.name] = replace(first, inputs=(name,))
        names[last.name] = replace(names.get(last.name, last), name=norm.name)
    gone = {found.batch_norm.name for found in behind}
    nodes = []
    for node in graph.nodes:
        if node.name not in gone:
            nodes.append(names.get(node.name, node))
        if node.name in inserted:
            nodes.append(inserted[node.name])
    return replace(graph, nodes=tuple(nodes))


def folded_tensors(run: Fusion, stored: StoredWeight | None) -> dict[str, Array]:
    """Tensors of a weighted node of a float graph with its BatchNorm folded in; ``stored`` is a weight of another type."""
    factor, bias = folded_bias(run.head, run.batch_norm)
    if stored is not None:
        return {**_scaled(stored, factor), "bias": bias.astype(np.float32)}
    weight = run.head.tensors["weight"].astype(np.float32, copy=False)
    if run.batch_norm is not None:
        factors = factor.reshape(-1, *[1] * (weight.ndim - 1))
        # In float64, a piece at a time: copies of a large network's weights take longer than the products.
        weight = np.multiply(weight, factors, out=np.empty_like(weight), dtype=np.float64, casting="unsafe")
    return {"weight": weight, "bias": bias.astype(np.float32)}


def _scaled(stored: StoredWeight, factor: Float64Array) -> dict[str, Array]:
    """A stored weight times a factor for every output channel."""
    if stored.scale is None and (factor == 1).all():
        return {"weight": stored.values}
    scale = np.abs(factor) * (1.0 if stored.scale is None else stored.scale.astype(np.float64))
    none = np.float32(scale) < SMALLEST_SCALE
    rows = [-1, *[1] * (stored.values.ndim - 1)]
    values = np.where(none.reshape(rows), stored.values.dtype.type(0), stored.values)
    negative = (factor < 0).reshape(rows) & (values != 0)
    opposite = values ^ np.uint16(1 << 15) if values.dtype == np.uint16 else -values
    return {
        "weight": np.where(negative, opposite, values).astype(stored.values.dtype),
        "weight_scale": np.where(none, 1.0, scale).astype(np.float32),
    }


def merge_pads(graph: Graph) -> Graph:
    """The same float graph, in which a convolution that alone reads a ``pad`` pads its input itself."""
    consumers = graph.consumers()
    pads = {
        node.name: node
        for node in graph.nodes
        if OPERATIONS[node.op] is PAD and _is_merged(node, consumers[node.name], graph.outputs)
    }
    nodes = (_padding_itself(node, pads[node.inputs[0]]) if node.inputs[0] in pads else node for node in graph.nodes)
    return replace(graph, nodes=tuple(node for node in nodes if node.name not in pads))


def _is_merged(pad: Node, readers: Sequence[Node], outputs: Sequence[str]) -> bool:
    settings = settings_of(pad)
    channels = settings.integers("before")[0], settings.integers("after")[0]
    return channels == (0, 0) and pad.name not in outputs and all(reader.op == "conv2d" for reader in readers)


def _padding_itself(convolution: Node, pad: Node) -> Node:
    settings = settings_of(pad)
    sides = (*settings.integers("before")[1:], *settings.integers("after")[1:])
    padding = tuple(a + b for a, b in zip(settings_of(convolution).edges("padding"), sides, strict=True))
    return replace(convolution, inputs=pad.inputs, attributes={**convolution.attributes, "padding": padding})
