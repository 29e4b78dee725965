"""Weights bent by tanh before they are rounded.

Source: Zhou et al. 2016 (DoReFa-Net, arXiv 1606.06160) section 2.3, equation 9, channel by channel instead of by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_ROW, SMALLEST_SCALE, Facts, PlainGrid, WeightSettings
from paretrim.network.rounding import straight_through

METHODS = (
    Method(
        name="dorefa",
        kind="weight grid",
        source="Zhou et al. 2016 (DoReFa-Net), arXiv 1606.06160, section 2.3",
        what="weights transformed by tanh, then rounded, 2 to 7 bits",
        formula="w' = reach (2 quantize_k(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1), k the bits",
        recipe="dorefa",
        settings=("quantize.formats",),
    ),
)


class DoReFaWeights(nn.Module, PlainGrid):
    """``reach * (2 quantize_k(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1)``, k the bits; the maximum is that of an output channel.

    The levels are the odd integers from ``-(2^k - 1)`` to ``2^k - 1``: only a pruned weight is 0, and eight bits would not fit
    int8. The gradient is straight through the rounding, and exact through tanh and the maximum. In the paper the reach is 1 and
    the network learns to fit; here it is trained already, so the reach is the largest weight that the channel began with, and
    tanh counts weights in the power of two above the largest of the layer.
    """

    widths: ClassVar[range] = range(2, 8)
    reach: Tensor
    """The largest weight that every output channel began with; [Co]."""
    unit: Tensor
    """The power of two that all weights were below at first; []."""

    def __init__(self, reach: Tensor, unit: Tensor, *, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.top = 2**bits - 1
        self.register_buffer("reach", reach)
        self.register_buffer("unit", unit)

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, ...]."""
        rows = weight.reshape(len(weight), -1).abs()
        largest = rows.amax()
        # In a layer of zeros any reach will do until training moves them; this one fits weights of the usual initial size.
        least = torch.where(largest > 0, largest * SMALLEST_ROW, float(rows.shape[1]) ** -0.5)
        top = 2**settings.bits - 1
        _, exponent = torch.frexp(largest)
        return cls(
            rows.amax(1).maximum(least).clamp_min(SMALLEST_SCALE * top),
            torch.ldexp(torch.ones_like(largest), exponent),
            bits=settings.bits,
        )

    @classmethod
    def restored(cls, facts: Mapping[str, object], weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """A grid with these :meth:`facts`; its tensors come with its ``state_dict``.

        Raises:
            KeyError, ValueError: the facts do not say its bits.
        """
        return cls(torch.ones(len(weight)), torch.ones(()), bits=int(str(facts["bits"])))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid; zeros stay zero."""
        with torch.autocast(weight.device.type, enabled=False):
            columns = [-1, *[1] * (weight.dim() - 1)]
            shares = self._shares(weight)
            with torch.no_grad():
                chosen = self._levels(shares) * self._scale().reshape(columns)
            return straight_through(shares * self.reach.reshape(columns), chosen)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co]."""
        with torch.no_grad():
            return self._levels(self._shares(weight)).to(torch.int8), self._scale()

    def rows(self, outputs: Tensor, _inputs: Tensor) -> Self:
        """The grid of some output channels."""
        return type(self)(self.reach[outputs], self.unit, bits=self.bits)

    def facts(self) -> Facts:
        """Its name and bits."""
        return {"grid": "dorefa", "bits": self.bits}

    def _scale(self) -> Tensor:
        return cast(Tensor, self.reach / self.top)

    def _shares(self, weight: Tensor) -> Tensor:
        """The bent weight as shares in [-1, 1] of the largest of its channel."""
        bent = torch.tanh(weight / self.unit)
        peak = bent.abs().reshape(len(bent), -1).amax(1).reshape(-1, *[1] * (weight.dim() - 1))
        return bent / torch.where(peak > 0, peak, 1.0)

    def _levels(self, shares: Tensor) -> Tensor:
        """The nearest odd integer, away from 0 where there are two; float32. What is 0 stays 0."""
        sizes = shares.detach().abs() * self.top
        return cast(Tensor, (2 * (sizes / 2).floor() + 1).clamp_max(self.top) * shares.detach().sign())
