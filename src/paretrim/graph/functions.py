"""Scalar functions of one value and the 256-entry tables that replace them in an integer graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from paretrim.errors import UnsupportedOperation
from paretrim.graph.node import Float64Array, InputSpec, ValueType

ByteArray = npt.NDArray[np.uint8]

# NumPy has no erf, and SciPy would be a large dependency for one function; math.erf is correctly rounded to an ulp.
_elementwise_erf = np.frompyfunc(math.erf, 1, 1)

SMALLEST = float(np.finfo(np.float32).tiny)
"""Smaller arguments of ``log`` are replaced by this."""

_LARGEST = 1e38
"""Bound on the slope of a power near 0."""

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Source: Klambauer et al. 2017, arXiv 1706.02515."""


def _erf(x: Float64Array) -> Float64Array:
    return np.asarray(_elementwise_erf(x), dtype=np.float64)


def _sigmoid(x: Float64Array) -> Float64Array:
    """1 / (1 + exp(-x)) without overflow on either side."""
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, decay) / (1.0 + decay))


def _hardsigmoid(x: Float64Array) -> Float64Array:
    return np.asarray(np.clip(x + 3.0, 0.0, 6.0) / 6.0)


def _softplus(x: Float64Array) -> Float64Array:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _elu(x: Float64Array, alpha: float = 1.0) -> Float64Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def least_base(exponent: float) -> float:
    """Least magnitude of a base that ``power`` raises to a negative exponent: below it the slope would overflow float32."""
    return max(SMALLEST, math.pow(_LARGEST, 1.0 / (exponent - 1.0)))


def _power(x: Float64Array, exponent: float) -> Float64Array:
    """``x ** exponent`` where that is a finite number, and its limit where not."""
    if exponent < 0:
        least = least_base(exponent)
        whole = exponent.is_integer()
        return np.where(np.abs(x) < least, least, x) ** exponent if whole else np.maximum(x, least) ** exponent
    return np.asarray((x if exponent.is_integer() else np.maximum(x, 0.0)) ** exponent)


PLAIN: Mapping[str, Callable[[Float64Array], Float64Array]] = MappingProxyType(
    {
        "sigmoid": _sigmoid,
        "silu": lambda x: x * _sigmoid(x),
        "hardsigmoid": _hardsigmoid,
        "hardswish": lambda x: x * _hardsigmoid(x),
        "tanh": np.tanh,
        "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
        "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
        "elu": _elu,
        "selu": lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
        "softplus": _softplus,
        "logsigmoid": lambda x: -_softplus(-x),
        "mish": lambda x: x * np.tanh(_softplus(x)),
        "abs": np.abs,
        "exp": np.exp,
        "log": lambda x: np.log(np.maximum(x, SMALLEST)),
        "erf": _erf,
        "sin": np.sin,
        "relu6": lambda x: np.clip(x, 0.0, 6.0),
        "requantize": lambda x: x,
    }
)
"""Functions without a constant."""

WITH_CONSTANT: Mapping[str, Callable[[Float64Array, float], Float64Array]] = MappingProxyType(
    {
        "leaky_relu": lambda x, slope: np.where(x >= 0, x, slope * x),
        "clamp_min": np.maximum,
        "clamp_max": np.minimum,
        "add_constant": lambda x, term: x + term,
        "mul_constant": lambda x, factor: x * factor,
        "power": _power,
        "elu_alpha": _elu,
        "celu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha)),
        "softplus_beta": lambda x, beta: _softplus(beta * x) / beta,
        "threshold": lambda x, least: np.where(x > least, x, 0.0),
        "step": lambda x, bound: np.where(x > bound, 1.0, 0.0),
        "hardshrink": lambda x, reach: np.where(np.abs(x) > reach, x, 0.0),
        "softshrink": lambda x, reach: np.sign(x) * np.maximum(np.abs(x) - reach, 0.0),
    }
)
"""Functions with a constant."""


EXACT = frozenset(
    (
        "abs",
        "relu6",
        "hardsigmoid",
        "hardswish",
        "requantize",
        "leaky_relu",
        "clamp_min",
        "clamp_max",
        "add_constant",
        "mul_constant",
    )
) | {"threshold", "step", "hardshrink", "softshrink"}
"""Functions of plain arithmetic, alike to the last bit on every machine; the others depend on its mathematics library."""

HOMOGENEOUS = frozenset({"leaky_relu", "abs", "mul_constant", "requantize"})
"""Functions that pass on a factor above 0: that of a multiple is the same multiple."""

OF_OWN_SIZE = frozenset(
    (
        "sigmoid",
        "hardsigmoid",
        "tanh",
        "exp",
        "log",
        "erf",
        "sin",
        "relu6",
        "softplus",
        "softplus_beta",
        "logsigmoid",
        "power",
        "step",
    )
)
"""Functions whose results have a size of their own, however large or small their arguments are."""


def check_function(function: str, constant: float | None) -> None:
    """Check that a ``pointwise`` function exists and has its constant.

    Raises:
        UnsupportedOperation: it does not, or has a constant it does not take.
    """
    if function in WITH_CONSTANT:
        if constant is None:
            raise UnsupportedOperation(f"pointwise function '{function}' lacks its attribute 'constant'; add it")
    elif function not in PLAIN:
        known = ", ".join(sorted({*PLAIN, *WITH_CONSTANT}))
        raise UnsupportedOperation(f"pointwise function '{function}' is unknown; known are {known}")
    elif constant is not None:
        raise UnsupportedOperation(f"pointwise function '{function}' takes no constant and was given {constant}; leave it out")


def evaluate(function: str, x: npt.NDArray[np.floating], constant: float | None = None) -> Float64Array:
    """The function of every element, in float64.

    >>> evaluate("hardswish", np.array([-4.0, 0.0, 3.0]))
    array([-0.,  0.,  3.])

    Raises:
        UnsupportedOperation: the function is unknown or its constant is missing.
    """
    check_function(function, constant)
    wide = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore"):  # infinity ends up at the end of the grid
        if function in PLAIN:
            return np.asarray(PLAIN[function](wide), dtype=np.float64)
        assert constant is not None
        return np.asarray(WITH_CONSTANT[function](wide, constant), dtype=np.float64)


def onto_grid(real: Float64Array, output: ValueType) -> ByteArray:
    """Round float64 values onto the uint8 grid of ``output``: ``clip(rint(real / scale) + zero_point, 0, 255)``."""
    return np.asarray(np.clip(np.rint(real / output.scale) + output.zero_point, 0, 255), dtype=np.uint8)


def pointwise_table(function: str, constant: float | None, source: ValueType, output: ValueType) -> ByteArray:
    """``table[q]``, uint8 [256]: the function on the grid of ``source``, rounded onto the grid of ``output``."""
    return onto_grid(evaluate(function, source.scale * (np.arange(256.0) - source.zero_point), constant), output)


def pixel_values(spec: InputSpec) -> Float64Array:
    """Normalised value of every pixel by channel, float64 [C, 256]: ``(p / 255 - mean) / std``."""
    mean, std = (np.asarray(values, dtype=np.float64)[:, None] for values in (spec.mean, spec.std))
    return np.asarray((np.arange(256.0) / 255.0 - mean) / std)


def pixel_table(spec: InputSpec, output: ValueType) -> ByteArray:
    """``table[c, p]``, uint8 [C, 256]: pixels normalised and rounded onto the grid of ``output``."""
    return onto_grid(pixel_values(spec), output)


def pixel_affine(spec: InputSpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """``factor`` and ``term``, float32 [C, 1, 1], with which ``pixel * factor + term`` is the normalised pixel."""
    mean, std = (np.asarray(values, dtype=np.float64)[:, None, None] for values in (spec.mean, spec.std))
    return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)
