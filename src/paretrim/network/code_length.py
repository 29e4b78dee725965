"""The cost of integers in a coded file, and rounding that takes it into account.

The price list of a layer gives bits by magnitude under the layer's own frequencies, with a bit for the sign: what an adaptive
coder that knows only frequencies would spend. Blocks of four input channels that hold only zeros are not counted, since the
file marks such blocks as a whole.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 4
"""Consecutive input channels that the file marks as one block if all of them are 0."""

_UNSEEN = 0.5
"""Added to every count, so that a magnitude that does not occur yet has a price too."""


def code_lengths(levels: Tensor, top: int) -> Tensor:
    """Bits of every magnitude 0..top, float32 [top + 1], counted in integers [Co, Ci, ...] of at most that size.

    >>> code_lengths(torch.tensor([[0.0, 1.0, -1.0, 0.0]]), 1).tolist()
    [1.0, 2.0]
    """
    magnitudes = levels.detach().abs()
    counts = torch.bincount(magnitudes[_beside_others(magnitudes)].long(), minlength=top + 1).double() + _UNSEEN
    bits = torch.log2(counts.sum() / counts)
    bits[1:] += 1  # the sign
    return bits.float()


def _beside_others(magnitudes: Tensor) -> Tensor:
    """Where one of the block of four is not 0; bool, of the same shape."""
    channels = magnitudes.shape[1]
    blocks = -(-channels // BLOCK)
    rows = magnitudes.reshape(len(magnitudes), channels, -1)
    grouped = F.pad(rows, (0, 0, 0, blocks * BLOCK - channels)).reshape(len(rows), blocks, BLOCK, -1)
    alive = grouped.amax(2) > 0
    return alive.repeat_interleave(BLOCK, 1)[:, :channels].reshape(magnitudes.shape)


def cheapest(steps: Tensor, lengths: Tensor, price: Tensor) -> Tensor:
    """Integers with the least squared error + ``price`` * bits, float32 of the shape of ``steps``.

    ``steps`` are weights in units of their grid, ``price`` what a bit is worth in squared steps, broadcast against them. The
    candidates are both neighbours, the next lower level, and 0; 0 stays 0, and signs never change.

    Source: entropy-constrained scalar quantization, Chou et al. 1989 (IEEE Trans. ASSP 37(1)); as "RDOQ" in Wiedemann et al.
    2020 (DeepCABAC, arXiv 1907.11900).
    """
    size = steps.detach().abs().clamp(max=len(lengths) - 1)
    below = size.floor()
    best = torch.zeros_like(size)
    least = size.square() + price * lengths[0]
    for level in ((below - 1).clamp_min(0), below, size.ceil()):
        cost = (size - level).square() + price * lengths[level.long()]
        better = cost < least
        best, least = torch.where(better, level, best), torch.where(better, cost, least)
    return best * steps.detach().sign()


def bits_between(steps: Tensor, lengths: Tensor) -> Tensor:
    """Sum of the bits of weights between integers, interpolated linearly; with a gradient to ``steps``.

    If ``lengths`` were counted in the same weights, each split between its two neighbours, this gradient is that of the entropy:
    the contributions of the counts themselves sum to 0.
    """
    size = steps.abs().clamp(max=len(lengths) - 1)
    below = size.detach().floor()
    low, high = lengths[below.long()], lengths[(below + 1).clamp(max=len(lengths) - 1).long()]
    return (low + (high - low) * (size - below)).sum()
