"""Converters of sums, products and scalar functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from paretrim.capture.call import Call
from paretrim.capture.work import Constant, Value, View, Work
from paretrim.graph.types import Array, Attribute, FloatArray

_RANGES: Mapping[str, tuple[str, str]] = MappingProxyType({"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max")})
"""Names of the bounds of clamping operations."""


def pointwise(work: Work, call: Call, source: View, function: str, constant: float | None = None) -> View:
    """A function of graphs, by its name there."""
    attributes: dict[str, Attribute] = {"function": function}
    if constant is not None:
        attributes["constant"] = constant
    return _each(work, call, "pointwise", source, attributes=attributes, name=f"{call.layer}.{function}".removeprefix("."))


def _each(
    work: Work, call: Call, op: str, source: View, *, attributes: Mapping[str, Attribute] | None = None, name: str = ""
) -> View:
    """A node that treats every number of a value by itself, seen under the shape that the value is seen under."""
    made = work.emit(call, op, [source.name], shape=work.shapes[source.name], attributes=attributes, name=name)
    return View(made.name, source.shape)


def _arithmetic(*, scales: bool, inverts: bool) -> Callable[[Work, Call], Value]:
    """Addition and multiplication and, with ``inverts``, their inverses: of two activations, or one and a constant."""

    def convert(work: Work, call: Call) -> Value:
        left, right = call.source, call.arguments["other"]
        if "alpha" in call.arguments and call.number("alpha") != 1:
            raise call.refused(f"alpha = {call.arguments['alpha']} is not known; scale the second operand first")
        if not inverts and not _is_activation(work, left) and _is_activation(work, right):
            left, right = right, left
        if isinstance(right, int | float):
            number = float(right)
            if inverts:
                number = 1.0 / number if scales else -number
            return pointwise(work, call, work.elements(call, left), "mul_constant" if scales else "add_constant", number)
        constant = work.constant(right)
        if constant is not None:
            return _affine(work, call, work.read(call, left), constant, scales=scales, inverts=inverts)
        if scales and inverts:
            raise call.refused("division of one activation by another is not known; only by a number or a constant tensor")
        first, second = work.elements(call, left), work.elements(call, right)
        if inverts:
            second = pointwise(work, call, second, "mul_constant", -1.0)
        return combine(work, call, "mul" if scales else "add", first, second)

    return convert


def _is_activation(work: Work, argument: object) -> bool:
    return any(argument is node for node in work.known)


def combine(work: Work, call: Call, op: str, first: View, second: View) -> View:
    """The sum or product of two activations; in a product [C, 1, 1] broadcasts against [C, H, W]."""
    if op == "mul" and first.shape != second.shape and first.shape[-2:] == (1, 1):
        first, second = second, first
    wide, narrow = work.shapes[first.name], work.shapes[second.name]
    alike = first.shape == second.shape and wide == narrow
    gated = op == "mul" and len(wide) == 3 and narrow == (wide[0], 1, 1) and second.shape == (*first.shape[:-2], 1, 1)
    if not alike and not gated:
        raise call.refused(f"operands of shapes {first.shape} and {second.shape}; only [C, 1, 1] broadcasts, in a product")
    return View(work.emit(call, op, [first.name, second.name], shape=wide).name, first.shape)


def _affine(work: Work, call: Call, source: str, constant: Constant, *, scales: bool, inverts: bool) -> Value:
    """A sum or product with one constant per channel: a BatchNorm with mean 0 and variance 1.

    Behind another of its kind it continues that one, so that ``(x - mean) / std`` is one node and rounds once.
    """
    shape = work.shapes[source]
    per_channel = (shape[0], *[1] * (len(shape) - 1))
    array = constant.array
    if array.size != 1 and array.shape[-len(shape) :] != per_channel:
        raise call.refused(f"the constant '{constant.name}' of shape {array.shape} is not one number per channel of {shape}")
    operand = np.broadcast_to(array.reshape(-1), shape[:1]).astype(np.float64)
    if scales and inverts and not operand.all():
        raise call.refused(f"it divides by '{constant.name}', which holds 0")
    before = next(node for node in work.nodes if node.name == source) if source in work.shapes and work.nodes else None
    gamma, beta = np.ones(shape[0]), np.zeros(shape[0])
    if before is not None and before.op == "batch_norm" and before.attributes["epsilon"] == 0.0:
        source = before.inputs[0]
        gamma, beta = (before.tensors[name].astype(np.float64) for name in ("gamma", "beta"))
    if scales:
        factor = 1.0 / operand if inverts else operand
        gamma, beta = gamma * factor, beta * factor
    else:
        beta = beta - operand if inverts else beta + operand
    return _constant_affine(work, call, source, gamma.astype(np.float32), beta.astype(np.float32))


def _constant_affine(work: Work, call: Call, source: str, gamma: FloatArray, beta: FloatArray) -> View:
    ones, zeros = np.ones_like(gamma), np.zeros_like(gamma)
    tensors: dict[str, Array] = {"gamma": gamma, "beta": beta, "mean": zeros, "variance": ones}
    return work.emit(call, "batch_norm", [source], shape=work.shapes[source], attributes={"epsilon": 0.0}, tensors=tensors)


def _relu(work: Work, call: Call) -> Value:
    # A module that is a ReLU gives its name to the value, so that reports and hints find it.
    own = call.layer if "relu" in call.layer.rsplit(".", 1)[-1].lower() else ""
    return _each(work, call, "relu", work.elements(call, call.source), name=own)


def _relu6(work: Work, call: Call) -> Value:
    return _clamped(work, call, 0.0, 6.0)


def _clamp(work: Work, call: Call) -> Value:
    low, high = _RANGES[call.operation]
    return _clamped(work, call, call.optional_number(low), call.optional_number(high))


def _clamp_min(work: Work, call: Call) -> Value:
    return _clamped(work, call, call.number("min"), None)


def _clamp_max(work: Work, call: Call) -> Value:
    return _clamped(work, call, None, call.number("max"))


def _clamped(work: Work, call: Call, minimum: float | None, maximum: float | None) -> Value:
    source = work.elements(call, call.source)
    if maximum is None and minimum == 0:
        return _each(work, call, "relu", source)
    if minimum is not None and maximum is not None:
        return _each(work, call, "clamp", source, attributes={"minimum": minimum, "maximum": maximum})
    if minimum is not None:
        return pointwise(work, call, source, "clamp_min", minimum)
    return pointwise(work, call, source, "clamp_max", maximum)


def _neg(work: Work, call: Call) -> Value:
    return pointwise(work, call, work.elements(call, call.source), "mul_constant", -1.0)


def _number_minus(work: Work, call: Call) -> Value:
    """``rsub``: the second operand, a number, minus the first."""
    if call.number("alpha") != 1:
        raise call.refused(f"alpha = {call.arguments['alpha']} is not known; scale the second operand first")
    negative = pointwise(work, call, work.elements(call, call.source), "mul_constant", -1.0)
    return pointwise(work, call, negative, "add_constant", call.number("other"))


def _scalar(function: str, fixed: Mapping[str, object] | None = None) -> Callable[[Work, Call], Value]:
    """A function without settings, or with settings that must have these values."""

    def convert(work: Work, call: Call) -> Value:
        for name, value in (fixed or {}).items():
            if call.arguments[name] != value:
                raise call.refused(f"{function} with {name} = {call.arguments[name]} is not known; only {value} is")
        return pointwise(work, call, work.elements(call, call.source), function)

    return convert


def _leaky_relu(work: Work, call: Call) -> Value:
    return pointwise(work, call, work.elements(call, call.source), "leaky_relu", call.number("negative_slope"))


ELEMENTWISE: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "add": _arithmetic(scales=False, inverts=False),
        "sub": _arithmetic(scales=False, inverts=True),
        "mul": _arithmetic(scales=True, inverts=False),
        "div": _arithmetic(scales=True, inverts=True),
        "neg": _neg,
        "rsub": _number_minus,
        "relu": _relu,
        "relu6": _relu6,
        "hardtanh": _clamp,
        "clamp": _clamp,
        "clamp_min": _clamp_min,
        "clamp_max": _clamp_max,
        "sigmoid": _scalar("sigmoid"),
        "silu": _scalar("silu"),
        "hardsigmoid": _scalar("hardsigmoid"),
        "hardswish": _scalar("hardswish"),
        "tanh": _scalar("tanh"),
        "gelu": _scalar("gelu", {"approximate": "none"}),
        "elu": _scalar("elu", {"alpha": 1, "scale": 1, "input_scale": 1}),
        "leaky_relu": _leaky_relu,
        "softplus": _scalar("softplus", {"beta": 1, "threshold": 20}),
    }
)
