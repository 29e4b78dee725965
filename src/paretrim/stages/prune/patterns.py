"""Which weights are kept or removed together.

Weights are [Co, Ci, kh, kw] (convolution; Ci per group) or [out, in] (linear); kernels of any rank work. Legend of shapes:
B = ceil(Ci / block) blocks along the input channels.

========================  ==========================================================================================
``unstructured``          single weights
``1x4``                   four consecutive input channels of one output channel and one kernel position: what one lane
                          of an 8-bit dot product instruction consumes
``n:m`` (such as ``2:4``) n of every m consecutive input channels of one output channel and kernel position are kept;
                          of a last group of t < m channels ceil(n t / m): the share of a whole group, rounded up
========================  ==========================================================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from paretrim.errors import InvalidRecipe, TrainingFailed, UnsupportedOperation
from paretrim.method import OURS, Method
from paretrim.stages.prune.scores import largest
from paretrim.visible import brief


@dataclass(frozen=True)
class Pattern:
    """A pattern of zeros; :func:`parse_pattern` makes one from its text.

    Attributes:
        text: as written in a recipe.
        block: consecutive input channels that form one block; 1 for single weights.
        stay: how many of every ``group`` consecutive input channels are kept; 0 if the pattern does not set the sparsity.
        group: see ``stay``.
    """

    text: str
    block: int = 1
    stay: int = 0
    group: int = 0

    @property
    def fixed(self) -> bool:
        """Whether the pattern itself sets the sparsity (n:m)."""
        return self.group > 0

    @property
    def sparsity(self) -> float | None:
        """Sparsity of an n:m pattern if m divides the input channels; None for patterns that do not set the sparsity.

        A last group of t < m channels may have a lower one, since ``ceil(n t / m)`` of it are kept: by less than one weight.
        """
        return 1 - self.stay / self.group if self.fixed else None

    def quotas(self, channels: int) -> Tensor:
        """How many weights an n:m pattern keeps of each group of that many input channels at most, int64 [ceil(Ci / group)].

        Source: ours for a last group of t < m channels, ``ceil(n t / m)``. ``torch.sparse.to_sparse_semi_structured`` refuses
        weights whose sizes are no multiples of its tiles.
        """
        sizes = torch.full((math.ceil(channels / self.group),), self.group)
        sizes[-1] -= -channels % self.group
        return -(-self.stay * sizes // self.group)


UNSTRUCTURED = Pattern("unstructured")
BLOCK_1X4 = Pattern("1x4", block=4)
CHANNEL = "channel"
"""The pattern that removes whole channels instead of masking weights; it is no :class:`Pattern`."""

FREE = (UNSTRUCTURED, BLOCK_1X4)
"""Patterns that do not set the sparsity."""

METHODS = (
    Method(
        name="unstructured",
        kind="pattern",
        source="Han et al. 2015, arXiv 1506.02626",
        what="single weights",
        formula="one block = one weight",
        recipe="magnitude",
    ),
    Method(
        name="1x4",
        kind="pattern",
        source=OURS,
        what="blocks of four input channels of one output channel and kernel position; the native runtime skips zero blocks",
        formula="one block = W[o, 4b:4b+4, y, x]; score(block) = sqrt(sum of score^2)",
        recipe="blocks",
        settings=("prune.regroup",),
    ),
    Method(
        name="n:m",
        kind="pattern",
        source="Mishra et al. 2021, arXiv 2104.08378",
        what="keep n of every m consecutive input channels, for example 2:4",
        formula="keep the n largest scores of W[o, mb:mb+m, y, x]; sparsity = 1 - n/m\n"
        "keep ceil(n t / m) of a last group of t < m channels",
        recipe="n-m",
    ),
)


def parse_pattern(text: str) -> Pattern:
    """Read ``unstructured``, ``1x4`` or ``n:m`` with 0 < n < m.

    >>> parse_pattern("2:4").sparsity
    0.5

    Raises:
        InvalidRecipe: any other text.
    """
    for pattern in FREE:
        if text == pattern.text:
            return pattern
    found = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text)
    if found is None:
        raise InvalidRecipe(
            f"pattern {brief(text)} is unknown; write 'unstructured', '1x4' or 'n:m' such as '2:4', or, in prune, 'channel'"
        )
    stay, group = int(found[1]), int(found[2])
    if stay >= group:
        raise InvalidRecipe(f"pattern '{text}' prunes nothing: of every {group} weights {stay} would stay; n must be below m")
    return Pattern(text, stay=stay, group=group)


def block_shape(weight_shape: Sequence[int], pattern: Pattern) -> tuple[int, ...]:
    """Shape of one value per block: [Co, B, kh, kw]; the weight's own shape if blocks are single weights.

    Raises:
        UnsupportedOperation: the weight has no input channel axis.
    """
    if len(weight_shape) < 2:
        raise UnsupportedOperation(
            f"a weight of shape {tuple(weight_shape)} has no input channels; prune weights [Co, Ci, kh, kw] or [out, in], "
            "not biases or BatchNorm"
        )
    return (weight_shape[0], math.ceil(weight_shape[1] / pattern.block), *weight_shape[2:])


def block_scores(scores: Tensor, pattern: Pattern) -> Tensor:
    """Score of every block from non-negative scores of weights.

    ``1x4``: the sum of squares in float64, [Co, B, kh, kw]; a last block of fewer than four channels sums the ones it has, since
    that is the energy that its removal costs. For single weights the scores are returned, in float32 at least.

    Raises:
        TrainingFailed: a score is NaN or infinite.
        UnsupportedOperation: the weight has no input channel axis.
    """
    shape = block_shape(scores.shape, pattern)
    bad = scores.numel() - int(torch.isfinite(scores).sum())
    if bad:
        raise TrainingFailed(f"{bad} of {scores.numel()} scores are NaN or infinite; has the training diverged?")
    scores = scores.detach()
    if pattern.block == 1:
        return scores.to(torch.promote_types(scores.dtype, torch.float32))
    return _split(scores.double().square(), pattern.block, fill=0).sum(2).reshape(shape)


def block_sums(values: Tensor, pattern: Pattern) -> Tensor:
    """The sum of the values of every block, float64: [Co, Ci, kh, kw] -> [Co, B, kh, kw]."""
    return _split(values.double(), pattern.block, fill=0).sum(2)


def block_alive(alive: Tensor, pattern: Pattern) -> Tensor:
    """Which blocks still have a weight that is not pruned: bool [Co, Ci, kh, kw] -> bool [Co, B, kh, kw]."""
    return _split(alive, pattern.block, fill=0).any(2)


def expand(block_mask: Tensor, weight_shape: Sequence[int], pattern: Pattern) -> Tensor:
    """Mask of weights from a mask of blocks: [Co, B, kh, kw] -> ``weight_shape``.

    Raises:
        InvalidRecipe: the mask does not have one value per block.
    """
    wanted = block_shape(weight_shape, pattern)
    if tuple(block_mask.shape) != wanted:
        raise InvalidRecipe(
            f"a block mask of shape {tuple(block_mask.shape)} does not fit a weight of shape {tuple(weight_shape)} under "
            f"pattern '{pattern.text}', which has blocks {wanted}"
        )
    return block_mask.repeat_interleave(pattern.block, 1)[:, : weight_shape[1]]


def survivors(alive: Tensor, pattern: Pattern) -> int:
    """How many of the remaining weights an n:m pattern keeps; groups with fewer than their quota remaining keep all of those."""
    left = _split(alive, pattern.group, fill=0).sum(2)
    return int(left.minimum(_along_groups(pattern, alive)).sum())


def mask_for(scores: Tensor, keep: int, pattern: Pattern, *, alive: Tensor | None = None) -> Tensor:
    """Mask of weights that keeps exactly ``keep`` blocks, those with the largest scores; ties keep the lower index.

    With ``1x4`` and Ci a multiple of 4 the share of zero weights equals the share of zero blocks. Otherwise the last block
    of each row has fewer weights to sum and tends to be pruned first: the share of zero weights is then lower than that of zero
    blocks. Blocks are counted because they are what is stored and multiplied.

    Args:
        scores: non-negative score of every weight, [Co, Ci, kh, kw] or [out, in].
        keep: number of blocks to keep; for ``n:m`` it must be :func:`survivors`, which the pattern determines.
        pattern: which weights are kept or removed together.
        alive: mask of an earlier stage; what is False there stays False, and a block that is all False cannot be kept.

    Returns:
        Boolean mask of the shape of ``scores``.

    Raises:
        InvalidRecipe: ``keep`` is not possible.
        TrainingFailed: a score is NaN or infinite.
        UnsupportedOperation: the weight has no input channel axis.
    """
    living = torch.ones_like(scores, dtype=torch.bool) if alive is None else alive
    ranked = block_scores(scores.where(living, 0), pattern)
    possible = block_alive(living, pattern)
    ranked = ranked.where(possible, -torch.inf)
    if pattern.fixed:
        if keep != survivors(living, pattern):
            raise InvalidRecipe(
                f"pattern '{pattern.text}' keeps {survivors(living, pattern)} of the {scores.numel()} weights of shape "
                f"{tuple(scores.shape)}, not {keep}; the pattern sets the sparsity"
            )
        return _best_of_each(ranked, pattern) & living
    if keep > int(possible.sum()):
        raise InvalidRecipe(
            f"cannot keep {keep} blocks of pattern '{pattern.text}': after earlier pruning only {int(possible.sum())} of "
            f"{possible.numel()} have a weight left"
        )
    return expand(largest(ranked, keep), scores.shape, pattern) & living


def _best_of_each(scores: Tensor, pattern: Pattern) -> Tensor:
    """The largest of every group along the input channels, as many as its quota."""
    groups = _split(scores, pattern.group, fill=-torch.inf)
    ranks = groups.argsort(stable=True, dim=2, descending=True).argsort(dim=2)
    best = ranks < _along_groups(pattern, scores).unsqueeze(2)
    return best.flatten(1, 2)[:, : scores.shape[1]]


def _along_groups(pattern: Pattern, weights: Tensor) -> Tensor:
    """The quotas as [1, groups, 1, ...], to be compared with numbers of every group of these weights."""
    quotas = pattern.quotas(weights.shape[1]).to(weights.device)
    return quotas.reshape(1, -1, *[1] * (weights.ndim - 2))


def _split(values: Tensor, size: int, *, fill: float) -> Tensor:
    """[Co, Ci, kh, kw] -> [Co, ceil(Ci / size), size, kh, kw]; positions past Ci hold ``fill``."""
    channels = values.shape[1]
    padded = functional.pad(values, (0, 0) * (values.ndim - 2) + (0, -channels % size), value=fill)
    return padded.reshape(values.shape[0], -1, size, *values.shape[2:])
