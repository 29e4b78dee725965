"""Activations with a trained step and a trained offset.

Source: Bhalgat et al. 2020 (LSQ+, arXiv 2004.09576) section 3.1, equations 3 to 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_SCALE, Facts, Grid, PacedValue, Scales, bits_fact, bits_in, top_of
from paretrim.network.one_pass import Gradients, fake_quantize, fake_quantize_backward, moved
from paretrim.network.rounding import straight_through

METHODS = (
    Method(
        name="offset",
        kind="activation grid",
        source="Bhalgat et al. 2020 (LSQ+), arXiv 2004.09576, section 3.1",
        what="uint8 with trained step and offset",
        formula="x' = s round(clip((x - b) / s, 0, 2^bits - 1)) + b; s and b train",
        recipe="lsq-plus",
        settings=("quantize.activations",),
    ),
)


class OffsetActivations(nn.Module):
    """The uint8 grid of one activation tensor: ``round(clip((x - offset) / s, 0, top)) s + offset``, both trained.

    The gradients are those of this formula, scaled as the step's in LSQ. What is computed has the offset rounded to a whole
    number of steps, the zero point: 0 stays exact. Where nothing is negative the offset is 0 and does not train. Both train
    whatever ``scales`` says.
    """

    offset: Tensor

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([grid.scale], dtype=torch.float32))
        offset = torch.tensor([-grid.zero_point * grid.scale], dtype=torch.float32)
        self.shifted, self.bits = grid.zero_point > 0, grid.bits
        if self.shifted:
            self.offset = nn.Parameter(offset)
        else:
            self.register_buffer("offset", offset.abs())

    @classmethod
    def fitted(cls, grid: Grid, _scales: Scales) -> Self:
        """One that begins at a calibrated grid."""
        return cls(grid)

    @classmethod
    def restored(cls, facts: Mapping[str, object]) -> Self:
        """One made of :meth:`facts`; step and offset come with its ``state_dict``."""
        return cls(Grid(1.0, int(bool(facts["shifted"])), bits_in(facts)))

    @property
    def trained_scale(self) -> nn.Parameter:
        """Its step, [1]."""
        return self.scale

    @property
    def paced(self) -> tuple[PacedValue, ...]:
        """The offset, if it trains, by the reach of the grid; its step is the ``trained_scale``."""
        return (PacedValue(self.offset, lambda: self.scale.abs() * top_of(self.bits)),) if self.shifted else ()

    def facts(self) -> Facts:
        """Its name, whether it has an offset, and its bits."""
        return {"grid": "offset", "shifted": self.shifted, **bits_fact(self.bits)}

    def forward(self, x: Tensor) -> Tensor:
        """The values of ``x`` [N, ...] moved to the grid, in the dtype of ``x``."""
        scale = self.scale.abs().clamp_min(SMALLEST_SCALE)
        share = 1.0 / float(math.prod(x.shape[1:]) * top_of(self.bits)) ** 0.5
        return moved(_OffsetRounding(share, top_of(self.bits)), x, scale, self.offset)

    def grid(self) -> Grid:
        """The grid as plain numbers."""
        scale = self.scale.detach().abs().clamp_min(SMALLEST_SCALE)
        return Grid(float(scale), int(_nearest_zero_point(scale, self.offset, top_of(self.bits))), self.bits)


@dataclass(frozen=True)
class _OffsetRounding:
    """Of one step [1] and one offset [1], whose gradients are multiplied by ``share``."""

    share: float
    top: int

    def by_torch(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """By torch operations."""
        scale, offset = parameters
        values, step, offset = x.float(), _slower(scale, self.share), _slower(offset, self.share)
        places = ((values - offset) / step).clamp(0, self.top)
        trained = straight_through(places, places.detach().round()) * step + offset
        with torch.no_grad():
            zero_point = _nearest_zero_point(scale, offset, self.top)
            levels = (values / scale).round_().add_(zero_point).clamp_(0, self.top).sub_(zero_point)
            chosen = levels.mul_(scale)
        return straight_through(trained, chosen).to(x.dtype)

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """In one pass."""
        scale, offset = parameters
        zero_point = float(_nearest_zero_point(scale, offset, self.top))
        return fake_quantize("offset", x, scale, (-zero_point, self.top - zero_point))

    def backward(self, gradient: Tensor, x: Tensor, *parameters: Tensor) -> Gradients:
        """In one pass."""
        scale, offset = parameters
        passed, sums = fake_quantize_backward("offset", gradient, x, scale, (0, self.top), offset=float(offset.detach()))
        along_scale, along_offset = (sums * self.share).float()
        return passed, along_scale, along_offset


def _nearest_zero_point(scale: Tensor, offset: Tensor, top: int) -> Tensor:
    return (-offset.detach() / scale.detach()).round().clamp(0, top)


def _slower(parameter: Tensor, share: float) -> Tensor:
    """The same value with so small a share of its gradient."""
    return parameter.detach() + (parameter - parameter.detach()) * share
