"""Writes pools in ONNX.

If the result of an average pool has the same grid as its input, the mean of an even number of values may lie exactly between
two steps. How a runtime rounds it then depends on the last bit of the scale. So such a pool is written in steps, with scale 1:
sums are integers, halves are exact, and every runtime rounds them to even, as the graph does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from paretrim.deploy.onnx_writer import OnnxAttribute, Writer
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import FloatArray, Node
from paretrim.graph.windows import adaptive_bounds, adaptive_counts, window_counts

_Ranges = list[tuple[int, int]]
"""Range [first, last) of each window along one axis."""


def max_pool(writer: Writer, node: Node) -> None:
    """Write a max pool.

    ONNX Runtime 1.31 refuses padding as wide as the window, which a dilated window may have; then the image itself is padded.
    """
    settings = settings_of(node)
    window, padding = settings.pair("window"), settings.edges("padding")
    name = node.inputs[0]
    if all(pad < extent for pad, extent in zip(padding, window * 2, strict=True)):
        real = writer.real(name)
    else:
        lowest = 0 if writer.types[name].quantized else -np.inf
        name = _padded(writer, node, padding, lowest)
        real, padding = _real(writer, node, name, exact=False), (0, 0, 0, 0)
    attributes: dict[str, OnnxAttribute] = {
        "kernel_shape": list(window),
        "strides": list(settings.pair("stride")),
        "pads": list(padding),
        "dilations": list(settings.pair("dilation")),
    }
    writer.finish(node, "MaxPool", [real], attributes)


def avg_pool(writer: Writer, node: Node) -> None:
    """Write an average pool with sliding windows."""
    settings, shape = settings_of(node), writer.types[node.inputs[0]].shape
    padding, counted = settings.edges("padding"), settings.edges("count_padding")
    counts = window_counts(settings, shape)
    exact = _has_ties(writer, node, counts)
    if exact and not _shares_are_plain(writer, node, counts):
        window, stride = settings.pair("window"), settings.pair("stride")
        down, across = (
            [(max(at * stride[i] - padding[i], 0), min(at * stride[i] - padding[i] + window[i], shape[1 + i])) for at in range(n)]
            for i, n in enumerate(node.type.shape[1:])
        )
        _sum_up(writer, node, down, across, counts)
        return
    if any(counted):
        # Pads the image with the padding that counts. ONNX counts all padding or none, and OpenVINO 2026.4 computes a quantized
        # AveragePool that counts padding wrongly, by dozens of steps.
        top, left, bottom, right = counted
        name = _padded(writer, node, counted, writer.types[node.inputs[0]].zero_point)
        padding = (padding[0] - top, padding[1] - left, padding[2] - bottom, padding[3] - right)
    else:
        name = node.inputs[0]
    attributes: dict[str, OnnxAttribute] = {
        "kernel_shape": list(settings.pair("window")),
        "strides": list(settings.pair("stride")),
        "pads": list(padding),
        "count_include_pad": 0,
    }
    _finish(writer, node, "AveragePool", [_real(writer, node, name, exact=exact)], attributes, exact=exact)


def adaptive_avg_pool(writer: Writer, node: Node) -> None:
    """Write an adaptive average pool."""
    (name,) = node.inputs
    _, height, width = writer.types[name].shape
    size = settings_of(node).pair("output_size")
    down, across = adaptive_bounds(height, size[0]), adaptive_bounds(width, size[1])
    counts = adaptive_counts(settings_of(node), writer.types[name].shape)
    exact = _has_ties(writer, node, counts)
    equal = height % size[0] == 0 and width % size[1] == 0
    if not equal or (exact and not _shares_are_plain(writer, node, counts)):
        _sum_up(writer, node, down, across, counts)
    elif size == (1, 1):
        _finish(writer, node, "GlobalAveragePool", [_real(writer, node, name, exact=exact)], {}, exact=exact)
    else:
        window = [height // size[0], width // size[1]]
        attributes: dict[str, OnnxAttribute] = {"kernel_shape": window, "strides": window}
        _finish(writer, node, "AveragePool", [_real(writer, node, name, exact=exact)], attributes, exact=exact)


def _has_ties(writer: Writer, node: Node, counts: npt.NDArray[np.int64]) -> bool:
    """Whether the mean of so many values may lie exactly between two steps of the result."""
    same = node.type.quantized and writer.types[node.inputs[0]].scale == node.type.scale
    return same and bool((counts % 2 == 0).any())


def _shares(writer: Writer, node: Node, counts: npt.NDArray[np.int64]) -> FloatArray:
    """The factors by which the graph multiplies sums of so many steps."""
    return np.asarray(np.float32(writer.types[node.inputs[0]].scale) / (np.float32(node.type.scale) * counts.astype(np.float32)))


def _shares_are_plain(writer: Writer, node: Node, counts: npt.NDArray[np.int64]) -> bool:
    """Whether these factors are exactly 1 / n, so that dividing by n gives the same results."""
    return np.array_equal(_shares(writer, node, counts), np.float32(1) / counts.astype(np.float32))


def _real(writer: Writer, node: Node, name: str, *, exact: bool) -> str:
    """``name``, a node's input with or without padding, as float32 values; in steps if sums must be exact."""
    kind, own = writer.types[node.inputs[0]], name == node.inputs[0]
    if not exact:
        if own:
            return writer.real(name)
        return writer.dequantize(name, f"{name}/real", kind) if kind.quantized else name
    if own and kind.zero_point:
        # If a value that can be negative is read with two scales, OpenVINO runs the convolutions that read it in float32.
        factor = writer.constant(f"{node.name}/per_step", 1.0 / kind.scale)
        near = writer.add("Mul", [writer.real(name), factor], f"{node.name}/near_steps")
        return writer.add("Round", [near], f"{node.name}/steps")
    return writer.dequantize(name, f"{node.name}/steps", replace(kind, scale=1.0))


def _padded(writer: Writer, node: Node, edges: Sequence[int], fill: float) -> str:
    """The input of a node, padded at its top, left, bottom and right; as integers if it is quantized, and so is ``fill``."""
    (name,), (top, left, bottom, right) = node.inputs, edges
    pads = writer.indices(f"{node.name}/pads", [0, 0, top, left, 0, 0, bottom, right])
    quantized = writer.types[name].quantized
    value = writer.constant(f"{node.name}/fill", fill, np.uint8 if quantized else np.float32)
    return writer.add("Pad", [name if quantized else writer.real(name), pads, value], f"{node.name}/padded")


def _sum_up(writer: Writer, node: Node, down: _Ranges, across: _Ranges, counts: npt.NDArray[np.int64]) -> None:
    """Write sums as matrix products from the left and from the right, times the factor of each window, as in the graph."""
    (name,), (_, height, width), exact = node.inputs, writer.types[node.inputs[0]].shape, node.type.quantized
    left = writer.constant(f"{node.name}/rows", _ones(height, down))
    right = writer.constant(f"{node.name}/columns", _ones(width, across).T)
    rows = writer.add("MatMul", [left, _real(writer, node, name, exact=exact)], f"{node.name}/down")
    total = writer.add("MatMul", [rows, right], f"{node.name}/sum")
    shares = writer.constant(f"{node.name}/shares", _shares(writer, node, counts) if exact else 1.0 / counts)
    _finish(writer, node, "Mul", [total, shares], {}, exact=exact)


def _ones(extent: int, ranges: _Ranges) -> npt.NDArray[np.float64]:
    """Matrix [windows, extent] of ones inside each window."""
    matrix = np.zeros((len(ranges), extent))
    for index, (start, stop) in enumerate(ranges):
        matrix[index, start:stop] = 1.0
    return matrix


def _finish(
    writer: Writer, node: Node, op: str, inputs: Sequence[str], attributes: Mapping[str, OnnxAttribute], *, exact: bool
) -> None:
    zero_point = node.type.zero_point
    if exact and (zero_point % 2 or (zero_point and op == "Mul")):
        # Runtimes add the zero point of a pool before they round. An odd one would turn "ties to even" into "ties to odd", and
        # any would turn values next to a tie into ties, because the sum loses the last bit of a factor.
        inputs, op, attributes = [writer.add(op, inputs, f"{node.name}/mean", attributes)], "Round", {}
    writer.finish(node, op, inputs, attributes, scale=1.0 if exact else None)
