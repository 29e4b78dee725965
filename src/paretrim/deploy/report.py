"""What a runtime says about its own execution."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IntegerReport:
    """How many convolutions a runtime executes, how many of them on 8-bit integers, and the names of the others.

    ``others`` are further operations that touch floats, as ``kind name``, without the conversions between the two: what is
    left to look at when a network is slower than expected.
    """

    convolutions: int
    in_int8: int
    not_int8: tuple[str, ...]
    others: tuple[str, ...] = ()
