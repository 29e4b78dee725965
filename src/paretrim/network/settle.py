"""Rounds scales and biases of a trained, quantized network to values that the file stores compactly.

This happens at the end of every stage, in the parameters themselves: the network that is validated, trained further and frozen
already has plain scales, so freezing rounds nothing that training has not seen.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from paretrim.graph.fold import folded_bias
from paretrim.graph.fusion import fuse, grid_holders
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.plain import constant_scale, plain_biases, plain_scales
from paretrim.graph.types import Float64Array
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.float_weights import is_float
from paretrim.network.layers import BatchNorm
from paretrim.network.network import Network


def settle_(network: Network) -> None:
    """Move scales and biases before uint8 results to the nearest plain ones; see :mod:`paretrim.graph.plain`.

    A scale moves by at most 1.6 %, through gamma of the BatchNorm after the layer, or through the learned step if there is
    none; a scale that is observed in the weights stays. A bias moves by at most a sixteenth of an output step, through beta or
    the bias itself; a layer with neither has none. Layers that give logits, layers of floats, and
    networks that are not quantized, stay as they are.
    """
    layers = weighted_layers(network)
    if any(layer.quantizer is None for layer in layers.values()) or not network.quantizers():
        return
    graph = network.graph(weights=False)
    holders, quantizers = grid_holders(graph), network.quantizers()
    norms = network.batch_norms()
    for run in fuse(graph):
        if run.head.op not in WEIGHTED or run.end.name not in holders or is_float(layers[run.head.name].quantizer):
            continue
        ends = {"source": run.head.inputs[0], "output": run.end.name}
        grids = {end: quantizers[holders[name]].grid().scale for end, name in ends.items()}
        layer = layers[run.head.name]
        factor, bias = folded_bias(run.head, run.batch_norm)
        norm = norms[run.batch_norm.name] if run.batch_norm else None
        _settle_layer_(layer, norm, factor, bias, grids)


def _settle_layer_(
    layer: WeightedLayer, norm: BatchNorm | None, factor: Float64Array, bias: Float64Array, grids: dict[str, float]
) -> None:
    quantizer = layer.quantizer
    assert quantizer is not None
    with torch.no_grad():
        integers, steps = quantizer.integers(layer.masked_weight())
    own = _array(steps)
    empty = ~integers.reshape(len(integers), -1).any(1).cpu().numpy() | (factor == 0)
    scales = own * np.abs(factor)
    if norm is not None or quantizer.trained_scale is not None:
        scales = plain_scales(scales)
    scales = np.where(empty, constant_scale(**grids), scales).astype(np.float32).astype(np.float64)
    moved = plain_biases(bias, scales, **grids) * grids["source"] * scales
    if norm is not None:
        factor = np.where(empty, factor, np.sign(factor) * scales / own)
        spread = np.sqrt(_array(norm.variance) + norm.epsilon)
        inner = 0.0 if layer.bias is None else _array(layer.bias)
        alive = _living(norm.alive)
        _put_(norm.gamma, factor * spread, alive)
        _put_(norm.beta, moved - (inner - _array(norm.mean)) * factor, alive)
        return
    if quantizer.trained_scale is not None:
        _put_(quantizer.trained_scale, scales, ~empty)
    if layer.bias is not None:
        _put_(layer.bias, moved, _living(layer.alive))


def _array(tensor: Tensor) -> Float64Array:
    return tensor.detach().cpu().numpy().astype(np.float64)


def _living(alive: Tensor | None) -> np.ndarray | bool:
    return True if alive is None else alive.cpu().numpy() > 0


def _put_(parameter: Tensor, values: Float64Array, where: np.ndarray | bool) -> None:
    """Write float64 values [Co] into a parameter at the selected places."""
    old = _array(parameter)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.where(where, values, old).astype(np.float32)))
