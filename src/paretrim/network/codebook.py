"""Weights that share the few values of a trained codebook.

Source: Han et al. 2016 (Deep Compression, arXiv 1510.00149) section 3: k-means by layer, from centroids evenly spaced between the
least and the largest weight; members that stay; gradients of a centroid summed over its members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, Self, cast

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.grids import SMALLEST_SCALE, Facts, PacedValue, PlainGrid, WeightSettings
from paretrim.network.rounding import straight_through
from paretrim.network.tensors import AutogradContext

TOP = 127
"""The integer of the centroid farthest from 0."""

ROUNDS = 300
"""Most rounds of k-means; it usually converges within a few tens."""

METHODS = (
    Method(
        name="codebook",
        kind="weight grid",
        source="Han et al. 2016 (Deep Compression), arXiv 1510.00149, section 3",
        what="the weights of a layer share 2^bits values, found by k-means and trained",
        formula="w' = c[argmin over j of |w - c_j|]; dL/dc_j = sum of dL/dw' over its members, over sqrt(members)",
        recipe="codebook",
        settings=("quantize.formats",),
    ),
)


class Codebook(nn.Module, PlainGrid):
    """``2^bits`` values for a layer. Every weight takes that of its centroid, for good; pruned weights are 0 and in no cluster.

    A centroid is rounded to one of 255 steps of the layer, so that the runtime computes on int8 as usual; the gradient passes
    straight through this. While the network trains, weights do not move and centroids train. The gradient of a centroid is the
    sum over its members, as published, over the square root of their number: the paper gives centroids a learning rate of
    their own.
    """

    widths: ClassVar[range] = range(2, 9)
    begun: Tensor
    """Centroids as k-means left them, ascending; a weight belongs to the nearest; [2^bits]."""

    def __init__(self, centroids: Tensor, *, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("begun", centroids)
        self.centroids = nn.Parameter(centroids.clone())

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, ...]."""
        usual = float(weight[0].numel()) ** -0.5
        return cls(k_means(weight[weight != 0], 2**settings.bits, usual=usual), bits=settings.bits)

    @classmethod
    def restored(cls, facts: Mapping[str, object], weight: Tensor, _tensors: Mapping[str, Tensor]) -> Self:
        """A grid with these :meth:`facts`; its tensors come with its ``state_dict``.

        Raises:
            KeyError, ValueError: the facts do not say its bits.
        """
        bits = int(str(facts["bits"]))
        return cls(torch.zeros(2**bits, device=weight.device), bits=bits)

    @property
    def paced(self) -> tuple[PacedValue, ...]:
        """The centroids, by the size of the largest, so that one near 0 can still move."""
        return (PacedValue(self.centroids, lambda: self.centroids.abs().amax()),)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to its centroids; zeros stay zero. In evaluation mode the gradient passes to the weight."""
        with torch.autocast(weight.device.type, enabled=False):
            levels, step = self._levels()
            index, alive = self._members(weight), weight.detach() != 0
            values = straight_through(self.centroids, levels * step)
            moved = cast(Callable[..., Tensor], _TableLookup.apply)(values, index, alive)
            return moved if self.training else straight_through(weight, moved)

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co], which are all the same."""
        with torch.no_grad():
            levels, step = self._levels()
            integers = levels[self._members(weight)] * (weight != 0)
            return integers.to(torch.int8), step.expand(len(weight)).clone()

    def rows(self, _outputs: Tensor, _inputs: Tensor) -> Self:
        """The same codebook for some output channels."""
        other = type(self)(self.begun, bits=self.bits)
        other.centroids = nn.Parameter(self.centroids.detach().clone())
        return other

    def facts(self) -> Facts:
        """Its name and bits."""
        return {"grid": "codebook", "bits": self.bits}

    def _levels(self) -> tuple[Tensor, Tensor]:
        """The integer of every centroid, float32 [2^bits], and their step []."""
        centroids = self.centroids.detach()
        step = (centroids.abs().amax() / TOP).clamp_min(SMALLEST_SCALE)
        return (centroids / step).round_().clamp_(-TOP, TOP), step

    def _members(self, weight: Tensor) -> Tensor:
        """The place of the centroid of every weight."""
        between = self.begun[:-1] / 2 + self.begun[1:] / 2
        return torch.bucketize(weight.detach().contiguous(), between, out_int32=True)


def k_means(values: Tensor, count: int, *, usual: float) -> Tensor:
    """Centroids of ``values`` [N], ascending, float32: Lloyd's rounds from evenly spaced ones until none moves.

    Where there are no values, centroids are evenly spaced between ``-usual`` and ``usual``. One without members stays.
    """
    values = values.detach().double().sort().values
    low, high = (float(values[0]), float(values[-1])) if len(values) else (-usual, usual)
    centroids = torch.linspace(low, high, count, dtype=torch.float64, device=values.device)
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    for _ in range(ROUNDS):
        ends_at = torch.searchsorted(values, (centroids[:-1] + centroids[1:]) / 2, right=True)
        ends_at = torch.cat([ends_at.new_zeros(1), ends_at, ends_at.new_full((1,), len(values))])
        members = ends_at.diff()
        means = torch.where(members > 0, sums[ends_at].diff() / members.clamp_min(1), centroids)
        if torch.equal(means, centroids):
            break
        centroids = means.sort().values
    return centroids.float()


class _LookupContext(AutogradContext, Protocol):
    """How many values the table has, beside what torch keeps."""

    size: int


class _TableLookup(torch.autograd.Function):
    """Values [k] at an index, 0 where not alive. The gradient of a value: the sum over its members / sqrt(their number)."""

    @staticmethod
    def forward(ctx: _LookupContext, values: Tensor, index: Tensor, alive: Tensor) -> Tensor:
        ctx.size = len(values)
        ctx.save_for_backward(index, alive)
        return values[index] * alive

    @staticmethod
    def backward(ctx: _LookupContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        index, alive = ctx.saved_tensors
        places = index[alive]
        sums = torch.bincount(places, gradient[alive].double(), minlength=ctx.size)
        members = torch.bincount(places, minlength=ctx.size).clamp_min(1)
        return (sums / members.sqrt()).to(gradient.dtype), None, None
