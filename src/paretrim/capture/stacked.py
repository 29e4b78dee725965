"""Converters of what joins whole maps along an axis of their own, chooses between them and takes them apart again.

Maps [P, C, H, W] stacked for selective kernels or split attention lie in one value of P * C channels: nothing is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from paretrim.capture.arrange import cut
from paretrim.capture.call import Call
from paretrim.capture.elementwise import combine, pointwise
from paretrim.capture.work import Value, View, Work


def _stack(work: Work, call: Call) -> Value:
    shape, parts = call.shape(), call.arguments["tensors"]
    if call.integer("dim") % (len(shape) + 1) != 1 or len(shape) != 4 or not isinstance(parts, list | tuple):
        raise call.refused(
            f"stacking along axis {call.arguments['dim']} to {shape}; only maps [C, H, W] are stacked, along axis 1"
        )
    joined = (shape[0] * shape[1], *shape[2:])
    return View(work.emit(call, "concat", [work.read(call, part) for part in parts], shape=joined).name, shape)


def _part(work: Work, call: Call, view: View, index: int) -> View:
    """The ``index``-th of the maps stacked in a value."""
    base, count = work.shapes[view.name], view.shape[0]
    if not view.plain or base[0] % count:
        raise call.refused(f"a value of shape {base} seen as {view.shape} has no {count} equal parts along its channels")
    run = base[0] // count
    return View(cut(work, call, view.name, 0, start=index * run, stop=(index + 1) * run, step=1).name, view.shape[1:])


def _sum(work: Work, call: Call) -> Value:
    view = work.view(call, call.source)
    axes = {axis % (len(view.shape) + 1) for axis in call.integers("dim")}
    call.no_effect("keepdim", "dtype")
    if axes != {1} or work.shapes[view.name][0] == view.shape[0]:
        raise call.refused(
            f"a sum over axes {sorted(axes)} of {view.shape}; only that over stacked maps (axis 1 of [P, C, H, W]) is known"
        )
    total = _part(work, call, view, 0)
    for index in range(1, view.shape[0]):
        total = combine(work, call, "add", total, _part(work, call, view, index))
    return View(total.name, call.shape())


def _softmax(work: Work, call: Call) -> Value:
    """A choice between two is a sigmoid of their difference."""
    view = work.view(call, call.source)
    call.no_effect("dtype")
    if call.integer("dim") % (len(view.shape) + 1) != 1 or view.shape[0] != 2 or len(view.shape) == 1:
        raise call.refused(
            f"softmax over axis {call.arguments['dim']} of {view.shape}; only that over two alternatives (axis 1 of [2, ...]) is "
            "known; a network returns its logits without it"
        )
    first, second = (_part(work, call, view, index) for index in range(2))
    difference = combine(work, call, "add", first, pointwise(work, call, second, "mul_constant", -1.0))
    opposite = pointwise(work, call, difference, "mul_constant", -1.0)
    shares = [pointwise(work, call, chosen, "sigmoid").name for chosen in (difference, opposite)]
    return View(work.emit(call, "concat", shares, shape=work.shapes[view.name]).name, view.shape)


def _select(work: Work, call: Call) -> Value:
    view, index = work.view(call, call.source), call.integer("index")
    axis = call.integer("dim") % (len(view.shape) + 1) - 1
    if axis < 0:
        raise call.refused("one image is selected; every image must be computed alike")
    index %= view.shape[axis]
    if axis == 0:
        return _part(work, call, view, index)
    if view.shape[axis] == 1:
        return replace(view, shape=call.shape())
    return View(cut(work, call, work.read(call, call.source), axis, start=index, stop=index + 1, step=1).name, call.shape())


STACKED: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType({"stack": _stack, "sum": _sum, "softmax": _softmax})
"""Operations whose result is a tensor of its own."""

PARTS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType({"select": _select})
"""Operations whose result lies in the memory of their input."""
