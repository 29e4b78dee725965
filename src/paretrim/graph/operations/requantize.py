"""Arithmetic that the integer meanings share.

Products and ratios of scales are formed in float32, in the order in which ``docs/integer-graph.md`` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from paretrim.graph.node import Float64Array, FloatArray, ValueType
from paretrim.graph.operations.attributes import Settings
from paretrim.graph.operations.operation import NodeCall
from paretrim.graph.windows import Values


def per_channel(x: Values) -> tuple[int, ...]:
    """The shape in which a vector of channels is broadcast over ``x`` [N, C, ...]."""
    return (-1,) + (1,) * (x.ndim - 2)


def clamped(steps: Values, zero_point: int, low: int, high: int) -> Values:
    """``min(max(steps + zero_point, low), high)`` as uint8, of whole numbers in float32; ``steps`` is overwritten."""
    steps += np.float32(zero_point)
    return np.clip(steps, np.float32(low), np.float32(high), out=steps).astype(np.uint8)


def requantize(accumulator: FloatArray, multiplier: Values | np.float32, call: NodeCall) -> Values:
    """``requant`` of ``docs/integer-graph.md``; ``accumulator`` holds whole numbers and is overwritten."""
    np.multiply(accumulator, multiplier, out=accumulator)
    np.rint(accumulator, out=accumulator)
    return clamped(accumulator, call.node.type.zero_point, call.settings.integer("lo"), call.settings.integer("hi"))


def centered(quantized: Values, source: ValueType, dtype: npt.DTypeLike = np.float32) -> Values:
    """``q - z``, exact in every type used."""
    return np.subtract(quantized, source.zero_point, dtype=dtype)


def ratio(source: ValueType, output: ValueType) -> np.float32:
    """``f32(s / s_o)``."""
    return np.float32(np.float32(source.scale) / np.float32(output.scale))


def levels(kind: ValueType) -> Float64Array:
    """The 256 numbers of a uint8 grid."""
    return kind.scale * (np.arange(256.0) - kind.zero_point)


def product_of_steps(_: Settings, kinds: Sequence[ValueType]) -> float:
    """What one step by one step is in a product of two grids."""
    return kinds[0].scale * kinds[1].scale
