"""Weights that are 0 or powers of two, taken over from the largest to the smallest while the others still train.

Source: Zhou et al. 2017, "Incremental network quantization" (INQ, arXiv 1702.03044), sections 2.1 to 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_SCALE, Facts, IncrementalGrid, PricedGrid, WeightSettings
from paretrim.network.rounding import straight_through
from paretrim.network.tensors import typed

FREE = -128
"""Marks a weight that has no power of two yet."""

MOST_POWERS = 7
"""Powers from 1 to 64 fit int8 with both signs."""

METHODS = (
    Method(
        name="powers",
        kind="weight grid",
        source="Zhou et al. 2017 (INQ), arXiv 1702.03044, sections 2.1 to 2.3",
        what="0 and powers of two, fixed for the largest weights first while the others keep training",
        formula="w' = sign(w) 2^n where (a + 2^n)/2 <= |w| < 3/2 2^n, a the next smaller level; n <= floor(log2(4/3 max|w|))",
        recipe="inq",
        settings=(
            "quantize.portions",
            "quantize.formats",
        ),
    ),
)


class PowersOfTwo(nn.Module):
    """0 and plus or minus ``2^(bits - 2)`` neighbouring powers of two for a layer, the largest ``2^floor(log2(4/3 max|w|))``.

    A weight takes the power ``c`` if it is from half-way to the smaller neighbour (0 below the smallest) up to ``3/2 c``. One of
    the ``bits`` is that of 0, as in the paper. Of the eight powers of 5 bits, int8 holds the seven largest; the smallest is 0.
    Weights do not move while the network trains, except those that :meth:`fix_largest_` has left free.
    """

    widths: ClassVar[range] = range(2, 6)
    trained_scale: nn.Parameter | None = None
    priced: PricedGrid | None = None
    smallest: Tensor
    """The smallest power of two; []."""
    fixed: Tensor | None
    """The integer of every weight, :data:`FREE` where it still trains, int8 [Co, ...]; None once all have theirs."""

    def __init__(self, smallest: Tensor, *, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.powers = min(2 ** (bits - 2), MOST_POWERS)
        self.register_buffer("smallest", smallest)
        self.register_buffer("fixed", None)

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, ...], none of which is free."""
        largest = weight.detach().abs().amax()
        usual = float(weight[0].numel()) ** -0.5
        _, exponent = torch.frexp(torch.where(largest > 0, largest, usual) * 4 / 3)
        made = cls(torch.ones_like(largest), bits=settings.bits)
        made.smallest = torch.ldexp(made.smallest, exponent - made.powers).clamp_min(SMALLEST_SCALE)
        return made

    @classmethod
    def restored(cls, facts: Mapping[str, object], weight: Tensor, tensors: Mapping[str, Tensor]) -> Self:
        """A grid with these :meth:`facts`; ``tensors`` say whether some weights are free.

        Raises:
            KeyError, ValueError: facts and tensors are not those of such a grid.
        """
        made = cls(torch.ones((), device=weight.device), bits=int(str(facts["bits"])))
        made.fixed = typed(tensors, "fixed", torch.int8)
        if made.fixed is not None and made.fixed.shape != weight.shape:
            raise ValueError(f"'fixed' has shape {tuple(made.fixed.shape)} and must have {tuple(weight.shape)}")
        return made

    @property
    def incremental(self) -> IncrementalGrid | None:
        """This grid."""
        return self

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...], moved to the grid where it is not free. In evaluation mode the gradient passes to all of it."""
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                chosen = self._chosen(weight) * self.smallest
            if self.fixed is not None:
                chosen = torch.where(self.fixed == FREE, weight, chosen)
            return chosen if self.training else straight_through(weight, chosen.detach())

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8, of free weights those that they would have now, and their scales [Co], all the same."""
        with torch.no_grad():
            return self._chosen(weight).to(torch.int8), self.smallest.expand(len(weight)).clone()

    def fix_largest_(self, weight: Tensor, share: float) -> None:
        """Give the largest weights their powers for good, until so large a share of all that are not 0 has them; 1 for all.

        At 1 the weight itself moves to the grid, and nothing is left to remember by weight.
        """
        with torch.no_grad():
            fixed = weight.new_full(weight.shape, FREE, dtype=torch.int8) if self.fixed is None else self.fixed
            free = ((fixed == FREE) & (weight != 0)).reshape(-1)
            alive = int((weight != 0).sum())
            more = max(round(share * alive) - (alive - int(free.sum())), 0)
            sizes = torch.where(free, weight.abs().reshape(-1), -1.0)
            largest = sizes.argsort(descending=True, stable=True)[:more]
            flat = fixed.reshape(-1).clone()
            flat[largest] = self._levels(weight).reshape(-1)[largest].to(torch.int8)
            self.fixed = flat.reshape(weight.shape)
            if share >= 1:
                weight.copy_(self._chosen(weight) * self.smallest)
                self.fixed = None

    def rows(self, outputs: Tensor, inputs: Tensor) -> Self:
        """The grid of some output channels, on some input channels."""
        other = type(self)(self.smallest, bits=self.bits)
        if self.fixed is not None:
            other.fixed = self.fixed.index_select(0, outputs).index_select(1, inputs)
        return other

    def facts(self) -> Facts:
        """Its name and bits."""
        return {"grid": "powers", "bits": self.bits}

    def _levels(self, weight: Tensor) -> Tensor:
        """The nearest integer of the grid by the rule of the paper, float32 [Co, ...]."""
        table = torch.tensor([0.0, *(2.0**place for place in range(self.powers))], device=weight.device)
        ends = 0.75 * table[1:]
        ends[0] = 0.5
        steps = (weight.detach().abs() / self.smallest).contiguous()
        return table[torch.bucketize(steps, ends, right=True)] * weight.detach().sign()

    def _chosen(self, weight: Tensor) -> Tensor:
        """The integer of every weight, float32: the one it has for good, else the nearest. What is 0 stays 0."""
        levels = self._levels(weight)
        if self.fixed is None:
            return levels
        return torch.where((self.fixed == FREE) | (weight == 0), levels, self.fixed.float())
