"""Operations of the graph on single numbers, computed by hand, and value types for their tests."""

import math

import numpy as np

from paretrim.graph.types import InputSpec, ValueType

SPEC = InputSpec((1, 1, 1))
f32 = np.float32


def half_even(x):
    """Round half to even, one number, by hand."""
    below = math.floor(x)
    if x - below != 0.5:
        return below if x - below < 0.5 else below + 1
    return below if below % 2 == 0 else below + 1


def slow_requant(accumulator, multiplier, zero_point, low=0, high=255):
    return min(max(half_even(float(f32(f32(accumulator) * multiplier))) + zero_point, low), high)


def byte_type(shape, scale, zero_point):
    return ValueType(shape, "uint8", float(f32(scale)), zero_point)
