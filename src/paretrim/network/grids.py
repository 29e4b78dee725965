"""What a grid is: the integers that a tensor is rounded to, while it trains and where it ships.

A grid is an ``nn.Module`` on a layer's weight or on a value. Which grids there are, by name, stands in
:mod:`paretrim.network.formats`; nothing else outside ``network/`` and ``stages/quantize/`` knows one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

SMALLEST_SCALE = float(torch.finfo(torch.float32).tiny)
"""No step is below this, the smallest normal float32. What is usual for a step depends on the unit of the values alone."""

SMALLEST_ROW = 2.0**-24
"""Least step of an output channel, as a share of the largest step of its layer: weights far below the others are zeros."""

TOP = 255
"""Highest level of an activation grid."""

CACHED = 2**17
"""Weights that are turned into integers at a time, so that what is in between stays in the cache."""

Facts = str | Mapping[str, object]
"""JSON-able facts of a grid, which with its tensors make it again; a text where a word says everything."""


@dataclass(frozen=True)
class Grid:
    """An affine uint8 grid: ``real = scale * (q - zero_point)``, q in 0..255."""

    scale: float
    zero_point: int


def grid_for_range(low: float, high: float) -> Grid:
    """The grid that covers [low, high] and holds 0 exactly; zero point 0 when nothing is negative.

    Zeros alone fit any grid and get that of [0, 1].
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low or 1.0) / TOP, SMALLEST_SCALE)
    return Grid(scale, min(max(round(-low / scale), 0), TOP))


class WeightGrid(Protocol):
    """The grid of one weight [Co, ...]: int8 integers times a scale per output channel, zero point 0.

    It is an ``nn.Module``, and what ``forward`` gives is bit for bit ``integers * scale`` of :meth:`integers`: trained is what
    ships. A weight that is 0 stays 0, so masks hold.
    """

    @property
    def bits(self) -> int:
        """Bits that its integers need."""
        ...

    @property
    def trained_scale(self) -> nn.Parameter | None:
        """The scales [Co] if they are parameters, which may be moved; None where they follow from the weight."""
        ...

    def __call__(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid, with a gradient."""
        ...

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that a call stands for, and their scales [Co] float32."""
        ...

    def rows(self, kept: Tensor) -> WeightGrid:
        """The grid of the output channels ``kept`` (int64 indices) alone."""
        ...

    def facts(self) -> Facts:
        """What makes it again, beside its tensors."""
        ...


class ActivationGrid(Protocol):
    """The uint8 grid of one value: an ``nn.Module`` whose ``forward`` gives values of :meth:`grid`."""

    def __call__(self, x: Tensor) -> Tensor:
        """The values of ``x`` [N, ...] moved to the grid, in the dtype of ``x``, with a gradient."""
        ...

    def grid(self) -> Grid:
        """The grid as plain numbers."""
        ...

    def facts(self) -> Facts:
        """What makes it again, beside its tensors."""
        ...
