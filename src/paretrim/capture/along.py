"""Rows or columns made from those of a map by fixed shares: orders, and interpolation of every kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from paretrim.capture.call import Call
from paretrim.capture.cut import cut
from paretrim.capture.pixels import gathered_pixels, shuffled_pixels
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Array, Attribute, FloatArray

_MOST_SHARES = 2**16
"""How many shares a map may be made by along one axis: 256 rows from 256."""


def along(work: Work, call: Call, value: View, axis: int, shares: FloatArray) -> View:
    """Rows (axis 1) or columns (axis 2) as sums of those of a value [C, H, W] in shares [N, H] or [N, W].

    They become channels, which a convolution that no stage trains mixes within every channel of the value, and rows again.
    """
    results, extent = shares.shape
    if shares.shape == (extent, extent) and np.array_equal(shares, np.eye(extent)):
        return value
    if shares.size > _MOST_SHARES:
        raise call.refused(
            f"it makes {results} rows or columns of {extent}; {_MOST_SHARES:,} is the most that their product may be"
        )
    channels = value.shape[0]
    mixed = gathered_pixels(work, call, value.name, (extent, 1) if axis == 1 else (1, extent))
    still: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": channels, "fixed": 1}
    weight: dict[str, Array] = {"weight": np.tile(shares[:, :, None, None], (channels, 1, 1, 1)).astype(np.float32)}
    shape = (channels * results, *mixed.shape[1:])
    mixed = work.emit(call, "conv2d", [mixed.name], shape=shape, attributes=still, tensors=weight)
    return shuffled_pixels(work, call, mixed.name, (results, 1) if axis == 1 else (1, results))


def _ordered(work: Work, call: Call, orders: Mapping[int, list[int]]) -> Value:
    """Channels (axis 0), rows or columns of a map in another order."""
    seen = work.view(call, call.source).shape
    if len(seen) not in (1, 3):
        raise call.refused(f"it moves axes of {seen}; of maps [C, H, W] channels, rows and columns may be put in other orders")
    source = work.read(call, call.source)
    value = View(source, work.shapes[source])
    for axis, places in orders.items():
        if axis:
            value = along(work, call, value, axis, np.eye(len(places), dtype=np.float32)[places])
        else:
            value = ordered_channels(work, call, value, places)
    return value


def ordered_channels(work: Work, call: Call, value: View, places: list[int]) -> View:
    """Channels in another order: runs of them joined."""
    starts = [0, *(i for i in range(1, len(places)) if places[i] != places[i - 1] + 1), len(places)]
    runs = [(places[first], places[last - 1] + 1) for first, last in pairwise(starts)]
    parts = [cut(work, call, value.name, 0, start=start, stop=stop, step=1) for start, stop in runs]
    shape = (len(places), *value.shape[1:])
    return parts[0] if len(parts) == 1 else work.emit(call, "concat", [part.name for part in parts], shape=shape)


def _axes(work: Work, call: Call, name: str) -> list[int]:
    """Axes without the batch, which keeps its order."""
    rank = len(work.view(call, call.source).shape) + 1
    axes = [axis % rank - 1 for axis in call.integers(name)]
    if -1 in axes:
        raise call.refused("the images of a batch change places; every image must be computed alike")
    return axes


def _flip(work: Work, call: Call) -> Value:
    shape = call.shape()
    return _ordered(work, call, {axis: list(range(shape[axis]))[::-1] for axis in _axes(work, call, "dims")})


def _roll(work: Work, call: Call) -> Value:
    shape, shifts = call.shape(), call.integers("shifts")
    if not call.integers("dims"):
        raise call.refused("it rolls all axes as one, over the border of images; give it the axes (dims)")
    total: dict[int, int] = {}
    for axis, shift in zip(_axes(work, call, "dims"), shifts, strict=True):
        total[axis] = total.get(axis, 0) + shift
    return _ordered(work, call, {axis: [(i - by) % shape[axis] for i in range(shape[axis])] for axis, by in total.items()})


ORDERS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType({"flip": _flip, "roll": _roll})
"""Operations whose result is a tensor of its own."""
