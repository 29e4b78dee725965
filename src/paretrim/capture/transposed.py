"""Transposed convolution, expressed as an ordinary convolution whose channels become pixels.

With stride s, the results at every s-th position are sums over the same inputs, with every s-th weight of the kernel. So one
convolution with stride 1 computes s * s channels for each, one per position in a block, and ``pixel_shuffle`` moves them there.
If s does not divide the kernel size, the kernels of some positions are shorter: their missing weights are initially 0. So are
those between the weights of a dilated kernel.

Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?", arXiv 1609.07009, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from paretrim.capture.call import Call
from paretrim.capture.cut import cut
from paretrim.capture.layers import bias_of, conv2d
from paretrim.capture.pixels import shuffled_pixels
from paretrim.capture.work import Value, Work
from paretrim.graph.operations.attributes import Pair
from paretrim.graph.types import Array, Attribute, FloatArray


@dataclass(frozen=True)
class _Side:
    """One axis of a transposed convolution: ``extent`` inputs, ``results`` outputs."""

    extent: int
    results: int
    kernel: int
    stride: int
    padding: int

    @property
    def reach(self) -> int:
        """The largest number of inputs in the sum of a result."""
        return -(-self.kernel // self.stride)

    @property
    def first(self) -> int:
        """The first block that contains a result."""
        return self.padding // self.stride

    @property
    def last(self) -> int:
        """The last such block."""
        return (self.padding + self.results - 1) // self.stride

    @property
    def before(self) -> int:
        """Zeros to pad before the input; negative: inputs to cut off."""
        return self.reach - 1 - self.first

    @property
    def after(self) -> int:
        """The same after the input."""
        return self.last - (self.extent - 1)

    @property
    def start(self) -> int:
        """The position of the first result in its block."""
        return self.padding - self.first * self.stride


def _conv_transpose2d(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    call.no_effect("output_padding")  # the shape of the result includes it
    groups, factor = call.integer("groups"), call.pair("stride")
    path, undilated = work.weight(call, call.arguments["weight"])
    given = _dilated(undilated, call.pair("dilation"))
    sizes = zip(work.shapes[source][1:], call.shape()[1:], given.shape[2:], factor, call.pair("padding"), strict=True)
    sides = [_Side(*numbers) for numbers in sizes]
    for axis, side in enumerate(sides, 1):
        stop = work.shapes[source][axis] + min(side.after, 0)
        source = cut(work, call, source, axis, start=max(-side.before, 0), stop=stop, step=1).name
    tensors: dict[str, Array] = {"weight": _one_for_every_place(given, sides, groups)}
    tensors |= {name: np.repeat(value, factor[0] * factor[1]) for name, value in bias_of(work, call).items()}
    attributes: dict[str, Attribute] = {
        "stride": (1, 1),
        "padding": (*(max(side.before, 0) for side in sides), *(max(side.after, 0) for side in sides)),
        "dilation": (1, 1),
        "groups": groups,
        **call.fixed("weight"),
    }
    name = "" if call.fixed("weight") else path
    shape = (len(tensors["weight"]), *(side.last - side.first + 1 for side in sides))
    value = work.emit(call, "conv2d", [source], shape=shape, attributes=attributes, tensors=tensors, name=name)
    if factor != (1, 1):
        value = shuffled_pixels(work, call, value.name, factor)
    for axis, side in enumerate(sides, 1):
        value = cut(work, call, value.name, axis, start=side.start, stop=side.start + side.results, step=1)
    return value


def _dilated(weight: FloatArray, dilation: Pair) -> FloatArray:
    """Kernels with zeros between their weights instead of a dilation."""
    if dilation == (1, 1):
        return weight
    extents = [step * (extent - 1) + 1 for step, extent in zip(dilation, weight.shape[2:], strict=True)]
    wide = np.zeros((*weight.shape[:2], *extents), np.float32)
    wide[:, :, :: dilation[0], :: dilation[1]] = weight
    return wide


def _one_for_every_place(weight: FloatArray, sides: list[_Side], groups: int) -> FloatArray:
    """Kernels [Ci, Co / g, k, l] as kernels of the convolution, [Co * r * s, Ci / g, ceil(k / r), ceil(l / s)]."""
    inputs, outputs = weight.shape[:2]
    (rows, down), (columns, across) = ((side.reach, side.stride) for side in sides)
    turned = weight.reshape(groups, inputs // groups, *weight.shape[1:]).swapaxes(1, 2)
    kernels = turned.reshape(groups * outputs, inputs // groups, *weight.shape[2:])
    missing = [(0, 0), (0, 0), (0, rows * down - weight.shape[2]), (0, columns * across - weight.shape[3])]
    split = np.pad(kernels, missing).reshape(*kernels.shape[:2], rows, down, columns, across)
    places = split.transpose(0, 3, 5, 1, 2, 4)[..., ::-1, ::-1]
    return np.ascontiguousarray(places.reshape(-1, kernels.shape[1], rows, columns))


def _convolution(work: Work, call: Call) -> Value:
    """``torch.convolution``, which is either kind."""
    if len(call.integers("stride")) != 2:
        raise call.refused("use Conv2d or ConvTranspose2d; images have two sides")
    if call.arguments["transposed"]:
        return _conv_transpose2d(work, call)
    call.no_effect("output_padding")
    return conv2d(work, call)


TRANSPOSED: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {"conv_transpose2d": _conv_transpose2d, "convolution": _convolution}
)
