"""What a grid is: the integers that a tensor is rounded to, while it trains and where it ships.

A grid is an ``nn.Module`` on a layer's weight or on a value. The grids by name are in
:mod:`paretrim.network.formats`; nothing else outside ``network/`` and ``stages/quantize/`` knows one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol, Self

import torch
from torch import Tensor, nn

SMALLEST_SCALE = float(torch.finfo(torch.float32).tiny)
"""The least step, the smallest normal float32. What is usual for a step depends only on the unit of the values."""

SMALLEST_ROW = 2.0**-24
"""Least step of an output channel, as a share of the largest step of its layer: weights far below the others are zeros."""

BITS = 8
"""Most bits of an activation grid, in which its levels are stored."""

TOP = 2**BITS - 1
"""Highest level of an activation grid of that many bits."""

CACHED = 2**17
"""Weights converted to integers at a time, so that intermediate results stay in the cache."""

GROUP: Final = 32
"""Input channels that share a step, where steps are by groups."""

Scales = Literal["learned", "observed"]

Facts = str | Mapping[str, object]
"""JSON-able facts of a grid, which with its tensors make it again; a text where a word says everything."""


@dataclass(frozen=True)
class Grid:
    """An affine grid: ``real = scale * (q - zero_point)``, q in 0..:attr:`top`, stored as uint8 whatever its bits."""

    scale: float
    zero_point: int
    bits: int = BITS

    @property
    def top(self) -> int:
        """The highest level."""
        return top_of(self.bits)


def top_of(bits: int) -> int:
    """The highest level of an activation grid of so many bits."""
    return (1 << bits) - 1


def grid_for_range(low: float, high: float, bits: int = BITS) -> Grid:
    """The grid that covers [low, high] and holds 0 exactly; zero point 0 when nothing is negative.

    Zeros alone fit any grid and get that of [0, 1].
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low or 1.0) / top_of(bits), SMALLEST_SCALE)
    return Grid(scale, min(max(round(-low / scale), 0), top_of(bits)), bits)


def observed_steps(weight: Tensor, reach: Tensor, levels: int) -> Tensor:
    """Steps [Co] of a weight [Co, ...], so that each output channel reaches so far [Co] with this number of levels on a side."""
    step = reach / levels
    largest = step.amax()
    # In a layer of zeros any step will do until training moves them; this one fits weights of the usual initial size.
    usual = float(weight[0].numel()) ** -0.5 / levels
    least = torch.where(largest > 0, largest * SMALLEST_ROW, usual)
    return step.maximum(least).clamp_min(SMALLEST_SCALE)


def bits_fact(bits: int) -> dict[str, int]:
    """Bits of an activation grid among its facts; the usual number is not written, as before there were others."""
    return {} if bits == BITS else {"bits": bits}


def bits_in(facts: Mapping[str, object]) -> int:
    """Bits of an activation grid with these facts.

    Raises:
        ValueError: there is no grid of so many.
    """
    bits = int(str(facts.get("bits", BITS)))
    if not 2 <= bits <= BITS:
        raise ValueError(f"activations have {bits} bits and must have 2 to {BITS}")
    return bits


def scales_in(facts: Mapping[str, object]) -> Scales:
    """How a grid with these facts finds its scales.

    Raises:
        KeyError, ValueError: they do not say, or say something unknown.
    """
    value = facts["scales"]
    if value not in ("learned", "observed"):
        raise ValueError(f"scales are {value!r} and must be learned or observed")
    return value


@dataclass(frozen=True, eq=False)
class WeightSettings:
    """What a new grid of a weight is made from; a grid ignores what it does not need.

    ``clip`` [Co] is the share of each output channel's range that it should cover, ``price`` [Co] what a bit of the coded file is
    worth in units of the squared weight; None for the whole range, and for bits without a price. ``name`` is the name by
    which the grid was requested, ``group`` the number of input channels that share a step.
    """

    bits: int
    scales: Scales
    clip: Tensor | None = None
    price: Tensor | None = None
    name: str = ""
    group: int = GROUP


@dataclass(frozen=True, eq=False)
class PacedValue:
    """Numbers that a grid trains, and the size of which one step of the optimizer may change them by a small share.

    ``size()`` broadcasts to ``value``.
    """

    value: Tensor
    size: Callable[[], Tensor]


class PricedGrid(Protocol):
    """Extra members of a weight grid that weighs the bits of integers in the coded file against their error."""

    def recount_(self, weight: Tensor) -> None:
        """Recount the bits of every integer, in the integers of this weight [Co, ...]."""
        ...

    def bits_of(self, weight: Tensor) -> Tensor:
        """Bits of a weight [Co, ...] in the coded file, as last counted: one number, with a gradient to weight and scales."""
        ...


class IncrementalGrid(Protocol):
    """Extra members of a weight grid that fixes weights one share after another while the rest still trains."""

    def fix_largest_(self, weight: Tensor, share: float) -> None:
        """Fix the largest entries of a layer's weight [Co, ...] until this share of them is fixed; 1 for all.

        In between what ``forward`` gives is on the grid where weights are fixed alone. Once all are, the weight itself, which may
        change in place, lies on the grid.
        """
        ...


class WeightGrid(Protocol):
    """The grid of one weight [Co, ...]: int8 integers times a scale per output channel, zero point 0.

    It is an ``nn.Module``, and what ``forward`` gives is bit for bit ``integers * scale`` of :meth:`integers`: what is trained is
    what ships. A weight that is 0 stays 0, so masks hold. Its state is by channel or of the whole layer, by weight only while an
    :class:`IncrementalGrid` is at work, and its parameters are in the unit of the weight: they scale with the weights.
    """

    widths: ClassVar[range]
    """Bits that it can have."""

    @property
    def bits(self) -> int:
        """Bits of a weight before coding: an output channel, or a group of its inputs, has at most ``2**bits`` values but 0."""
        ...

    @classmethod
    def fitted(cls, weight: Tensor, settings: WeightSettings) -> Self:
        """A new grid for this weight [Co, ...]."""
        ...

    @classmethod
    def restored(cls, facts: Mapping[str, object], weight: Tensor, tensors: Mapping[str, Tensor]) -> Self:
        """A grid with these :meth:`facts` for this weight, into which the ``state_dict`` that holds ``tensors`` can be loaded.

        Raises:
            KeyError, TypeError, ValueError: facts and tensors are not those of such a grid.
        """
        ...

    @property
    def trained_scale(self) -> nn.Parameter | None:
        """The scales [Co] if they are parameters, which may be moved; None where they follow from the weight."""
        ...

    @property
    def priced(self) -> PricedGrid | None:
        """This grid if its bits have a price, else None."""
        ...

    @property
    def incremental(self) -> IncrementalGrid | None:
        """This grid if it takes weights over one share after the other, else None."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that train."""
        ...

    def __call__(self, weight: Tensor) -> Tensor:
        """The weight [Co, ...] moved to the grid, with a gradient."""
        ...

    def integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The integers [Co, ...] int8 that a call stands for, and their scales [Co] float32."""
        ...

    def rows(self, outputs: Tensor, inputs: Tensor) -> Self:
        """The grid of some output channels (int64 indices into the first axis), on some input channels (the second axis)."""
        ...

    def facts(self) -> Facts:
        """What restores it, together with its tensors."""
        ...


class PlainGrid(Protocol):
    """Inherited, beside ``nn.Module``, by a :class:`WeightGrid` without any of the optional members."""

    trained_scale: nn.Parameter | None = None
    priced: PricedGrid | None = None
    incremental: IncrementalGrid | None = None

    @property
    def paced(self) -> Sequence[PacedValue]:
        """What trains by small steps beside ``trained_scale``: nothing."""
        return ()


class ActivationGrid(Protocol):
    """The uint8 grid of one value: an ``nn.Module`` whose ``forward`` gives values of :meth:`grid`.

    Its parameters are in the unit of the value.
    """

    @classmethod
    def fitted(cls, grid: Grid, scales: Scales) -> Self:
        """One that begins at a calibrated grid."""
        ...

    @classmethod
    def restored(cls, facts: Mapping[str, object]) -> Self:
        """One with these :meth:`facts`, into which its ``state_dict`` can be loaded.

        Raises:
            KeyError, TypeError, ValueError: they are not facts of such a grid.
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that train."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """The values of ``x`` [N, ...] moved to the grid, in the dtype of ``x``, with a gradient."""
        ...

    def grid(self) -> Grid:
        """The grid as plain numbers."""
        ...

    def facts(self) -> Facts:
        """What restores it, together with its tensors."""
        ...
