"""Products of two matrices that are both known only at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from paretrim.errors import UnsupportedOperation
from paretrim.graph.node import Array, Float64Array, ValueType
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.attributes import CLAMP, INDEX, Settings, Shape, optional
from paretrim.graph.operations.operation import NodeCall, Operation, Results, always, image_shape
from paretrim.graph.operations.requantize import centered, product_of_steps, requantize
from paretrim.graph.windows import Values

_MOST_PRODUCTS = 33025
"""How many products of 255 * 255 an int32 can sum."""


def _matmul_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    first, second = (image_shape("matmul", shape) for shape in shapes)
    transposed = settings.integer("transposed")
    if transposed > 1:
        raise UnsupportedOperation(f"matmul has transposed = {transposed}; it must be 0 or 1")
    depth, width = second[:0:-1] if transposed else second[1:]
    if first[0] != second[0] or first[2] != depth:
        raise UnsupportedOperation(
            f"matmul needs [C, H, K] and [C, K, W], or [C, W, K] if transposed, and was given {first} and {second}"
        )
    if depth > _MOST_PRODUCTS:
        raise UnsupportedOperation(f"matmul sums {depth} products; an int32 holds {_MOST_PRODUCTS} at most, so sum fewer")
    return (first[0], first[1], width)


def _second(call: NodeCall, value: Values) -> Values:
    return value.swapaxes(-2, -1) if call.settings.integer("transposed") else value


def _real(call: NodeCall) -> Values:
    first, second = call.inputs[0], _second(call, call.inputs[1])
    total: npt.NDArray[np.float32] = np.zeros((*first.shape[:-1], second.shape[-1]), np.float32)
    for k in range(first.shape[-1]):  # in order, each product and each sum rounded
        total += first[..., k, None] * second[..., k, None, :]
    return total


def _integer(call: NodeCall) -> Values:
    first, second = (centered(value, kind, np.float64) for value, kind in zip(call.inputs, call.types, strict=True))
    multiplier = np.float32(call.types[0].scale) * np.float32(call.types[1].scale) / np.float32(call.node.type.scale)
    return requantize(np.matmul(first, _second(call, second)).astype(np.float32), multiplier, call)


_MOST_SUMS = 2**15
"""Sums are looked at up to so many products of a step by a step, on both sides of 0: ties recur within them."""


def _possible_sums(_: Settings, kinds: Sequence[ValueType]) -> list[Float64Array]:
    depth = kinds[0].shape[2]
    ends = [np.array([-kind.zero_point, 255 - kind.zero_point]) for kind in kinds]
    if depth == 1:
        whole = np.multiply.outer(*(np.arange(low, high + 1) for low, high in ends))
    else:
        corners = depth * np.multiply.outer(*ends)
        whole = np.arange(max(corners.min(), -_MOST_SUMS), min(corners.max(), _MOST_SUMS) + 1)
    return [kinds[0].scale * kinds[1].scale * whole]


MATMUL = Operation(
    name="matmul",
    number=21,
    meaning="product of two matrices a channel: [C, H, K] by [C, K, W], or by [C, W, K] transposed",
    shape=_matmul_shape,
    real=_real,
    integer=_integer,
    channels=channel_rules.UNITING,
    grid="requantizes",
    scaling=always("product"),
    results=Results(_possible_sums, product_of_steps),
    arity=2,
    attributes={"transposed": optional(INDEX, 0), **CLAMP},
    rescaling="product",
    work="depth",
)
