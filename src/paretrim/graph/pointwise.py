"""The scalar functions of ``pointwise`` nodes in float64: tables of the integer graph are made from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import Node

Values = npt.NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Values) -> Values:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


FUNCTIONS: Mapping[str, Callable[[Values, float], Values]] = {
    "sigmoid": lambda x, c: _sigmoid(x),
    "silu": lambda x, c: x * _sigmoid(x),
    "hardsigmoid": lambda x, c: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x, c: x * np.clip(x / 6 + 0.5, 0, 1),
    "tanh": lambda x, c: np.tanh(x),
    "gelu": lambda x, c: 0.5 * x * (1.0 + _erf(x / math.sqrt(2))),
    "elu": lambda x, c: np.where(x > 0, x, c * np.expm1(np.minimum(x, 0))),
    "leaky_relu": lambda x, c: np.where(x > 0, x, c * x),
    "softplus": lambda x, c: np.logaddexp(0, x),
    "add_constant": lambda x, c: x + c,
    "mul_constant": lambda x, c: x * c,
}
"""Function of (value, constant) by name."""


def scalar_function(node: Node) -> Callable[[Values], Values]:
    """The function of a ``pointwise`` node on float64 values.

    Raises:
        UnsupportedOperation: its name is not known.
    """
    name = str(node.attributes["function"])
    if name not in FUNCTIONS:
        raise UnsupportedOperation(f"layer '{node.layer}': function '{name}' is not known; known are {', '.join(FUNCTIONS)}")
    constant = float(node.attributes.get("constant", 0.0))  # type: ignore[arg-type]
    return lambda x: FUNCTIONS[name](x, constant)
