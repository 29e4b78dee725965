"""Operations with a weight: convolution and linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paretrim.errors import UnsupportedOperation
from paretrim.graph import windows
from paretrim.graph.dtypes import real_weight
from paretrim.graph.node import Array, Node
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.attributes import CLAMP, COUNT, FIXED, NO_EDGES, ONES, Settings, Shape, optional
from paretrim.graph.operations.operation import NodeCall, Operation, TensorRule, always, image_shape
from paretrim.graph.operations.requantize import centered, per_channel, requantize
from paretrim.graph.operations.sliding import slide
from paretrim.graph.windows import Values, Windows

_REAL = {
    "weight": TensorRule("float32", "weight", also=("float16", "bfloat16", "int8")),
    "weight_scale": TensorRule("float32", "channels", optional=True),
    "bias": TensorRule("float32", "channels", optional=True),
}
_INTEGER = {
    "weight": TensorRule("int8", "weight"),
    "weight_scale": TensorRule("float32", "channels"),
    "bias": TensorRule("int32", "channels"),
}


def tensor_shape(op: str, tensors: Mapping[str, Array], name: str, dimensions: int) -> Shape:
    """Shape of a tensor that an operation needs.

    Raises:
        UnsupportedOperation: it is missing or has another number of dimensions.
    """
    if name not in tensors:
        raise UnsupportedOperation(f"{op} lacks the tensor '{name}'; add it")
    shape = tuple(int(extent) for extent in tensors[name].shape)
    if len(shape) != dimensions:
        raise UnsupportedOperation(f"{op} has a {name} of shape {shape}; it must have {dimensions} dimensions")
    return shape


def _convolution_shape(settings: Settings, shapes: Sequence[Shape], tensors: Mapping[str, Array]) -> Shape:
    image = image_shape("conv2d", shapes[0])
    outputs, depth, height, width = tensor_shape("conv2d", tensors, "weight", 4)
    groups = settings.integer("groups")
    if min(outputs, depth, height, width) < 1:
        raise UnsupportedOperation(
            f"conv2d has an empty weight of shape {(outputs, depth, height, width)}; its extents must be 1 or more"
        )
    if depth * groups != image[0] or outputs % groups:
        raise UnsupportedOperation(
            f"conv2d weight {(outputs, depth, height, width)} in {groups} groups does not fit {image[0]} input channels; "
            "its second extent must be channels / groups"
        )
    return (outputs, *slide("conv2d", image, (height, width), settings, inside=False))


def _linear_shape(_: Settings, shapes: Sequence[Shape], tensors: Mapping[str, Array]) -> Shape:
    outputs, features = tensor_shape("linear", tensors, "weight", 2)
    if shapes[0] != (features,):
        raise UnsupportedOperation(f"linear weight {(outputs, features)} does not fit the input {shapes[0]}; flatten it first")
    return (outputs,)


def _product(op: str, settings: Settings, x: Values, weight: Values) -> Values:
    if op == "linear":
        # One image at a time as well: a matrix product over the batch may sum floats in another order for another batch.
        return np.asarray(np.matmul(weight, x[:, :, None])[:, :, 0])
    kernel = (weight.shape[2], weight.shape[3])
    return windows.convolve(x, weight, Windows.of(settings, kernel), groups=settings.integer("groups"))


def _real(call: NodeCall) -> Values:
    tensors, x = call.node.tensors, call.inputs[0]
    weight = real_weight(tensors)
    start = tensors["bias"] if "bias" in tensors else np.zeros(len(weight), np.float32)
    if call.node.op == "linear":
        image, kernel = x[:, :, None, None], weight[:, :, None, None]
        return windows.sum_in_order(image, kernel, start, Windows((1, 1), (1, 1), (0, 0, 0, 0)), groups=1)[:, :, 0, 0]
    kernel_size = (weight.shape[2], weight.shape[3])
    groups = call.settings.integer("groups")
    return windows.sum_in_order(x, weight, start, Windows.of(call.settings, kernel_size), groups=groups)


def in_any_order(node: Node, settings: Settings, x: Values) -> Values:
    """What a layer gives in float32 up to the order of its sums, many times as fast as in the one order; ``x`` [N, ...]."""
    found = _product(node.op, settings, x, real_weight(node.tensors))
    return found + node.tensors["bias"].reshape(per_channel(found)) if "bias" in node.tensors else found


def _integer(call: NodeCall) -> Values:
    node, source = call.node, call.types[0]
    weight, bias = node.tensors["weight"], node.tensors["bias"]
    exact = windows.accumulate_in(weight, bias, source.zero_point)
    accumulator = _product(node.op, call.settings, centered(call.inputs[0], source, exact), weight.astype(exact))
    rows = per_channel(accumulator)
    accumulator += bias.astype(exact).reshape(rows)
    scales = node.tensors["weight_scale"].astype(np.float32) * np.float32(source.scale)
    narrow = accumulator.astype(np.float32, copy=False)
    if not node.type.quantized:
        return np.asarray(narrow * scales.reshape(rows))
    return requantize(narrow, (scales / np.float32(node.type.scale)).reshape(rows), call)


CONV2D = Operation(
    name="conv2d",
    number=3,
    meaning="convolution: weight [Co, Ci/groups, kh, kw]",
    shape=_convolution_shape,
    real=_real,
    integer=_integer,
    channels=channel_rules.WEIGHTED,
    grid="requantizes",
    scaling=always("own"),
    results=None,
    attributes={"stride": ONES, "padding": NO_EDGES, "dilation": ONES, "groups": optional(COUNT, 1), **FIXED, **CLAMP},
    work="weight",
    multiplies="windows",
    real_tensors=_REAL,
    integer_tensors=_INTEGER,
)

LINEAR = Operation(
    name="linear",
    number=4,
    meaning="weight [out, in]",
    shape=_linear_shape,
    real=_real,
    integer=_integer,
    channels=channel_rules.WEIGHTED,
    grid="requantizes",
    scaling=always("own"),
    results=None,
    attributes=CLAMP,
    work="weight",
    multiplies="vector",
    real_tensors=_REAL,
    integer_tensors=_INTEGER,
)
