"""Concatenation of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch.fx import Node as FxNode

from paretrim.capture.call import Call
from paretrim.capture.cut import placed
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Attribute


def concat(work: Work, call: Call) -> Value:
    """Concatenated channels; zeros before or after the others become padding."""
    shape = call.shape()
    parts = call.arguments["tensors"]
    axis = call.integer("dim") % (len(shape) + 1)
    assert isinstance(parts, list | tuple)
    if axis > 1 and len(shape) == 3:
        return _beside(work, call, parts, axis - 1)
    if axis != 1:
        raise call.refused(
            f"concatenation along axis {call.arguments['dim']}; only channels, rows and columns of maps can be concatenated"
        )
    if len(shape) in (2, 4) and len(parts) > 1:
        return _stacked(work, call, parts)
    first, last = 0, len(parts)
    padded = len(shape) == 3
    while padded and last - first > 1 and _is_zero(work, parts[first]):
        first += 1
    while padded and last - first > 1 and _is_zero(work, parts[last - 1]):
        last -= 1
    if len(parts) == 1:
        return work.view(call, parts[0])
    names = [work.read(call, part) for part in parts[first:last]]
    if (first, last) == (0, len(parts)):
        return work.emit(call, "concat", names, shape=shape)
    channels = [sum(_extent(part, 0) for part in some) for some in (parts[:first], parts[first:last], parts[last:])]
    name = names[0] if len(names) == 1 else work.emit(call, "concat", names, shape=(channels[1], *shape[1:])).name
    still = (0,) * (len(shape) - 1)
    attributes: dict[str, Attribute] = {"before": (channels[0], *still), "after": (channels[2], *still)}
    return work.emit(call, "pad", [name], shape=shape, attributes=attributes)


def _stacked(work: Work, call: Call, parts: Sequence[object]) -> View:
    """Maps [P, C, H, W] or vectors [P, C] joined along the first axis, as values of P * C channels."""
    names: list[str] = []
    for view in (work.view(call, part) for part in parts):
        joined = (view.shape[0] * view.shape[1], *view.shape[2:])
        names.append(work.settled(call, replace(view, shape=joined)))
    shape = call.shape()
    made = work.emit(call, "concat", names, shape=(shape[0] * shape[1], *shape[2:]))
    return View(made.name, shape)


def _beside(work: Work, call: Call, parts: Sequence[object], axis: int) -> View:
    """Maps joined along rows (axis 1) or columns (axis 2), as a sum of zero-padded values that do not overlap."""
    start, shape = 0, call.shape()
    total: View | None = None
    for part in parts:
        if not _is_zero(work, part):
            name = work.read(call, part)
            there = placed(work, call, View(name, work.shapes[name]), axis, start=start, extent=shape[axis])
            total = there if total is None else work.emit(call, "add", [total.name, there.name], shape=shape)
        start += _extent(part, axis)
    assert total is not None, "where all parts are constant, so is the whole"
    return total


def _is_zero(work: Work, part: object) -> bool:
    """Whether it is a constant of zeros, such as the extra channels of option A of ResNet."""
    constant = work.constant(part)
    return constant is not None and constant.memory not in work.changed and not bool(constant.tensor.any())


def _extent(part: object, axis: int) -> int:
    assert isinstance(part, FxNode)
    return int(part.meta["val"].shape[axis + 1])
