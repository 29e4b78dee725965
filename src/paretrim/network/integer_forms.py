"""What torch computes for each operation of an integer graph, bit for bit as the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paretrim.graph.operations.attributes import Settings
from paretrim.graph.types import Array, Node, ValueType


class Integers(Protocol):
    """The network whose values are computed: types and settings by node, and how whole numbers are held."""

    device: torch.device
    real: torch.dtype

    @property
    def types(self) -> Mapping[str, ValueType]:
        """Type of every value by name."""
        ...

    @property
    def settings(self) -> Mapping[str, Settings]:
        """Checked attributes by node."""
        ...

    def tensor(self, array: Array) -> Tensor:
        """An array as a tensor of the type that whole numbers are computed in."""
        ...

    def requantize(self, accumulator: Tensor, multiplier: Tensor | float, node: Node) -> Tensor:
        """``requant`` of ``docs/integer-graph.md`` on whole numbers in float32."""
        ...


def relu(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Values clamped at the zero point."""
    return inputs[0].clamp_min(network.types[node.inputs[0]].zero_point)


def pointwise(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """A look-up in a table of 256 entries."""
    return network.tensor(node.tensors["table"])[inputs[0].long()]


def _ratio(source: ValueType, output: ValueType) -> np.float32:
    return np.float32(source.scale) / np.float32(output.scale)


def quantize(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Floats onto a grid."""
    step = torch.tensor(node.type.scale, dtype=torch.float32, device=inputs[0].device)
    return (torch.round(inputs[0] / step) + node.type.zero_point).clamp(0, 255).to(network.real)


def dequantize(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Back to floats."""
    source = network.types[node.inputs[0]]
    return (inputs[0] - source.zero_point).float() * float(np.float32(source.scale))


def batch_norm(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """A scale and shift that could not be folded."""
    rows = (-1, *[1] * (inputs[0].dim() - 2))
    named = (node.tensors[name].copy() for name in ("multiplier", "offset"))
    multiplier, offset = (torch.from_numpy(array).to(network.device).reshape(rows) for array in named)
    centered = (inputs[0] - network.types[node.inputs[0]].zero_point).float()
    settings = network.settings[node.name]
    steps = torch.round(centered * multiplier + offset) + node.type.zero_point
    return steps.clamp(settings.integer("lo"), settings.integer("hi")).to(network.real)


def add(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Sum of two grids."""
    types = [network.types[name] for name in node.inputs]
    first, second = (_ratio(source, node.type) for source in types)
    shift = np.float32(
        node.type.zero_point - (np.float64(first) * types[0].zero_point + np.float64(second) * types[1].zero_point)
    )
    total = inputs[1].float() * float(second) + float(shift)
    total = total + inputs[0].float() * float(first)
    settings = network.settings[node.name]
    return torch.round(total).clamp(settings.integer("lo"), settings.integer("hi")).to(network.real)


def mul(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Product of two grids."""
    types = [network.types[name] for name in node.inputs]
    product = (inputs[0] - types[0].zero_point) * (inputs[1] - types[1].zero_point)
    multiplier = np.float32(types[0].scale) * np.float32(types[1].scale) / np.float32(node.type.scale)
    return network.requantize(product, float(multiplier), node)


def matmul(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Product of two matrices for every channel; its sums exceed what float32 holds exactly."""
    types = [network.types[name] for name in node.inputs]
    first, second = ((value - kind.zero_point).double() for value, kind in zip(inputs, types, strict=True))
    sums = first @ (second.mT if network.settings[node.name].integer("transposed") else second)
    multiplier = np.float32(types[0].scale) * np.float32(types[1].scale) / np.float32(node.type.scale)
    return network.requantize(sums, float(multiplier), node)


def concat(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Channels of several grids, on one grid."""

    def moved(value: Tensor, source: ValueType) -> Tensor:
        if (source.scale, source.zero_point) == (node.type.scale, node.type.zero_point):
            return value
        steps = torch.round((value - source.zero_point).float() * float(_ratio(source, node.type)))
        return (steps + node.type.zero_point).clamp(0, 255).to(network.real)

    return torch.cat([moved(value, network.types[name]) for name, value in zip(node.inputs, inputs, strict=True)], dim=1)


def window_average(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Mean of each window."""
    return _average(network, node, inputs, _window_sums)


def adaptive_average(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Mean of each adaptive window."""
    return _average(network, node, inputs, _adaptive_sums)


def _average(
    network: Integers, node: Node, inputs: list[Tensor], sums: Callable[[Settings, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    source = network.types[node.inputs[0]]
    centered = inputs[0] - source.zero_point
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


def max_pool(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """The largest of each window."""
    settings = network.settings[node.name]
    top, left, bottom, right = settings.edges("padding")
    padded = F.pad(inputs[0], (left, right, top, bottom))  # 0 is the lowest level: padding never wins
    return F.max_pool2d(padded, settings.pair("window"), settings.pair("stride"), 0, settings.pair("dilation"))


def pad(network: Integers, node: Node, inputs: list[Tensor]) -> Tensor:
    """Zero points around."""
    settings = network.settings[node.name]
    pairs = list(zip(settings.integers("before"), settings.integers("after"), strict=True))[::-1]
    return F.pad(inputs[0], [side for pair in pairs for side in pair], value=network.types[node.inputs[0]].zero_point)
