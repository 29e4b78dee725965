"""Plain scales and biases: a file stores them in few bits, and a uint8 result is the same as with finer ones.

A float32 scale before a uint8 result has 15 bits, and a bias in accumulator steps about 5, that affect no result and cannot be
compressed. :mod:`paretrim.network.settle` makes a trained network plain; freezing keeps what it finds.
"""

from __future__ import annotations

import numpy as np

from paretrim.graph.types import Float64Array

SCALE_BITS = 6
"""Significant bits of a plain scale (docs/decisions/0016)."""

BIAS_BITS = 3
"""A plain bias is a multiple of the largest power of two accumulator steps that is below 2**-3 output steps."""


def plain_scales(scales: Float64Array) -> Float64Array:
    """The nearest plain scales."""
    mantissa, exponent = np.frexp(scales)
    rounded: Float64Array = np.ldexp(np.rint(np.ldexp(mantissa, SCALE_BITS)), exponent - SCALE_BITS)
    return rounded


def neighbouring_plain_scales(scales: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The largest plain scale not above each, and the smallest not below it."""
    mantissa, exponent = np.frexp(scales)
    steps, unit = np.ldexp(mantissa, SCALE_BITS), exponent - SCALE_BITS
    return np.ldexp(np.floor(steps), unit), np.ldexp(np.ceil(steps), unit)


def plain_biases(biases: Float64Array, scales: Float64Array, *, source: float, output: float) -> Float64Array:
    """The nearest plain biases [Co], in accumulator steps, of a layer with these scales [Co] between two grids.

    Args:
        biases: in real units.
        scales: of the weights, as the graph holds them (float32 values).
        source: scale of the input's grid.
        output: scale of the result's grid.
    """
    # In float32, as readers of a file do: SPEC.md, "Biases".
    exponents = np.frexp(scales.astype(np.float32) * np.float32(source) / np.float32(output))[1]
    units = np.exp2(np.clip(-BIAS_BITS - exponents, 0, 31))
    plain: Float64Array = np.rint(biases / (source * scales) / units) * units
    return plain


def constant_scale(*, source: float, output: float) -> float:
    """The plain scale of a channel without weights: its bias alone counts, and one accumulator step is a plain bias."""
    return float(plain_scales(np.array(output / 2 ** (BIAS_BITS + 1) / source)))
