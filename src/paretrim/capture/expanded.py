"""Axes of size 1 between others made larger, as ``repeat_interleave`` does: channels, rows or columns are repeated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from paretrim.capture.along import ordered
from paretrim.capture.call import Call
from paretrim.capture.work import View, Work
from paretrim.graph.types import Attribute


def expanded(work: Work, call: Call, view: View, shape: tuple[int, ...]) -> View | None:
    """A view of a map in four or more axes, expanded to ``shape``; None if it is no such view.

    Every axis of the map [C, H, W] is a run of axes of the view, so its channels, rows and columns are repeated, each along its
    own axis.
    """
    base = work.shapes[view.name]
    if not view.plain or len(base) != 3 or len(shape) != len(view.shape) or len(shape) < 4:
        return None
    runs = _runs(view.shape, base)
    if runs is None:
        return None
    value = View(view.name, base)
    for axis, (first, last) in enumerate(runs):
        within = np.arange(base[axis]).reshape(view.shape[first:last])
        value = _repeated(work, call, value, axis, np.broadcast_to(within, shape[first:last]).reshape(-1).tolist())
    return replace(value, shape=shape)


def _repeated(work: Work, call: Call, value: View, axis: int, places: list[int]) -> View:
    extent, times = value.shape[axis], len(places) // value.shape[axis]
    if times == 1:
        return value
    if axis == 0 or places != [place for place in range(extent) for _ in range(times)]:
        return ordered(work, call, value, axis, places)
    wide = (*value.shape[:axis], len(places), *value.shape[axis + 1 :])
    attributes: dict[str, Attribute] = {"output_size": wide[1:]}
    return work.emit(call, "adaptive_avg_pool", [value.name], shape=wide, attributes=attributes)


def _runs(shape: tuple[int, ...], base: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """The axes [first, last) of a view that each axis of the value consists of, from the last one; None if they are mixed."""
    runs: list[tuple[int, int]] = []
    last = len(shape)
    for axis in (2, 1):
        first = last - 1
        while first > axis and math.prod(shape[first:last]) < base[axis]:
            first -= 1
        if first < axis or math.prod(shape[first:last]) != base[axis]:
            return None
        runs.append((first, last))
        last = first
    return [(0, last), *runs[::-1]] if math.prod(shape[:last]) == base[0] else None
