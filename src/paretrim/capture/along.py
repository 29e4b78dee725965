"""Rows or columns as fixed linear combinations of those of a map: reordering, and all kinds of interpolation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch

from paretrim.capture.call import Call
from paretrim.capture.cut import cut
from paretrim.capture.pixels import gathered_pixels, shuffled_pixels
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Array, Attribute, FloatArray

_MOST_SHARES = 2**16
"""Maximum number of coefficients along one axis: 256 rows from 256."""


def along(work: Work, call: Call, value: View, axis: int, shares: FloatArray) -> View:
    """Rows (axis 1) or columns (axis 2) as weighted sums of those of a value [C, H, W], with weights [N, H] or [N, W].

    They are turned into channels, mixed within every channel of the value by a fixed convolution, and turned back.
    """
    results, extent = shares.shape
    if shares.shape == (extent, extent) and np.array_equal(shares, np.eye(extent)):
        return value
    if shares.size > _MOST_SHARES:
        raise call.refused(f"it computes {results} rows or columns from {extent}; their product may be at most {_MOST_SHARES:,}")
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
        raise call.refused(f"it reorders axes of {seen}; only channels, rows and columns of maps [C, H, W] can be reordered")
    source = work.read(call, call.source)
    value = View(source, work.shapes[source])
    for axis, places in orders.items():
        value = ordered(work, call, value, axis, places)
    return value


def ordered(work: Work, call: Call, value: View, axis: int, places: list[int]) -> View:
    """Channels (axis 0), rows (1) or columns (2) of a value, in this order; some may be left out or repeated."""
    if axis == 0:
        return ordered_channels(work, call, value, places)
    return along(work, call, value, axis, np.eye(value.shape[axis], dtype=np.float32)[places])


def ordered_channels(work: Work, call: Call, value: View, places: list[int]) -> View:
    """Channels in another order, as a concatenation of runs."""
    starts = [0, *(i for i in range(1, len(places)) if places[i] != places[i - 1] + 1), len(places)]
    runs = [(places[first], places[last - 1] + 1) for first, last in pairwise(starts)]
    parts = [cut(work, call, value.name, 0, start=start, stop=stop, step=1) for start, stop in runs]
    shape = (len(places), *value.shape[1:])
    return parts[0] if len(parts) == 1 else work.emit(call, "concat", [part.name for part in parts], shape=shape)


def fixed_places(work: Work, index: object) -> list[int]:
    """The numbers of a constant index, or where a constant mask is true; none if it is neither."""
    constant = work.constant(index)
    if constant is not None and constant.tensor.dim() == 1 and constant.tensor.dtype == torch.bool:
        return [int(place) for place in constant.tensor.nonzero()[:, 0]]
    fixed = constant is not None and constant.tensor.dim() == 1 and constant.tensor.dtype == torch.int64
    return [int(place) for place in constant.tensor] if constant is not None and fixed else []


def _axes(work: Work, call: Call, name: str) -> list[int]:
    """Axes without the batch, whose order must not change."""
    rank = len(work.view(call, call.source).shape) + 1
    axes = [axis % rank - 1 for axis in call.integers(name)]
    if -1 in axes:
        raise call.refused("it reorders the images of a batch; every image must be computed alike")
    return axes


def _flip(work: Work, call: Call) -> Value:
    shape = call.shape()
    return _ordered(work, call, {axis: list(range(shape[axis]))[::-1] for axis in _axes(work, call, "dims")})


def _roll(work: Work, call: Call) -> Value:
    shape, shifts = call.shape(), call.integers("shifts")
    if not call.integers("dims"):
        raise call.refused("it rolls the flattened tensor, across images; pass the axes (dims)")
    total: dict[int, int] = {}
    for axis, shift in zip(_axes(work, call, "dims"), shifts, strict=True):
        total[axis] = total.get(axis, 0) + shift
    return _ordered(work, call, {axis: [(i - by) % shape[axis] for i in range(shape[axis])] for axis, by in total.items()})


ORDERS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType({"flip": _flip, "roll": _roll})
"""Operations whose result is a new tensor."""
