"""Norms and LAMP scores, and the selection of an exact number of the largest scores.

Scores are non-negative and larger means keep. Pure functions of tensors, independent of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from paretrim.errors import InvalidRecipe, TrainingFailed


def channel_l2(weight: Tensor) -> Tensor:
    """Euclidean norm of every output channel: [Co, ...] -> [Co] float64, detached.

    float64 because the sum runs over thousands of squares and ranks channels that differ little.

    Source: Li et al. 2017, "Pruning filters for efficient ConvNets", arXiv 1608.08710, with the L2 instead of the L1 norm.
    """
    norms: Tensor = weight.detach().double().flatten(1).norm(dim=1)
    return norms


def lamp(squares: Tensor) -> Tensor:
    """LAMP score of every element of one layer, same shape, float64.

    With the elements sorted ascending, ``score(u) = squares[u] / sum(squares[v] for v >= u)``: an element's share of the sum that
    remains when all smaller elements are gone. The largest element scores 1, so no layer is emptied. Of equal elements the one
    with the lower index counts as larger, as in :func:`largest`. A layer of zeros scores 0.

    Args:
        squares: squared weights, or sums of squares of blocks, of one layer.

    Source: Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning", arXiv 2010.07611.
    """
    flat = squares.detach().double().flatten()
    ordered, index = torch.sort(flat, descending=True, stable=True)
    left = torch.cumsum(ordered, 0)
    shares = torch.where(left > 0, ordered / left.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return torch.empty_like(flat).scatter_(0, index, shares).reshape(squares.shape)


def largest(scores: Tensor, keep: int) -> Tensor:
    """Mask of exactly the ``keep`` largest scores; of equal scores the one with the lower index is kept.

    Masks for different ``keep`` are nested. Selection runs in linear time and gives the same mask on every device.

    Args:
        scores: any shape, floating point, no NaN (infinities are ranked like any number).
        keep: how many to keep, 0 to the number of scores.

    Returns:
        Boolean mask of the shape and on the device of ``scores``.

    Raises:
        InvalidRecipe: ``keep`` is not a possible count.
        TrainingFailed: a score is NaN.
    """
    total = scores.numel()
    if not 0 <= keep <= total:
        raise InvalidRecipe(f"cannot keep {keep} of {total} scores; ask for 0 to {total}")
    if bool(torch.isnan(scores).any()):
        raise TrainingFailed(f"{int(torch.isnan(scores).sum())} of {total} pruning scores are NaN; has the training diverged?")
    if keep in (0, total):
        return torch.full(scores.shape, keep > 0, dtype=torch.bool, device=scores.device)
    flat = scores.detach().flatten()
    # On the CPU, because kthvalue on CUDA refuses to run under torch.use_deterministic_algorithms.
    threshold = torch.kthvalue(flat.cpu(), total - keep).values.to(flat.device)
    mask = flat > threshold
    ties = torch.nonzero(flat == threshold).flatten()
    mask[ties[: keep - int(mask.sum())]] = True
    return mask.reshape(scores.shape)
