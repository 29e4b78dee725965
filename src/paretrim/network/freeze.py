"""From a trained network to the graph that ships: nothing is estimated here, only rounded and folded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from paretrim.errors import ExportMismatch, UnsupportedOperation, located
from paretrim.graph.fold import StoredWeight, fold
from paretrim.graph.functions import pixel_table
from paretrim.graph.lower import WeightCodes, lower
from paretrim.graph.outputs import with_user_names
from paretrim.graph.types import INPUT, Graph, InputSpec, ValueType
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.float_weights import Float32Weights, FloatWeights, is_float
from paretrim.network.grids import BITS
from paretrim.network.network import Network, unshared


def freeze(network: Network, spec: InputSpec | None = None, *, shared: bool = False) -> Graph:
    """The deployable graph: integer if weights and values are quantized, float with BatchNorm folded otherwise.

    In a float graph, weights on a grid keep their integers, and those of 16 bits their type. In an integer graph, layers whose
    weights are floats compute in float32. Outputs have the user's names.

    Args:
        network: as trained; it takes normalised images.
        spec: the input of the deployed file, for instance pixels with their normalisation; None for the network's own.
        shared: arrays of a float graph may lie in the memory of parameters and change with them;
            :func:`paretrim.network.network.unshared` copies those.

    Raises:
        UnsupportedOperation: some layers are quantized and some are not.
        ExportMismatch: a pruned weight became an integer other than 0.
    """
    layers = weighted_layers(network)
    floating = [name for name, layer in layers.items() if layer.quantizer is None]
    taken = spec or network.structure.input
    if len(floating) == len(layers) or not network.quantizers():
        stored = {name: _stored(name, layer) for name, layer in layers.items() if layer.quantizer is not None}
        folded = fold(replace(network.graph(shared=True), input=taken), stored)
        return with_user_names(folded if shared else unshared(folded))
    if floating:
        raise UnsupportedOperation(f"layers {', '.join(floating)} are not quantized and the others are; quantize all or none")
    real = {name: _stored(name, layer) for name, layer in layers.items() if is_float(layer.quantizer)}
    codes = {name: _codes(name, layer) for name, layer in layers.items() if name not in real}
    grids = {name: quantizer.grid() for name, quantizer in network.quantizers().items()}
    graph = replace(network.graph(weights=bool(real), shared=True), input=taken)
    types = {name: ValueType((), "uint8", grid.scale, grid.zero_point) for name, grid in grids.items()}
    tops = {name: grid.top for name, grid in grids.items() if grid.bits < BITS}
    return with_user_names(unshared(lower(graph, types, codes, real, tops)))


def with_input(frozen: Graph, spec: InputSpec) -> Graph:
    """A frozen integer graph that takes normalised images, made to take what ``spec`` says; the tensors of layers are shared."""
    if not spec.takes_pixels:
        return replace(frozen, input=spec)
    nodes = (
        replace(node, tensors={"table": pixel_table(spec, node.type)}) if node.inputs == (INPUT,) else node
        for node in frozen.nodes
    )
    return replace(frozen, input=spec, nodes=tuple(nodes))


def _stored(name: str, layer: WeightedLayer) -> StoredWeight | None:
    """What a layer of a float graph, or one that computes in float32, holds; None for float32."""
    if isinstance(layer.quantizer, Float32Weights):
        return None
    if isinstance(layer.quantizer, FloatWeights):
        with located(f"layer '{name}'"):
            return StoredWeight(layer.quantizer.stored(layer.masked_weight()))
    codes = _codes(name, layer)
    return StoredWeight(codes.integers, codes.scale)


def _codes(name: str, layer: WeightedLayer) -> WeightCodes:
    assert layer.quantizer is not None
    with torch.no_grad():
        integers, scale = layer.quantizer.integers(layer.masked_weight())
    if layer.mask is not None and bool((integers[~layer.mask] != 0).any()):
        raise ExportMismatch(f"layer '{name}': a pruned weight is not 0 in the exported integers; please report this")
    return WeightCodes(integers.cpu().numpy(), scale.cpu().numpy().astype(np.float32))
