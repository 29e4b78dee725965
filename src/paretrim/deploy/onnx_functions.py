"""Writes pointwise functions in ONNX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from paretrim.deploy.onnx_writer import Writer
from paretrim.graph import functions
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Node

_X, _CONSTANT = "x", "constant"


@dataclass(frozen=True)
class _Operation:
    """An ONNX operation with its operands."""

    name: str
    operands: tuple[_Operand, ...]
    attributes: Mapping[str, float]


_Operand = str | float | _Operation
"""The argument, the constant of the node, a number, or the result of an operation."""


def _op(name: str, *operands: _Operand, attributes: Mapping[str, float] = MappingProxyType({})) -> _Operation:
    return _Operation(name, operands, attributes)


_GROWN = _op("Add", _op("Erf", _op("Div", _X, math.sqrt(2.0))), 1.0)
_CUBIC = _op("Add", _X, _op("Mul", 0.044715, _op("Mul", _X, _op("Mul", _X, _X))))
_GROWN_TANH = _op("Add", _op("Tanh", _op("Mul", math.sqrt(2.0 / math.pi), _CUBIC)), 1.0)

_FORMULAS: Mapping[str, _Operation] = MappingProxyType(
    {
        "sigmoid": _op("Sigmoid", _X),
        "tanh": _op("Tanh", _X),
        "hardsigmoid": _op("HardSigmoid", _X, attributes={"alpha": 1.0 / 6.0, "beta": 0.5}),
        "hardswish": _op("HardSwish", _X),
        "silu": _op("Mul", _X, _op("Sigmoid", _X)),
        "relu6": _op("Clip", _X, 0.0, 6.0),
        "gelu": _op("Mul", _op("Mul", _X, _GROWN), 0.5),
        "gelu_tanh": _op("Mul", _op("Mul", _X, _GROWN_TANH), 0.5),
        "elu": _op("Elu", _X, attributes={"alpha": 1.0}),
        "selu": _op("Selu", _X, attributes={"alpha": functions.SELU_ALPHA, "gamma": functions.SELU_SCALE}),
        "softplus": _op("Softplus", _X),
        "logsigmoid": _op("Neg", _op("Softplus", _op("Neg", _X))),
        "mish": _op("Mul", _X, _op("Tanh", _op("Softplus", _X))),
        "abs": _op("Abs", _X),
        "exp": _op("Exp", _X),
        "log": _op("Log", _op("Max", _X, functions.SMALLEST)),
        "erf": _op("Erf", _X),
        "sin": _op("Sin", _X),
        "requantize": _op("Identity", _X),
        "clamp_min": _op("Max", _X, _CONSTANT),
        "clamp_max": _op("Min", _X, _CONSTANT),
        "add_constant": _op("Add", _X, _CONSTANT),
        "mul_constant": _op("Mul", _X, _CONSTANT),
        "step": _op("Where", _op("Greater", _X, _CONSTANT), 1.0, 0.0),
        "softplus_beta": _op("Div", _op("Softplus", _op("Mul", _X, _CONSTANT)), _CONSTANT),
    }
)
"""Functions as ONNX operations, except those whose constant is an attribute."""


def _formula(function: str, constant: float | None) -> _Operation:
    if function in _FORMULAS:
        return _FORMULAS[function]
    assert constant is not None
    if function == "power":
        return _power(constant)
    named: Mapping[str, _Operation] = {
        "leaky_relu": _op("LeakyRelu", _X, attributes={"alpha": constant}),
        "elu_alpha": _op("Elu", _X, attributes={"alpha": constant}),
        "celu": _op("Celu", _X, attributes={"alpha": constant}),
        "threshold": _op("ThresholdedRelu", _X, attributes={"alpha": constant}),
        "hardshrink": _op("Shrink", _X, attributes={"lambd": constant, "bias": 0.0}),
        "softshrink": _op("Shrink", _X, attributes={"lambd": constant, "bias": constant}),
    }
    return named[function]


def _power(exponent: float) -> _Operation:
    """Replaces bases that are too small for the exponent as in :mod:`paretrim.graph.functions`."""
    if exponent.is_integer():
        # For base 0, a negative exponent gives infinity here, which quantization clamps to the end of the grid, as in the graph.
        return _op("Mul", _X, _X) if exponent == 2 else _op("Pow", _X, exponent)
    least = functions.least_base(exponent) if exponent < 0 else 0.0
    base = _op("Max", _X, least)
    return _op("Sqrt", base) if exponent == 0.5 else _op("Pow", base, exponent)


def pointwise(writer: Writer, node: Node) -> None:
    """Write a ``pointwise`` node as its function."""
    settings, real = settings_of(node), writer.real(node.inputs[0])
    constant, count = settings.number("constant"), itertools.count()

    def written(operand: _Operand) -> str:
        if operand == _X:
            return real
        place = f"{node.name}/{next(count)}"
        if isinstance(operand, _Operation):
            return writer.add(operand.name, [written(part) for part in operand.operands], place, dict(operand.attributes))
        number = constant if operand == _CONSTANT else operand
        assert isinstance(number, float)
        return writer.constant(place, number)

    formula = _formula(settings.text("function"), constant)
    writer.finish(node, formula.name, [written(part) for part in formula.operands], dict(formula.attributes))
