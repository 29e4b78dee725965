"""The integer graph computed by torch, bit for bit as the reference interpreter: accuracy of the integers that will ship.

Values are whole numbers in float tensors. A float32 sum of whole numbers is exact as long as it stays below 2**24, whatever the
order; a convolution that might exceed that is split over its input channels. On a GPU, where fast convolutions round (TF32,
Winograd), everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretrim.errors import UnsupportedOperation
from paretrim.graph.operations.attributes import Settings
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Array, Graph, Node, ValueType

_EXACT = 2**24
"""Float32 holds every whole number up to here."""


class IntegerNetwork(nn.Module):
    """Evaluates an integer graph that takes normalised float32 images [N, C, H, W]; logits float32 [N, K].

    Raises:
        UnsupportedOperation: the graph takes pixels, or is not quantized.
    """

    def __init__(self, graph: Graph, device: torch.device) -> None:
        super().__init__()
        if graph.input.takes_pixels or not graph.quantized:
            raise UnsupportedOperation(
                "only an integer graph that takes normalised images can be evaluated here; freeze a quantized "
                "network without a spec"
            )
        self.graph, self.device = graph, device
        self.types = graph.types
        self.settings = {node.name: settings_of(node) for node in graph.nodes}
        self.real = torch.float32 if device.type == "cpu" else torch.float64
        self._weights = {node.name: self._parts(node) for node in graph.nodes if node.op in WEIGHTED}

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [N, K] of normalised images."""
        values = {INPUT: images.float()}
        last = {name: node.name for node in self.graph.nodes for name in node.inputs}
        for node in self.graph.nodes:
            values[node.name] = self._compute(node, [values[name] for name in node.inputs])
            for name in set(node.inputs):
                if last[name] == node.name:
                    del values[name]
        return values[self.graph.output].float()

    def _compute(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.op in WEIGHTED:
            return self._weighted(node, inputs[0])
        return _OPERATIONS[node.op](self, node, inputs)

    def tensor(self, array: Array) -> Tensor:
        """An array as a tensor of the type that whole numbers are computed in."""
        return torch.from_numpy(np.array(array)).to(self.device, self.real)

    def _parts(self, node: Node) -> tuple[Tensor, ...]:
        """The weight, cut along its input channels so that the sum of each part is exact."""
        weight = node.tensors["weight"].astype(np.int64)
        bound = int(np.abs(weight).reshape(len(weight), -1).sum(1).max()) * 255
        grouped = node.op == "conv2d" and node.attributes.get("groups", 1) != 1
        if bound < _EXACT or self.real == torch.float64:
            return (self.tensor(weight),)
        if grouped:
            return (self.tensor(weight).double(),)
        count = min(-(-bound // _EXACT) * 2, weight.shape[1])
        return tuple(self.tensor(part) for part in np.array_split(weight, count, axis=1))

    def _weighted(self, node: Node, value: Tensor) -> Tensor:
        source = self.types[node.inputs[0]]
        centered = value - source.zero_point
        settings = self.settings[node.name]
        parts = self._weights[node.name]
        rows = (-1, *[1] * (value.dim() - 2))
        # float64 holds sum and bias exactly; one rounding to float32 follows, as of an int32.
        total = torch.from_numpy(node.tensors["bias"].astype(np.float64)).to(self.device).reshape(rows)
        sizes = [part.shape[1] * _groups(node) for part in parts]
        for weight, part in zip(parts, torch.split(centered, sizes, dim=1), strict=True):
            exact = part.to(weight.dtype)
            total = total + (F.linear(exact, weight) if node.op == "linear" else _convolve(exact, weight, settings))
        accumulator = total.float()
        scales = np.float32(source.scale) * node.tensors["weight_scale"].astype(np.float32)
        if not node.type.quantized:
            return accumulator * torch.from_numpy(scales).to(self.device).reshape(rows)
        multiplier = torch.from_numpy(scales / np.float32(node.type.scale)).to(self.device).reshape(rows)
        return self.requantize(accumulator, multiplier, node)

    def requantize(self, accumulator: Tensor, multiplier: Tensor | float, node: Node) -> Tensor:
        """``requant`` of the page on whole numbers in float32."""
        settings = self.settings[node.name]
        steps = torch.round(accumulator.float() * multiplier) + node.type.zero_point
        return steps.clamp(settings.integer("lo"), settings.integer("hi")).to(self.real)


def _groups(node: Node) -> int:
    return cast(int, node.attributes.get("groups", 1)) if node.op == "conv2d" else 1


def _convolve(x: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    top, left, bottom, right = settings.edges("padding")
    padded = F.pad(x, (left, right, top, bottom)) if (top, left, bottom, right) != (0, 0, 0, 0) else x
    return F.conv2d(padded, weight, None, settings.pair("stride"), 0, settings.pair("dilation"), settings.integer("groups"))


def _ratio(source: ValueType, output: ValueType) -> np.float32:
    return np.float32(source.scale) / np.float32(output.scale)


def _quantize(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    step = torch.tensor(node.type.scale, dtype=torch.float32, device=inputs[0].device)
    return (torch.round(inputs[0] / step) + node.type.zero_point).clamp(0, 255).to(network.real)


def _dequantize(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    source = network.types[node.inputs[0]]
    return (inputs[0] - source.zero_point).float() * float(np.float32(source.scale))


def _batch_norm(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    rows = (-1, *[1] * (inputs[0].dim() - 2))
    named = (node.tensors[name].copy() for name in ("multiplier", "offset"))
    multiplier, offset = (torch.from_numpy(array).to(network.device).reshape(rows) for array in named)
    centered = (inputs[0] - network.types[node.inputs[0]].zero_point).float()
    settings = network.settings[node.name]
    steps = torch.round(centered * multiplier + offset) + node.type.zero_point
    return steps.clamp(settings.integer("lo"), settings.integer("hi")).to(network.real)


def _add(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    types = [network.types[name] for name in node.inputs]
    first, second = (_ratio(source, node.type) for source in types)
    shift = np.float32(
        node.type.zero_point - (np.float64(first) * types[0].zero_point + np.float64(second) * types[1].zero_point)
    )
    total = inputs[1].float() * float(second) + float(shift)
    total = total + inputs[0].float() * float(first)
    settings = network.settings[node.name]
    return torch.round(total).clamp(settings.integer("lo"), settings.integer("hi")).to(network.real)


def _mul(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    types = [network.types[name] for name in node.inputs]
    product = (inputs[0] - types[0].zero_point) * (inputs[1] - types[1].zero_point)
    multiplier = np.float32(types[0].scale) * np.float32(types[1].scale) / np.float32(node.type.scale)
    return network.requantize(product, float(multiplier), node)


def _concat(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    def moved(value: Tensor, source: ValueType) -> Tensor:
        if (source.scale, source.zero_point) == (node.type.scale, node.type.zero_point):
            return value
        steps = torch.round((value - source.zero_point).float() * float(_ratio(source, node.type)))
        return (steps + node.type.zero_point).clamp(0, 255).to(network.real)

    return torch.cat([moved(value, network.types[name]) for name, value in zip(node.inputs, inputs, strict=True)], dim=1)


def _average(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    source = network.types[node.inputs[0]]
    centered = inputs[0] - source.zero_point
    sums = _adaptive_sums if node.op == "adaptive_avg_pool" else _window_sums
    total, counts = sums(network.settings[node.name], centered)
    step = torch.tensor(source.scale, dtype=torch.float32, device=counts.device)
    multiplier = step / (torch.tensor(node.type.scale, dtype=torch.float32, device=counts.device) * counts)
    return network.requantize(total, multiplier, node)


def _adaptive_sums(settings: Settings, x: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = settings.pair("output_size")
    height, width = x.shape[2:]
    spans = [[(i * size // n, -(-(i + 1) * size // n)) for i in range(n)] for n, size in ((rows, height), (columns, width))]
    total = torch.stack([torch.stack([x[:, :, a:b, c:d].sum((2, 3)) for c, d in spans[1]], -1) for a, b in spans[0]], -2)
    counts = torch.tensor([[float((b - a) * (d - c)) for c, d in spans[1]] for a, b in spans[0]], device=x.device)
    return total, counts


def _window_sums(settings: Settings, x: Tensor) -> tuple[Tensor, Tensor]:
    window, stride = settings.pair("window"), settings.pair("stride")
    top, left, bottom, right = settings.edges("padding")
    inside = settings.edges("count_padding")
    counted = F.pad(x.new_ones((1, 1, *x.shape[2:])), (inside[1], inside[3], inside[0], inside[2]), value=1.0)
    counted = F.pad(counted, (left - inside[1], right - inside[3], top - inside[0], bottom - inside[2]))
    padded = F.pad(x, (left, right, top, bottom))
    total, counts = (F.avg_pool2d(t, window, stride, divisor_override=1) for t in (padded, counted))
    return total, counts.float()


def _max_pool(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    settings = network.settings[node.name]
    top, left, bottom, right = settings.edges("padding")
    padded = F.pad(inputs[0], (left, right, top, bottom))  # 0 is the lowest level: padding never wins
    return F.max_pool2d(padded, settings.pair("window"), settings.pair("stride"), 0, settings.pair("dilation"))


def _slice(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    settings = network.settings[node.name]
    chosen = slice(settings.integer("start"), settings.integer("stop"), settings.integer("step"))
    return inputs[0][(slice(None),) * (settings.integer("axis") + 1) + (chosen,)]


def _pad(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    settings = network.settings[node.name]
    pairs = list(zip(settings.integers("before"), settings.integers("after"), strict=True))[::-1]
    return F.pad(inputs[0], [side for pair in pairs for side in pair], value=network.types[node.inputs[0]].zero_point)


def _shuffle(network: IntegerNetwork, node: Node, inputs: list[Tensor]) -> Tensor:
    return F.channel_shuffle(inputs[0], network.settings[node.name].integer("groups"))


_OPERATIONS: Mapping[str, Callable[[IntegerNetwork, Node, list[Tensor]], Tensor]] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "batch_norm": _batch_norm,
    "relu": lambda network, node, inputs: inputs[0].clamp_min(network.types[node.inputs[0]].zero_point),
    "pointwise": lambda network, node, inputs: network.tensor(node.tensors["table"])[inputs[0].long()],
    "add": _add,
    "mul": _mul,
    "concat": _concat,
    "avg_pool": _average,
    "adaptive_avg_pool": _average,
    "max_pool": _max_pool,
    "slice": _slice,
    "pad": _pad,
    "channel_shuffle": _shuffle,
    "flatten": lambda _network, _node, inputs: inputs[0].flatten(1),
    "unflatten": lambda _network, _node, inputs: inputs[0][:, :, None, None],
}
