"""Range and histogram of a stream of values, in one pass.

Bins are a power of two wide and begin at multiples of their width. When a value is out of range, pairs of bins are merged, so the
counts are the same as if bins had had their final width from the start, in any order of values.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim.network.tensors import in_memory_order
from paretrim.runtime.compiled import native

_BITS = 12
"""The value of largest magnitude is between bin 2**11 and bin 2**12, counted from 0."""

_SIDE = 2**_BITS

_LARGEST_EXPONENT = 126
"""2**126 and everything between it and its reciprocal are normal float32 numbers."""


class Histogram:
    """Counts of the values seen so far, with their exact range ``low`` <= 0 <= ``high``."""

    def __init__(self) -> None:
        self.low = 0.0
        self.high = 0.0
        self._exponent = _LARGEST_EXPONENT
        self._counts: npt.NDArray[np.int64] = np.zeros(2 * _SIDE, np.int64)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2.0**-self._exponent

    @property
    def finite(self) -> bool:
        """Whether all values seen were finite; after one that is not, counting stops."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def bins(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Lower edges of the bins from the lowest to the highest value, in ascending order, and their counts."""
        first, last = (math.floor(bound / self.width) for bound in (self.low, self.high))
        edges: npt.NDArray[np.float64] = np.arange(first, last + 1, dtype=np.float64) * self.width
        return edges, self._counts[first + _SIDE : last + 1 + _SIDE]

    def add_(self, values: Tensor) -> None:
        """Count the values of a tensor of any shape, in float32: on a CPU natively, elsewhere by torch, with the same counts."""
        with torch.inference_mode():
            flat = in_memory_order(values.detach()).float()
            if flat.device.type == "cpu":
                row = flat.numpy()
                self.low, self.high, self._exponent = native.count_values(row, self._counts, self.low, self.high, self._exponent)
            elif len(flat):
                self.add_by_torch_(flat)

    def add_by_torch_(self, values: Tensor) -> None:
        """Count a row of float32 on its own device."""
        low, high = torch.stack(torch.aminmax(values)).tolist()
        self.low, self.high = float(np.minimum(self.low, low)), float(np.maximum(self.high, high))  # these propagate NaN
        if not self.finite:
            return
        self._widen_()
        scaled = values * 2.0**self._exponent
        first = _SIDE  # the position of bin 0; without negative values the bins below are not needed
        if low < 0:
            first = 0
            scaled.floor_().add_(_SIDE)
        counts = torch.bincount(scaled.to(torch.int16)).cpu().numpy()
        self._counts[first : first + len(counts)] += counts

    def _widen_(self) -> None:
        """Merge pairs of bins until they cover the range."""
        reach = max(-self.low, self.high)
        if reach == 0:
            return
        wanted = _BITS - math.frexp(reach)[1]
        while self._exponent > wanted:
            self._exponent -= 1
            if self._counts.any():
                self._counts = np.pad(self._counts.reshape(-1, 2).sum(1), _SIDE // 2)
