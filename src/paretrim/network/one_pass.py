"""Fake quantization in one native pass forward and one backward, for tensors in CPU memory.

Each operation in a chain of torch operations reads and writes memory once, and on a CPU this is most of the cost of training
with quantization. A :class:`Rule` has both forms, native and torch. The native one gives the values of the torch one, bit for bit
in float32; in bfloat16 it computes in float32 and rounds once. Sums over a tensor (gradients of steps) have a fixed order, by
the tensor's memory: they are the same on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor

from paretrim.network.tensors import AutogradContext, in_memory_order
from paretrim.runtime.compiled import native

_TYPES = (torch.float32, torch.bfloat16)

Gradients = tuple[Tensor | None, ...]


class Rule(Protocol):
    """How a tensor is rounded to a grid described by ``parameters``."""

    def by_torch(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """``x`` on the grid by torch operations; on any device, with gradients of any order."""
        ...

    def forward(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """The same natively, of the type and layout of ``x``."""
        ...

    def backward(self, gradient: Tensor, x: Tensor, *parameters: Tensor) -> Gradients:
        """Gradients of ``x`` and the parameters natively; ``gradient`` has the layout of ``x``."""
        ...


def moved(rule: Rule, x: Tensor, *parameters: Tensor) -> Tensor:
    """``x`` moved to a grid by this rule: natively if it can be, else by torch."""
    if in_memory(x):
        return cast(Callable[..., Tensor], _OnePass.apply)(rule, x, *parameters)
    return rule.by_torch(x, *parameters)


def in_memory(x: Tensor) -> bool:
    """Whether the native pass takes this tensor: on a CPU, not compiled, float32 or bfloat16, without gaps, and not empty."""
    return (
        x.device.type == "cpu"
        and x.dtype in _TYPES
        and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))
        and x.numel() > 0
        and not torch.compiler.is_compiling()
    )


class _RuleContext(AutogradContext, Protocol):
    """The rule, beside what torch keeps."""

    rule: Rule


class _OnePass(torch.autograd.Function):
    """A rule in its native form. For gradients of gradients, the backward pass is torch's."""

    @staticmethod
    def forward(ctx: _RuleContext, rule: Rule, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(x, *parameters)
        return rule.forward(x.detach(), *(parameter.detach() for parameter in parameters))

    @staticmethod
    def backward(ctx: _RuleContext, gradient: Tensor) -> Gradients:
        needed = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_differentiated(ctx.rule, gradient, ctx.saved_tensors, needed)
        found = ctx.rule.backward(_laid_out_as(ctx.saved_tensors[0], gradient), *ctx.saved_tensors)
        return None, *(one if needs else None for one, needs in zip(found, needed, strict=True))


def _differentiated(rule: Rule, gradient: Tensor, inputs: tuple[Tensor, ...], needed: tuple[bool, ...]) -> Gradients:
    wanted = [one for one, needs in zip(inputs, needed, strict=True) if needs]
    found = torch.autograd.grad(rule.by_torch(*inputs), wanted, gradient, create_graph=True, allow_unused=True)
    rest = iter(found)
    return tuple(next(rest) if needs else None for needs in needed)


def _laid_out_as(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the type and layout of ``x``."""
    if gradient.dtype == x.dtype and gradient.stride() == x.stride():
        return gradient
    return torch.empty_like(x).copy_(gradient)


def fake_quantize(kind: str, x: Tensor, steps: Tensor, ends: tuple[float, float], *, offset: float = 0.0) -> Tensor:
    """``x`` on the grid of one step [1], or of a step for each index of the first axis.

    ``kind`` is one of those in ``native/kernels/training.h``; ``ends`` are the lowest and the highest level.
    """
    out = torch.empty_like(x)
    native.fake_quantize(kind, x, steps, *ends, offset, out, torch.get_num_threads())
    return out


def fake_quantize_backward(
    kind: str, gradient: Tensor, x: Tensor, steps: Tensor, ends: tuple[float, float], *, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The part of a gradient that passes to ``x``, and two sums of the gradient for each step, float64 [2, steps].

    ``native/kernels/training.h`` says what is summed; if a kind has one sum, the second is 0.
    """
    passed, sums = torch.empty_like(x), torch.empty(len(steps), 2, dtype=torch.float64)
    x, steps, threads = x.detach(), steps.detach(), torch.get_num_threads()
    native.fake_quantize_backward(kind, x, gradient, steps, *ends, offset, passed, sums, threads)
    return passed, sums.T.clone(memory_format=torch.contiguous_format)  # optimizers and checkpoints keep the layout of gradients


def least_and_greatest(x: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of a tensor, both []; both NaN if a value is."""
    if in_memory(x):
        ends = torch.tensor(native.range_of(x, torch.get_num_threads()))
        return ends[0], ends[1]
    low, high = torch.aminmax(in_memory_order(x))
    return low, high
