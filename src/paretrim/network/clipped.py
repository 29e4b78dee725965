"""Activations with a trained upper bound.

Source: parameterized clipping activation, Choi et al. 2018 (PACT, arXiv 1805.06085) section 3, equations 1 to 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_SCALE, Facts, Grid, Scales, bits_fact, bits_in, top_of
from paretrim.network.one_pass import Gradients, fake_quantize, fake_quantize_backward, moved
from paretrim.network.rounding import straight_through

METHODS = (
    Method(
        name="clipped",
        kind="activation grid",
        source="Choi et al. 2018 (PACT), arXiv 1805.06085, section 3",
        what="uint8 with a trained upper end",
        formula="x' = s round(clip(x, 0, alpha) / s), s = alpha / (2^bits - 1); dx'/dalpha = 1 where x >= alpha, else 0",
        recipe="pact",
        settings=("quantize.activations",),
    ),
)


class ClippedActivations(nn.Module):
    """The uint8 grid of one activation tensor, whose reach (PACT's alpha) trains: a clipped value moves it, others do not.

    Where values may be negative, both ends move with the reach and the zero point stays. It is trained for any ``scales``.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.reach = nn.Parameter(torch.tensor([grid.scale * grid.top], dtype=torch.float32))
        """Distance between the ends of the grid."""
        self.zero_point, self.bits = grid.zero_point, grid.bits

    @classmethod
    def fitted(cls, grid: Grid, _scales: Scales) -> Self:
        """One that begins at a calibrated grid."""
        return cls(grid)

    @classmethod
    def restored(cls, facts: Mapping[str, object]) -> Self:
        """One made of :meth:`facts`; the reach comes with its ``state_dict``."""
        return cls(Grid(1.0, int(str(facts["zero_point"])), bits_in(facts)))

    @property
    def trained_scale(self) -> nn.Parameter:
        """Its reach, [1]."""
        return self.reach

    def facts(self) -> Facts:
        """Its name, zero point and bits."""
        return {"grid": "clipped", "zero_point": self.zero_point, **bits_fact(self.bits)}

    def _scale(self) -> Tensor:
        return (self.reach.abs() / top_of(self.bits)).clamp_min(SMALLEST_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """The values of ``x`` [N, ...] moved to the grid, in the dtype of ``x``."""
        return moved(_ClippedRounding(self.zero_point, top_of(self.bits)), x, self._scale())

    def grid(self) -> Grid:
        """The grid as plain numbers."""
        return Grid(float(self._scale().detach()), self.zero_point, self.bits)


@dataclass(frozen=True)
class _ClippedRounding:
    """Of one step [1], whose gradient is that of the ends; at an end itself, half passes to ``x`` and half to the end."""

    zero_point: int
    top: int

    def by_torch(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """By torch operations."""
        (scale,) = parameters
        low, high = -self.zero_point * scale, (self.top - self.zero_point) * scale
        inside = torch.minimum(torch.maximum(x.float(), low), high)
        levels = (inside.detach() / scale.detach()).round_().clamp_(*self._ends())
        return straight_through(inside, levels * scale.detach()).to(x.dtype)

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """In one pass."""
        return fake_quantize("ends", x, parameters[0], self._ends())

    def backward(self, gradient: Tensor, x: Tensor, *parameters: Tensor) -> Gradients:
        """In one pass."""
        low, high = self._ends()
        passed, sums = fake_quantize_backward("ends", gradient, x, parameters[0], (low, high))
        return passed, (low * sums[0] + high * sums[1]).float()

    def _ends(self) -> tuple[int, int]:
        return -self.zero_point, self.top - self.zero_point
