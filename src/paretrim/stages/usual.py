"""The default stages: prune, quantize, distill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from paretrim.errors import InvalidRecipe
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.allocation import Allocation
from paretrim.stages.prune.patterns import BLOCK_1X4, CHANNEL
from paretrim.stages.prune.score_table import SECOND_ORDER
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.train.budget import MOST, Budget

SHARES = (0.2, 0.4, 0.4)
"""Epochs of pruning, quantizing and distilling as shares of a candidate's total."""


def split_epochs(total: int, shares: Sequence[float] = SHARES) -> tuple[int, ...]:
    """Whole epochs that add up to ``total``, as close to the shares as possible (largest remainders first).

    Raises:
        InvalidRecipe: the total is out of range.

    >>> split_epochs(10)
    (2, 4, 4)
    """
    if not 0 <= total <= MOST:
        raise InvalidRecipe(f"--epochs is {total}; it must be 0 or more, and at most {MOST}")
    exact = [total * share / sum(shares) for share in shares]
    whole = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: whole[index] - exact[index])
    for index in by_remainder[: total - sum(whole)]:
        whole[index] += 1
    return tuple(whole)


def usual_stages(epochs: int, *, sparsity: float = 0.8, pattern: str = "1x4", budget: Budget) -> tuple[Stage, ...]:
    """Prune, quantize, distill: epochs split by :data:`SHARES`, all other training settings as in ``budget``.

    Single weights and blocks are pruned by second-order scores and the remaining ones fitted, which training does not make up for
    (docs/studies/start-of-compress-cifar10-resnet20.md); without epochs there is nothing else but quantization. Whole channels
    are removed by magnitude. Blocks serve to save time, so they are allocated to the layers by the time that a block takes.
    """
    allocation: Allocation = "speed" if pattern == BLOCK_1X4.text else "global"
    prune, quantize, distill = (replace(budget, epochs=part) for part in split_epochs(epochs))
    cut = Prune(budget=prune, sparsity=sparsity, pattern=pattern, allocation=allocation)
    if pattern != CHANNEL:
        cut = replace(cut, score=SECOND_ORDER, compensate=True)
    if epochs == 0 and pattern != CHANNEL:
        return cut, Quantize(budget=quantize)
    return cut, Quantize(budget=quantize), Distill(budget=distill)
