"""Element types of values. To add one: a row here, and its meaning in the operations that compute on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ElementType:
    """``bits`` of one element in memory; ``on_grid`` says whether it is an integer that stands for a number on an affine grid."""

    bits: int
    on_grid: bool


ELEMENT_TYPES: Mapping[str, ElementType] = {"float32": ElementType(32, on_grid=False), "uint8": ElementType(8, on_grid=True)}
"""Element types by name."""

KNOWN = " or ".join(ELEMENT_TYPES)
"""For errors."""
