"""Converters of pooling, reductions and upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch

from paretrim.capture.along import along
from paretrim.capture.call import Call
from paretrim.capture.cut import cut
from paretrim.capture.elementwise import larger, minimum, pointwise
from paretrim.capture.layers import around
from paretrim.capture.work import Value, View, Work
from paretrim.graph.operations.attributes import Pair
from paretrim.graph.types import Attribute

_MOST_REPEATED = 8
"""Maximum ratio of the least common multiple of two sizes to the larger one."""


def _window(call: Call, shape: tuple[int, ...], *, dilation: Pair) -> dict[str, Attribute]:
    """Window attributes, with ceil mode expressed as additional padding at the bottom and on the right."""
    window, padding = call.pair("kernel_size"), call.pair("padding")
    stride = call.pair("stride") if call.arguments["stride"] else window
    sizes, results = shape[1:], call.shape()[1:]
    call.no_effect("ceil_mode")
    # How far the last window reaches beyond the image; if the windows end inside it, the given padding.
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
    source, divisor = work.read(call, call.source), call.arguments["divisor_override"]
    counted = around(call.pair("padding")) if call.arguments["count_include_pad"] else (0, 0, 0, 0)
    attributes = _window(call, work.shapes[source], dilation=(1, 1)) | {"count_padding": counted}
    if divisor is None:
        return work.emit(call, "avg_pool", [source], shape=call.shape(), attributes=attributes)
    # With all padding counted, and so the same number of positions in every window, a mean times that number is the sum.
    attributes["count_padding"] = attributes["padding"]
    pooled = work.emit(call, "avg_pool", [source], shape=call.shape(), attributes=attributes)
    return pointwise(work, call, pooled, "mul_constant", math.prod(call.pair("kernel_size")) / call.integer("divisor_override"))


def _adaptive_avg_pool(work: Work, call: Call) -> Value:
    source, shape = work.read(call, call.source), call.shape()
    call.no_effect("output_size")
    if shape == work.shapes[source]:
        return View(source, shape)
    return work.emit(call, "adaptive_avg_pool", [source], shape=shape, attributes={"output_size": (shape[1], shape[2])})


def reduced(work: Work, call: Call, what: str) -> tuple[View, set[int]]:
    """A map [C, H, W] and the axes (1 to 3, the batch is 0) that an operation reduces to one number each."""
    view = work.view(call, call.source, may_be_last=True)
    rank = len(view.shape) + 1
    if call.arguments.get("dim") is None or 0 in {axis % rank for axis in call.integers("dim")} or not call.integers("dim"):
        raise call.refused(
            f"it takes the {what} over the batch too, and a file computes every image by itself; name the axes, such as "
            "dim=(1, 2, 3)"
        )
    axes = {axis % rank for axis in call.integers("dim")}
    call.no_effect("keepdim", "dtype")
    base = work.shapes[view.name]
    if view.last:
        return View(view.name, base), {axis % 3 + 1 for axis in axes}  # [H, W, C] to [C, H, W]
    if len(view.shape) == 1 and len(call.shape()) == 1:
        pixel = (view.shape[0], 1, 1)
        name = view.name if base == pixel else work.read(call, call.source)
        return View(work.settled(call, View(name, pixel)), pixel), {1}
    flat = len(base) == 3 and (axes, view.shape) in (
        ({2}, (base[0], base[1] * base[2])),
        ({3}, (base[0], 1, base[1] * base[2])),
        ({2, 3}, (base[0], 1, base[1] * base[2])),
    )
    if flat or (axes == {2} and view.shape == (base[0], 1)):
        whole = base if flat else (base[0], 1, 1)
        return View(work.settled(call, replace(view, shape=whole)), whole), {2, 3}
    if _is_of_groups(view, base) and axes == set(range(2, rank)):
        return view, axes
    if len(view.shape) != 3:
        raise call.refused(
            f"compute the {what} over channels, height or width of maps [C, H, W], or over whole groups of channels; this is "
            f"over axes {sorted(axes)} of {view.shape}"
        )
    source = work.read(call, call.source)
    return View(source, work.shapes[source]), axes


def result_of(work: Work, call: Call, made: View) -> View:
    """A reduced map in the shape of the result, channels last if the argument is."""
    source, shape = work.view(call, call.source, may_be_last=True), call.shape()
    if source.last and len(shape) == 2 and made.shape[0] != 1:
        raise call.refused("it reduces only height or only width of a channels-last map; pass keepdim=True")
    return View(made.name, shape, last=source.last and len(shape) == 3)


def _is_of_groups(view: View, base: tuple[int, ...]) -> bool:
    """Whether a view [G, ...] of a map shows groups of channels with their pixels, which follow each other."""
    return len(base) == 3 and len(view.shape) > 1 and view.plain and view.shape != base and base[0] % view.shape[0] == 0


def mean(work: Work, call: Call, view: View, axes: set[int]) -> View:
    """Means of a map over some of its axes, which are kept; of groups of channels [G, ...] one for each group."""
    channels, base = view.shape[0], work.shapes[view.name]
    if view.shape != base:
        share = channels / base[0]
        pooled = mean(work, call, View(view.name, base), {2, 3})
        made = work.mixed(call, pooled, np.kron(np.eye(channels), np.full((1, base[0] // channels), share)).astype(np.float32))
        return View(made.name, (channels, *[1] * (len(view.shape) - 1)))
    if axes & {2, 3}:
        size = tuple(1 if axis in axes else view.shape[axis - 1] for axis in (2, 3))
        view = work.emit(call, "adaptive_avg_pool", [view.name], shape=(channels, *size), attributes={"output_size": size})
    return work.mixed(call, view, np.full((1, channels), 1 / channels, np.float32)) if 1 in axes else view


def mean_of_map(work: Work, call: Call) -> Value:
    """Means over channels, height, width or several of them."""
    return result_of(work, call, mean(work, call, *reduced(work, call, "mean")))


def sum_of_map(work: Work, call: Call) -> Value:
    """Sums, as means times the count; over channels only, directly."""
    return result_of(work, call, total(work, call, *reduced(work, call, "sum")))


def total(work: Work, call: Call, view: View, axes: set[int]) -> View:
    """Sums of a map over some of its axes, which are kept; of groups of channels one for each group."""
    if axes == {1}:
        return work.mixed(call, view, np.ones((1, view.shape[0]), np.float32))
    count = math.prod(view.shape[axis - 1] for axis in axes)
    return pointwise(work, call, mean(work, call, view, axes), "mul_constant", float(count))


def largest(work: Work, call: Call, view: View, axes: set[int]) -> View:
    """The maximum over some axes of a map, which are kept; over channels by halving until one is left."""
    if view.shape != work.shapes[view.name]:
        raise call.refused(
            f"it takes the largest of groups {list(view.shape)} of channels; only means and sums of groups are known"
        )
    if axes & {2, 3}:
        window = tuple(view.shape[axis - 1] if axis in axes else 1 for axis in (2, 3))
        left = (view.shape[0], view.shape[1] // window[0], view.shape[2] // window[1])
        attributes: dict[str, Attribute] = {"window": window, "stride": window}
        view = work.emit(call, "max_pool", [view.name], shape=left, attributes=attributes)
    while 1 in axes and (channels := view.shape[0]) > 1:
        half = (channels + 1) // 2
        low, high = (cut(work, call, view.name, 0, start=first, stop=first + half, step=1) for first in (0, channels - half))
        view = larger(work, call, low, high)
    return view


def amax_of_map(work: Work, call: Call) -> Value:
    """Maxima over channels, height, width or several of them."""
    return result_of(work, call, largest(work, call, *reduced(work, call, "largest")))


def amin_of_map(work: Work, call: Call) -> Value:
    """Minima over channels, height, width or several of them."""
    view, axes = reduced(work, call, "smallest")
    turned = largest(work, call, pointwise(work, call, view, "mul_constant", -1.0), axes)
    return result_of(work, call, pointwise(work, call, turned, "mul_constant", -1.0))


def extreme(over_axes: Callable[[Work, Call], Value], of_two: Callable[[Work, Call], Value]) -> Callable[[Work, Call], Value]:
    """``max`` or ``min``: along an axis, without the indices that torch also returns; or of two values."""

    def convert(work: Work, call: Call) -> Value:
        if "other" in call.arguments:
            return of_two(work, call)
        values = over_axes(work, call)
        assert isinstance(values, View)
        return (values,)

    return convert


def _adaptive_max_pool(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    shape, size = work.shapes[source], call.pair("output_size")
    if min(size) < 1 or shape[1] % size[0] or shape[2] % size[1]:
        raise call.refused(
            f"use a max pooling with an explicit window, or a size that divides {list(shape[1:])}; the windows for "
            f"{list(size)} differ in size"
        )
    window = (shape[1] // size[0], shape[2] // size[1])
    attributes: dict[str, Attribute] = {"window": window, "stride": window}
    return (work.emit(call, "max_pool", [source], shape=(shape[0], *size), attributes=attributes),)


def _with_places(work: Work, call: Call) -> Value:
    pooled = _max_pool(work, call)
    assert isinstance(pooled, View)
    return (pooled,)


def _avg_pool3d(work: Work, call: Call) -> Value:
    """Means over neighbouring channels, as in local response normalisation; the channels are the depth."""
    view = work.view(call, call.source)
    base, window = work.shapes[view.name], call.integers("kernel_size")
    call.no_effect("ceil_mode", "count_include_pad")  # there is no padding, and no window ends outside
    steps = {*call.integers("stride"), *(extent + 1 for extent in call.integers("padding"))}
    if view.shape != (1, *base) or not view.plain or window[1:] != (1, 1) or steps != {1}:
        raise call.refused(
            f"use the 2d form; for pooling over depth only a window [k, 1, 1] over channels [1, C, H, W], without stride and "
            f"padding, is supported, and this is {list(window)} over {list(view.shape)}"
        )
    count = base[0] - window[0] + 1
    shares = sum(np.eye(count, base[0], offset) for offset in range(window[0])) / window[0]
    made = work.mixed(call, View(view.name, base), np.asarray(shares, np.float32))
    return View(made.name, (1, *made.shape))


def _upsample_nearest(work: Work, call: Call) -> Value:
    """Repeated pixels: adaptive pooling with more windows than pixels, every window within one of them.

    If the size is not a multiple, pixels of the least common multiple are selected.
    """
    source, shape = work.read(call, call.source), call.shape()
    pairs = tuple(zip(work.shapes[source][1:], shape[1:], strict=True))
    multiple = (math.lcm(*pairs[0]), math.lcm(*pairs[1]))
    if any(common > _MOST_REPEATED * max(pair) for common, pair in zip(multiple, pairs, strict=True)) or not _floors(call, pairs):
        return _interpolated(work, call)
    value = View(source, work.shapes[source])
    if multiple != value.shape[1:]:
        attributes: dict[str, Attribute] = {"output_size": multiple}
        value = work.emit(call, "adaptive_avg_pool", [source], shape=(shape[0], *multiple), attributes=attributes)
    for axis in (1, 2):
        step = multiple[axis - 1] // shape[axis]
        value = cut(work, call, value.name, axis, start=0, stop=multiple[axis - 1], step=step)
    return value


def _upsample_bilinear(work: Work, call: Call) -> Value:
    """By an integer factor r: pixels are repeated, then averaged with a triangle of 2 r - 1 pixels, which is two averages."""
    source, shape = work.read(call, call.source), call.shape()
    view = View(source, work.shapes[source])
    if not _is_by_sizes(call, view.shape[1:], shape[1:]):
        return _interpolated(work, call)
    if view.shape[1:] == (1, 1):
        return work.spread(call, view, shape)
    factors = (shape[1] // view.shape[1], shape[2] // view.shape[2])
    whole = (factors[0] * view.shape[1], factors[1] * view.shape[2]) == shape[1:]
    if (2 * shape[1], 2 * shape[2]) == view.shape[1:] and not call.arguments["align_corners"]:
        half: dict[str, Attribute] = {"window": (2, 2), "stride": (2, 2)}
        return work.emit(call, "avg_pool", [source], shape=shape, attributes=half)
    if call.arguments["align_corners"] or not whole:
        return _interpolated(work, call)
    value = work.emit(call, "adaptive_avg_pool", [source], shape=shape, attributes={"output_size": shape[1:]})
    even = (2 - factors[0] % 2, 2 - factors[1] % 2)  # a window of even size has no centre; one more of size 2 recentres it
    value = _smoothed(work, call, value, even, (even[0] - 1, even[1] - 1))
    return _smoothed(work, call, value, factors, ((factors[0] - 1) // 2, (factors[1] - 1) // 2))


def _interpolated(work: Work, call: Call) -> Value:
    """By fixed coefficients of rows and columns, which torch's results for unit rows and columns give."""
    source = work.read(call, call.source)
    value, (height, width) = View(source, work.shapes[source]), work.shapes[source][1:]
    rows = torch.eye(height, dtype=torch.float64)[:, None, :, None].expand(-1, -1, -1, width)
    columns = torch.eye(width, dtype=torch.float64)[:, None, None, :].expand(-1, -1, height, -1)
    value = along(work, call, value, 1, np.asarray(_tried(call, rows)[:, 0, :, 0].T, np.float32))
    return along(work, call, value, 2, np.asarray(_tried(call, columns)[:, 0, 0, :].T, np.float32))


def _is_by_sizes(call: Call, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether the operation derives positions from the sizes; if it is given a factor, torch uses that factor instead."""
    pixels = torch.rand(1, 1, *before, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    align = bool(call.arguments["align_corners"])
    wanted = torch.nn.functional.interpolate(pixels, size=list(after), mode="bilinear", align_corners=align)
    return torch.allclose(_tried(call, pixels), wanted, rtol=0, atol=1e-9)


def _tried(call: Call, pixels: torch.Tensor) -> torch.Tensor:
    """The result of the operation for one map [1, 1, H, W], with all its arguments."""
    call.no_effect(*call.arguments)
    assert isinstance(call.node.target, torch._ops.OpOverload)
    found = call.node.target(pixels, *call.node.args[1:], **call.node.kwargs)
    assert isinstance(found, torch.Tensor)
    return found


def _smoothed(work: Work, call: Call, value: View, window: Pair, beside: Pair) -> View:
    """Means over a window with stride 1, of the pixels inside the image."""
    if window == (1, 1):
        return value
    down, across = (value.shape[i + 1] + 2 * beside[i] - window[i] + 1 for i in (0, 1))
    attributes: dict[str, Attribute] = {"window": window, "stride": (1, 1), "padding": around(beside)}
    return work.emit(call, "avg_pool", [value.name], shape=(value.shape[0], down, across), attributes=attributes)


def _floors(call: Call, pairs: tuple[Pair, ...]) -> bool:
    """Whether result i of n over size S is pixel ``floor(i * S / n)``; torch multiplies by a factor, rounded or given."""
    (height, down), (width, across) = pairs
    pixels = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    found = _tried(call, pixels)[0, 0]
    rows, columns = torch.arange(down) * height // down, torch.arange(across) * width // across
    return bool(torch.equal(found, pixels[0, 0][rows][:, columns]))


POOLING: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "max_pool2d": _max_pool,
        "max_pool2d_with_indices": _with_places,
        "adaptive_max_pool2d": _adaptive_max_pool,
        "amin": amin_of_map,
        "min": extreme(amin_of_map, minimum),
        "avg_pool2d": _avg_pool,
        "adaptive_avg_pool2d": _adaptive_avg_pool,
        "avg_pool3d": _avg_pool3d,
        "upsample_nearest2d": _upsample_nearest,
        "_upsample_nearest_exact2d": _upsample_nearest,
        "upsample_bilinear2d": _upsample_bilinear,
        "upsample_bicubic2d": _interpolated,
        "_upsample_bilinear2d_aa": _interpolated,
        "_upsample_bicubic2d_aa": _interpolated,
    }
)
