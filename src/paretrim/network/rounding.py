"""Rounding to an integer grid, with a gradient that trains through it.

Source: learned step size, Esser et al. 2020 (LSQ, arXiv 1902.08153) section 2; straight-through estimator, Bengio et al. 2013.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from paretrim.network.one_pass import Gradients, fake_quantize, fake_quantize_backward, moved
from paretrim.network.tensors import AutogradContext


class _GridContext(AutogradContext, Protocol):
    """The levels of a grid and the factor of its scale's gradient, beside what torch keeps."""

    low: int
    high: int
    gradient_scale: float


class _RoundTensor(torch.autograd.Function):
    """Round to a grid with one scale; straight through for x, LSQ for the scale.

    Inside the range d(x_hat)/d(scale) = round(x/s) - x/s = (x_hat - x)/s; outside it is x_hat/s. "Inside" means that the
    rounded level is in range, so the outermost half step still passes its gradient. The result has the dtype of x: under bfloat16
    autocast the levels 0..255 are exact in its 8 bits, and memory traffic, which is what this costs, is halved.
    """

    @staticmethod
    def forward(ctx: _GridContext, x: Tensor, scale: Tensor, low: int, high: int, gradient_scale: float) -> Tensor:
        ctx.low, ctx.high, ctx.gradient_scale = low, high, gradient_scale
        if _eager_on_cpu(x):
            step = float(scale)
            rounded = torch.mul(x, 1.0 / step).round_().clamp_(low, high).mul_(step)
        else:  # does not wait for the device and keeps the scale in full precision; a compiler fuses this into one pass
            rounded = (x / scale).round().clamp(low, high) * scale  # in float32, as the scale is
            if rounded.dtype != x.dtype:  # torch 2.11 loses the scale's gradient if a no-op conversion is compiled
                rounded = rounded.to(x.dtype)
        ctx.save_for_backward(x, rounded, scale)
        return rounded

    @staticmethod
    def backward(ctx: _GridContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, rounded, scale = ctx.saved_tensors
        edges = (ctx.low - 0.5) * scale, (ctx.high + 0.5) * scale
        gradient_x = _inside(gradient, x, *edges)
        gradient_scale = None
        if ctx.needs_input_grad[1]:
            along = (rounded - _inside(x, x, *edges)).mul_(gradient).sum().float()
            gradient_scale = (along / scale * ctx.gradient_scale).reshape(scale.shape)
        return gradient_x, gradient_scale, None, None, None


def _eager_on_cpu(x: Tensor) -> bool:
    """Whether each operation is a pass over memory and values can be read at once; not when compiled or on another device."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _inside(values: Tensor, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``values`` where low < x < high, 0 elsewhere."""
    if _eager_on_cpu(x):
        return cast(Tensor, torch.ops.aten.hardtanh_backward(values, x, float(low.detach()), float(high.detach())))  # in one pass
    return values * ((x > low) & (x < high))


class _RoundRows(torch.autograd.Function):
    """The same with one scale per index of the first axis, for weights."""

    @staticmethod
    def forward(ctx: _GridContext, x: Tensor, scale: Tensor, zeros: Tensor, top: int, gradient_scale: float) -> Tensor:
        rounded, inside = torch.ops.aten.fake_quantize_per_channel_affine_cachemask(x, scale, zeros, 0, -top, top)
        ctx.gradient_scale = gradient_scale
        ctx.save_for_backward(inside, x, rounded, scale)
        return cast(Tensor, rounded)

    @staticmethod
    def backward(ctx: _GridContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_through_rows(ctx, gradient), None, None, None


class _ChosenRows(torch.autograd.Function):
    """The same with integers that were chosen elsewhere."""

    @staticmethod
    def forward(ctx: _GridContext, x: Tensor, scale: Tensor, levels: Tensor, top: int, gradient_scale: float) -> Tensor:
        columns = scale.reshape(-1, *[1] * (x.dim() - 1))
        chosen = levels * columns
        ctx.gradient_scale = gradient_scale
        ctx.save_for_backward(x.abs() < (top + 0.5) * columns, x, chosen, scale)
        return chosen

    @staticmethod
    def backward(ctx: _GridContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_through_rows(ctx, gradient), None, None, None


def _through_rows(ctx: _GridContext, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of a weight and of its scales."""
    inside, x, rounded, scale = ctx.saved_tensors
    gradient_x = gradient * inside
    if not ctx.needs_input_grad[1]:
        return gradient_x, None
    along = (gradient * (rounded - x * inside)).reshape(len(x), -1).sum(1)
    return gradient_x, along / scale * ctx.gradient_scale


class _Replacement(torch.autograd.Function):
    """Replace a value by another, and pass the gradient on to the first unchanged."""

    @staticmethod
    def forward(_ctx: _GridContext, _x: Tensor, chosen: Tensor) -> Tensor:
        return chosen.clone()

    @staticmethod
    def backward(_ctx: _GridContext, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient, None


@dataclass(frozen=True)
class _OneStep:
    """One step [1]; levels ``low`` to ``high``."""

    low: int
    high: int
    gradient_scale: float

    def by_torch(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """By torch operations."""
        return cast(Callable[..., Tensor], _RoundTensor.apply)(x, *parameters, self.low, self.high, self.gradient_scale)

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """In one pass."""
        return fake_quantize("steps", x, parameters[0], (self.low, self.high))

    def backward(self, gradient: Tensor, x: Tensor, *parameters: Tensor) -> Gradients:
        """In one pass."""
        passed, sums = fake_quantize_backward("steps", gradient, x, parameters[0], (self.low, self.high))
        return passed, sums[0].float() / parameters[0] * self.gradient_scale


@dataclass(frozen=True)
class _StepsOfRows:
    """A step for each row [Co]; levels ``-top`` to ``top``. The other parameter is the zero points."""

    top: int
    gradient_scale: float

    def by_torch(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """By torch operations."""
        return cast(Callable[..., Tensor], _RoundRows.apply)(x, *parameters, self.top, self.gradient_scale)

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """In one pass."""
        return fake_quantize("levels", x, parameters[0], (-self.top, self.top))

    def backward(self, gradient: Tensor, x: Tensor, *parameters: Tensor) -> Gradients:
        """In one pass."""
        passed, sums = fake_quantize_backward("levels", gradient, x, parameters[0], (-self.top, self.top))
        return passed, sums[0].float() / parameters[0] * self.gradient_scale, None


def round_tensor(x: Tensor, scale: Tensor, low: int, high: int, gradient_scale: float) -> Tensor:
    """``x`` on the grid of one ``scale`` [1] and levels ``low`` to ``high``; see :class:`_RoundTensor` for the gradients."""
    return moved(_OneStep(low, high, gradient_scale), x, scale)


def round_rows(x: Tensor, scale: Tensor, zeros: Tensor, top: int, gradient_scale: float) -> Tensor:
    """Weights [Co, ...] on grids of ``scale`` [Co] and levels ``-top`` to ``top``; ``zeros`` int32 [Co] are zero points of 0."""
    return moved(_StepsOfRows(top, gradient_scale), x, scale, zeros)


def chosen_rows(x: Tensor, scale: Tensor, levels: Tensor, top: int, gradient_scale: float) -> Tensor:
    """The same with given ``levels`` [Co, ...] instead of the nearest integers."""
    return cast(Callable[..., Tensor], _ChosenRows.apply)(x, scale, levels, top, gradient_scale)


def straight_through(x: Tensor, chosen: Tensor) -> Tensor:
    """``chosen`` in place of ``x``, with the gradient passing to ``x`` unchanged."""
    return cast(Callable[..., Tensor], _Replacement.apply)(x, chosen)
