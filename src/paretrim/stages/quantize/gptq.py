"""Rounding with compensation: the remaining weights of a layer compensate for the error of each rounded one.

A row w [D] has the error ``(q - w) H (q - w)`` with H [D, D] the second moments of its inputs. With ``H = C^T C``, C upper
triangular, and columns from the last to the first, weight j is rounded from ``w_j - sum over k > j of C_jk (q_k - w_k) / C_jj``:
the best value given those already rounded, if the others stay free. That is GPTQ's update with the factor of H in place of that
of its inverse; both give the same numbers.

Source: Frantar & Alistarh 2022 (OBC / OBQ, arXiv 2208.11580) section 5; Frantar et al. 2023 (GPTQ, arXiv 2210.17323) section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from paretrim.graph.plain import plain_scales
from paretrim.network.constraints import WeightedLayer
from paretrim.network.grids import SMALLEST_ROW, SMALLEST_SCALE
from paretrim.network.uniform import WeightQuantizer
from paretrim.stages.layer_inputs import from_columns
from paretrim.stages.prune.surgeon import factored

RATIOS = tuple(1.0 - 0.04 * step for step in range(14))
"""Shares of a row's largest magnitude that its grid may cover; the one with the smallest output error is used."""

PASSES = 2
"""How many times every weight is revisited, given all others."""

_BLOCK = 64
"""Columns rounded before the others are updated: matrix products are faster than vector products."""

_AT_ONCE = 2**24
"""Elements of the factors of pruned rows to process at once."""

_OWN = 1536
"""Up to this width every pruned row has its own factor, of its remaining weights; wider rows share one."""


def on_its_grid_(layer: WeightedLayer, new: Tensor, squares: Sequence[Tensor], masks: Tensor, factor: Tensor) -> Tensor:
    """Round the new weights of a layer with a uniform grid, and set the steps of the grid; other weights are returned unchanged.

    Args:
        layer: the layer, with its grid.
        new: its weights as columns [G, R, D].
        squares: second moments of the inputs of every group [D, D], positive definite.
        masks: bool [G, R, D]; where it is False the weight is 0.
        factor: the factor of every output after the layer, [G * R].
    """
    grid = layer.quantizer
    if not isinstance(grid, WeightQuantizer):
        return new
    scales = possible_scales(new.flatten(0, 1), grid.top, factor).reshape(len(new), new.shape[1], -1)
    if new.shape[1] == 1:  # depthwise: the groups are small and many, so they are rounded together
        values, steps = rounded(new[:, 0], torch.stack(tuple(squares)), scales[:, 0], masks[:, 0], top=grid.top)
        values = values[:, None]
    else:
        found = [rounded(*given, top=grid.top) for given in zip(new, squares, scales, masks, strict=True)]
        values, steps = torch.stack([one for one, _ in found]), torch.cat([one for _, one in found])
    layer.quantizer = grid.moved(from_columns(values, layer.weight.shape).to(layer.weight), steps)
    return values


def possible_scales(weight: Tensor, top: int, factor: Tensor) -> Tensor:
    """Steps for the grids of rows [R, D], at :data:`RATIOS` of their largest magnitudes, float64 [R, K].

    Their products with what follows the layer, ``factor`` [R], are plain, so that settling does not change them afterwards.
    """
    peak = weight.abs().amax(1)
    peak = peak.maximum(peak.amax() * top * SMALLEST_ROW).clamp_min(top * SMALLEST_SCALE)
    scales = peak[:, None] / top * torch.tensor(RATIOS, dtype=torch.float64, device=weight.device)
    unit = factor.abs().where(factor != 0, 1.0)[:, None].to(scales)
    plain = torch.from_numpy(plain_scales((scales * unit).cpu().numpy()))
    return plain.to(scales.device) / unit


def rounded(weight: Tensor, square: Tensor, scales: Tensor, mask: Tensor | None = None, *, top: int) -> tuple[Tensor, Tensor]:
    """Round every row to the candidate grid that changes the output least: values [R, D], float64, and the scale of each [R].

    Args:
        weight: optimal rows [R, D], 0 where the mask is False.
        square: second moments of the inputs of all rows [D, D], or of every row [R, D, D]; positive definite.
        scales: candidate steps for every row, above 0, [R, K].
        mask: bool [R, D]; where it is False the result is 0.
        top: the largest integer of a grid; the smallest is ``-top``.
    """
    weight, scales = weight.double(), scales.double()
    squares = square.double().reshape(-1, *square.shape[-2:])  # [S, D, D], S either 1 or R
    shared, width = len(squares) == 1, weight.shape[1]
    # Last to first: weights of the largest inputs, while many are free.
    order = torch.argsort(squares.diagonal(dim1=1, dim2=2), stable=True)
    moments = squares.take_along_dim(order[:, :, None], 1).take_along_dim(order[:, None], 2)
    order = order.expand(len(weight), -1)
    rows = weight.gather(1, order)
    alive = None if mask is None or bool(mask.all()) else mask.gather(1, order)
    at_once = len(rows) if alive is None or width > _OWN else max(1, _AT_ONCE // width**2)
    values, chosen = [], []
    for first in range(0, len(rows), at_once):
        part = slice(first, first + at_once)
        living, about = None if alive is None else alive[part], moments if shared else moments[part]
        candidates = _swept(rows[part], _factors(about, living), scales[part], top, living)
        change = candidates - rows[part, None]
        error = (_times(change, about) * change).sum(2)
        best = error.argmin(1)
        found, steps = candidates[torch.arange(len(best)), best], scales[part].gather(1, best[:, None])[:, 0]
        values.append(_looked_over(found, rows[part], about, steps, top, living))
        chosen.append(steps)
    return torch.empty_like(rows).scatter_(1, order, torch.cat(values)), torch.cat(chosen)


def _factors(squares: Tensor, alive: Tensor | None) -> Tensor:
    """The upper triangular factors of second moments [S, D, D], one for all rows or one for each; pruned weights are left out.

    Without pruned weights [S, D, D], else of every row [R, D, D].
    """
    if alive is not None and squares.shape[1] <= _OWN:
        both = alive[:, :, None] & alive[:, None, :]
        squares = torch.where(both, squares, 0.0) + torch.diag_embed((~alive).to(squares.dtype))
    return factored(squares).transpose(1, 2)


def _times(rows: Tensor, matrices: Tensor) -> Tensor:
    """Products of rows [R, K, D] and one matrix for all [1, D, E], or one for each [R, D, E]."""
    return rows @ (matrices[0] if len(matrices) == 1 else matrices)  # broadcasting would copy the matrix for every row


def _swept(rows: Tensor, factors: Tensor, scales: Tensor, top: int, alive: Tensor | None) -> Tensor:
    """Rows [R, D] rounded with each of K scales, column by column from the last, [R, K, D]."""
    count, width = rows.shape
    moved = torch.zeros(count, scales.shape[1], width, dtype=rows.dtype, device=rows.device)  # difference from the row
    for end in range(width, 0, -_BLOCK):
        start = max(0, end - _BLOCK)
        pulls = _times(moved[:, :, end:], factors[:, start:end, end:].transpose(1, 2))
        for column in range(end - 1, start - 1, -1):
            row = factors[:, column, column + 1 : end]
            pull = pulls[:, :, column - start] + (moved[:, :, column + 1 : end] * row[:, None]).sum(2)
            wanted = rows[:, column, None] - pull / factors[:, column, column, None]
            value = (wanted / scales).round().clamp(-top, top) * scales
            if alive is not None:
                value = value.where(alive[:, column, None], 0.0)
            moved[:, :, column] = value - rows[:, column, None]
    return moved + rows[:, None]


def _looked_over(values: Tensor, rows: Tensor, squares: Tensor, scales: Tensor, top: int, alive: Tensor | None) -> Tensor:
    """Round one weight at a time to the best grid point given all others, in a few passes; no row gets worse."""
    slopes = _times((values - rows)[:, None], squares)[:, 0]
    for _ in range(PASSES):
        for column in range(values.shape[1] - 1, -1, -1):
            wanted = values[:, column] - slopes[:, column] / squares[:, column, column]
            value = (wanted / scales).round().clamp(-top, top) * scales
            if alive is not None:
                value = value.where(alive[:, column], 0.0)
            slopes += (value - values[:, column])[:, None] * squares[:, column]
            values[:, column] = value
    return values
