"""Uniform grids: evenly spaced integers, as wide as their bits allow, with scales that are learned or observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Self, cast

import torch
from torch import Tensor, nn

from paretrim.method import Method
from paretrim.network.code_length import bits_between, cheapest, code_lengths
from paretrim.network.grids import (
    CACHED,
    SMALLEST_SCALE,
    Facts,
    Grid,
    IncrementalGrid,
    PricedGrid,
    Scales,
    WeightSettings,
    bits_fact,
    bits_in,
    observed_steps,
    scales_in,
    top_of,
)
from paretrim.network.one_pass import least_and_greatest
from paretrim.network.rounding import chosen_rows, round_rows, round_tensor
from paretrim.network.tensors import vector

METHODS = (
    Method(
        name="learned",
        kind="scales",
        source="Esser et al. 2020 (LSQ), arXiv 1902.08153, sections 2.1 and 2.2",
        what="train the steps of weights and activations, starting from the calibrator's",
        formula="dw'/ds = round(w/s) - w/s inside the grid, -top or top outside, times 1 / sqrt(weights of the channel * top)",
        recipe="lsq",
    ),
    Method(
        name="observed",
        kind="scales",
        source="Jacob et al. 2018, arXiv 1712.05877, section 3.1",
        what="set steps by the largest magnitude of weights and a moving average of activation ranges",
        formula="weights: s = clip * max|w| / top; activations: s <- 0.99 s + 0.01 (high - low) / (2^bits - 1)",
        recipe="observed",
    ),
)


class ActivationQuantizer(nn.Module):
    """The grid of one activation tensor, per tensor: uint8, of 2 to 8 bits.

    ``scales="learned"`` trains the step (LSQ); ``"observed"`` follows a moving average of the batch range while training. The
    zero point is fixed at calibration: 0 where nothing is negative.
    """

    scale: Tensor

    def __init__(self, grid: Grid, *, scales: Scales, momentum: float = 0.01) -> None:
        super().__init__()
        step = torch.tensor([grid.scale], dtype=torch.float32)
        self.scales: Scales = scales
        self.momentum = momentum
        if scales == "learned":
            self.scale = nn.Parameter(step)
        else:
            self.register_buffer("scale", step)
        self.bits = grid.bits
        self.zero_point = grid.zero_point  # a plain number: reading it from a GPU would wait for the device in every layer

    @classmethod
    def fitted(cls, grid: Grid, scales: Scales) -> Self:
        """One that begins at a calibrated grid."""
        return cls(grid, scales=scales)

    @classmethod
    def restored(cls, facts: Mapping[str, object]) -> Self:
        """One with these :meth:`facts`; step and zero point come with its ``state_dict``.

        Raises:
            KeyError, ValueError: they do not say how its scale is found.
        """
        return cls(Grid(1.0, 0, bits_in(facts)), scales=scales_in(facts))

    def get_extra_state(self) -> Tensor:
        """The zero point, for ``state_dict``."""
        return torch.tensor([self.zero_point], dtype=torch.int32)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the zero point from a ``state_dict``."""
        self.zero_point = int(state)

    def forward(self, x: Tensor) -> Tensor:
        """The values of ``x`` [N, ...] moved to the grid, in the dtype of ``x``."""
        if self.scales == "observed" and self.training and len(x):
            self._observe_(x.detach())
        scale = self.scale.abs().clamp_min(SMALLEST_SCALE)
        # LSQ section 2.2: the step's gradient is scaled by 1 / sqrt(number of features * top level).
        top = top_of(self.bits)
        share = 1.0 / float(math.prod(x.shape[1:]) * top) ** 0.5
        return round_tensor(x, scale, -self.zero_point, top - self.zero_point, share)

    def _observe_(self, x: Tensor) -> None:
        low, high = least_and_greatest(x)
        below = low.clamp_max(0) if self.zero_point > 0 else low.new_zeros(())
        span = (high.clamp_min(0) - below).float() / top_of(self.bits)
        # A batch of zeros tells nothing about the step.
        self.scale.lerp_(torch.where(span > 0, span, self.scale).clamp_min(SMALLEST_SCALE), self.momentum)

    @property
    def trained_scale(self) -> nn.Parameter | None:
        """The learned step [1]; None where it is observed."""
        return cast(nn.Parameter, self.scale) if self.scales == "learned" else None

    def facts(self) -> Facts:
        """How its scale is found, and its bits if they are not the usual."""
        return {"scales": self.scales, **bits_fact(self.bits)} if bits_fact(self.bits) else self.scales

    def grid(self) -> Grid:
        """The grid as plain numbers."""
        scale = float(self.scale.detach().abs().clamp_min(SMALLEST_SCALE))
        return Grid(scale, self.zero_point, self.bits)


class WeightQuantizer(nn.Module):
    """The signed grid of one weight tensor: symmetric, one scale per output channel (first axis), zero point 0.

    ``"observed"`` takes ``max|w| / top`` of every step, ``"learned"`` trains the step (LSQ) from there. ``clip`` (one factor per
    channel) scales the observed range: below 1 by calibrators that trade clipping against rounding, above 1 where finer steps are
    not worth their bits. With ``price`` and ``lengths`` a weight is not moved to the nearest integer but to the cheapest.
    """

    widths: ClassVar[range] = range(2, 9)
    incremental: IncrementalGrid | None = None
    clip: Tensor
    scale: Tensor
    zeros: Tensor
    price: Tensor | None
    """What a bit of the coded file is worth, in units of the squared weight; [Co]."""
    lengths: Tensor | None
    """Bits of every magnitude, as last counted; [top + 1]."""

    def __init__(self, weight: Tensor, *, bits: int, scales: Scales, clip: Tensor | None = None) -> None:
        super().__init__()
        self.scales: Scales = scales
        self.bits = bits
        self.top = 2 ** (bits - 1) - 1
        rows = weight.shape[0]
        self.register_buffer("clip", torch.ones(rows, device=weight.device) if clip is None else clip)
        self.register_buffer("price", None)
        self.register_buffer("lengths", None)
        if scales == "learned":
            self.scale = nn.Parameter(self._observed(weight.detach()))
        self.register_buffer("zeros", torch.zeros(rows, dtype=torch.int32, device=weight.device), persistent=False)

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, ...]."""
        made = cls(weight, bits=settings.bits, scales=settings.scales, clip=settings.clip)
        made.price = settings.price
        return made

    @classmethod
    def restored(cls, facts: Mapping[str, object], weight: Tensor, tensors: Mapping[str, Tensor]) -> Self:
        """A grid with these :meth:`facts`; ``tensors`` say whether its bits have a price.

        Raises:
            KeyError, ValueError: facts and tensors are not those of such a grid.
        """
        made = cls(weight, bits=int(str(facts["bits"])), scales=scales_in(facts))
        made.price = vector(tensors, "price", len(weight))
        made.lengths = vector(tensors, "lengths", made.top + 1)
        return made

    @property
    def trained_scale(self) -> nn.Parameter | None:
        """The learned scales [Co]; None where they are observed."""
        return cast(nn.Parameter, self.scale) if self.scales == "learned" else None

    @property
    def priced(self) -> PricedGrid | None:
        """This grid if its bits have a price."""
        return None if self.price is None else self

    def facts(self) -> Facts:
        """Bits, and how its scales are found."""
        return {"bits": self.bits, "scales": self.scales}

    def _observed(self, weight: Tensor) -> Tensor:
        return observed_steps(weight, weight.reshape(weight.shape[0], -1).abs().amax(1) * self.clip, self.top)

    def scale_for(self, weight: Tensor) -> Tensor:
        """Scale per output channel [Co] for this weight."""
        if self.scales == "learned":
            return self.scale.abs().clamp_min(SMALLEST_SCALE)
        return self._observed(weight.detach())

    def scale_by_(self, factors: Tensor) -> None:
        """Multiply the scale of every output channel by a factor [Co] above 0."""
        with torch.no_grad():
            scale = self.clip if self.trained_scale is None else self.trained_scale
            scale.copy_(scale.double() * factors)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid; zeros stay zero."""
        share = 1.0 / float(weight[0].numel() * self.top) ** 0.5
        with torch.autocast(weight.device.type, enabled=False):
            scale = self.scale_for(weight)
            if self.price is not None and self.lengths is not None:
                return chosen_rows(weight, scale, self._levels(weight, scale), self.top, share)
            return round_rows(weight, scale, self.zeros, self.top, share)

    def _levels(self, weight: Tensor, scale: Tensor) -> Tensor:
        """The integers that a weight [Co, ...] is moved to, float32."""
        columns = scale.detach().reshape(-1, *[1] * (weight.dim() - 1))
        steps = weight.detach() / columns
        if self.price is None or self.lengths is None:
            return torch.round(steps).clamp(-self.top, self.top)
        mantissas, exponents = torch.frexp(columns)  # squares may overflow float32
        price = torch.ldexp(torch.ldexp(self.price.reshape(columns.shape), -exponents), -exponents)
        return cheapest(steps, self.lengths, price / mantissas.square())

    def recount_(self, weight: Tensor) -> None:
        """Recount the price list, in the integers of this weight [Co, ...]. Only where bits have a price."""
        if self.price is not None:
            with torch.no_grad():
                self.lengths = code_lengths(self._levels(weight, self.scale_for(weight)), self.top)

    def bits_of(self, weight: Tensor) -> Tensor:
        """Bits of a weight [Co, ...] in the coded file, as last counted; with a gradient to weight and scales."""
        assert self.lengths is not None, "bits are counted before they are asked for"
        return bits_between(weight / self.scale_for(weight).reshape(-1, *[1] * (weight.dim() - 1)), self.lengths)

    def moved(self, weight: Tensor, scale: Tensor) -> Self:
        """A grid of the same kind with ``scale`` [Co], for a weight [Co, ...] that lies on it."""
        peak = weight.detach().reshape(len(weight), -1).abs().amax(1)
        scale = scale.to(weight).clamp_min(SMALLEST_SCALE)
        clip = torch.where(peak > 0, scale * self.top / peak.clamp_min(SMALLEST_SCALE), 1.0)
        other = type(self).fitted(weight, WeightSettings(self.bits, self.scales, clip))
        if self.scales == "learned":
            other.scale = nn.Parameter(scale)
        return other

    def rows(self, outputs: Tensor, _inputs: Tensor) -> Self:
        """The quantizer of the output channels ``outputs`` (int64 indices) alone."""
        other = type(self)(
            torch.zeros(len(outputs), 1, device=outputs.device), bits=self.bits, scales=self.scales, clip=self.clip[outputs]
        )
        if self.scales == "learned":
            other.scale = nn.Parameter(self.scale.detach()[outputs])
        if self.price is not None:
            other.price, other.lengths = self.price[outputs], self.lengths
        return other

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co]."""
        weight, scale = weight.detach(), self.scale_for(weight).detach()
        if self.price is not None and self.lengths is not None:
            return self._levels(weight, scale).to(torch.int8), scale
        integers = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        some = max(1, CACHED // weight[0].numel())
        for part, steps, zeros, into in zip(*(torch.split(t, some) for t in (weight, scale, self.zeros, integers)), strict=True):
            # As training rounds; a product of an integer and its step, over the step, is off by far less than a half.
            rounded = torch.fake_quantize_per_channel_affine(part, steps, zeros, 0, -self.top, self.top)
            into.copy_(rounded.div_(steps.reshape(-1, *[1] * (weight.dim() - 1))).round_())
        return integers, scale
