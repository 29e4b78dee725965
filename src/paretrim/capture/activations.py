"""Converters of unary functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from torch.fx import Node as FxNode

from paretrim.capture.call import Call
from paretrim.capture.cut import cut
from paretrim.capture.elementwise import added, combine, each, larger_of, pointwise, smaller_of
from paretrim.capture.scale_shift import affine, numbers_of
from paretrim.capture.work import Constant, Value, View, Work
from paretrim.graph.functions import SELU_ALPHA, SELU_SCALE

_RANGES: Mapping[str, tuple[str, str]] = MappingProxyType({"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max")})
"""Names of the bounds of clamping operations."""

_LINEAR = 20
"""Beyond this, softplus is linear in float32."""


def _relu(work: Work, call: Call) -> Value:
    # The value of a ReLU module has the name of the module, so that reports and hints find it.
    own = call.layer if "relu" in call.layer.rsplit(".", 1)[-1].lower() else ""
    return each(work, call, "relu", work.elements(call, call.source), name=own)


def _relu6(work: Work, call: Call) -> Value:
    return _clamped(work, call, 0.0, 6.0)


def _clamp(work: Work, call: Call) -> Value:
    low, high = _RANGES[call.operation]
    if any(isinstance(call.argument(name), FxNode) for name in (low, high)):
        return _clamped_by_tensors(work, call, call.argument(low), call.argument(high))
    return _clamped(work, call, _bound(call, low, -math.inf), _bound(call, high, math.inf))


def _bound(call: Call, name: str, none: float) -> float | None:
    """A bound of a range; None if it is infinite or omitted."""
    return None if call.argument(name) == none else call.optional_number(name)


def _clamped_by_tensors(work: Work, call: Call, low: object, high: object) -> Value:
    """Bounds that are tensors: numbers for every channel, or activations; where both bind, the upper one holds."""
    value: Value | None = None
    for bound, bounded in ((low, larger_of), (high, smaller_of)):
        if bound is not None:
            value = bounded(work, call, call.source if value is None else value, bound)
    assert value is not None, "torch refuses a clamp without bounds"
    return value


def _clamp_min(work: Work, call: Call) -> Value:
    if isinstance(call.argument("min"), FxNode):
        return _clamped_by_tensors(work, call, call.argument("min"), None)
    return _clamped(work, call, _bound(call, "min", -math.inf), None)


def _clamp_max(work: Work, call: Call) -> Value:
    if isinstance(call.argument("max"), FxNode):
        return _clamped_by_tensors(work, call, None, call.argument("max"))
    return _clamped(work, call, None, _bound(call, "max", math.inf))


def _clamped(work: Work, call: Call, minimum: float | None, maximum: float | None) -> Value:
    source = work.elements(call, call.source)
    if maximum is None and minimum == 0:
        return each(work, call, "relu", source)
    if minimum is not None and maximum is not None:
        least = min(minimum, maximum)  # where they cross, torch gives the upper bound
        return each(work, call, "clamp", source, attributes={"minimum": least, "maximum": maximum})
    if minimum is not None:
        return pointwise(work, call, source, "clamp_min", minimum)
    if maximum is None:
        return source
    return pointwise(work, call, source, "clamp_max", maximum)


def _neg(work: Work, call: Call) -> Value:
    return pointwise(work, call, work.elements(call, call.source), "mul_constant", -1.0)


def _number_minus(work: Work, call: Call) -> Value:
    """``rsub``: the second operand minus the first times alpha."""
    other = call.arguments["other"]
    negative = pointwise(work, call, work.operand(call, call.source), "mul_constant", -call.number("alpha"))
    if isinstance(other, FxNode):
        return added(work, call, negative, other)
    return pointwise(work, call, negative, "add_constant", call.number("other"))


def _with_constant(function: str, name: str) -> Callable[[Work, Call], Value]:
    """A function with one setting."""

    def convert(work: Work, call: Call) -> Value:
        return pointwise(work, call, work.elements(call, call.source), function, call.number(name))

    return convert


def _chain(*functions: tuple[str, float | None]) -> Callable[[Work, Call], Value]:
    """Functions in sequence, each with its constant."""

    def convert(work: Work, call: Call) -> Value:
        value = work.elements(call, call.source)
        for function, constant in functions:
            value = pointwise(work, call, value, function, constant)
        return value

    return convert


def _power(work: Work, call: Call) -> Value:
    if call.operation == "pow":
        given = work.constant(call.arguments["exponent"])  # a parameter, as in generalised-mean pooling, becomes a constant
        if given is None and isinstance(call.arguments["exponent"], FxNode):
            return _power_of(work, call)
        if given is not None and np.unique(given.array).size > 1:
            return _powers(work, call, given)
        exponent = call.number("exponent") if given is None else float(given.array.flat[0])
    else:
        exponent = {"sqrt": 0.5, "rsqrt": -0.5, "reciprocal": -1.0}[call.operation]
    if exponent == 0:
        raise call.refused("leave out the power with exponent 0; it is 1 for every image")
    source = work.elements(call, call.source)
    return source if exponent == 1 else pointwise(work, call, source, "power", exponent)


def _powers(work: Work, call: Call, exponents: Constant) -> Value:
    """A power with one exponent per channel, as in generalised-mean pooling: exp(exponent * log(x)).

    This is a power of values that are not negative. Of a negative one only powers with whole exponents are numbers.
    """
    source = work.elements(call, call.source)
    if (exponents.array == np.round(exponents.array)).any() and not _is_positive(work, source.name):
        raise call.refused(
            f"its exponent '{exponents.name}' has {exponents.array.size} numbers, some of them whole, and its base may be "
            "negative; give all channels one exponent, or write x.clamp(min=1e-6) in front of the power"
        )
    numbers = numbers_of(call, exponents, work.shapes[source.name])
    scaled = affine(work, call, pointwise(work, call, source, "log").name, numbers, np.zeros_like(numbers))
    return replace(source, name=pointwise(work, call, scaled, "exp").name)


def _is_positive(work: Work, name: str) -> bool:
    """Whether a value is known not to be negative."""
    node = next((node for node in work.nodes if node.name == name), None)
    if node is None:
        return False
    if node.op in ("adaptive_avg_pool", "avg_pool", "max_pool", "flatten"):
        return _is_positive(work, node.inputs[0])
    least = node.attributes.get("minimum" if node.op == "clamp" else "constant")
    bounded = node.op == "clamp" or node.attributes.get("function") == "clamp_min"
    return (bounded and isinstance(least, float) and least >= 0) or node.op == "relu" or node.attributes.get("function") == "exp"


def _power_of(work: Work, call: Call) -> Value:
    """A positive number to the power of an activation."""
    base = call.source
    if not isinstance(base, int | float) or not 0 < base < math.inf:
        raise call.refused(
            f"it raises {base} to the power of an activation; one of the two must be a fixed number, and a base must be above 0"
        )
    scaled = pointwise(work, call, work.elements(call, call.arguments["exponent"]), "mul_constant", math.log(base))
    return pointwise(work, call, scaled, "exp")


def _elu(work: Work, call: Call) -> Value:
    source = work.elements(call, call.source)
    alpha, scale = call.number("alpha"), call.number("scale")
    call.require("input_scale", 1, "only an ELU with unscaled input is supported")
    if (alpha, scale) == (SELU_ALPHA, SELU_SCALE):
        return pointwise(work, call, source, "selu")
    value = pointwise(work, call, source, "elu") if alpha == 1 else pointwise(work, call, source, "elu_alpha", alpha)
    return value if scale == 1 else pointwise(work, call, value, "mul_constant", scale)


def _gelu(work: Work, call: Call) -> Value:
    function = "gelu" if call.arguments["approximate"] == "none" else "gelu_tanh"
    return pointwise(work, call, work.elements(call, call.source), function)


def _softplus(work: Work, call: Call) -> Value:
    source, beta = work.elements(call, call.source), call.number("beta")
    if call.number("threshold") < _LINEAR:
        raise call.refused(f"leave the threshold of softplus at {_LINEAR}; {call.number('threshold')} makes it discontinuous")
    return pointwise(work, call, source, "softplus") if beta == 1 else pointwise(work, call, source, "softplus_beta", beta)


def _threshold(work: Work, call: Call) -> Value:
    least, value = call.number("threshold"), call.number("value")
    if value == least:
        return _clamped(work, call, least, None)
    if value != 0:
        raise call.refused(f"use threshold with the value 0 or {least}; it replaces everything up to {least} by {value}")
    return pointwise(work, call, work.elements(call, call.source), "threshold", least)


def _rrelu(work: Work, call: Call) -> Value:
    """In eval mode, a leaky ReLU with the mean of its slopes."""
    call.require("training", False, "it draws random slopes even in eval mode; pass training=self.training")
    slope = (call.number("lower") + call.number("upper")) / 2
    return pointwise(work, call, work.elements(call, call.source), "leaky_relu", slope)


def _prelu(work: Work, call: Call) -> Value:
    """A leaky ReLU; with one slope per channel ``relu(x) - slope * relu(-x)``."""
    slopes = work.constant(call.arguments["weight"])
    if slopes is None:
        raise call.refused("use slopes that are parameters; these are computed from the image")
    if slopes.tensor.numel() == 1:
        return pointwise(work, call, work.elements(call, call.source), "leaky_relu", float(slopes.array[0]))
    source = work.read(call, call.source)
    view = View(source, work.shapes[source])
    negative = each(work, call, "relu", pointwise(work, call, view, "mul_constant", -1.0))
    scaled = affine(work, call, negative.name, -slopes.array, np.zeros_like(slopes.array))
    return combine(work, call, "add", each(work, call, "relu", view), scaled)


def _glu(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    shape = work.shapes[source]
    axis = call.integer("dim") % (len(shape) + 1) - 1
    if axis < 0:
        raise call.refused("use GLU along an axis of the image; along the batch it mixes images")
    half = shape[axis] // 2
    first, gate = (cut(work, call, source, axis, start=start, stop=start + half, step=1) for start in (0, half))
    return combine(work, call, "mul", first, pointwise(work, call, gate, "sigmoid"))


FUNCTIONS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "neg": _neg,
        "rsub": _number_minus,
        "relu": _relu,
        "relu6": _relu6,
        "hardtanh": _clamp,
        "clamp": _clamp,
        "clamp_min": _clamp_min,
        "clamp_max": _clamp_max,
        "sigmoid": _chain(("sigmoid", None)),
        "silu": _chain(("silu", None)),
        "hardsigmoid": _chain(("hardsigmoid", None)),
        "hardswish": _chain(("hardswish", None)),
        "tanh": _chain(("tanh", None)),
        "gelu": _gelu,
        "elu": _elu,
        "selu": _chain(("selu", None)),
        "celu": _with_constant("celu", "alpha"),
        "leaky_relu": _with_constant("leaky_relu", "negative_slope"),
        "rrelu": _rrelu,
        "prelu": _prelu,
        "glu": _glu,
        "softplus": _softplus,
        "log_sigmoid": _chain(("logsigmoid", None)),
        "mish": _chain(("mish", None)),
        "threshold": _threshold,
        "hardshrink": _with_constant("hardshrink", "lambd"),
        "softshrink": _with_constant("softshrink", "lambd"),
        "pow": _power,
        "sqrt": _power,
        "rsqrt": _power,
        "reciprocal": _power,
        "abs": _chain(("abs", None)),
        "erf": _chain(("erf", None)),
        "exp": _chain(("exp", None)),
        "exp2": _chain(("mul_constant", math.log(2)), ("exp", None)),
        "expm1": _chain(("exp", None), ("add_constant", -1.0)),
        "log2": _chain(("log", None), ("mul_constant", 1 / math.log(2))),
        "log10": _chain(("log", None), ("mul_constant", 1 / math.log(10))),
        "log1p": _chain(("add_constant", 1.0), ("log", None)),
        "sin": _chain(("sin", None)),
        "cos": _chain(("add_constant", math.pi / 2), ("sin", None)),
    }
)
