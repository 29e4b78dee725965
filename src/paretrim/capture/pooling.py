"""Converters of pooling, and of its opposite, which repeats pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from paretrim.capture.arrange import cut
from paretrim.capture.call import Call, Pair
from paretrim.capture.layers import around
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Attribute

_MOST_REPEATED = 8
"""How much larger than the result the least common multiple of two sizes may be."""


def _window(call: Call, shape: tuple[int, ...], *, dilation: Pair) -> dict[str, Attribute]:
    """Window attributes, with ceil mode expressed as further padding below and to the right."""
    window, padding = call.pair("kernel_size"), call.pair("padding")
    stride = call.pair("stride") if call.arguments["stride"] else window
    sizes, results = shape[1:], call.shape()[1:]
    call.no_effect("ceil_mode")
    # How far the last window reaches beyond the image; where the windows end inside it, the padding that was asked for.
    beyond = [(results[i] - 1) * stride[i] + dilation[i] * (window[i] - 1) + 1 - sizes[i] - padding[i] for i in (0, 1)]
    after = [max(beyond[i], padding[i]) for i in (0, 1)]
    return {"window": window, "stride": stride, "padding": (*padding, *after)}


def _max_pool(work: Work, call: Call) -> Value:
    view, dilation = work.view(call, call.source), call.pair("dilation")
    if any(view.never_wins) and call.pair("padding") == (0, 0):
        attributes = _window(call, view.shape, dilation=dilation) | {"dilation": dilation}
        source, inside = view.name, attributes["padding"]
        assert isinstance(inside, tuple)
        attributes["padding"] = tuple(within + beyond for within, beyond in zip(inside, view.never_wins, strict=True))
    else:
        source = work.read(call, call.source)
        attributes = _window(call, work.shapes[source], dilation=dilation) | {"dilation": dilation}
    return work.emit(call, "max_pool", [source], shape=call.shape(), attributes=attributes)


def _avg_pool(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    if call.arguments["divisor_override"] is not None:
        raise call.refused(f"divisor_override = {call.arguments['divisor_override']} is not known; multiply the result instead")
    counted = around(call.pair("padding")) if call.arguments["count_include_pad"] else (0, 0, 0, 0)
    attributes = _window(call, work.shapes[source], dilation=(1, 1)) | {"count_padding": counted}
    return work.emit(call, "avg_pool", [source], shape=call.shape(), attributes=attributes)


def _adaptive_avg_pool(work: Work, call: Call) -> Value:
    source, shape = work.read(call, call.source), call.shape()
    call.no_effect("output_size")
    if shape == work.shapes[source]:
        return View(source, shape)
    return work.emit(call, "adaptive_avg_pool", [source], shape=shape, attributes={"output_size": (shape[1], shape[2])})


def _mean(work: Work, call: Call) -> Value:
    view = work.view(call, call.source)
    base, axes = work.shapes[view.name], {axis % (len(view.shape) + 1) for axis in call.integers("dim")}
    call.no_effect("keepdim", "dtype")
    whole = len(base) == 3 and view.shape == (base[0], base[1] * base[2]) and axes == {2} and view.plain
    if not whole and (len(view.shape) != 3 or not axes <= {2, 3} or not axes):
        raise call.refused(f"a mean over axes {sorted(axes)} of {view.shape}; only that over height, width or both is known")
    source = view.name if whole else work.read(call, call.source)
    size = (1, 1) if whole else tuple(1 if axis in axes else base[axis - 1] for axis in (2, 3))
    pooled = work.emit(call, "adaptive_avg_pool", [source], shape=(base[0], *size), attributes={"output_size": size})
    return View(pooled.name, call.shape())


def _upsample_nearest(work: Work, call: Call) -> Value:
    """Repeated pixels: adaptive pooling with more windows than pixels, every window within one of them.

    For a size that is no multiple, some pixels of the least common multiple are taken.
    """
    source, shape = work.read(call, call.source), call.shape()
    pairs = tuple(zip(work.shapes[source][1:], shape[1:], strict=True))
    multiple = (math.lcm(*pairs[0]), math.lcm(*pairs[1]))
    if any(common > _MOST_REPEATED * max(pair) for common, pair in zip(multiple, pairs, strict=True)) or not _floors(call, pairs):
        raise call.refused(
            f"pixels {list(work.shapes[source][1:])} repeated to {list(shape[1:])}; only multiples are known, and sizes near one "
            "that are given as sizes and not as factors"
        )
    value = View(source, work.shapes[source])
    if multiple != value.shape[1:]:
        attributes: dict[str, Attribute] = {"output_size": multiple}
        value = work.emit(call, "adaptive_avg_pool", [source], shape=(shape[0], *multiple), attributes=attributes)
    for axis in (1, 2):
        step = multiple[axis - 1] // shape[axis]
        value = cut(work, call, value.name, axis, start=0, stop=multiple[axis - 1], step=step)
    return value


def _floors(call: Call, pairs: tuple[Pair, ...]) -> bool:
    """Whether result i of n over size S is pixel ``floor(i * S / n)``; torch multiplies by a factor, rounded or given."""
    (height, down), (width, across) = pairs
    pixels = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    call.no_effect(*call.arguments)  # all of them are tried
    target = call.node.target
    assert isinstance(target, torch._ops.OpOverload)
    found = target(pixels, *call.node.args[1:], **call.node.kwargs)[0, 0]
    rows, columns = torch.arange(down) * height // down, torch.arange(across) * width // across
    return bool(torch.equal(found, pixels[0, 0][rows][:, columns]))


POOLING: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "max_pool2d": _max_pool,
        "avg_pool2d": _avg_pool,
        "adaptive_avg_pool2d": _adaptive_avg_pool,
        "mean": _mean,
        "upsample_nearest2d": _upsample_nearest,
    }
)
