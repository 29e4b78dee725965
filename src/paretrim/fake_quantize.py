"""Fake quantizers: what rounding to an integer grid does to a float tensor, with a gradient that trains through it.

Source: learned step size, Esser et al. 2020 (LSQ, arXiv 1902.08153) section 2; straight-through estimator, Bengio et al. 2013.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

SMALLEST_SCALE = 1e-8
"""Scales are kept above this: a tensor of zeros must not make a grid without steps."""

TOP = 255
"""Highest level of an activation grid."""

Scales = Literal["learned", "observed"]


@dataclass(frozen=True)
class Grid:
    """An affine uint8 grid: ``real = scale * (q - zero_point)``, q in 0..255."""

    scale: float
    zero_point: int


def grid_for_range(low: float, high: float) -> Grid:
    """The grid that covers [low, high] and holds 0 exactly; zero point 0 when nothing is negative."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / TOP, SMALLEST_SCALE)
    return Grid(scale, min(max(round(-low / scale), 0), TOP))


class _Context(Protocol):
    """What the forward pass of :class:`_Round` leaves for the backward pass."""

    learn_scale: bool
    gradient_scale: float
    per_channel: bool

    @property
    def saved_tensors(self) -> tuple[Tensor, ...]:
        """What was saved."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Save tensors."""


class _Round(torch.autograd.Function):
    """Round to the grid; straight through for x, LSQ for the scale.

    Inside the range d(x_hat)/d(scale) = round(x/s) - x/s = (x_hat - x)/s; outside it is x_hat/s. Summed over the elements that
    share a scale this is (sum g*x_hat - sum g_x*x)/s with g_x the gradient passed to x. "Inside" means that the rounded level is
    in range, so the outermost half step still passes its gradient.
    """

    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, gradient_scale: float, per_channel: bool
    ) -> Tensor:
        rounded: Tensor
        if per_channel:
            rounded, inside = torch.ops.aten.fake_quantize_per_channel_affine_cachemask(x, scale, zero_point, 0, low, high)
        else:
            enabled = torch.ones(1, dtype=torch.int64, device=x.device)
            rounded, inside = torch.ops.aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
                x, scale, zero_point, enabled, low, high
            )
        ctx.learn_scale = scale.requires_grad
        ctx.gradient_scale, ctx.per_channel = gradient_scale, per_channel
        if ctx.learn_scale:
            ctx.save_for_backward(inside, x, rounded, scale)
        else:
            ctx.save_for_backward(inside)
        return rounded

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inside = ctx.saved_tensors[0]
        gradient_x = gradient * inside
        gradient_scale = None
        if ctx.learn_scale:
            _, x, rounded, scale = ctx.saved_tensors
            if ctx.per_channel:
                rows = gradient.shape[0]
                along = (gradient * rounded).reshape(rows, -1).sum(1) - (gradient_x * x).reshape(rows, -1).sum(1)
            else:
                along = (_dot(gradient, rounded) - _dot(gradient_x, x)).reshape(scale.shape)
            gradient_scale = along / scale * ctx.gradient_scale
        return gradient_x, gradient_scale, None, None, None, None, None


def _in_memory_order(x: Tensor) -> Tensor:
    """All elements as one row [numel], without a copy where the tensor is dense in either layout.

    Reductions over channels_last tensors by their logical order are several times slower than over plain memory.
    """
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(-1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b without a temporary where both lie in memory alike."""
    return torch.dot(_in_memory_order(a), _in_memory_order(b)) if a.stride() == b.stride() else torch.sum(a * b)


def round_to_grid(
    x: Tensor, scale: Tensor, zero_point: Tensor, *, low: int, high: int, gradient_scale: float = 1.0, per_channel: bool = False
) -> Tensor:
    """``scale * (clip(rint(x / scale) + zero_point, low, high) - zero_point)``, differentiable in x and scale.

    ``scale`` has one element, or one per index of the first axis with ``per_channel``. Computed in float32 whatever autocast
    says: bfloat16 has fewer digits than the grid has levels.
    """
    with torch.autocast(x.device.type, enabled=False):
        arguments = (x.float(), scale, zero_point, low, high, gradient_scale, per_channel)
        apply = cast(Callable[..., Tensor], _Round.apply)
        return apply(*arguments)


class ActivationQuantizer(nn.Module):
    """The uint8 grid of one activation tensor, per tensor.

    ``scales="learned"`` trains the step (LSQ); ``"observed"`` follows a moving average of the batch range while training. The
    zero point is fixed at calibration: 0 where nothing is negative.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: Grid, *, scales: Scales, momentum: float = 0.01) -> None:
        super().__init__()
        step = torch.tensor([grid.scale], dtype=torch.float32)
        self.scales: Scales = scales
        self.momentum = momentum
        if scales == "learned":
            self.scale = nn.Parameter(step)
        else:
            self.register_buffer("scale", step)
        self.register_buffer("zero_point", torch.tensor([grid.zero_point], dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """The values of ``x`` (any shape, float) moved to the grid; float32."""
        if self.scales == "observed" and self.training:
            self._observe_(x.detach())
        scale = self.scale.abs().clamp_min(SMALLEST_SCALE)
        # LSQ section 2.2: the step's gradient is scaled by 1 / sqrt(number of features * top level).
        features = x[0].numel()
        return round_to_grid(x, scale, self.zero_point, low=0, high=TOP, gradient_scale=1.0 / float(features * TOP) ** 0.5)

    def _observe_(self, x: Tensor) -> None:
        low, high = torch.aminmax(_in_memory_order(x))
        # Only a grid that has negative values covers them. Asked on the device: a branch would wait for it.
        below = low.clamp_max(0) * (self.zero_point > 0)
        span = (high.clamp_min(0) - below).float() / TOP
        self.scale.lerp_(span.clamp_min(SMALLEST_SCALE), self.momentum)

    def grid(self) -> Grid:
        """The grid as plain numbers."""
        scale = float(self.scale.detach().abs().clamp_min(SMALLEST_SCALE))
        return Grid(scale, int(self.zero_point))


class WeightQuantizer(nn.Module):
    """The signed grid of one weight tensor: symmetric, one scale per output channel (first axis), zero point 0.

    ``"observed"`` takes ``max|w| / top`` of every step, ``"learned"`` trains the step (LSQ) from there. ``clip`` (one factor per
    channel, at most 1) narrows the observed range: calibrators that trade clipping against rounding set it.
    """

    clip: Tensor
    scale: Tensor
    zeros: Tensor

    def __init__(self, weight: Tensor, *, bits: int, scales: Scales, clip: Tensor | None = None) -> None:
        super().__init__()
        self.scales: Scales = scales
        self.bits = bits
        self.top = 2 ** (bits - 1) - 1
        rows = weight.shape[0]
        self.register_buffer("clip", torch.ones(rows, device=weight.device) if clip is None else clip)
        if scales == "learned":
            self.scale = nn.Parameter(self._observed(weight.detach()))
        self.register_buffer("zeros", torch.zeros(rows, dtype=torch.int32, device=weight.device), persistent=False)

    def _observed(self, weight: Tensor) -> Tensor:
        peak = weight.reshape(weight.shape[0], -1).abs().amax(1)
        return cast(Tensor, (peak * self.clip / self.top).clamp_min(SMALLEST_SCALE))

    def scale_for(self, weight: Tensor) -> Tensor:
        """Scale per output channel [Co] for this weight."""
        if self.scales == "learned":
            return self.scale.abs().clamp_min(SMALLEST_SCALE)
        return self._observed(weight.detach())

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid; zeros stay zero."""
        share = 1.0 / float(weight[0].numel() * self.top) ** 0.5
        return round_to_grid(
            weight, self.scale_for(weight), self.zeros, low=-self.top, high=self.top, gradient_scale=share, per_channel=True
        )

    def rows(self, kept: Tensor) -> WeightQuantizer:
        """The quantizer of the output channels ``kept`` (int64 indices) alone."""
        other = WeightQuantizer(
            torch.zeros(len(kept), 1, device=kept.device), bits=self.bits, scales=self.scales, clip=self.clip[kept]
        )
        if self.scales == "learned":
            other.scale = nn.Parameter(self.scale.detach()[kept])
        return other

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that ``forward`` stands for, and their scales [Co]."""
        scale = self.scale_for(weight).detach()
        rounded = self.forward(weight.detach())
        steps = torch.round(rounded.double() / scale.double().reshape(-1, *[1] * (weight.dim() - 1)))
        return steps.to(torch.int8), scale
