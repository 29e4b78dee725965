"""Optimal brain surgeon for the rows of one layer: which block of a row costs least, and how the others are fitted then.

A row w [D] has the error ``(w - w0) H (w - w0)`` with H [D, D] the second moments of its inputs. Removing block b costs
``w_b (inv(H)_bb)^-1 w_b``; the others move by ``-inv(H)_:b (inv(H)_bb)^-1 w_b``, and b leaves the inverse by elimination. Rows
are independent and share H until they have lost different blocks.

Sources: Hassibi & Stork 1993; Frantar & Alistarh 2022, "Optimal brain compression", arXiv 2208.11580, sections 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DAMPING = 0.01
"""Share of the mean diagonal of H that is added to it: some inputs are never seen, and few images say little of many columns."""

_AT_ONCE = 2**23
"""Numbers of inverses that are worked on at once: fewer would cost more in calls than in arithmetic."""

_EXACT = 640
"""Up to this width one block leaves at a time; wider rows lose several before the costs of the others are computed again, which
makes products of large matrices out of passes over memory."""

_RISE = 1e-9
"""A block that seems cheaper than one before it counts as dearer by this share."""

_FRACTION = 32
"""Wider rows lose one in this many of their remaining blocks at a time."""


def damped(square: Tensor, damping: float = DAMPING) -> Tensor:
    """The second moments [D, D] with ``damping`` times their mean diagonal added; of inputs that are all 0, the identity."""
    mean = float(square.diagonal().mean())
    return square + (damping * mean if mean > 0 else 1.0) * torch.eye(len(square), dtype=square.dtype, device=square.device)


def removal_costs(
    weight: Tensor, square: Tensor, *, block: int, alive: Tensor | None = None, quota: tuple[int, int] | None = None
) -> Tensor:
    """What the removal of every block cost when it was its turn, each row in its own greedy order, float64 [R, D / block].

    Costs rise along a row's order: a block that became cheaper by what went before counts as hardly dearer than the dearest
    before it. So the blocks with the smallest costs of a row are those that left it first, however many are taken.

    Args:
        weight: rows [R, D]; blocks are neighbours.
        square: second moments of the inputs [D, D], positive definite; see :func:`damped`.
        block: weights that leave together; it divides D.
        alive: bool [R, D / block]; what is False there has left already. None: nothing has.
        quota: ``(stay, group)``: of every ``group`` neighbouring blocks at least ``stay`` never leave; ``group`` divides
            D / block. All that stay in a row cost the same, more than what left it.
    """
    rows, width = weight.shape
    count = width // block
    living = torch.ones(rows, count, dtype=torch.bool, device=weight.device) if alive is None else alive
    inverse = torch.linalg.inv(square.double())
    costs = torch.zeros(rows, count, dtype=torch.float64, device=weight.device)
    at_once = max(1, _AT_ONCE // width**2)
    for first in range(0, rows, at_once):
        chunk = slice(first, first + at_once)
        costs[chunk] = _chunk_costs(weight[chunk], inverse, block, living[chunk], quota)
    return costs


def _chunk_costs(weight: Tensor, inverse: Tensor, block: int, alive: Tensor, quota: tuple[int, int] | None) -> Tensor:
    """:func:`removal_costs` for a few rows [r, D], from the inverse [D, D] of all columns."""
    rows, width = weight.shape
    count = width // block
    costs = torch.zeros(rows, count, dtype=torch.float64, device=weight.device)
    left = _RowsLeft.of(weight, inverse, block, alive, quota)
    dearest = torch.zeros(rows, 1, dtype=torch.float64, device=weight.device)
    while left.blocks:
        step = 1 if width <= _EXACT else max(1, left.blocks // _FRACTION)
        chosen, cost = left.cheapest(step)
        leaves, places = torch.isfinite(cost), left.places.gather(1, chosen)
        cost = torch.cummax(torch.cat([dearest * (1 + _RISE), cost.double().where(leaves, 0.0)], 1), 1).values[:, 1:]
        dearest = cost[:, -1:]
        costs.scatter_(1, places, cost.where(leaves, costs.gather(1, places)))
        left.remove_(chosen, leaves)
    if quota:
        costs = costs.where(left.gone, dearest * (1 + _RISE) + torch.finfo(torch.float64).tiny)
    return costs


@dataclass(eq=False)
class _RowsLeft:
    """What is left of a few rows: weights [r, A], their inverses [r, A, A], and the places of their A / block blocks [r, B].

    Blocks that have left stay in the tensors, as zeros, until there are enough of them for smaller tensors to pay; with a
    ``quota`` they all stay, so that groups are neighbours.
    """

    weight: Tensor
    inverse: Tensor
    places: Tensor
    gone: Tensor
    block: int
    quota: tuple[int, int] | None

    @property
    def blocks(self) -> int:
        """Blocks that may still leave the row that has most of them."""
        if not len(self.gone):
            return 0
        if self.quota is None:
            return int((~self.gone).sum(1).max())
        stay, group = self.quota
        return int(((~self.gone).view(len(self.gone), -1, group).sum(2) - stay).clamp(min=0).sum(1).max())

    @classmethod
    def of(cls, weight: Tensor, inverse: Tensor, block: int, alive: Tensor, quota: tuple[int, int] | None) -> _RowsLeft:
        rows, width = weight.shape
        places = torch.arange(width // block, device=weight.device).expand(rows, -1).clone()
        inverses = inverse.float().expand(rows, width, width).clone()
        left = cls(weight.float().clone(), inverses, places, torch.zeros_like(alive), block, quota)
        for row in range(rows):  # what has left already leaves first, at once; the weights are those that remained
            dead = torch.nonzero(~alive[row].repeat_interleave(block)).flatten()
            if len(dead):
                across = inverse[:, dead]
                left.inverse[row] -= (across @ torch.linalg.solve(inverse[dead][:, dead], across.T)).float()
                left.inverse[row, dead] = left.inverse[row, :, dead] = 0
                left.weight[row, dead] = 0
        left.gone = ~alive
        return left

    def cheapest(self, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` blocks of every row that cost least now, and what they cost, [r, count] each; ascending.

        Infinity where a row has no more that may leave. With a quota no two of a group are chosen at once.
        """
        rows, width = self.weight.shape
        split = (rows, width // self.block, self.block)
        own = self.inverse.reshape(*split, *split[1:]).diagonal(dim1=1, dim2=3).movedim(3, 1)  # [r, B, block, block]
        weight = self.weight.reshape(split)
        if self.block == 1:
            costs = weight[:, :, 0].square() / own[:, :, 0, 0].where(~self.gone, 1.0)
        else:
            identity = torch.eye(self.block, device=own.device)
            solved = torch.linalg.solve(own.where(~self.gone[:, :, None, None], identity), weight)
            costs = (weight * solved).sum(2)
        costs = costs.clamp(min=0).where(~self.gone, torch.inf)
        if self.quota is None:
            found = torch.topk(costs, count, dim=1, largest=False, sorted=True)
            return found.indices, found.values
        stay, group = self.quota
        full = (~self.gone).view(len(self.gone), -1, group).sum(2) > stay
        least, which = costs.view(rows, -1, group).min(2)
        found = torch.topk(least.where(full, torch.inf), min(count, least.shape[1]), dim=1, largest=False, sorted=True)
        return found.indices * group + which.gather(1, found.indices), found.values

    def remove_(self, chosen: Tensor, leaves: Tensor) -> None:
        """Take the blocks [r, count] out where they leave; the other weights make up for them."""
        rows, width = self.weight.shape
        columns = (chosen[:, :, None] * self.block + torch.arange(self.block, device=chosen.device)).flatten(1)
        absent = ~leaves.repeat_interleave(self.block, 1)
        across = self.inverse.gather(2, columns[:, None].expand(rows, width, columns.shape[1])).masked_fill_(absent[:, None], 0)
        own = across.gather(1, columns[:, :, None].expand(-1, -1, columns.shape[1]))
        own = own + torch.diag_embed(absent.to(own.dtype))  # a row that has no more: nothing is solved for, nothing moves
        solved = torch.linalg.solve(own, across.transpose(1, 2))  # [r, count * block, A]
        weight = self.weight.gather(1, columns)
        self.weight = self.weight - (weight[:, None] @ solved)[:, 0]
        self.inverse.baddbmm_(across, solved, alpha=-1)
        self.gone.scatter_(1, chosen, leaves | self.gone.gather(1, chosen))
        gone = self.gone.repeat_interleave(self.block, 1)
        self.weight.masked_fill_(gone, 0)
        if self.quota is None and (blocks := self.blocks) * 4 <= 3 * self.gone.shape[1]:
            self._shrink_(blocks)

    def _shrink_(self, blocks: int) -> None:
        """Drop what has left from the tensors; rows with fewer blocks than others keep some that have left."""
        stay = torch.argsort(self.gone.to(torch.uint8), dim=1, stable=True)[:, :blocks]
        columns = (stay[:, :, None] * self.block + torch.arange(self.block, device=stay.device)).flatten(1)
        width = columns.shape[1]
        some = self.inverse.gather(1, columns[:, :, None].expand(-1, -1, self.inverse.shape[2]))
        self.inverse = some.gather(2, columns[:, None].expand(-1, width, -1))
        self.weight = self.weight.gather(1, columns)
        self.places, self.gone = self.places.gather(1, stay), self.gone.gather(1, stay)


def fitted(square: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """The weights [R, D] float64 with the least squared error among those that are 0 where ``mask`` [R, D] is False.

    Args:
        square: second moments of the inputs [D, D], positive definite.
        targets: moments of wanted outputs and inputs [R, D].
        mask: bool [R, D].
    """
    result = torch.zeros_like(targets, dtype=torch.float64)
    patterns, which = torch.unique(mask, dim=0, return_inverse=True)
    for number, pattern in enumerate(patterns):  # rows that kept the same columns share a factor
        stay = torch.nonzero(pattern).flatten()
        if len(stay):
            rows = torch.nonzero(which == number)
            factor = torch.linalg.cholesky(square[stay][:, stay].double())
            result[rows, stay] = torch.cholesky_solve(targets[rows, stay].double().T, factor).T
    return result
