"""What torch computes for each operation of a float graph, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretrim.graph.functions import SMALLEST, least_base
from paretrim.graph.operations.attributes import Settings
from paretrim.network.constraints import WeightedLayer
from paretrim.network.convolution import convolve

Layer = nn.Module | None
"""The module that holds a node's tensors; None if it has none."""


def _padded(x: Tensor, padding: tuple[int, ...], value: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def conv2d(settings: Settings, layer: Layer, inputs: list[Tensor]) -> Tensor:
    """Convolution with the effective weight."""
    weighted = cast(WeightedLayer, layer)
    return convolve(inputs[0], weighted.effective_weight(), weighted.effective_bias(), settings)


def linear(_: Settings, layer: Layer, inputs: list[Tensor]) -> Tensor:
    """The same for a linear layer."""
    weighted = cast(WeightedLayer, layer)
    return F.linear(inputs[0], weighted.effective_weight(), weighted.effective_bias())


def module(_: Settings, layer: Layer, inputs: list[Tensor]) -> Tensor:
    """What the layer itself computes."""
    return cast(Tensor, cast(nn.Module, layer)(inputs[0]))


def cut(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """A slice of one axis."""
    selected = slice(settings.integer("start"), settings.integer("stop"), settings.integer("step"))
    return inputs[0][(slice(None),) * (settings.integer("axis") + 1) + (selected,)]


def pad(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """Zeros around."""
    pairs = zip(settings.integers("before"), settings.integers("after"), strict=True)
    return F.pad(inputs[0], [side for pair in reversed(list(pairs)) for side in pair])


def matmul(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """A product of two matrices for every channel."""
    first, second = inputs
    return first @ (second.mT if settings.integer("transposed") else second)


def channel_shuffle(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """Channels [groups, C / groups] transposed."""
    batch, channels, height, width = inputs[0].shape
    groups = settings.integer("groups")
    return (
        inputs[0]
        .reshape(batch, groups, channels // groups, height, width)
        .transpose(1, 2)
        .reshape(batch, channels, height, width)
    )


def pixel_shuffle(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """Channels of a block become its pixels."""
    (down, across), (batch, channels, height, width) = settings.pair("factor"), inputs[0].shape
    blocks = inputs[0].reshape(batch, channels // (down * across), down, across, height, width)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * down, width * across)


def pixel_unshuffle(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """Pixels of a block become channels."""
    (down, across), (batch, channels, height, width) = settings.pair("factor"), inputs[0].shape
    blocks = inputs[0].reshape(batch, channels, height // down, down, width // across, across)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // down, width // across)


def max_pool(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """The largest of each window."""
    x = _padded(inputs[0], settings.edges("padding"), value=-torch.inf)
    return F.max_pool2d(x, settings.pair("window"), settings.pair("stride"), 0, settings.pair("dilation"))


def avg_pool(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """The mean of each window."""
    window, stride = settings.pair("window"), settings.pair("stride")
    padding, counted = settings.edges("padding"), settings.edges("count_padding")
    if not any(padding):
        return F.avg_pool2d(inputs[0], window, stride)
    total = F.avg_pool2d(_padded(inputs[0], padding), window, stride, divisor_override=1)
    inside = _padded(inputs[0].new_ones((1, 1, *inputs[0].shape[2:])), counted, value=1.0)
    outside = tuple(whole - part for whole, part in zip(padding, counted, strict=True))
    return total / F.avg_pool2d(_padded(inside, outside), window, stride, divisor_override=1)


def pointwise(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    """A function of each value."""
    function = settings.text("function")
    if function in _FUNCTIONS:
        return _FUNCTIONS[function](inputs[0])
    return _WITH_CONSTANT[function](inputs[0], settings.required_number("constant"))


def _power(x: Tensor, exponent: float) -> Tensor:
    """A power without infinities and without NaN in its gradient, as :mod:`paretrim.graph.functions` defines it."""
    whole = exponent.is_integer()
    if exponent < 0:
        least = least_base(exponent)
        return torch.where((x.abs() if whole else x) < least, least, x) ** exponent
    if whole:
        return x**exponent
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0) ** exponent, 0.0)


_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "sigmoid": torch.sigmoid,
        "silu": F.silu,
        "hardsigmoid": F.hardsigmoid,
        "hardswish": F.hardswish,
        "tanh": torch.tanh,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "elu": F.elu,
        "selu": F.selu,
        "softplus": F.softplus,
        "logsigmoid": F.logsigmoid,
        "mish": F.mish,
        "abs": torch.abs,
        "exp": torch.exp,
        "log": lambda x: x.clamp_min(SMALLEST).log(),
        "erf": torch.erf,
        "sin": torch.sin,
        "relu6": F.relu6,
        "requantize": lambda x: x,
    }
)

_WITH_CONSTANT: Mapping[str, Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        "leaky_relu": F.leaky_relu,
        "clamp_min": lambda x, bound: x.clamp_min(bound),
        "clamp_max": lambda x, bound: x.clamp_max(bound),
        "add_constant": lambda x, term: x + term,
        "mul_constant": lambda x, factor: x * factor,
        "power": _power,
        "elu_alpha": F.elu,
        "celu": F.celu,
        "softplus_beta": F.softplus,
        "threshold": lambda x, least: F.threshold(x, least, 0.0),
        "step": lambda x, bound: (x > bound).to(x.dtype),
        "hardshrink": F.hardshrink,
        "softshrink": F.softshrink,
    }
)
