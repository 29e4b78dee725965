"""Executes a graph in NumPy, bit for bit as ``docs/integer-graph.md`` says: the meaning every runtime is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from paretrim.errors import CorruptFile, DataUnavailable
from paretrim.graph import functions, windows
from paretrim.graph.shapes import Settings, settings_of
from paretrim.graph.types import INPUT, FloatArray, Graph, InputSpec, Node, ValueType
from paretrim.graph.windows import Values, Windows

CHECKED_WORK = 8 * 10**9
"""Multiply-adds that one check may take here, seconds and not minutes: of a large network it sees fewer images."""


def affordable_images(graph: Graph, most: int) -> int:
    """How many images a check computes here: ``most``, or as many as :data:`CHECKED_WORK` allows, and at least one."""
    return max(1, min(most, int(CHECKED_WORK // max(graph.multiply_adds, 1))))


def run(graph: Graph, images: Values, *, batch: int = 64) -> FloatArray:
    """Logits, float32 [N, classes].

    Args:
        graph: a float or an integer graph.
        images: [N, C, H, W]; uint8 pixels where the graph takes pixels, float32 otherwise.
        batch: images computed at once; changes memory and speed, and in an integer graph no bit of the result.

    Raises:
        DataUnavailable: the images have another shape or type than the graph takes, or are not finite.
        CorruptFile: the graph's own numbers lead to NaN on its way to integers.
    """
    _check_input(graph.input, images)
    if batch < 1:
        raise DataUnavailable(f"batch is {batch}; at least 1 image is computed at once")
    types = graph.types
    result = np.empty((len(images), *types[graph.output].shape), dtype=np.float32)
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    for first in range(0, len(images), batch):
        known: dict[str, Values] = {INPUT: images[first : first + batch]}
        for index, (node, value) in enumerate(_steps(graph, known)):
            known[node.name] = value
            for name in node.inputs:
                if last_use[name] == index and name != graph.output:
                    known.pop(name, None)
        result[first : first + batch] = known[graph.output]
    return result


def values(graph: Graph, images: Values) -> dict[str, Values]:
    """Every value of one batch by name, the input included; arguments and errors as in :func:`run`."""
    _check_input(graph.input, images)
    known: dict[str, Values] = {INPUT: images}
    for node, value in _steps(graph, known):
        known[node.name] = value
    return known


def compute(node: Node, inputs: tuple[Values, ...], types: tuple[ValueType, ...], spec: InputSpec) -> Values:
    """The value of one node from the values and types of its inputs; ``spec`` matters to what reads pixels.

    Raises:
        CorruptFile: the node would turn NaN into an integer.
    """
    settings = settings_of(node)
    if node.op == "normalize":
        return _look_up_pixels(functions.pixel_values(spec).astype(np.float32), inputs[0])
    if node.op == "quantize":
        return _quantize(node, inputs[0], types[0])
    if node.op in _MOVES:
        return _MOVES[node.op](settings, inputs, types)
    if types[0].quantized:
        return _INTEGER[node.op](node, settings, inputs, types)
    return _FLOAT[node.op](node, settings, inputs)


def _steps(graph: Graph, known: Mapping[str, Values]) -> Iterator[tuple[Node, Values]]:
    types = graph.types
    for node in graph.nodes:
        inputs = tuple(known[name] for name in node.inputs)
        yield node, compute(node, inputs, tuple(types[name] for name in node.inputs), graph.input)


def check_images(images: Values, shape: tuple[int, ...], *, pixels: bool) -> None:
    """Check that images [N, C, H, W] have this shape (C, H, W) and are uint8 pixels, or float32 where not ``pixels``.

    Raises:
        DataUnavailable: they have another shape or type.
    """
    wanted = np.dtype(np.uint8 if pixels else np.float32)
    if images.dtype != wanted or images.shape[1:] != shape:
        extents = ", ".join(["N", *map(str, shape)])
        raise DataUnavailable(f"images are {images.dtype} {list(images.shape)}; the network takes {wanted} [{extents}]")


def _check_input(spec: InputSpec, images: Values) -> None:
    check_images(images, spec.shape, pixels=spec.takes_pixels)
    if not spec.takes_pixels and not np.isfinite(images).all():
        raise DataUnavailable("images hold NaN or infinity; normalise finite pixels before handing them over")


def _look_up_pixels(table: Values, pixels: Values) -> Values:
    """``table[c, p]`` for pixels [N, C, H, W]."""
    return np.asarray(table[np.arange(table.shape[0])[:, None, None], pixels])


def _quantize(node: Node, x: Values, source: ValueType) -> Values:
    if source.quantized:
        return _look_up_pixels(node.tensors["table"], x)
    if np.isnan(x).any():
        raise CorruptFile(
            f"node '{node.name}' (layer '{node.layer}') would quantize NaN: a weight or scale before it overflows float32"
        )
    return _clamped(np.rint(x / np.float32(node.type.scale)), node.type.zero_point, 0, 255)


# Integer meaning. Products and ratios of scales are formed in float32, in the order the page writes them.


def _clamped(steps: Values, zero_point: int, low: int, high: int) -> Values:
    """``min(max(steps + zero_point, low), high)`` as uint8, of whole numbers in float32."""
    steps += np.float32(zero_point)
    return np.clip(steps, np.float32(low), np.float32(high), out=steps).astype(np.uint8)


def _requantize(accumulator: FloatArray, multiplier: Values | np.float32, node: Node, settings: Settings) -> Values:
    """``requant`` of the page; ``accumulator`` holds whole numbers and is overwritten."""
    np.multiply(accumulator, multiplier, out=accumulator)
    np.rint(accumulator, out=accumulator)
    return _clamped(accumulator, node.type.zero_point, settings.integer("lo"), settings.integer("hi"))


def _centered(quantized: Values, source: ValueType, dtype: npt.DTypeLike = np.float32) -> Values:
    """``q - z``, exact in any of the types it is computed in."""
    return np.subtract(quantized, source.zero_point, dtype=dtype)


def _integer_weighted(node: Node, settings: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    weight, bias = node.tensors["weight"], node.tensors["bias"]
    exact = windows.accumulate_in(weight, bias, types[0].zero_point)
    centered = _centered(inputs[0], types[0], exact)
    accumulator = _weighted(node, settings, centered, weight.astype(exact))
    per_channel = (-1,) + (1,) * (accumulator.ndim - 2)
    accumulator += bias.astype(exact).reshape(per_channel)
    scales = node.tensors["weight_scale"].astype(np.float32) * np.float32(types[0].scale)
    narrow = accumulator.astype(np.float32, copy=False)
    if not node.type.quantized:
        return np.asarray(narrow * scales.reshape(per_channel))
    return _requantize(narrow, (scales / np.float32(node.type.scale)).reshape(per_channel), node, settings)


def _weighted(node: Node, settings: Settings, x: Values, weight: Values) -> Values:
    if node.op == "linear":
        # One image at a time as well: a matrix product over the batch may sum floats in another order for another batch.
        return np.asarray(np.matmul(weight, x[:, :, None])[:, :, 0])
    kernel = (weight.shape[2], weight.shape[3])
    return windows.convolve(x, weight, Windows.of(settings, kernel), groups=settings.integer("groups"))


def _integer_batch_norm(node: Node, settings: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    per_channel = (-1,) + (1,) * (inputs[0].ndim - 2)
    steps = _centered(inputs[0], types[0]) * node.tensors["multiplier"].reshape(per_channel)
    steps += node.tensors["offset"].reshape(per_channel)
    return _clamped(np.rint(steps, out=steps), node.type.zero_point, settings.integer("lo"), settings.integer("hi"))


def _integer_relu(_: Node, __: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    return np.maximum(inputs[0], np.uint8(types[0].zero_point))


def _integer_pointwise(node: Node, _: Settings, inputs: tuple[Values, ...], __: tuple[ValueType, ...]) -> Values:
    return np.asarray(node.tensors["table"][inputs[0]])


def _rescaled(quantized: Values, source: ValueType, output: ValueType) -> Values:
    """``f32(q - z) * f32(s / s_o)``."""
    return np.asarray(_centered(quantized, source) * _ratio(source, output))


def _ratio(source: ValueType, output: ValueType) -> np.float32:
    return np.float32(np.float32(source.scale) / np.float32(output.scale))


def _integer_add(node: Node, settings: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    first, second = (_ratio(source, node.type) for source in types)
    zero_points = float(first) * types[0].zero_point + float(second) * types[1].zero_point
    total: Values = inputs[1].astype(np.float32) * second
    total += np.float32(node.type.zero_point - zero_points)
    total += inputs[0].astype(np.float32) * first
    return _clamped(np.rint(total, out=total), 0, settings.integer("lo"), settings.integer("hi"))


def _integer_mul(node: Node, settings: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    # At most 255 * 255 in size, so float32 is exact.
    product = _centered(inputs[0], types[0]) * _centered(inputs[1], types[1])
    multiplier = np.float32(types[0].scale) * np.float32(types[1].scale) / np.float32(node.type.scale)
    return _requantize(product, multiplier, node, settings)


def _integer_concat(node: Node, _: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    parts = []
    for value, source in zip(inputs, types, strict=True):
        if (source.scale, source.zero_point) == (node.type.scale, node.type.zero_point):
            parts.append(value)
        else:
            parts.append(_clamped(np.rint(_rescaled(value, source, node.type)), node.type.zero_point, 0, 255))
    return np.concatenate(parts, axis=1)


def _integer_average(node: Node, settings: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    exact = np.int32 if 255 * inputs[0][0, 0].size < 2**31 else np.int64
    total, counts = _sums(node, settings, _centered(inputs[0], types[0], exact))
    multiplier = np.float32(types[0].scale) / (np.float32(node.type.scale) * counts.astype(np.float32))
    return _requantize(total.astype(np.float32), multiplier, node, settings)


def _sums(node: Node, settings: Settings, x: Values) -> tuple[Values, npt.NDArray[np.int64]]:
    if node.op == "adaptive_avg_pool":
        return windows.sum_adaptive(x, settings.pair("output_size"))
    sliding = Windows.of(settings)
    counts = windows.counted_positions(x.shape, sliding, settings.edges("count_padding"))
    return windows.sum_in_window(x, sliding), counts


def _dequantize(_: Node, __: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    return np.asarray(_centered(inputs[0], types[0]) * np.float32(types[0].scale))


_INTEGER: Mapping[str, Callable[[Node, Settings, tuple[Values, ...], tuple[ValueType, ...]], Values]] = MappingProxyType(
    {
        "conv2d": _integer_weighted,
        "linear": _integer_weighted,
        "batch_norm": _integer_batch_norm,
        "relu": _integer_relu,
        "pointwise": _integer_pointwise,
        "add": _integer_add,
        "mul": _integer_mul,
        "concat": _integer_concat,
        "avg_pool": _integer_average,
        "adaptive_avg_pool": _integer_average,
        "dequantize": _dequantize,
    }
)


# Float meaning.


def _float_weighted(node: Node, settings: Settings, inputs: tuple[Values, ...]) -> Values:
    result = _weighted(node, settings, inputs[0], node.tensors["weight"])
    if "bias" in node.tensors:
        result += node.tensors["bias"].reshape((-1,) + (1,) * (result.ndim - 2))
    return result


def _float_batch_norm(node: Node, settings: Settings, inputs: tuple[Values, ...]) -> Values:
    gamma, beta, mean, variance = (node.tensors[name].astype(np.float64) for name in ("gamma", "beta", "mean", "variance"))
    per_channel = (-1,) + (1,) * (inputs[0].ndim - 2)
    factor = gamma / np.sqrt(variance + (settings.number("epsilon") or 0.0))
    shift = beta - mean * factor
    return np.asarray(inputs[0] * factor.astype(np.float32).reshape(per_channel) + shift.astype(np.float32).reshape(per_channel))


def _float_clamp(_: Node, settings: Settings, inputs: tuple[Values, ...]) -> Values:
    result = inputs[0]
    minimum, maximum = settings.number("minimum"), settings.number("maximum")
    if minimum is not None:
        result = np.maximum(result, np.float32(minimum))
    if maximum is not None:
        result = np.minimum(result, np.float32(maximum))
    return result


def _float_pointwise(_: Node, settings: Settings, inputs: tuple[Values, ...]) -> Values:
    return functions.evaluate(settings.text("function"), inputs[0], settings.number("constant")).astype(np.float32)


def _float_average(node: Node, settings: Settings, inputs: tuple[Values, ...]) -> Values:
    total, counts = _sums(node, settings, inputs[0])
    return np.asarray(total / counts.astype(np.float32))


_FLOAT: Mapping[str, Callable[[Node, Settings, tuple[Values, ...]], Values]] = MappingProxyType(
    {
        "conv2d": _float_weighted,
        "linear": _float_weighted,
        "batch_norm": _float_batch_norm,
        "relu": lambda _, __, inputs: np.maximum(inputs[0], np.float32(0)),
        "clamp": _float_clamp,
        "pointwise": _float_pointwise,
        "dropout": lambda _, __, inputs: inputs[0],
        "add": lambda _, __, inputs: np.asarray(inputs[0] + inputs[1]),
        "mul": lambda _, __, inputs: np.asarray(inputs[0] * inputs[1]),
        "concat": lambda _, __, inputs: np.concatenate(inputs, axis=1),
        "avg_pool": _float_average,
        "adaptive_avg_pool": _float_average,
    }
)


# What moves or selects values means the same on floats and on integers.


def _slice(settings: Settings, inputs: tuple[Values, ...], _: tuple[ValueType, ...]) -> Values:
    selected = slice(settings.integer("start"), settings.integer("stop"), settings.integer("step"))
    return np.ascontiguousarray(inputs[0][(slice(None),) * (settings.integer("axis") + 1) + (selected,)])


def _pad(settings: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    before, after = settings.integers("before"), settings.integers("after")
    return np.pad(inputs[0], ((0, 0), *zip(before, after, strict=True)), constant_values=types[0].zero_point)


def _shuffle(settings: Settings, inputs: tuple[Values, ...], _: tuple[ValueType, ...]) -> Values:
    count, channels, height, width = inputs[0].shape
    grouped = inputs[0].reshape(count, settings.integer("groups"), -1, height, width)
    return grouped.swapaxes(1, 2).reshape(count, channels, height, width)


def _max_pool(settings: Settings, inputs: tuple[Values, ...], types: tuple[ValueType, ...]) -> Values:
    return windows.largest_in_window(inputs[0], Windows.of(settings), 0 if types[0].quantized else -np.inf)


_MOVES: Mapping[str, Callable[[Settings, tuple[Values, ...], tuple[ValueType, ...]], Values]] = MappingProxyType(
    {
        "slice": _slice,
        "pad": _pad,
        "channel_shuffle": _shuffle,
        "max_pool": _max_pool,
        "flatten": lambda _, inputs, __: inputs[0].reshape(len(inputs[0]), -1),
        "unflatten": lambda _, inputs, __: inputs[0][:, :, None, None],
    }
)
