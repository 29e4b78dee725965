"""Functions of torch written with operations that the graph has, where torch's own decomposition uses others."""

from __future__ import annotations

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
