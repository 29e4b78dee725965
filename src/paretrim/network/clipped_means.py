"""Weights near 0 become 0 and the others take a few values, both found anew in every step (CLIP-Q).

Source: Tung & Mori 2018, "CLIP-Q: deep network compression learning by in-parallel pruning-quantization", CVPR 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_SCALE, Facts, PlainGrid, WeightSettings
from paretrim.network.rounding import straight_through

TOP = 127
"""The integer of the value farthest from 0."""

SHARE = 0.5
"""Default share of zeros."""

METHODS = (
    Method(
        name="clip-q",
        kind="weight grid",
        source="Tung & Mori 2018 (CLIP-Q), CVPR 2018, section 3.1",
        what="0 for the smallest weights of each sign, the means of 2^bits - 1 intervals for the others, updated in every step",
        formula="w' = 0 for c- < w <= c+, else the mean of the interval of w; a share p of each sign lies between c and 0",
        recipe="clip-q-grid",
        settings=("quantize.formats",),
    ),
)


class ClippedMeans(nn.Module, PlainGrid):
    """A share of the negative and of the positive weights is 0, those nearest to 0; the others are means of even intervals.

    While the network trains, both follow the weights, which all keep training through the rounding: what is 0 in one step may
    come back in the next. In evaluation mode they are as in the last step. Means are rounded to one of 255 steps of the layer, so
    that the runtime computes on int8.
    """

    widths: ClassVar[range] = range(2, 9)
    edges: Tensor
    """Where intervals meet, ascending, [2^bits - 1]."""
    values: Tensor
    """The value of the weights in each interval, [2^bits]; 0 for the interval around 0."""

    def __init__(self, *, bits: int, share: float, edges: Tensor, values: Tensor) -> None:
        super().__init__()
        self.bits, self.share = bits, share
        self.register_buffer("edges", edges)
        self.register_buffer("values", values)

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, ...], with the usual share of zeros."""
        return cls.with_share(weight, bits=settings.bits, share=SHARE)

    @classmethod
    def with_share(cls, weight: Tensor, *, bits: int, share: float) -> Self:
        """A new grid for this weight [Co, ...] with this share of zeros of each sign, in [0, 1)."""
        edges, values = intervals(weight.detach(), bits=bits, share=share)
        return cls(bits=bits, share=share, edges=edges, values=values)

    @classmethod
    def restored(cls, facts: Mapping[str, object], weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """A grid with these :meth:`facts`; its tensors come with its ``state_dict``.

        Raises:
            KeyError, ValueError: the facts do not say its bits and its share.
        """
        bits, share = int(str(facts["bits"])), float(str(facts["share"]))
        empty = torch.zeros(2**bits, device=weight.device)
        return cls(bits=bits, share=share, edges=empty[1:].clone(), values=empty)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to 0 and the means; the gradient passes straight through."""
        with torch.autocast(weight.device.type, enabled=False):
            if self.training:
                edges, values = intervals(weight.detach(), bits=self.bits, share=self.share)
                self.edges.copy_(edges)
                self.values.copy_(values)
            levels, step = self._levels()
            return straight_through(weight, levels[self._places(weight)] * step * (weight.detach() != 0))

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co], which are all the same."""
        with torch.no_grad():
            levels, step = self._levels()
            integers = levels[self._places(weight)] * (weight != 0)
            return integers.to(torch.int8), step.expand(len(weight)).clone()

    def rows(self, _outputs: Tensor, _inputs: Tensor) -> Self:
        """The same intervals for some output channels."""
        return type(self)(bits=self.bits, share=self.share, edges=self.edges.clone(), values=self.values.clone())

    def facts(self) -> Facts:
        """Its name, bits and share."""
        return {"grid": "clip-q", "bits": self.bits, "share": self.share}

    def _levels(self) -> tuple[Tensor, Tensor]:
        """The integer of every interval, float32 [2^bits], and their step []."""
        step = (self.values.abs().amax() / TOP).clamp_min(SMALLEST_SCALE)
        return (self.values / step).round_().clamp_(-TOP, TOP), step

    def _places(self, weight: Tensor) -> Tensor:
        """The interval of every weight."""
        return torch.bucketize(weight.detach().contiguous(), self.edges, out_int32=True)


def intervals(weight: Tensor, *, bits: int, share: float) -> tuple[Tensor, Tensor]:
    """Edges [2^bits - 1] of the intervals of a weight and the mean of what lies in each [2^bits], float32.

    ``floor(share * n)`` of the n negative weights are in the interval around 0, and as many of the positive ones. The rest of
    the axis, from the least to the greatest weight, has ``2^bits - 1`` even intervals, split between the two sides by their
    length. An interval without weights gets its centre. Weights that are 0 count on neither side.
    """
    flat = weight.flatten().double()
    count = 2**bits - 1
    below, above = flat[flat < 0].neg(), flat[flat > 0]
    clips = [_clip(side, share) for side in (below, above)]
    ends = [float(side.amax()) if len(side) else clip for side, clip in zip((below, above), clips, strict=True)]
    lengths = [end - clip for end, clip in zip(ends, clips, strict=True)]
    negative = round(count * lengths[0] / sum(lengths)) if sum(lengths) > 0 else count // 2
    negative = min(max(negative, int(lengths[0] > 0)), count - int(lengths[1] > 0))
    low = torch.linspace(-ends[0], -clips[0], negative + 1, dtype=torch.float64)
    high = torch.linspace(clips[1], ends[1], count - negative + 1, dtype=torch.float64)
    edges = torch.cat([low[1:], high[:-1]]).to(device=weight.device, dtype=torch.float32)
    bounds = torch.cat([low, high])
    places = torch.bucketize(flat.float(), edges)
    members = torch.bincount(places, minlength=count + 1)
    sums = torch.bincount(places, flat, minlength=count + 1)
    middles = ((bounds[:-1] + bounds[1:]) / 2).to(weight.device)
    values = torch.where(members > 0, sums / members.clamp_min(1), middles)
    values[negative] = 0
    return edges, values.float()


def _clip(side: Tensor, share: float) -> float:
    """Between the last size that becomes 0 and the first that does not."""
    if not len(side):
        return 0.0
    gone = int(share * len(side))
    if gone == len(side):
        return float(side.amax())
    last = float(side.kthvalue(gone).values) if gone else 0.0  # selecting, where sorting takes twice as long
    return last / 2 + float(side.kthvalue(gone + 1).values) / 2
