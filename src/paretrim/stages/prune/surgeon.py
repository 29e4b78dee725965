"""Optimal brain surgeon for the rows of one layer: which block of a row is cheapest to remove, and how the others are refitted.

A row w [D] has the error ``(w - w0) H (w - w0)`` with H [D, D] the second moments of its inputs. Removing block b costs
``w_b (inv(H)_bb)^-1 w_b``; the others change by ``-inv(H)_:b (inv(H)_bb)^-1 w_b``, and b is eliminated from the inverse. Rows
are independent and share H until they have lost different blocks.

Sources: Hassibi & Stork 1993; Frantar & Alistarh 2022, "Optimal brain compression", arXiv 2208.11580, sections 4 and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

DAMPING = 0.01
"""Share of the mean diagonal of H to add to it: some inputs are always 0, and few images determine many columns poorly."""

_AT_ONCE = 2**23
"""Elements of inverses to process at once: with fewer, calls would cost more than arithmetic."""

_EXACT = 640
"""Up to this width one block is removed at a time. From what is wider, half of the blocks go before the costs of the others are
computed again, and the inverse is computed anew from the columns that stay. With a quota no column is ever left out, so there a
few go at a time."""

_FRACTION = 32
"""Wider rows with a quota lose one in this many of their remaining blocks at a time."""

_RISE = 1e-9
"""A block that seems cheaper than the one removed before it counts as more expensive by this share."""


def damped(square: Tensor, damping: float = DAMPING) -> Tensor:
    """The second moments [D, D] plus ``damping`` times their mean diagonal; the identity if all inputs are 0."""
    mean = float(square.diagonal().mean())
    return square + (damping * mean if mean > 0 else 1.0) * torch.eye(len(square), dtype=square.dtype, device=square.device)


def removal_costs(
    weight: Tensor, square: Tensor, *, block: int, alive: Tensor | None = None, quota: tuple[int | Tensor, int] | None = None
) -> Tensor:
    """Cost of removing every block when it is its turn, each row in its own greedy order, float64 [R, D / block].

    Costs rise along a row's order: a block that became cheaper through earlier removals counts as slightly more expensive than
    all before it. So the blocks with the smallest costs of a row are always the ones removed first.

    Args:
        weight: rows [R, D]; a block is adjacent weights.
        square: second moments of the inputs [D, D], positive definite; see :func:`damped`.
        block: number of weights that are removed together; it divides D.
        alive: bool [R, D / block]; blocks that are False there are already removed. None: all are there.
        quota: ``(stay, group)``: of every ``group`` adjacent blocks at least ``stay`` are never removed; ``group`` divides
            D / block. ``stay`` is a number, or int64 [D / block / group] with one for each group. All blocks that are never
            removed cost the same, more than the removed ones of their row.
    """
    rows, width = weight.shape
    count = width // block
    living = torch.ones(rows, count, dtype=torch.bool, device=weight.device) if alive is None else alive
    unit, size = _power_of_two(square.diagonal()), _power_of_two(weight)  # squares might leave float32
    square, weight = square.double() / unit, weight.double() / size
    inverse = torch.linalg.inv(square)
    costs = torch.zeros(rows, count, dtype=torch.float64, device=weight.device)
    halves = quota is None and count > _EXACT // block
    at_once = max(1, _AT_ONCE // (_EXACT if halves else width) ** 2)
    for first in range(0, rows, at_once):
        chunk = slice(first, first + at_once)
        if halves:
            left, highest = _halved(weight[chunk], square, inverse, block, living[chunk], costs[chunk])
        else:
            left, highest = (
                _RowsLeft.of(weight[chunk], inverse, block, living[chunk], quota),
                costs.new_zeros(len(costs[chunk]), 1),
            )
        _in_turn_(left, highest, costs[chunk], exact=halves or width <= _EXACT)
    return costs * (unit * size * size)


def _power_of_two(values: Tensor) -> float:
    """A power of two near the largest magnitude; 1 if all are 0."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return math.ldexp(1.0, math.frexp(largest)[1]) if largest else 1.0


def _in_turn_(left: _RowsLeft, highest: Tensor, costs: Tensor, *, exact: bool) -> None:
    """Remove the remaining blocks of a few rows, and enter what they cost in [r, B]; several at a time if not ``exact``.

    ``highest`` [r, 1] are the costs of what was removed before. With a quota, blocks that stay cost a little more than all others.
    """
    while left.blocks:
        chosen, cost = left.cheapest(1 if exact else max(1, left.blocks // _FRACTION))
        leaves, places = torch.isfinite(cost), left.places.gather(1, chosen)
        cost = torch.cummax(torch.cat([highest * (1 + _RISE), cost.double().where(leaves, 0.0)], 1), 1).values[:, 1:]
        highest = cost[:, -1:]
        costs.scatter_(1, places, cost.where(leaves, costs.gather(1, places)))
        left.remove_(chosen, leaves)
    if left.quota:
        costs.copy_(costs.where(left.gone, highest * (1 + _RISE) + torch.finfo(torch.float64).tiny))


def _halved(
    weight: Tensor, square: Tensor, inverse: Tensor, block: int, alive: Tensor, costs: Tensor
) -> tuple[_RowsLeft, Tensor]:
    """Remove half of the remaining blocks of every row at a time until :data:`_EXACT` columns are left, and fit these.

    Args:
        weight: rows [r, D].
        square: second moments of all columns [D, D], with their ``inverse``.
        block: number of weights that are removed together.
        alive: bool [r, B].
        costs: takes the costs of the removed blocks [r, B].

    Returns:
        What is left of the rows, and the highest cost of a removed block of each, [r, 1].
    """
    most, rows, short = _EXACT // block, len(weight), square.float()
    places = torch.empty(rows, most, dtype=torch.int64, device=weight.device)
    parts, fits, highest = [], [], costs.new_zeros(rows, 1)
    for row, present in enumerate(weight):
        targets = (square @ present).float()  # unchanged by what is removed: the row fits them as well as it can
        stay = torch.nonzero(alive[row]).flatten()
        about = inverse.float() if len(stay) == len(costs[row]) else None
        while True:
            columns = _columns(stay, block)
            about = torch.cholesky_inverse(torch.linalg.cholesky(short[columns][:, columns])) if about is None else about
            fit = about @ targets[columns]
            goes = min(len(stay) // 2, len(stay) - most)
            if goes <= 0:
                break
            cost, order = torch.sort(_block_costs(fit[None], about[None], block)[0], stable=True)
            risen = torch.cummax(torch.cat([highest[row] * (1 + _RISE), cost[:goes].double()]), 0).values[1:]
            costs[row, stay[order[:goes]]], highest[row] = risen, risen[-1]
            stay, about = torch.sort(stay[order[goes:]]).values, None
        missing = most - len(stay)  # of a row that had lost more before: filled with removed blocks
        places[row] = torch.cat([stay, torch.nonzero(~alive[row]).flatten()[:missing]])
        parts.append(functional.pad(about, (0, missing * block, 0, missing * block)))
        fits.append(functional.pad(fit, (0, missing * block)))
    gone = ~alive.gather(1, places)
    return _RowsLeft(torch.stack(fits), torch.stack(parts), places, gone, block, None), highest


def _columns(blocks: Tensor, block: int) -> Tensor:
    """The columns of blocks [..., n] as [..., n * block]."""
    return (blocks[..., None] * block + torch.arange(block, device=blocks.device)).flatten(-2)


def _block_costs(weight: Tensor, inverse: Tensor, block: int, gone: Tensor | None = None) -> Tensor:
    """The cost of every block [r, B] as the next to go, from weights [r, A] and inverses [r, A, A]; infinite where ``gone``."""
    rows, width = weight.shape
    split = (rows, width // block, block)
    own = inverse.reshape(*split, *split[1:]).diagonal(dim1=1, dim2=3).movedim(3, 1)  # [r, B, block, block]
    if gone is not None:
        own = own.where(~gone[:, :, None, None], torch.eye(block, device=own.device))
    parts = weight.reshape(split)
    solved = parts / own[..., 0] if block == 1 else torch.linalg.solve(own, parts)
    costs = (parts * solved).sum(2).clamp(min=0)
    return costs if gone is None else costs.where(~gone, torch.inf)


@dataclass(eq=False)
class _RowsLeft:
    """The remaining part of a few rows: weights [r, A], inverses [r, A, A], and the positions of their A / block blocks [r, B].

    Removed blocks stay in the tensors, as zeros, until there are enough of them to make smaller tensors worthwhile; with a
    ``quota`` they all stay, so that groups remain adjacent.
    """

    weight: Tensor
    inverse: Tensor
    places: Tensor
    gone: Tensor
    block: int
    quota: tuple[int | Tensor, int] | None

    @property
    def blocks(self) -> int:
        """Blocks that may still be removed from the row that has most of them."""
        if not len(self.gone):
            return 0
        if self.quota is None:
            return int((~self.gone).sum(1).max())
        stay, group = self.quota
        return int(((~self.gone).view(len(self.gone), -1, group).sum(2) - stay).clamp(min=0).sum(1).max())

    @classmethod
    def of(cls, weight: Tensor, inverse: Tensor, block: int, alive: Tensor, quota: tuple[int | Tensor, int] | None) -> _RowsLeft:
        rows, width = weight.shape
        places = torch.arange(width // block, device=weight.device).expand(rows, -1).clone()
        inverses = inverse.float().expand(rows, width, width).clone()
        left = cls(weight.float().clone(), inverses, places, torch.zeros_like(alive), block, quota)
        for row in range(rows):  # eliminate blocks that earlier pruning removed; the weights are already fitted without them
            dead = torch.nonzero(~alive[row].repeat_interleave(block)).flatten()
            if len(dead):
                across = inverse[:, dead]
                left.inverse[row] -= (across @ torch.linalg.solve(inverse[dead][:, dead], across.T)).float()
                left.inverse[row, dead] = left.inverse[row, :, dead] = 0
                left.weight[row, dead] = 0
        left.gone = ~alive
        return left

    def cheapest(self, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` cheapest blocks of every row, and their costs, ascending, [r, count] each.

        The cost is infinite if a row has no more removable blocks. With a quota no two of a group are chosen at once.
        """
        costs = _block_costs(self.weight, self.inverse, self.block, self.gone)
        if self.quota is None:
            found = torch.topk(costs, count, dim=1, largest=False, sorted=True)
            return found.indices, found.values
        stay, group = self.quota
        full = (~self.gone).view(len(self.gone), -1, group).sum(2) > stay
        least, which = costs.view(len(costs), -1, group).min(2)
        found = torch.topk(least.where(full, torch.inf), min(count, least.shape[1]), dim=1, largest=False, sorted=True)
        return found.indices * group + which.gather(1, found.indices), found.values

    def remove_(self, chosen: Tensor, leaves: Tensor) -> None:
        """Remove the blocks [r, count] where ``leaves``; the other weights compensate."""
        rows, width = self.weight.shape
        columns = _columns(chosen, self.block)
        absent = ~leaves.repeat_interleave(self.block, 1)
        across = self.inverse.gather(2, columns[:, None].expand(rows, width, columns.shape[1])).masked_fill_(absent[:, None], 0)
        own = across.gather(1, columns[:, :, None].expand(-1, -1, columns.shape[1]))
        own = own + torch.diag_embed(absent.to(own.dtype))  # rows without removable blocks do not change
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
        """Drop removed blocks from the tensors; rows with fewer remaining blocks than others keep some removed ones."""
        stay = torch.argsort(self.gone.to(torch.uint8), dim=1, stable=True)[:, :blocks]
        columns = _columns(stay, self.block)
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
