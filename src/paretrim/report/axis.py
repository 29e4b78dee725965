"""Axes of pictures that are made without a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``; ``step`` lies between two ticks."""

    low: float
    high: float
    start: float
    end: float
    step: float

    def place(self, value: float) -> float:
        """Pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> tuple[float, ...]:
        """Multiples of the step within the axis."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return tuple(i * self.step for i in range(first, last + 1))

    def digits(self) -> int:
        """Digits after the point that tell its ticks apart in percent."""
        return max(0, -math.floor(math.log10(100 * self.step) + 1e-9))


def spanning(fractions: Sequence[float], *, start: float, end: float) -> Axis:
    """From the least to the greatest of some fractions, with a margin, on ticks a person would choose."""
    margin = max(0.03 * (max(fractions) - min(fractions)), 0.0005)
    low, high = min(fractions) - margin, max(fractions) + margin
    return Axis(low, high, start, end, round_step((high - low) / 7))


def round_step(rough: float) -> float:
    """The first of 1, 2 and 5 times powers of ten that is not below ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
