"""Ternary weights whose two values train.

Source: Zhu et al. 2017, "Trained ternary quantization" (TTQ, arXiv 1612.01064), section 3, equations 6 to 9.

The two values are of the layer, as published, in fixed units of each output channel. So all channels have the same three
integers, and weights take less than their 2 bits in a file. Two values for every channel took up to twice as many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_ROW, SMALLEST_SCALE, Facts, PacedValue, PlainGrid, WeightSettings
from paretrim.network.tensors import AutogradContext

THRESHOLD = 0.05
"""Weights up to this share of the largest of their channel become 0."""

TOP = 127
"""The integer of the larger of the two values."""

METHODS = (
    Method(
        name="trained-ternary",
        kind="weight grid",
        source="Zhu et al. 2017 (TTQ), arXiv 1612.01064, section 3",
        what="0 and two trained values for each layer, one of each sign, in units of each output channel",
        formula="w' = p u where w > 0.05 max|w|, -n u where w < -0.05 max|w|, else 0; p and n train, u is a channel's unit",
        recipe="ttq",
        settings=("quantize.formats",),
    ),
)


class TrainedTernaryWeights(nn.Module, PlainGrid):
    """``positive * units`` where ``w > t max|w|``, ``-negative * units`` where ``w < -t max|w|``, else 0.

    t is 0.05, and the maximum is a channel's. ``units`` [Co] are the mean sizes of the channels' members, in units of the
    largest. The two values [1] train, from the means of their members in these units. Their gradients are the sums over members,
    as published, over the square root of their number, so that one learning rate serves weights and values. The gradient of a
    weight is multiplied by the value it has, in units of the channel's largest weight, and passes as it is where that is 0. The
    larger value is the integer 127, the other one is rounded to that grid.
    """

    widths: ClassVar[range] = range(2, 3)
    bits: int = 2
    units: Tensor

    def __init__(self, units: Tensor, positive: Tensor, negative: Tensor) -> None:
        super().__init__()
        self.register_buffer("units", units)
        self.positive, self.negative = nn.Parameter(positive), nn.Parameter(negative)

    @classmethod
    def fitted(cls, weight: Tensor, _settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, ...]."""
        weight = weight.detach()
        signs, largest = _signs(weight), weight.abs().amax()
        # In a layer of zeros any value will do until training moves them; this one fits weights of the usual initial size.
        least = torch.where(largest > 0, largest * SMALLEST_ROW, float(weight[0].numel()) ** -0.5).clamp_min(SMALLEST_SCALE * TOP)
        sizes = _mean_size(weight, signs != 0, least)
        units = sizes / sizes.amax()
        in_units = (weight / units.reshape(_columns(weight)))[None]
        return cls(units, *(_mean_size(in_units, (sign * signs > 0)[None], sizes.amax()) for sign in (1, -1)))

    @classmethod
    def restored(cls, _facts: Mapping[str, object], weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """One whose values come with its ``state_dict``."""
        return cls(*(torch.ones(count, device=weight.device) for count in (len(weight), 1, 1)))

    @property
    def paced(self) -> tuple[PacedValue, ...]:
        """Both values, each by its own size."""
        return tuple(PacedValue(value, value.abs) for value in (self.positive, self.negative))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid; zeros stay zero."""
        with torch.autocast(weight.device.type, enabled=False):
            integers, scale = self._integers(weight)
            chosen = integers * scale.reshape(_columns(weight))
            take = cast(Callable[..., Tensor], _TwoValues.apply)
            return take(weight, self.positive.abs(), self.negative.abs(), self.units, _signs(weight), chosen)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co]."""
        integers, scale = self._integers(weight)
        return integers.to(torch.int8), scale

    def rows(self, outputs: Tensor, _inputs: Tensor) -> Self:
        """The grid of some output channels."""
        return type(self)(self.units[outputs], self.positive.detach().clone(), self.negative.detach().clone())

    def facts(self) -> Facts:
        """Its name."""
        return {"grid": "trained-ternary"}

    def _integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] float32 and their scales [Co]."""
        with torch.no_grad():
            values = torch.cat([self.positive, self.negative]).abs().clamp_min(SMALLEST_SCALE)
            scale = (self.units * (values.amax() / TOP)).clamp_min(SMALLEST_SCALE)
            up, down = (values / values.amax() * TOP).round()
            signs = _signs(weight)
            return torch.where(signs > 0, up, down) * signs, scale


def _signs(weight: Tensor) -> Tensor:
    """1, -1, and 0 within the threshold; float32 [Co, ...]."""
    weight = weight.detach()
    return weight.sign() * (weight.abs() > THRESHOLD * _peaks(weight))


def _peaks(weight: Tensor) -> Tensor:
    """The largest weight of every channel, [Co, 1, ...]."""
    return weight.reshape(len(weight), -1).abs().amax(1).reshape(_columns(weight))


def _columns(weight: Tensor) -> list[int]:
    """The shape in which one number per output channel goes with a weight [Co, ...]."""
    return [-1, *[1] * (weight.dim() - 1)]


def _mean_size(weight: Tensor, where: Tensor, otherwise: Tensor) -> Tensor:
    """Mean magnitude [Co] of the members of every row; ``otherwise`` where there are none."""
    members = where.reshape(len(weight), -1)
    shares = weight.reshape(len(weight), -1).abs().double() * members
    count = members.sum(1)
    return torch.where(count > 0, (shares.sum(1) / count.clamp_min(1)).float(), otherwise)


class _TwoValues(torch.autograd.Function):
    """What was chosen, with the gradients of the paper to the weight and to both values."""

    @staticmethod
    def forward(
        ctx: AutogradContext,
        weight: Tensor,
        positive: Tensor,
        negative: Tensor,
        units: Tensor,
        signs: Tensor,
        chosen: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(weight, positive, negative, units, signs)
        return chosen.clone()

    @staticmethod
    def backward(ctx: AutogradContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, positive, negative, units, signs = ctx.saved_tensors
        units, peaks = units.reshape(_columns(weight)), _peaks(weight)
        peaks = torch.where(peaks > 0, peaks, 1.0)
        up, down = (value * units / peaks for value in (positive, negative))
        through = torch.where(signs > 0, up, torch.where(signs < 0, down, 1.0))
        sums = []
        for sign in (1.0, -1.0):
            members = signs == sign
            total = (gradient * units * members).sum() * sign
            sums.append((total / members.sum().clamp_min(1).sqrt()).reshape(1))
        return gradient * through, sums[0], sums[1], None, None, None
