"""Uniform weights in groups of input channels: each group of an output channel has a step of its own.

The step of a group is a whole multiple of its output channel's, so that a weight is still an int8 integer times one scale per
output channel: the runtime computes as with any other grid, and the file stores small integers and the multiples.

Source: Dai et al. 2021, "VS-Quant" (arXiv 2102.04503), section 4.4: integer scales of vectors times a float scale of the channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import (
    SMALLEST_SCALE,
    Facts,
    IncrementalGrid,
    PricedGrid,
    Scales,
    WeightSettings,
    observed_steps,
    scales_in,
)
from paretrim.network.rounding import straight_through
from paretrim.network.tensors import typed

LARGEST = 127
"""Largest magnitude of an integer."""

METHODS = (
    Method(
        name="grouped",
        kind="weight grid",
        source="Dai et al. 2021 (VS-Quant), arXiv 2102.04503, section 4.4",
        what="evenly spaced integers; every group of input channels has its own step, a whole multiple of its output channel's",
        formula="q = clip(round(w / (s m)), -top, top), w' = s m q; m in 1..127/top with the least squared error",
        recipe="int4-groups",
        settings=("quantize.formats",),
    ),
)


class GroupedWeights(nn.Module):
    """Integers of ``bits`` bits times a multiple for each group of input channels, times the scale of the output channel.

    Groups are ``group`` consecutive input channels at all kernel positions. Their multiples are chosen once, by the squared error
    of the weight that the grid is made for; scales are learned (LSQ) or follow the largest weight of the channel. A channel that
    is cut off later takes its multiples with it. Where all input channels make one group, every multiple is 1.
    """

    widths: ClassVar[range] = range(2, 7)
    priced: PricedGrid | None = None
    incremental: IncrementalGrid | None = None
    multiples: Tensor
    """By output and input channel, uint8 [Co, Ci]."""

    def __init__(self, weight: Tensor, multiples: Tensor, *, bits: int, scales: Scales, several: bool) -> None:
        super().__init__()
        self.bits = bits
        self.scales: Scales = scales
        self.most = LARGEST // self.top if several else 1
        self.register_buffer("multiples", multiples)
        if scales == "learned":
            self.scale = nn.Parameter(self._observed(weight.detach()))

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, Ci, ...]."""
        channels = weight.shape[1]
        ones, several = weight.new_ones(weight.shape[:2], dtype=torch.uint8), channels > settings.group
        made = cls(weight, ones, bits=settings.bits, scales=settings.scales, several=several)
        if not several:
            return made
        rows = weight.detach().reshape(len(weight), channels, -1)
        groups = -(-channels // settings.group)
        padded = F.pad(rows, (0, 0, 0, groups * settings.group - channels)).reshape(len(rows), groups, -1)
        best = _best_multiples(padded, made.scale_for(weight).detach(), made.top)
        made.multiples = best.repeat_interleave(settings.group, 1)[:, :channels].contiguous()
        return made

    @classmethod
    def restored(cls, facts: Mapping[str, object], weight: Tensor, tensors: Mapping[str, Tensor]) -> Self:
        """A grid with these :meth:`facts` and ``tensors``.

        Raises:
            KeyError, TypeError, ValueError: facts and tensors are not those of such a grid.
        """
        multiples = typed(tensors, "multiples", torch.uint8)
        if multiples is None or multiples.shape != weight.shape[:2]:
            raise ValueError(f"there must be a multiple for every output and input channel, {tuple(weight.shape[:2])}")
        bits, scales = int(str(facts["bits"])), scales_in(facts)
        made = cls(weight, multiples.to(weight.device), bits=bits, scales=scales, several=bool(facts["several"]))
        if not bool(((multiples >= 1) & (multiples <= made.most)).all()):
            raise ValueError(f"a multiple of a group is not in 1..{made.most}")
        return made

    @property
    def top(self) -> int:
        """The largest small integer."""
        return (1 << self.bits - 1) - 1

    @property
    def trained_scale(self) -> nn.Parameter | None:
        """The learned scales [Co]; None where they are observed."""
        return self.scale if self.scales == "learned" else None

    def facts(self) -> Facts:
        """Its name and bits, how its scales are found, and whether output channels have several groups."""
        return {"grid": "grouped", "bits": self.bits, "scales": self.scales, "several": self.most > 1}

    def _observed(self, weight: Tensor) -> Tensor:
        return observed_steps(weight, weight.reshape(weight.shape[0], -1).abs().amax(1), self.top * self.most)

    def scale_for(self, weight: Tensor) -> Tensor:
        """Scale per output channel [Co] for this weight."""
        if self.scales == "learned":
            return self.scale.abs().clamp_min(SMALLEST_SCALE)
        return self._observed(weight.detach())

    def _each(self, weight: Tensor) -> Tensor:
        """The multiple of every weight, float32, broadcast against it."""
        return self.multiples.reshape(*weight.shape[:2], *[1] * (weight.dim() - 2)).float()

    def _small(self, weight: Tensor, scale: Tensor) -> Tensor:
        """The small integers of a weight [Co, ...], float32."""
        return torch.round(weight / (_columns(scale, weight) * self._each(weight))).clamp(-self.top, self.top)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid; zeros stay zero. Gradients as LSQ, with the multiple as a constant."""
        with torch.autocast(weight.device.type, enabled=False):
            scale = self.scale_for(weight)
            small, each = self._small(weight.detach(), scale.detach()), self._each(weight)
            share = 1.0 / float(weight[0].numel() * self.top) ** 0.5
            slow = scale * share + (scale * (1.0 - share)).detach()
            step = _columns(slow, weight) * each
            ratio = weight.detach() / step.detach()
            inside = ratio.abs() < self.top + 0.5
            passing = torch.where(inside, weight + step * (small - ratio), step * small)
            return straight_through(passing, small * each * _columns(scale.detach(), weight))

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co]."""
        weight, scale = weight.detach(), self.scale_for(weight).detach()
        return (self._small(weight, scale) * self._each(weight)).to(torch.int8), scale

    def rows(self, outputs: Tensor, inputs: Tensor) -> Self:
        """The grid of some output channels, on some input channels (int64 indices)."""
        multiples = self.multiples[outputs][:, inputs]
        other = type(self)(multiples.float(), multiples, bits=self.bits, scales=self.scales, several=self.most > 1)
        if self.scales == "learned":
            other.scale = nn.Parameter(self.scale.detach()[outputs])
        return other


def _columns(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.dim() - 1))


def _best_multiples(rows: Tensor, scale: Tensor, top: int) -> Tensor:
    """The multiple of every group of rows [Co, G, N] that rounds it with the least squared error, uint8 [Co, G].

    The smallest of equally good ones, so 1 for a group of zeros.
    """
    steps = rows / scale[:, None, None]
    best = torch.ones(rows.shape[:2], device=rows.device)
    least = torch.full_like(best, torch.inf)
    for multiple in range(1, LARGEST // top + 1):
        error = (torch.round(steps / multiple).clamp(-top, top) * multiple - steps).square().sum(2)
        best = torch.where(error < least, float(multiple), best)
        least = least.minimum(error)
    return best.to(torch.uint8)
