"""Functions of torch written with operations that the graph has, where torch's own decomposition uses others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine_similarity(first: Tensor, second: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """As documented by torch: the dot product of both, each divided by its norm or ``eps``."""
    units = [value / value.square().sum(dim, keepdim=True).sqrt().clamp_min(eps) for value in (first, second)]
    return (units[0] * units[1]).sum(dim)


def logsumexp(value: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    """The maximum is taken out first, so that nothing overflows."""
    most = value.amax(dim, keepdim=True)
    found = (value - most).exp().sum(dim, keepdim=True).log() + most
    return found if keepdim else found.sum(dim)  # over axes of one value, which removes them


def logaddexp(first: Tensor, second: Tensor) -> Tensor:
    """The larger of both, and what the smaller adds."""
    return torch.maximum(first, second) + F.softplus(-(first - second).abs())


def logaddexp2(first: Tensor, second: Tensor) -> Tensor:
    """As :func:`logaddexp`, of powers of 2."""
    return torch.maximum(first, second) + (-(first - second).abs()).exp2().add(1).log2()


def hypot(first: Tensor, second: Tensor) -> Tensor:
    """The length of vectors of two numbers."""
    return (first.square() + second.square()).sqrt()


def xlogy(first: Tensor | float, second: Tensor) -> Tensor:
    """The first times the logarithm of the second; 0 times any logarithm is 0, as the graph's are finite."""
    return first * second.log()


def xlogy_of_number(first: Tensor, second: float) -> Tensor:
    """As :func:`xlogy`, with one logarithm for all."""
    return first * math.log(second)


def xlog1py(first: Tensor, second: Tensor) -> Tensor:
    """As :func:`xlogy`, of 1 + the second."""
    return first * second.log1p()


def cumsum(value: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Running sums over the channels, the height or the width of maps [N, C, H, W]: a fixed convolution.

    Raises:
        NotImplementedError: over another axis, or of another shape.
    """
    axis = dim % value.dim()
    if value.dim() != 4 or axis == 0 or dtype not in (None, torch.float32):
        raise NotImplementedError("running sums over other axes")
    channels, extent = value.shape[1], value.shape[axis]
    if axis == 1:
        return F.conv2d(value, torch.ones(channels, channels).tril()[:, :, None, None])
    kernel = (extent, 1) if axis == 2 else (1, extent)
    before = (0, 0, extent - 1, 0) if axis == 2 else (extent - 1, 0, 0, 0)
    return F.conv2d(F.pad(value, before), torch.ones(channels, 1, *kernel), groups=channels)


def logit(value: Tensor, eps: float | None = None) -> Tensor:
    """The inverse of the sigmoid, of values between ``eps`` and 1 - ``eps``."""
    inside = value if eps is None else value.clamp(eps, 1 - eps)
    return inside.log() - (1 - inside).log()


def bilinear(first: Tensor, second: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Vectors [N, I] and [N, J] with a weight [K, I, J]: for every entry of the first a linear layer of the second, summed up.

    Raises:
        NotImplementedError: of values of another shape.
    """
    if first.dim() != 2 or second.dim() != 2:
        raise NotImplementedError("of maps")
    results, entries = weight.shape[:2]
    products = F.linear(second, weight.flatten(0, 1)) * torch.cat([first] * results, 1)
    sums = torch.eye(results).repeat_interleave(entries, 1)[..., None, None]
    found = F.conv2d(products[..., None, None], sums).flatten(1)
    return found if bias is None else found + bias


def conv_transpose1d(value: Tensor, weight: Tensor, bias: Tensor | None = None, *settings: Sequence[int] | int) -> Tensor:
    """A transposed convolution of rows [N, C, L]: one of maps of one row.

    ``settings`` are stride, padding, output padding, groups and dilation, as far as they are given.
    """
    usual = ((1,), (0,), (0,), 1, (1,))
    given = [[one] if isinstance(one, int) else [*one] for one in (*settings, *usual[len(settings) :])]
    stride, padding, more, groups, dilation = given
    row = value.unsqueeze(2), weight.unsqueeze(2), bias
    return F.conv_transpose2d(*row, (1, *stride), (0, *padding), (0, *more), groups[0], (1, *dilation)).squeeze(2)


def im2col(
    value: Tensor, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Tensor:
    """Patches of maps [N, C, H, W] as columns [N, C * k * l, places]: a fixed convolution takes every pixel of a patch.

    Raises:
        NotImplementedError: of one map without a batch.
    """
    if value.dim() != 4:
        raise NotImplementedError("without a batch")
    channels = value.shape[1]
    return F.conv2d(value, _pixels(channels, kernel_size), None, stride, padding, dilation, channels).flatten(2)


def col2im(
    value: Tensor,
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    """Sums of overlapping patches, given as columns [N, C * k * l, places]: a fixed transposed convolution.

    Raises:
        NotImplementedError: of one map without a batch.
    """
    if value.dim() != 3:
        raise NotImplementedError("without a batch")
    sides = zip(output_size, kernel_size, dilation, padding, stride, strict=True)
    reach = [size + 2 * pad - step * (kernel - 1) - 1 for size, kernel, step, pad, _ in sides]
    places = [one // step + 1 for one, step in zip(reach, stride, strict=True)]
    left = [one % step for one, step in zip(reach, stride, strict=True)]  # rows and columns that no patch reaches
    channels = value.shape[1] // math.prod(kernel_size)
    maps, kernels = value.view(*value.shape[:2], *places), _pixels(channels, kernel_size)
    return F.conv_transpose2d(maps, kernels, None, stride, padding, left, channels, dilation)


def _pixels(channels: int, kernel_size: Sequence[int]) -> Tensor:
    """Kernels [C * k * l, 1, k, l] that take one pixel each: of every channel all pixels, row by row."""
    count = math.prod(kernel_size)
    return torch.eye(count).reshape(count, 1, *kernel_size).repeat(channels, 1, 1, 1)
