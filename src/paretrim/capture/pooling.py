"""Converters of pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from paretrim.capture.call import Call, Pair
from paretrim.capture.layers import around
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Attribute


def _window(work: Work, call: Call, source: str, *, dilation: Pair) -> dict[str, Attribute]:
    """Window attributes, with ceil mode expressed as further padding below and to the right."""
    window, padding = call.pair("kernel_size"), call.pair("padding")
    stride = call.pair("stride") if call.arguments["stride"] else window
    sizes, results = work.shapes[source][1:], call.shape()[1:]
    # How far the last window reaches beyond the image; where the windows end inside it, the padding that was asked for.
    beyond = [(results[i] - 1) * stride[i] + dilation[i] * (window[i] - 1) + 1 - sizes[i] - padding[i] for i in (0, 1)]
    after = [max(beyond[i], padding[i]) for i in (0, 1)]
    return {"window": window, "stride": stride, "padding": (*padding, *after)}


def _max_pool(work: Work, call: Call) -> Value:
    source, dilation = work.read(call, call.source), call.pair("dilation")
    attributes = _window(work, call, source, dilation=dilation) | {"dilation": dilation}
    return work.emit(call, "max_pool", [source], shape=call.shape(), attributes=attributes)


def _avg_pool(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    if call.arguments["divisor_override"] is not None:
        raise call.refused(f"divisor_override = {call.arguments['divisor_override']} is not known; multiply the result instead")
    counted = around(call.pair("padding")) if call.arguments["count_include_pad"] else (0, 0, 0, 0)
    attributes = _window(work, call, source, dilation=(1, 1)) | {"count_padding": counted}
    return work.emit(call, "avg_pool", [source], shape=call.shape(), attributes=attributes)


def _adaptive_avg_pool(work: Work, call: Call) -> Value:
    source, shape = work.read(call, call.source), call.shape()
    if shape == work.shapes[source]:
        return View(source, shape)
    return work.emit(call, "adaptive_avg_pool", [source], shape=shape, attributes={"output_size": (shape[1], shape[2])})


def _mean(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    shape = work.shapes[source]
    axes = {axis % (len(shape) + 1) for axis in call.integers("dim")}
    if len(shape) != 3 or axes != {2, 3}:
        raise call.refused(f"a mean over axes {sorted(axes)} of {shape}; only the mean over height and width is known")
    attributes: dict[str, Attribute] = {"output_size": (1, 1)}
    pooled = work.emit(call, "adaptive_avg_pool", [source], shape=(shape[0], 1, 1), attributes=attributes)
    return View(pooled.name, call.shape())


POOLING: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "max_pool2d": _max_pool,
        "avg_pool2d": _avg_pool,
        "adaptive_avg_pool2d": _adaptive_avg_pool,
        "mean": _mean,
    }
)
