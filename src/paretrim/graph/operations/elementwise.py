"""Operations on each value by itself, and on pairs of values at the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paretrim.errors import UnsupportedOperation
from paretrim.graph import functions
from paretrim.graph.node import Array, Float64Array, InputSpec, ValueType
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.attributes import CLAMP, NUMBER, AttributeRule, Settings, Shape, optional
from paretrim.graph.operations.operation import NodeCall, Operation, Results, Scaling, TensorRule, always, same_shape
from paretrim.graph.operations.requantize import centered, clamped, levels, per_channel, product_of_steps, ratio, requantize
from paretrim.graph.windows import Values

_VECTOR = TensorRule("float32", "channels")


def _real_batch_norm(call: NodeCall) -> Values:
    tensors = call.node.tensors
    gamma, beta, mean, variance = (tensors[name].astype(np.float64) for name in ("gamma", "beta", "mean", "variance"))
    rows = per_channel(call.inputs[0])
    factor = gamma / np.sqrt(variance + (call.settings.number("epsilon") or 0.0))
    shift = beta - mean * factor
    return np.asarray(call.inputs[0] * factor.astype(np.float32).reshape(rows) + shift.astype(np.float32).reshape(rows))


def _integer_batch_norm(call: NodeCall) -> Values:
    rows, tensors = per_channel(call.inputs[0]), call.node.tensors
    steps = centered(call.inputs[0], call.types[0]) * tensors["multiplier"].reshape(rows)
    steps += tensors["offset"].reshape(rows)
    low, high = call.settings.integer("lo"), call.settings.integer("hi")
    return clamped(np.rint(steps, out=steps), call.node.type.zero_point, low, high)


def _real_relu(call: NodeCall) -> Values:
    return np.asarray(np.maximum(call.inputs[0], np.float32(0)) + np.float32(0))  # no negative zero


def _integer_relu(call: NodeCall) -> Values:
    return np.maximum(call.inputs[0], np.uint8(call.types[0].zero_point))


def _clamp(call: NodeCall) -> Values:
    result = call.inputs[0]
    minimum, maximum = call.settings.number("minimum"), call.settings.number("maximum")
    if minimum is not None:
        result = np.maximum(result, np.float32(minimum))
    if maximum is not None:
        result = np.minimum(result, np.float32(maximum))
    return np.asarray(result + np.float32(0))  # no negative zero


def _real_pointwise(call: NodeCall) -> Values:
    settings = call.settings
    found = functions.evaluate(settings.text("function"), call.inputs[0], settings.number("constant"))
    return np.asarray(found.astype(np.float32) + np.float32(0))  # no negative zero


def _integer_pointwise(call: NodeCall) -> Values:
    return np.asarray(call.node.tensors["table"][call.inputs[0]])


def _function_table(settings: Settings, source: ValueType, output: ValueType, _: InputSpec) -> Array:
    return functions.pointwise_table(settings.text("function"), settings.number("constant"), source, output)


def _function_scaling(settings: Settings) -> Scaling:
    function = settings.text("function")
    if function in functions.HOMOGENEOUS:
        return "homogeneous"
    return "own" if function in functions.OF_OWN_SIZE else "near"


def _sum_shape(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    if shapes[0] == shapes[1]:
        return shapes[0]
    raise UnsupportedOperation(f"add needs two equal shapes and was given {shapes[0]} and {shapes[1]}")


def _integer_sum(call: NodeCall) -> Values:
    types, output = call.types, call.node.type
    first, second = (ratio(source, output) for source in types)
    zero_points = float(first) * types[0].zero_point + float(second) * types[1].zero_point
    total: Values = call.inputs[1].astype(np.float32) * second
    total += np.float32(output.zero_point - zero_points)
    total += call.inputs[0].astype(np.float32) * first
    return clamped(np.rint(total, out=total), 0, call.settings.integer("lo"), call.settings.integer("hi"))


def _possible_sums(_: Settings, kinds: Sequence[ValueType]) -> list[Float64Array]:
    first, second = map(levels, kinds)
    return [first, second, first[:, None] + second]  # one of the two is often 0


def _product_shape(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    first, second = shapes
    if first == second:
        return first
    for whole, factor in ((first, second), (second, first)):
        if len(whole) == 3 and factor == (whole[0], 1, 1):
            return whole
    raise UnsupportedOperation(f"mul needs equal shapes, or [C, 1, 1] against [C, H, W], and was given {first} and {second}")


def _integer_product(call: NodeCall) -> Values:
    # At most 255 * 255 in size, so float32 is exact.
    product = centered(call.inputs[0], call.types[0]) * centered(call.inputs[1], call.types[1])
    multiplier = np.float32(call.types[0].scale) * np.float32(call.types[1].scale) / np.float32(call.node.type.scale)
    return requantize(product, multiplier, call)


def _possible_products(_: Settings, kinds: Sequence[ValueType]) -> list[Float64Array]:
    first, second = map(levels, kinds)
    return [first[:, None] * second]


BATCH_NORM = Operation(
    name="batch_norm",
    number=5,
    meaning="per-channel affine; in an integer graph one that could not be folded",
    shape=same_shape,
    real=_real_batch_norm,
    integer=_integer_batch_norm,
    channels=channel_rules.PASSING,
    grid="requantizes",
    scaling=always("own"),
    results=None,
    attributes={"epsilon": optional(NUMBER, None), **CLAMP},
    real_tensors=dict.fromkeys(("gamma", "beta", "mean", "variance"), _VECTOR),
    integer_tensors=dict.fromkeys(("multiplier", "offset"), _VECTOR),
)

RELU = Operation(
    name="relu",
    number=6,
    meaning="max(x, 0)",
    shape=same_shape,
    real=_real_relu,
    integer=_integer_relu,
    channels=channel_rules.PASSING,
    grid="keeps",
    scaling=always("homogeneous"),
    results=None,
    elementwise=True,
    bounds=lambda _: (0.0, None),
)

CLAMP_VALUES = Operation(
    name="clamp",
    number=7,
    meaning="min(max(x, minimum), maximum); float graphs only, an integer graph has a pointwise table or a fused clamp",
    shape=same_shape,
    real=_clamp,
    integer=None,
    channels=channel_rules.PASSING,
    grid="float_only",
    scaling=always("near"),
    results=None,
    attributes={"minimum": optional(NUMBER, None), "maximum": optional(NUMBER, None)},
    elementwise=True,
    bounds=lambda settings: (settings.number("minimum"), settings.number("maximum")),
)

POINTWISE = Operation(
    name="pointwise",
    number=8,
    meaning="a scalar function of one value; in an integer graph a 256-entry table",
    shape=same_shape,
    real=_real_pointwise,
    integer=_integer_pointwise,
    channels=channel_rules.PASSING,
    grid="requantizes",
    scaling=_function_scaling,
    results=None,
    attributes={"function": AttributeRule("str"), "constant": optional(NUMBER, None)},
    check=lambda settings: functions.check_function(settings.text("function"), settings.number("constant")),
    elementwise=True,
    library=lambda settings: settings.text("function") not in functions.EXACT,
    table=_function_table,
    integer_tensors={"table": TensorRule("uint8", "table")},
)

ADD = Operation(
    name="add",
    number=9,
    meaning="elementwise sum of two values",
    shape=_sum_shape,
    real=lambda call: np.asarray(call.inputs[0] + call.inputs[1]),
    integer=_integer_sum,
    channels=channel_rules.UNITING,
    grid="requantizes",
    scaling=always("homogeneous"),
    results=Results(_possible_sums, lambda _, kinds: min(kind.scale for kind in kinds)),
    arity=2,
    attributes=CLAMP,
    rescaling="sum",
)

MUL = Operation(
    name="mul",
    number=10,
    meaning="elementwise product of two values; [C, 1, 1] broadcasts",
    shape=_product_shape,
    real=lambda call: np.asarray(call.inputs[0] * call.inputs[1]),
    integer=_integer_product,
    channels=channel_rules.UNITING,
    grid="requantizes",
    scaling=always("product"),
    results=Results(_possible_products, product_of_steps),
    arity=2,
    attributes=CLAMP,
    rescaling="product",
)

DROPOUT = Operation(
    name="dropout",
    number=17,
    meaning="training only; folding removes it",
    shape=same_shape,
    real=lambda call: call.inputs[0],
    integer=None,
    channels=channel_rules.PASSING,
    grid="float_only",
    scaling=always("homogeneous"),
    results=None,
    attributes={"probability": NUMBER},
    elementwise=True,
    same_values=True,
    ships=False,
)
