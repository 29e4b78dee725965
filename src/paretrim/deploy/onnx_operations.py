"""Writes the operations of a graph in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from paretrim.deploy.onnx_functions import pointwise
from paretrim.deploy.onnx_pools import adaptive_avg_pool, avg_pool, max_pool
from paretrim.deploy.onnx_scales import batch_norm_scale, concat_scale, product_scale
from paretrim.deploy.onnx_sums import sum_scales
from paretrim.deploy.onnx_writer import FLOAT, OnnxAttribute, Writer
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Array, Float64Array, Node, ValueType


def _weights(writer: Writer, node: Node) -> list[str]:
    """Weight and bias as float32 values. Integers are dequantized per output channel; 4-bit weights may have blocks."""
    source = writer.types[node.inputs[0]]
    names = []
    for name in ("weight", "bias"):
        if name not in node.tensors:
            continue
        stored = f"{node.name}/{name}"
        if node.tensors[name].dtype not in (np.int8, np.int32):
            scale = node.tensors.get("weight_scale") if name == "weight" else None
            names.append(_float_constant(writer, stored, node.tensors[name], scale))
            continue
        scale = node.tensors["weight_scale"].astype(np.float64) * (source.scale if name == "bias" else 1.0)
        if name == "weight" and writer.four_bits is not None and (parts := writer.four_bits.split(node.tensors[name])):
            names.append(_four_bit_weight(writer, stored, *parts, scale, writer.four_bits.block))
            continue
        writer.constant(stored, node.tensors[name], node.tensors[name].dtype)
        # ONNX Runtime runs a Gemm in integers only if the file has zero points, even if they are zero.
        zeros = writer.constant(f"{stored}/zero_point", np.zeros(len(scale)), node.tensors[name].dtype)
        inputs = [stored, writer.constant(f"{stored}/scale", scale), zeros]
        names.append(writer.add("DequantizeLinear", inputs, f"{stored}/real", {"axis": 0}))
    return names


def _float_constant(writer: Writer, stored: str, values: Array, scale: Array | None) -> str:
    """Float weights of 32 or 16 bits as float32 values, multiplied by the scales of their output channels if there are any."""
    if values.dtype == np.float32:
        return writer.constant(stored, values)
    constant = writer.brain_constant(stored, values) if values.dtype == np.uint16 else writer.constant(stored, values, np.float16)
    real = writer.add("Cast", [constant], f"{stored}/cast", {"to": FLOAT})
    if scale is None:
        return real
    factor = writer.constant(f"{stored}/scale", scale.reshape(-1, *[1] * (values.ndim - 1)))
    return writer.add("Mul", [real, factor], f"{stored}/real")


def _four_bit_weight(writer: Writer, stored: str, small: Array, multiples: Float64Array, scale: Float64Array, block: int) -> str:
    """A 4-bit weight as float32 values; ``multiples`` of the scales [Co] are by output channel, or [Co, G] by block too."""
    attributes: dict[str, OnnxAttribute] = {"axis": 0}
    scales = multiples.T * scale
    if multiples.ndim == 2:
        attributes = {"axis": 1, "block_size": block}
        kernel = small.shape[2:]
        scales = np.broadcast_to(scales.T.reshape(*multiples.shape, *[1] * len(kernel)), (*multiples.shape, *kernel))
    zeros = writer.packed_constant(f"{stored}/zero_point", np.zeros(scales.shape))
    inputs = [writer.packed_constant(stored, small), writer.constant(f"{stored}/scale", scales), zeros]
    return writer.add("DequantizeLinear", inputs, f"{stored}/real", attributes)


_WHOLE_TILE = 64
"""Input channels per step of OpenVINO's AMX kernels."""


def _conv2d(writer: Writer, node: Node) -> None:
    if writer.types[node.inputs[0]].quantized:
        node = _without_ragged_groups(node)
    settings = settings_of(node)
    attributes: dict[str, OnnxAttribute] = {
        "kernel_shape": [int(extent) for extent in node.tensors["weight"].shape[2:]],
        "strides": list(settings.pair("stride")),
        "pads": list(settings.edges("padding")),
        "dilations": list(settings.pair("dilation")),
        "group": settings.integer("groups"),
    }
    writer.finish(node, "Conv", [writer.real(node.inputs[0]), *_weights(writer, node)], attributes)


def _without_ragged_groups(node: Node) -> Node:
    """The convolution as a single group, with zeros between groups, if OpenVINO 2026.4 would compute its groups wrongly.

    That happens on CPUs with AMX for 1 x 1 kernels with more than 64 channels per group, not a multiple of 64: nine of ten
    results are wrong.
    """
    groups, weight = settings_of(node).integer("groups"), node.tensors["weight"]
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    if groups == 1 or weight.shape[2:] != (1, 1) or channels <= _WHOLE_TILE or channels % _WHOLE_TILE == 0:
        return node
    whole = np.zeros((weight.shape[0], groups * channels, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        whole[rows, group * channels : (group + 1) * channels] = weight[rows]
    return replace(node, attributes={**node.attributes, "groups": 1}, tensors={**node.tensors, "weight": whole})


def _linear(writer: Writer, node: Node) -> None:
    # ONNX Runtime runs a Gemm in integers only if alpha and beta are explicit.
    writer.finish(node, "Gemm", [writer.real(node.inputs[0]), *_weights(writer, node)], {"alpha": 1.0, "beta": 1.0, "transB": 1})


def _batch_norm(writer: Writer, node: Node) -> None:
    source = writer.types[node.inputs[0]]
    real = writer.real(node.inputs[0])
    if not source.quantized:
        statistics = ("gamma", "beta", "mean", "variance")
        names = [writer.constant(f"{node.name}/{name}", node.tensors[name]) for name in statistics]
        writer.finish(node, "BatchNormalization", [real, *names], {"epsilon": settings_of(node).number("epsilon") or 0.0})
        return
    # Multiplier and offset are in steps of the two grids: real_out = s_o * (multiplier * real_in / s + offset).
    per_channel = (-1,) + (1,) * (len(source.shape) - 1)
    multiplier = node.tensors["multiplier"].astype(np.float64) * (node.type.scale / source.scale)
    offset = node.tensors["offset"].astype(np.float64) * node.type.scale
    factor = writer.constant(f"{node.name}/multiplier", multiplier.reshape(per_channel))
    term = writer.constant(f"{node.name}/offset", offset.reshape(per_channel))
    scale = batch_norm_scale(node, source, multiplier, offset)
    writer.finish(node, "Add", [writer.add("Mul", [real, factor], f"{node.name}/mul"), term], scale=scale)


def _clamp(writer: Writer, node: Node) -> None:
    settings, real = settings_of(node), writer.real(node.inputs[0])
    bounds = []
    for name in ("minimum", "maximum"):
        value = settings.number(name)
        bounds.append("" if value is None else writer.constant(f"{node.name}/{name}", value))
    writer.finish(node, "Clip", [real, *bounds])


def _relu(writer: Writer, node: Node) -> None:
    writer.finish(node, "Relu", [writer.real(node.inputs[0])])


def _mul(writer: Writer, node: Node) -> None:
    kinds = [writer.types[name] for name in node.inputs]
    scale = product_scale(node, kinds) if node.type.quantized else None
    writer.finish(node, "Mul", [writer.real(name) for name in node.inputs], scale=scale)


def _matmul(writer: Writer, node: Node) -> None:
    first, second = (writer.real(name) for name in node.inputs)
    if settings_of(node).integer("transposed"):
        second = writer.add("Transpose", [second], f"{node.name}/transposed", {"perm": [0, 1, 3, 2]})
    writer.finish(node, "MatMul", [first, second])


def _add(writer: Writer, node: Node) -> None:
    if not node.type.quantized:
        writer.finish(node, "Add", [writer.real(name) for name in node.inputs])
        return
    first, second = (writer.types[name] for name in node.inputs)
    moved = next((index for index, name in enumerate(node.inputs) if _may_move(writer, name)), None)
    scale, out = sum_scales(node, (first, second), moved)
    kinds = [replace(kind, scale=scale) if index == moved else kind for index, kind in enumerate((first, second))]
    writer.finish(node, "Add", [_addend(writer, node, index, kind) for index, kind in enumerate(kinds)], scale=out)


def _may_move(writer: Writer, name: str) -> bool:
    """Whether an add may read this input with a separate, slightly moved scale.

    Not a convolution: with another scale in its second QDQ pair, ONNX Runtime would choose new scales for both pairs. Nor a value
    that can be negative, such as a sum without a ReLU: OpenVINO would compute the convolutions that read it in float32.
    """
    return writer.makers.get(name) != "conv2d" and writer.types[name].zero_point == 0


def _addend(writer: Writer, node: Node, index: int, kind: ValueType) -> str:
    """Input ``index`` of an add as float32 values, on the grid of ``kind`` unless it is a convolution.

    OpenVINO fuses a convolution and the add after it into one kernel, which keeps the convolution's result in float32 and skips
    its rounding. A second pair of QuantizeLinear and DequantizeLinear changes no value and makes that kernel round; ONNX Runtime
    removes the pair.
    """
    name = node.inputs[index]
    if writer.makers.get(name) == "conv2d":
        return writer.rounded(name, f"{node.name}/rounded_{index}")
    if kind.scale == writer.types[name].scale:
        return writer.real(name)
    return writer.dequantize(name, f"{node.name}/addend_{index}", kind)


def _concat(writer: Writer, node: Node) -> None:
    kinds = {name: writer.types[name] for name in node.inputs}
    if node.type.quantized and len({kind.zero_point for kind in kinds.values()}) > 1:
        # OpenVINO 2026.4 crashes when it compiles a concat of values with different zero points. So each part is first
        # requantized to the grid of the result, and the concat joins integers; results stay the same.
        parts = [_onto_grid(writer, node, index) for index in range(len(node.inputs))]
        writer.add("Concat", parts, node.name, {"axis": 1})
        return
    scale = concat_scale(node, list(kinds.values())) if node.type.quantized else None
    writer.finish(node, "Concat", [writer.real(name) for name in node.inputs], {"axis": 1}, scale=scale)


def _onto_grid(writer: Writer, node: Node, index: int) -> str:
    """Input ``index`` of a node, requantized to the node's grid."""
    name, kind = node.inputs[index], writer.types[node.inputs[index]]
    if (kind.scale, kind.zero_point) == (node.type.scale, node.type.zero_point):
        return name
    return writer.quantize(writer.real(name), f"{node.name}/part_{index}", replace(node.type, scale=concat_scale(node, [kind])))


def _slice(writer: Writer, node: Node) -> None:
    settings = settings_of(node)
    selected = {
        "starts": settings.integer("start"),
        "ends": settings.integer("stop"),
        "axes": settings.integer("axis") + 1,
        "steps": settings.integer("step"),
    }
    names = [writer.indices(f"{node.name}/{name}", [value]) for name, value in selected.items()]
    writer.finish(node, "Slice", [writer.real(node.inputs[0]), *names])


def _pad(writer: Writer, node: Node) -> None:
    settings = settings_of(node)
    extents = [0, *settings.integers("before"), 0, *settings.integers("after")]
    pads = writer.indices(f"{node.name}/pads", extents)
    if node.type.quantized:
        fill = writer.constant(f"{node.name}/fill", node.type.zero_point, np.uint8)
        # Pads the stored integers: neither runtime keeps a Pad in integers between DequantizeLinear and QuantizeLinear.
        writer.add("Pad", [node.inputs[0], pads, fill], node.name)
    else:
        writer.finish(node, "Pad", [writer.real(node.inputs[0]), pads])


def _channel_shuffle(writer: Writer, node: Node) -> None:
    (channels, height, width), groups = node.type.shape, settings_of(node).integer("groups")
    _rearrange(writer, node, [groups, channels // groups, height, width], [2, 1, 3, 4])


def _rearrange(writer: Writer, node: Node, split: list[int], order: list[int]) -> None:
    """Split the input's axes after the batch, permute them, and merge them to the shape of the output."""
    extents = writer.indices(f"{node.name}/split", [0, *split])
    merge = writer.indices(f"{node.name}/merge", [0, *node.type.shape])
    apart = writer.add("Reshape", [writer.real(node.inputs[0]), extents], f"{node.name}/apart")
    ordered = writer.add("Transpose", [apart], f"{node.name}/ordered", {"perm": [0, *order]})
    writer.finish(node, "Reshape", [ordered, merge])


def _pixel_shuffle(writer: Writer, node: Node) -> None:
    (down, across), (channels, height, width) = settings_of(node).pair("factor"), node.type.shape
    if down == across:
        writer.finish(node, "DepthToSpace", [writer.real(node.inputs[0])], {"blocksize": down, "mode": "CRD"})
    else:
        _rearrange(writer, node, [channels, down, across, height // down, width // across], [1, 4, 2, 5, 3])


def _pixel_unshuffle(writer: Writer, node: Node) -> None:
    (down, across), (channels, height, width) = settings_of(node).pair("factor"), node.type.shape
    _rearrange(writer, node, [channels // (down * across), height, down, width, across], [1, 3, 5, 2, 4])


def _flatten(writer: Writer, node: Node) -> None:
    writer.finish(node, "Flatten", [writer.real(node.inputs[0])], {"axis": 1})


def _unflatten(writer: Writer, node: Node) -> None:
    extents = writer.indices(f"{node.name}/extents", [0, node.type.shape[0], 1, 1])
    writer.finish(node, "Reshape", [writer.real(node.inputs[0]), extents])


def _dropout(writer: Writer, node: Node) -> None:
    writer.finish(node, "Identity", [writer.real(node.inputs[0])])


OPERATIONS: Mapping[str, Callable[[Writer, Node], None]] = MappingProxyType(
    {
        "conv2d": _conv2d,
        "linear": _linear,
        "batch_norm": _batch_norm,
        "relu": _relu,
        "clamp": _clamp,
        "pointwise": pointwise,
        "add": _add,
        "mul": _mul,
        "matmul": _matmul,
        "concat": _concat,
        "slice": _slice,
        "pad": _pad,
        "channel_shuffle": _channel_shuffle,
        "pixel_shuffle": _pixel_shuffle,
        "pixel_unshuffle": _pixel_unshuffle,
        "flatten": _flatten,
        "unflatten": _unflatten,
        "dropout": _dropout,
        "max_pool": max_pool,
        "avg_pool": avg_pool,
        "adaptive_avg_pool": adaptive_avg_pool,
    }
)
"""A writer for every operation, except those that read pixels, quantize or dequantize."""
