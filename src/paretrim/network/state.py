"""A trainable network as tensors and plain facts, and back: the one place that knows what a file of it must hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from paretrim.errors import CorruptFile
from paretrim.graph.fusion import grid_values
from paretrim.graph.structure import graph_of, structure_of
from paretrim.network.constraints import all_finite, key_of, set_mask_, weighted_layers
from paretrim.network.float_weights import is_float
from paretrim.network.formats import activation_grid, weight_grid
from paretrim.network.network import Network
from paretrim.network.tensors import typed, vector


def facts_of(network: Network) -> dict[str, Any]:
    """What :func:`network_of` needs beside the network's ``state_dict``; JSON-able."""
    return {
        "structure": structure_of(network.graph(weights=False)),
        "activations": {name: quantizer.facts() for name, quantizer in network.quantizers().items()},
        "weights": {
            name: layer.quantizer.facts() for name, layer in weighted_layers(network).items() if layer.quantizer is not None
        },
    }


def network_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Network:
    """The network with this ``state_dict`` and these facts; no code of the user's network is needed.

    Raises:
        CorruptFile: a tensor holds NaN or infinity.
        KeyError, TypeError, ValueError, RuntimeError, ParetrimError: tensors and facts do not fit each other.
    """
    by_node: dict[str, dict[str, Any]] = {}
    for node in facts["structure"]["nodes"]:
        key = key_of(str(node["name"]))
        by_node[node["name"]] = {name: tensors[f"layers.{key}.{name}"].numpy() for name in node["tensors"]}
    network = Network(graph_of(facts["structure"], by_node))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise CorruptFile(f"tensor '{name}' holds NaN or infinity")
    for name, layer in weighted_layers(network).items():
        mask = typed(tensors, f"layers.{key_of(name)}.mask", torch.bool)
        if mask is not None:
            set_mask_(layer, mask)
        layer.alive = vector(tensors, f"layers.{key_of(name)}.alive", len(layer.weight))
        if name in facts["weights"]:
            place = f"layers.{key_of(name)}.quantizer."
            own = {key.removeprefix(place): tensor for key, tensor in tensors.items() if key.startswith(place)}
            layer.quantizer = weight_grid(facts["weights"][name], layer.weight.detach(), own)
    for name, batch_norm in network.batch_norms().items():
        batch_norm.alive = vector(tensors, f"layers.{key_of(name)}.alive", len(batch_norm.gamma))
    real = [name for name, layer in weighted_layers(network).items() if is_float(layer.quantizer)]
    for name in grid_values(network.structure, real) if facts["activations"] else ():  # in the order in which they were created
        network.set_grid_(name, activation_grid(facts["activations"][name]))
    network.load_state_dict(
        {name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    )
    return network
