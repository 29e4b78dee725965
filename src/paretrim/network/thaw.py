"""From a deployed graph back to a network that trains: the inverse of ``freeze``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from paretrim import trimfile
from paretrim.errors import UnsupportedOperation
from paretrim.files import is_trim_file, path_of
from paretrim.graph import storage
from paretrim.graph.dtypes import real_weight, type_name
from paretrim.graph.fusion import grid_values
from paretrim.graph.names import free_name
from paretrim.graph.operations.table import NORMALIZING, OPERATIONS, WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Array, Attribute, Graph, InputSpec, Node, ValueType
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.float_weights import Float32Weights, FloatWeights
from paretrim.network.grids import Grid, WeightGrid
from paretrim.network.network import Network
from paretrim.network.uniform import ActivationQuantizer, WeightQuantizer
from paretrim.torch_settings import usual_settings

_EXACT_BIAS = 2**23
"""Every bias below this many steps survives the way through float32 and back."""


@usual_settings()
def network_from_file(path: Path | str) -> tuple[Network, InputSpec]:
    """The network in a ``.trim`` or ``.graph`` file, ready to train, and what the file took; see :func:`thaw`.

    Raises:
        CorruptFile: the file is missing or damaged.
        UnsupportedOperation: the name ends in something else, or the graph cannot be trained.
    """
    path = path_of(path)
    holds_trim = is_trim_file(path)
    if not holds_trim and path.suffix != ".graph":
        raise UnsupportedOperation(f"'{path}' ends in '{path.suffix}'; a network that trains is read from a .trim or .graph file")
    graph = trimfile.read(path) if holds_trim else storage.load(path)
    return thaw(graph), graph.input


def thaw(graph: Graph) -> Network:
    """A network that takes normalised images and freezes to the weights of ``graph``, bit for bit.

    From an integer graph, every layer has a quantizer with the scales of its integers (learned from here on) and as many bits as
    its largest integer needs, and every value has its grid. From a float graph, every layer is float32 whatever type its weights
    were stored in: the values are the same, and another quantize stage stores them in few bits again.
    BatchNorm stays folded; the factors of a BatchNorm on its own, and the scale of a channel without weights, may come back one
    rounding off. Every weight that is 0 is masked and stays 0 in all later stages. Pass ``graph.input`` to ``freeze`` for a
    file with the same input.

    Raises:
        UnsupportedOperation: a bias is too large for float32 to hold.
    """
    if len(graph.outputs) > 1:
        graph = replace(graph, output_names=graph.outputs)
    if not graph.quantized:
        network = Network(in_float32(_without_normalisation(graph)))
    else:
        work = _Thaw(graph)
        network = Network(work.float_graph())
        work.put_on_grids_(network)
    for layer in weighted_layers(network).values():
        alive = layer.weight.detach() != 0
        if not bool(alive.all()):
            set_mask_(layer, alive)
    return network.eval()


def _without_normalisation(graph: Graph) -> Graph:
    """The same graph for images that are normalised already."""
    renamed = {node.name: INPUT for node in graph.nodes if OPERATIONS[node.op].grid == "pixels"}
    nodes = [
        replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for node in graph.nodes
        if node.name not in renamed
    ]
    return replace(graph, input=InputSpec(graph.input.shape), nodes=tuple(nodes))


def in_float32(graph: Graph) -> Graph:
    """The same graph with its weights as float32 numbers."""
    nodes = []
    for node in graph.nodes:
        tensors = {name: tensor for name, tensor in node.tensors.items() if name != "weight_scale"}
        if node.op in WEIGHTED:
            tensors["weight"] = real_weight(node.tensors)
        nodes.append(replace(node, tensors=tensors))
    return replace(graph, nodes=tuple(nodes))


class _Thaw:
    """An integer graph being turned back into a float one. ``ends`` maps integer values to float values."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.types = graph, graph.types
        self.nodes: list[Node] = []
        self.ends: dict[str, str] = {}

    def float_graph(self) -> Graph:
        """The float graph that lowers to the integer one."""
        taken = {node.name for node in self.graph.nodes}
        for node in self.graph.nodes:
            if OPERATIONS[node.op].grid in ("enters", "leaves"):
                self.ends[node.name] = self.ends.get(node.inputs[0], INPUT)
                continue
            inputs = tuple(self.ends[name] for name in node.inputs)
            plain = {key: value for key, value in node.attributes.items() if key not in ("lo", "hi")}
            kind = ValueType(node.type.shape)
            attributes = plain | ({"epsilon": 0.0} if node.op in NORMALIZING else {})
            tensors = self._tensors(node)
            self.nodes.append(replace(node, inputs=inputs, type=kind, attributes=attributes, tensors=tensors))
            activation = _activation(node)
            end = node.name
            if activation is not None:
                op, bounds = activation
                end = free_name(f"{node.name}.{op}", taken)
                taken.add(end)
                self.nodes.append(Node(end, op, (node.name,), kind, bounds, {}, node.layer))
            self.ends[node.name] = end
        outputs = tuple(self.ends[name] for name in self.graph.outputs)
        return replace(self.graph, input=InputSpec(self.graph.input.shape), nodes=tuple(self.nodes), outputs=outputs)

    def put_on_grids_(self, network: Network) -> None:
        """The quantizers, as the integer graph has them."""
        integers = {node.name: node.tensors for node in self.graph.nodes if node.op in WEIGHTED}
        sources = {node.name: node.inputs[0] for node in self.graph.nodes if node.op in WEIGHTED}
        for name, layer in weighted_layers(network).items():
            if not self.types[sources[name]].quantized:
                layer.quantizer = _float_grid(integers[name]["weight"])
                continue
            largest = int(np.abs(integers[name]["weight"].astype(np.int16)).max(initial=0))
            quantizer = WeightQuantizer(layer.weight.detach(), bits=max(largest.bit_length() + 1, 2), scales="learned")
            quantizer.scale = torch.nn.Parameter(torch.from_numpy(np.array(integers[name]["weight_scale"])))
            layer.quantizer = quantizer
        grids = {self.ends[node.name]: node.type for node in self.graph.nodes if node.type.quantized}
        real = [name for name, source in sources.items() if not self.types[source].quantized]
        for name in grid_values(network.structure, real):
            network.set_grid_(name, ActivationQuantizer(Grid(grids[name].scale, grids[name].zero_point), scales="learned"))

    def _tensors(self, node: Node) -> dict[str, Array]:
        if node.op in WEIGHTED and not self.types[node.inputs[0]].quantized:
            return {"weight": real_weight(node.tensors), "bias": node.tensors["bias"]}
        if node.op in WEIGHTED:
            scale = node.tensors["weight_scale"].astype(np.float64)
            weight, bias = node.tensors["weight"].astype(np.float64), node.tensors["bias"].astype(np.float64)
            if np.abs(bias).max(initial=0) >= _EXACT_BIAS:
                raise UnsupportedOperation(
                    f"layer '{node.layer}': a bias is {int(np.abs(bias).max()):,} steps, and a network that trains holds fewer "
                    f"than {_EXACT_BIAS:,} exactly; continue from the candidate that the file was made from"
                )
            real = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            shift = bias * (scale * self.types[node.inputs[0]].scale)
            return {"weight": real.astype(np.float32), "bias": shift.astype(np.float32)}
        if node.op in NORMALIZING:
            factor = node.type.scale / self.types[node.inputs[0]].scale
            channels = np.zeros(len(node.tensors["offset"]), np.float32)
            return {
                "gamma": (node.tensors["multiplier"].astype(np.float64) * factor).astype(np.float32),
                "beta": (node.tensors["offset"].astype(np.float64) * node.type.scale).astype(np.float32),
                "mean": channels,
                "variance": channels + np.float32(1),
            }
        return {}


def _float_grid(weight: Array) -> WeightGrid:
    """The weight format of a layer that computes in float32."""
    name = type_name(weight)
    return Float32Weights() if name == "float32" else FloatWeights(name)


def _activation(node: Node) -> tuple[str, dict[str, Attribute]] | None:
    """The ReLU or clamp that was fused into a requantization. A grid that starts at 0 is a ReLU already."""
    if "lo" not in node.attributes and "hi" not in node.attributes:
        return None
    settings = settings_of(node)
    low, high = settings.integer("lo"), settings.integer("hi")
    zero, scale = node.type.zero_point, node.type.scale
    if not node.type.quantized or (high == 255 and low == 0 < zero):
        return None
    if high == 255 and low == zero:
        return "relu", {}
    return "clamp", {"minimum": (low - zero) * scale, "maximum": (high - zero) * scale}
