"""Integer weights that are small integers times a multiple for each group of input channels, found in the integers alone.

The ``.trim`` file stores such weights by their small integers and multiples (``SPEC.md``, "Integers in groups").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretrim.graph.types import Array

SIZES = (128, 64, 32, 16)
"""Input channels of a group, the largest first."""

MOST = 31
"""Largest magnitude of a small integer."""


@dataclass(frozen=True, eq=False)
class WeightGroups:
    """A weight int8 [Co, Ci, ...] as ``small`` of the same shape times ``multiples`` [Co, Ci].

    Those of ``size`` consecutive channels are alike. ``bits`` is the width that holds the small integers.
    """

    size: int
    small: Array
    multiples: Array

    @property
    def bits(self) -> int:
        """Bits of a small integer with its sign."""
        return int(np.abs(self.small).max(initial=0)).bit_length() + 1


def groups_of(weight: Array) -> WeightGroups | None:
    """The largest groups that have small integers; None if there are none, or if every multiple is 1."""
    if weight.dtype != np.int8 or weight.size == 0:
        return None
    outputs, channels = weight.shape[:2]
    rows = weight.reshape(outputs, channels, -1).astype(np.int16)
    divisors = np.gcd.reduce(rows, axis=2)  # by channel
    largest = np.abs(rows).max(axis=2)
    for size in SIZES:
        starts = np.arange(0, channels, size)
        of_group = np.gcd.reduceat(divisors, starts, axis=1)
        of_group[of_group == 0], of_group[of_group == 128] = 1, 64  # zeros; -128 and zeros, whose multiple has to fit int8
        if (np.maximum.reduceat(largest, starts, axis=1) > MOST * of_group).any():
            continue
        if (of_group == 1).all():
            return None
        multiples = of_group.repeat(size, axis=1)[:, :channels]
        small = rows // multiples[:, :, None]
        return WeightGroups(size, small.reshape(weight.shape).astype(np.int8), multiples)
    return None
