"""The captured network as an ``nn.Module`` that can be trained: it walks the nodes of the float graph.

Layers keep the user's names (``layer1.0.conv1``). Fake quantizers stand on the values that the integer graph will requantize, so
``freeze`` only has to round what is already there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor, nn

from paretrim.constraints import Weighted, weighted_layers
from paretrim.fake_quantize import ActivationQuantizer
from paretrim.graph.types import INPUT, WEIGHTED, Array, Graph, Node


class BatchNorm(nn.Module):
    """Per-channel normalisation with running statistics; tensors named as in the graph."""

    mean: Tensor
    variance: Tensor
    alive: Tensor | None
    """1 for channels that compute, 0 for those silenced ahead of their removal; [C]."""

    def __init__(self, tensors: Mapping[str, Array], epsilon: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(_tensor(tensors["gamma"]))
        self.beta = nn.Parameter(_tensor(tensors["beta"]))
        self.register_buffer("mean", _tensor(tensors["mean"]))
        self.register_buffer("variance", _tensor(tensors["variance"]))
        self.register_buffer("alive", None)
        self.epsilon = epsilon
        self.momentum = 0.1
        self.frozen = False
        """With frozen statistics the running ones are used and kept, also while training."""

    def forward(self, x: Tensor) -> Tensor:
        """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` over [N, C, ...]."""
        batch_statistics = self.training and not self.frozen and self.epsilon > 0
        gamma, beta = (self.gamma, self.beta) if self.alive is None else (self.gamma * self.alive, self.beta * self.alive)
        return F.batch_norm(x, self.mean, self.variance, gamma, beta, batch_statistics, self.momentum, self.epsilon)


class Network(nn.Module):
    """A trainable network built from a float graph. ``structure`` is that graph without its tensors."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.structure = replace(graph, nodes=tuple(replace(node, tensors={}) for node in graph.nodes))
        self.layers = nn.ModuleDict()
        for node in graph.nodes:
            if node.op in WEIGHTED:
                bias = node.tensors.get("bias")
                self.layers[_key(node.name)] = Weighted(_tensor(node.tensors["weight"]), None if bias is None else _tensor(bias))
            elif node.op == "batch_norm":
                self.layers[_key(node.name)] = BatchNorm(node.tensors, float(node.attributes["epsilon"]))
            elif node.op == "dropout":
                self.layers[_key(node.name)] = nn.Dropout(float(node.attributes["probability"]))
        self.grids = nn.ModuleDict()
        self._last_use = _last_uses(self.structure)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, K] of normalised images [N, C, H, W]."""
        return self.features(x, ())[self.structure.output]

    def features(self, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The values with these names, and the logits under the name of the output."""
        kept = {*names, self.structure.output}
        values = {INPUT: self._on_grid(INPUT, x)}
        found = {INPUT: values[INPUT]} if INPUT in kept else {}
        for node, finished in zip(self.structure.nodes, self._last_use, strict=True):
            layer = self.layers[_key(node.name)] if _key(node.name) in self.layers else None
            result = self._on_grid(node.name, _OPERATIONS[node.op](node, layer, [values[name] for name in node.inputs]))
            values[node.name] = result
            if node.name in kept:
                found[node.name] = result
            for name in finished:
                del values[name]
        return found

    def _on_grid(self, name: str, x: Tensor) -> Tensor:
        return self.grids[_key(name)](x) if _key(name) in self.grids else x

    def set_grid_(self, name: str, quantizer: ActivationQuantizer) -> None:
        """Put a fake quantizer on the value ``name``."""
        self.grids[_key(name)] = quantizer

    def quantizers(self) -> dict[str, ActivationQuantizer]:
        """Activation quantizers by the name of their value."""
        return {key.replace("/", "."): cast(ActivationQuantizer, module) for key, module in self.grids.items()}

    def batch_norms(self) -> dict[str, BatchNorm]:
        """BatchNorm layers by name."""
        return {key.replace("/", "."): module for key, module in self.layers.items() if isinstance(module, BatchNorm)}

    def become_(self, other: Network) -> None:
        """Take over the structure, layers and grids of ``other``; for stages that end in a smaller network."""
        self.structure, self.layers, self.grids, self._last_use = other.structure, other.layers, other.grids, other._last_use

    def graph(self) -> Graph:
        """The float graph with the present tensors: weights masked, not rounded; BatchNorm not folded."""
        return replace(self.structure, nodes=tuple(replace(node, tensors=self._arrays(node.name)) for node in self.structure.nodes))

    def _arrays(self, name: str) -> dict[str, Array]:
        module = self.layers[_key(name)] if _key(name) in self.layers else None
        if isinstance(module, Weighted):
            weight = module.weight if module.mask is None else module.weight * module.mask
            arrays = {"weight": _numpy(weight)}
            bias = module.effective_bias()
            return arrays if bias is None else arrays | {"bias": _numpy(bias)}
        if isinstance(module, BatchNorm):
            alive = 1.0 if module.alive is None else module.alive
            return {
                "gamma": _numpy(module.gamma * alive),
                "beta": _numpy(module.beta * alive),
                "mean": _numpy(module.mean),
                "variance": _numpy(module.variance),
            }
        return {}


def _key(name: str) -> str:
    """Module names may not contain dots; user's layer paths contain no slashes."""
    return name.replace(".", "/")


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, copy=True))


def _numpy(tensor: Tensor) -> Array:
    return cast(Array, tensor.detach().cpu().numpy().copy())


def _last_uses(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """For each node, the values nobody reads after it."""
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    return tuple(
        tuple(name for name in dict.fromkeys(node.inputs) if last[name] == index) for index, node in enumerate(graph.nodes)
    )


def _padded(x: Tensor, padding: tuple[int, ...], value: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def _split_padding(padding: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """The symmetric part of (top, left, bottom, right), which a kernel does itself, and what is left to pad before."""
    top, left, bottom, right = padding
    if (top, left) == (bottom, right):
        return (top, left), (0, 0, 0, 0)
    return (0, 0), padding


Operation = Callable[[Node, nn.Module | None, list[Tensor]], Tensor]


def _ints(node: Node, name: str) -> tuple[int, ...]:
    return cast(tuple[int, ...], node.attributes[name])


def _number(node: Node, name: str) -> float:
    return float(cast(float, node.attributes[name]))


def _conv2d(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    weighted = cast(Weighted, layer)
    inside, before = _split_padding(_ints(node, "padding"))
    weight = weighted.effective_weight()
    x = _padded(inputs[0], before)
    stride, dilation, groups = _ints(node, "stride"), _ints(node, "dilation"), int(_number(node, "groups"))
    return F.conv2d(x, weight, weighted.effective_bias(), stride, inside, dilation, groups)  # type: ignore[arg-type]


def _linear(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    weighted = cast(Weighted, layer)
    return F.linear(inputs[0], weighted.effective_weight(), weighted.effective_bias())


def _batch_norm(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    return cast(Tensor, cast(BatchNorm, layer)(inputs[0]))


def _slice(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    index: list[slice] = [slice(None)] * inputs[0].dim()
    start, stop, step = (int(_number(node, name)) for name in ("start", "stop", "step"))
    index[int(_number(node, "axis")) + 1] = slice(start, stop, step)
    return inputs[0][tuple(index)]


def _pad(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    pairs = [side for before, after in zip(_ints(node, "before"), _ints(node, "after"), strict=True) for side in (after, before)]
    return F.pad(inputs[0], pairs[::-1])


def _channel_shuffle(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    batch, channels, height, width = inputs[0].shape
    groups = int(_number(node, "groups"))
    return inputs[0].reshape(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def _max_pool(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    x = _padded(inputs[0], _ints(node, "padding"), value=-torch.inf)
    return F.max_pool2d(x, _ints(node, "window"), _ints(node, "stride"), 0, _ints(node, "dilation"))


def _avg_pool(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    window, stride = _ints(node, "window"), _ints(node, "stride")
    padding, counted = _ints(node, "padding"), _ints(node, "count_padding")
    if not any(padding):
        return F.avg_pool2d(inputs[0], window, stride)  # type: ignore[arg-type]
    total = F.avg_pool2d(_padded(inputs[0], padding), window, stride, divisor_override=1)  # type: ignore[arg-type]
    inside = inputs[0].new_ones((1, 1, *inputs[0].shape[2:]))
    outside = tuple(p - c for p, c in zip(padding, counted, strict=True))
    count = F.avg_pool2d(_padded(_padded(inside, counted, value=1.0), outside), window, stride, divisor_override=1)  # type: ignore[arg-type]
    return total / count


def _pointwise(node: Node, layer: nn.Module | None, inputs: list[Tensor]) -> Tensor:
    constant = float(cast(float, node.attributes.get("constant", 0.0)))
    return _POINTWISE[str(node.attributes["function"])](inputs[0], constant)


_POINTWISE: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": lambda x, c: torch.sigmoid(x),
    "silu": lambda x, c: F.silu(x),
    "hardsigmoid": lambda x, c: F.hardsigmoid(x),
    "hardswish": lambda x, c: F.hardswish(x),
    "tanh": lambda x, c: torch.tanh(x),
    "gelu": lambda x, c: F.gelu(x),
    "elu": lambda x, c: F.elu(x),
    "leaky_relu": lambda x, c: F.leaky_relu(x, c),
    "softplus": lambda x, c: F.softplus(x),
    "relu6": lambda x, c: F.relu6(x),
    "clamp_min": lambda x, c: x.clamp_min(c),
    "clamp_max": lambda x, c: x.clamp_max(c),
    "add_constant": lambda x, c: x + c,
    "mul_constant": lambda x, c: x * c,
}

_OPERATIONS: Mapping[str, Operation] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": lambda node, layer, inputs: F.relu(inputs[0]),
    "clamp": lambda node, layer, inputs: inputs[0].clamp(_number(node, "minimum"), _number(node, "maximum")),
    "pointwise": _pointwise,
    "add": lambda node, layer, inputs: inputs[0] + inputs[1],
    "mul": lambda node, layer, inputs: inputs[0] * inputs[1],
    "concat": lambda node, layer, inputs: torch.cat(inputs, dim=1),
    "slice": _slice,
    "pad": _pad,
    "channel_shuffle": _channel_shuffle,
    "flatten": lambda node, layer, inputs: inputs[0].flatten(1),
    "unflatten": lambda node, layer, inputs: inputs[0][:, :, None, None],
    "dropout": lambda node, layer, inputs: cast(nn.Dropout, layer)(inputs[0]),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": lambda node, layer, inputs: F.adaptive_avg_pool2d(inputs[0], _ints(node, "output_size")),
}
