"""Concatenation of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch.fx import Node as FxNode

from paretrim.capture.call import Call
from paretrim.capture.cut import placed
from paretrim.capture.last import with_channels_last
from paretrim.capture.scale_shift import affine, numbers_of
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Attribute


def concat(work: Work, call: Call) -> Value:
    """Concatenated channels, rows or columns."""
    shape = call.shape()
    parts = call.arguments["tensors"]
    axis = call.integer("dim") % (len(shape) + 1)
    assert isinstance(parts, list | tuple)
    known = [work.known.get(part) for part in parts]
    if axis == 3 and all(isinstance(view, View) and view.last for view in known):
        names = [work.view(call, part, may_be_last=True).name for part in parts]
        joined = (shape[2], *shape[:2])
        return with_channels_last(work.emit(call, "concat", names, shape=joined) if len(names) > 1 else View(names[0], joined))
    if axis > 1 and len(shape) == 3:
        return _beside(work, call, parts, axis - 1)
    if axis != 1:
        raise call.refused(
            f"concatenation along axis {call.arguments['dim']}; only channels, rows and columns of maps can be concatenated"
        )
    if len(shape) in (2, 4) and len(parts) > 1:
        return _stacked(work, call, parts)
    if len(parts) == 1:
        return work.view(call, parts[0])
    if len(shape) == 3:
        return _joined(work, call, parts)
    return work.emit(call, "concat", [work.read(call, part) for part in parts], shape=shape)


def _joined(work: Work, call: Call, parts: Sequence[object]) -> View:
    """Maps joined along the channels. Zeros among them become padding, and so do other constants, which are then added."""
    names: list[str] = []
    before = after = 0
    for part in parts:
        constant = _is_constant(work, part)
        if not constant and after:
            names, before, after = [_padded(work, call, names, before, after)], 0, 0
        if not constant:
            names.append(work.read(call, part))
        elif names:
            after += _extent(part, 0)
        else:
            before += _extent(part, 0)
    return _with_constants(work, call, View(_padded(work, call, names, before, after), call.shape()), parts, 0)


def _padded(work: Work, call: Call, names: Sequence[str], before: int, after: int) -> str:
    """Joined maps with so many channels of zeros before and after them."""
    sizes = [work.shapes[name] for name in names]
    joined = (sum(size[0] for size in sizes), *sizes[0][1:])
    name = names[0] if len(names) == 1 else work.emit(call, "concat", names, shape=joined).name
    if not before and not after:
        return name
    attributes: dict[str, Attribute] = {"before": (before, 0, 0), "after": (after, 0, 0)}
    return work.emit(call, "pad", [name], shape=(before + joined[0] + after, *joined[1:]), attributes=attributes).name


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
        if not _is_constant(work, part):
            name = work.read(call, part)
            there = placed(work, call, View(name, work.shapes[name]), axis, start=start, extent=shape[axis])
            total = there if total is None else work.emit(call, "add", [total.name, there.name], shape=shape)
        start += _extent(part, axis)
    assert total is not None, "where all parts are constant, so is the whole"
    return _with_constants(work, call, total, parts, axis)


def _with_constants(work: Work, call: Call, value: View, parts: Sequence[object], axis: int) -> View:
    """A value that is 0 where constant parts belong, with these."""
    shift, start = np.zeros(value.shape, np.float32), 0
    for part in parts:
        end = start + _extent(part, axis)
        constant = work.constant(part)
        if constant is not None and _is_constant(work, part):
            place = (slice(None),) * axis + (slice(start, end),)
            shift[place] = numbers_of(call, constant, shift[place].shape)
        start = end
    return affine(work, call, value.name, np.ones_like(shift), shift) if shift.any() else value


def _is_constant(work: Work, part: object) -> bool:
    """Whether it is the same for every image, such as the zeros of option A of ResNet."""
    constant = work.constant(part)
    return constant is not None and constant.memory not in work.changed


def _extent(part: object, axis: int) -> int:
    assert isinstance(part, FxNode)
    return int(part.meta["val"].shape[axis + 1])
