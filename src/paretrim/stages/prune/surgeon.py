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

DAMPING = 0.01
"""Share of the mean diagonal of H to add to it: some inputs are always 0, and few images determine many columns poorly."""

_AT_ONCE = 2**23
"""Elements of inverses to process at once: with fewer, calls would cost more than arithmetic."""

_EXACT = 640
"""Up to this width one block is removed at a time. Wider rows lose several at a time first."""

_PART = 4
"""Wider rows lose one in this many of their remaining blocks at a time; half of them while they are this many times too wide."""

_FRACTION = 32
"""With a quota, where no column is ever left out, wider rows lose one in this many of their remaining blocks at a time."""

_SHARES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""What to add to the diagonal of moments that are not positive definite, in shares of its largest element."""

_RISE = 1e-9
"""A block that seems cheaper than the one removed before it counts as more expensive by this share."""


def damped(square: Tensor, damping: float = DAMPING) -> Tensor:
    """The second moments [D, D] plus ``damping`` times their mean diagonal; the identity if all inputs are 0."""
    mean = float(square.diagonal().mean())
    return square + (damping * mean if mean > 0 else 1.0) * torch.eye(len(square), dtype=square.dtype, device=square.device)


def factored(squares: Tensor) -> Tensor:
    """The lower Cholesky factors of second moments [..., D, D].

    Moments about means far from 0 are differences of rounded numbers, so they may not be positive definite, as they would be
    without rounding. Those get a larger diagonal, as little larger as it takes.

    Raises:
        torch.linalg.LinAlgError: they are not finite.
    """
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(squares)
    if not bool(failed.any()):
        return lower
    size = squares.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    size = size.where(size > 0, 1.0)
    identity = torch.eye(squares.shape[-1], dtype=squares.dtype, device=squares.device)
    for share in _SHARES:
        more = torch.where(failed > 0, share * size, 0.0)
        lower, failed = torch.linalg.cholesky_ex(squares + more[..., None, None] * identity)
        if not bool(failed.any()):
            return lower
    lower = torch.linalg.cholesky(squares)  # says what is wrong
    return lower


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
    costs = torch.zeros(rows, count, dtype=torch.float64, device=weight.device)
    wide = quota is None and count > _EXACT // block
    inverse = square if wide else torch.linalg.inv(square)
    at_once = max(1, _AT_ONCE // (_EXACT if wide else width) ** 2)
    for first in range(0, rows, at_once):
        chunk = slice(first, first + at_once)
        if wide:
            left, highest = _narrowed(weight[chunk], square, block, living[chunk], costs[chunk])
        else:
            left = _RowsLeft.of(weight[chunk], inverse, block, living[chunk], quota)
            highest = costs.new_zeros(len(weight[chunk]), 1)
        _in_turn_(left, highest, costs[chunk], exact=wide or width <= _EXACT)
    return costs * (unit * size * size)


def _power_of_two(values: Tensor) -> float:
    """A power of two near the largest magnitude; 1 if all are 0."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return math.ldexp(1.0, math.frexp(largest)[1]) if largest else 1.0


def _in_turn_(left: _RowsLeft, highest: Tensor, costs: Tensor, *, exact: bool) -> None:
    """Remove the remaining blocks of a few rows, and enter what they cost in [r, B]; several at a time if not ``exact``.

    ``highest`` [r, 1] are the costs of what was removed before. With a quota, what stays costs a little more than all others.
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


def _narrowed(weight: Tensor, square: Tensor, block: int, alive: Tensor, costs: Tensor) -> tuple[_RowsLeft, Tensor]:
    """Remove a part of the remaining blocks of every row at a time until :data:`_EXACT` columns are left, and fit the others.

    Those go first whose removal alone, without compensation, changes the output least: where many go at once, the others cannot
    compensate for all of them. What a part costs is the error that the fit leaves, shared out in the same proportions.

    Args:
        weight: rows [r, D].
        square: second moments of the inputs [D, D].
        block: number of weights that are removed together.
        alive: bool [r, B].
        costs: takes the costs of the removed blocks [r, B].

    Returns:
        What is left of the rows, and the highest cost of a removed block of each, [r, 1].
    """
    most, rows, short = _EXACT // block, len(weight), square.float()
    own = square.reshape(-1, block, len(square) // block, block).diagonal(dim1=0, dim2=2).movedim(2, 0)  # [B, block, block]
    places = torch.empty(rows, most, dtype=torch.int64, device=weight.device)
    inverses = torch.zeros(rows, most * block, most * block, device=weight.device)
    left, highest = inverses.new_zeros(rows, most * block), costs.new_zeros(rows, 1)
    # What a row is fitted to: as much as these it can ever give.
    for row, (present, targets) in enumerate(zip(weight, weight @ square, strict=True)):
        stay, fit, explained = torch.nonzero(alive[row]).flatten(), present, float(targets @ present)
        columns = _columns(stay, block)
        while len(stay) > most:
            goes = min(max(1, len(stay) // (2 if len(stay) > _PART * most else _PART)), len(stay) - most)
            parts = fit[columns].reshape(-1, block, 1)
            alone, order = torch.sort((parts.transpose(1, 2) @ own[stay] @ parts).flatten(), stable=True)
            gone, stay = stay[order[:goes]], torch.sort(stay[order[goes:]]).values
            columns = _columns(stay, block)
            factor = factored(short[columns[:, None], columns])
            fit = torch.zeros_like(present)
            fit[columns] = torch.cholesky_solve(targets[columns, None].float(), factor)[:, 0].double()
            before, explained = explained, float(targets @ fit)
            shares = alone[:goes] / alone[:goes].sum().clamp_min(torch.finfo(torch.float64).tiny)
            risen = torch.cummax(torch.maximum(highest[row], shares * max(before - explained, 0.0)), 0).values
            risen = risen * (1 + _RISE * torch.arange(1, goes + 1).to(risen))  # none costs what another does
            costs[row, gone], highest[row] = risen, risen[-1]
        size = len(columns)
        inverses[row, :size, :size] = torch.cholesky_inverse(factored(short[columns[:, None], columns]))
        left[row, :size] = fit[columns].float()
        # A row that had lost more before is filled with removed blocks.
        places[row] = torch.cat([stay, torch.nonzero(~alive[row]).flatten()[: most - len(stay)]])
    return _RowsLeft(left, inverses, places, ~alive.gather(1, places), block, None), highest


def _columns(blocks: Tensor, block: int) -> Tensor:
    """The columns of blocks [..., n] as [..., n * block]."""
    return (blocks[..., None] * block + torch.arange(block, device=blocks.device)).flatten(-2)


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
            factor = factored(square[stay][:, stay].double())
            result[rows, stay] = torch.cholesky_solve(targets[rows, stay].double().T, factor).T
    return result
