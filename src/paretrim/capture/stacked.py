"""Converters of operations that stack whole maps, select from them and split them again.

Maps [P, C, H, W] stacked for selective kernels or split attention are one value of P * C channels, so no data is moved; and so
are vectors [P, C], as the logits of an ensemble.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from paretrim.capture.call import Call
from paretrim.capture.cut import axis_in, cut
from paretrim.capture.elementwise import combine, larger, maximum, pointwise
from paretrim.capture.pooling import amax_of_map, extreme, mean_of_map, sum_of_map
from paretrim.capture.work import Value, View, Work

_Converter = Callable[[Work, Call], Value]


def _stack(work: Work, call: Call) -> Value:
    shape, parts = call.shape(), call.arguments["tensors"]
    if call.integer("dim") % (len(shape) + 1) != 1 or len(shape) not in (2, 3, 4) or not isinstance(parts, list | tuple):
        raise call.refused(
            f"stacking along axis {call.arguments['dim']} to {shape}; only maps [C, H, W] and vectors are stacked, along axis 1"
        )
    each = shape[1:] if len(shape) == 2 else (math.prod(shape[1:-2]), *shape[-2:])  # planes [H, W] are maps of one channel
    names = [work.settled(call, replace(work.view(call, part), shape=each)) for part in parts]
    return View(work.emit(call, "concat", names, shape=(shape[0] * each[0], *each[1:])).name, shape)


def part_of(work: Work, call: Call, view: View, index: int) -> View:
    """The ``index``-th of the maps stacked in a value."""
    base, count = work.shapes[view.name], view.shape[0]
    if not view.plain or base[0] % count:
        raise call.refused(
            f"a value of shape {base} read as {view.shape} cannot be split into {count} equal parts of channels; use a "
            "number of parts that divides them"
        )
    run = base[0] // count
    return View(cut(work, call, view.name, 0, start=index * run, stop=(index + 1) * run, step=1).name, view.shape[1:])


def _outside(work: Work, call: Call, view: View) -> View:
    """Channels [P, Q, H, W] as [Q, P, H, W]."""
    base = work.shapes[view.name]
    made = work.emit(call, "channel_shuffle", [view.name], shape=base, attributes={"groups": view.shape[0]})
    return View(made.name, (view.shape[1], view.shape[0], *view.shape[2:]))


def _over_maps(of_map: _Converter, joined: Callable[[Work, Call, View, View], View], *, mean: bool = False) -> _Converter:
    """A reduction over stacked maps or vectors (axis 1 of [P, C, H, W] or [P, C]), two at a time, or over axes of one map."""

    def convert(work: Work, call: Call) -> Value:
        view = work.view(call, call.source, may_be_last=True)
        rank, base = len(view.shape) + 1, work.shapes[view.name]
        stacked = len(base) == rank - 2 and base[0] != view.shape[0] and call.arguments.get("dim") is not None
        axes = {axis % rank for axis in call.integers("dim")} if stacked else set()
        if axes == {2} and rank == 5 and view.plain and work.shapes[view.name][1:] == view.shape[2:]:
            view = _outside(work, call, view)  # neighbouring channels, as in maxout
        elif axes != {1}:
            return of_map(work, call)
        call.no_effect("keepdim", "dtype")
        total = part_of(work, call, view, 0)
        for index in range(1, view.shape[0]):
            total = joined(work, call, total, part_of(work, call, view, index))
        if mean:
            total = pointwise(work, call, total, "mul_constant", 1 / view.shape[0])
        return View(total.name, call.shape())

    return convert


def _added(work: Work, call: Call, first: View, second: View) -> View:
    return combine(work, call, "add", first, second)


def _select(work: Work, call: Call) -> Value:
    view, index = work.view(call, call.source), call.integer("index")
    axis = call.integer("dim") % (len(view.shape) + 1) - 1
    if axis < 0:
        raise call.refused("it selects one image of a batch; every image must be computed alike")
    index %= view.shape[axis]
    base = work.shapes[view.name]
    if view.plain and len(view.shape) < len(base) == 3 and (place := axis_in(view.shape, base, axis)) is not None:
        return View(cut(work, call, view.name, place, start=index, stop=index + 1, step=1).name, call.shape())
    if axis == 0:
        return part_of(work, call, view, index)
    if view.shape[axis] == 1:
        return replace(view, shape=call.shape())
    return View(cut(work, call, work.read(call, call.source), axis, start=index, stop=index + 1, step=1).name, call.shape())


STACKED: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "stack": _stack,
        "sum": _over_maps(sum_of_map, _added),
        "mean": _over_maps(mean_of_map, _added, mean=True),
        "amax": _over_maps(amax_of_map, larger),
        "max": extreme(_over_maps(amax_of_map, larger), maximum),
    }
)
"""Operations whose result is a new tensor."""

PARTS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType({"select": _select})
"""Operations whose result shares the memory of their input."""
