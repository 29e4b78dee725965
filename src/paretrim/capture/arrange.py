"""Converters of what moves, joins, selects or merely reshapes values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from types import MappingProxyType

from paretrim.capture.call import Call
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Attribute

_WHOLE_BATCH = 2**31
"""A slice that ends here or later takes everything."""


def _concat(work: Work, call: Call) -> Value:
    shape = call.shape()
    parts = call.arguments["tensors"]
    if call.integer("dim") % (len(shape) + 1) != 1 or not isinstance(parts, list | tuple):
        raise call.refused(f"concatenation along axis {call.arguments['dim']}; only channels (axis 1) are joined")
    if len(parts) == 1:
        return work.view(call, parts[0])
    return work.emit(call, "concat", [work.read(call, part) for part in parts], shape=shape)


def cut(work: Work, call: Call, source: str, axis: int, *, start: int, stop: int, step: int) -> View:
    """A slice of a value along an axis that is not the batch."""
    shape = work.shapes[source]
    if (start, stop, step) == (0, shape[axis], 1):
        return View(source, shape)
    left = (*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :])
    attributes: dict[str, Attribute] = {"axis": axis, "start": start, "stop": stop, "step": step}
    return work.emit(call, "slice", [source], shape=left, attributes=attributes)


def _slice(work: Work, call: Call) -> Value:
    start, end = call.arguments["start"], call.arguments["end"]
    if call.integer("dim") == 0:
        if start in (None, 0) and (not isinstance(end, int) or end >= _WHOLE_BATCH):
            return work.view(call, call.source)
        raise call.refused("the batch is sliced; every image must be computed alike")
    source = work.read(call, call.source)
    shape = work.shapes[source]
    axis = call.integer("dim") % (len(shape) + 1) - 1
    first = None if start is None else call.integer("start")
    stop = None if end is None else call.integer("end")
    first, stop, step = slice(first, stop, call.integer("step")).indices(shape[axis])
    return cut(work, call, source, axis, start=first, stop=stop, step=step)


def _split(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    axis = call.integer("dim") % (len(work.shapes[source]) + 1) - 1
    call.no_effect("chunks", "split_size", "split_sizes")
    if axis < 0:
        raise call.refused("the batch is split; every image must be computed alike")
    stops = [0, *accumulate(int(part.shape[axis + 1]) for part in call.node.meta["val"])]
    return tuple(cut(work, call, source, axis, start=start, stop=stop, step=1) for start, stop in pairwise(stops))


def _pad(work: Work, call: Call) -> Value:
    source, value = work.read(call, call.source), call.arguments["value"]
    amounts, mode = list(call.integers("pad")), call.arguments.get("mode", "constant")
    if mode != "constant" or value not in (None, 0, -math.inf):
        what = f"with {value}" if mode == "constant" else f"in mode '{mode}'"
        raise call.refused(f"padding {what}; only zeros are known, and -inf in front of a max pooling")
    if len(work.shapes[source]) != 3 or len(amounts) > (4 if value == -math.inf else 6) or min(amounts) < 0:
        raise call.refused(
            f"padding {amounts} of {work.shapes[source]}; it must be non-negative and leave the batch alone, and with -inf the "
            "channels too"
        )
    amounts += [0] * (6 - len(amounts))
    if value == -math.inf:
        return View(source, call.shape(), never_wins=(amounts[2], amounts[0], amounts[3], amounts[1]))
    attributes: dict[str, Attribute] = {
        "before": (amounts[4], amounts[2], amounts[0]),
        "after": (amounts[5], amounts[3], amounts[1]),
    }
    return work.emit(call, "pad", [source], shape=call.shape(), attributes=attributes)


def _reshape(work: Work, call: Call) -> Value:
    view, shape = work.view(call, call.source), call.shape()
    call.no_effect("dim", "start_dim", "end_dim", "shape", "size", "other", "dtype")
    if math.prod(shape) != math.prod(view.shape):
        raise call.refused(f"{view.shape} becomes {shape}: the batch is mixed with another axis; keep the batch first and alone")
    return replace(view, shape=shape)


def _permute(work: Work, call: Call) -> Value:
    view = work.view(call, call.source)
    rank = len(view.shape) + 1
    if call.operation == "permute":
        order = [axis % rank for axis in call.integers("dims")]
    else:
        order = list(range(rank))
        first, second = call.integer("dim0") % rank, call.integer("dim1") % rank
        order[first], order[second] = order[second], order[first]
    if order == list(range(rank)):
        return view
    moved = [axis for axis in order[1:] if axis == 0 or view.shape[axis - 1] != 1]
    if order[0] == 0 and moved == sorted(moved):  # only axes of one number change their place
        return replace(view, shape=call.shape())
    base = work.shapes[view.name]
    if order != [0, 2, 1, 3, 4] or len(base) != 3 or view.shape[2:] != base[1:] or view.shuffled:
        raise call.refused(
            f"axes are permuted to {order}; only the channel shuffle [N, g, C/g, H, W] -> [N, C/g, g, H, W] is known; "
            "keep the channels first"
        )
    return View(view.name, call.shape(), view.shape[0])


def _same(work: Work, call: Call) -> Value:
    call.no_effect("dtype", "other")
    return work.view(call, call.source)


def _expand(work: Work, call: Call) -> Value:
    view, shape = work.view(call, call.source), call.shape()
    call.no_effect("size", "other")
    if shape != view.shape and view.shape != (shape[0], 1, 1):
        raise call.refused(f"{view.shape} is expanded to {shape}; only [C, 1, 1] broadcasts")
    return view


VIEWS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "slice": _slice,
        "chunk": _split,
        "split": _split,
        "split_with_sizes": _split,
        "flatten": _reshape,
        "view": _reshape,
        "reshape": _reshape,
        "reshape_as": _reshape,
        "view_as": _reshape,
        "squeeze": _reshape,
        "unsqueeze": _reshape,
        "transpose": _permute,
        "permute": _permute,
        "contiguous": _same,
        "detach": _same,
        "alias": _same,
        "expand": _expand,
        "expand_as": _expand,
        "to": _same,
    }
)
"""Operations whose result may lie in the memory of their input."""

COPIES: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "cat": _concat,
        "pad": _pad,
        "constant_pad_nd": _pad,
        "clone": _same,
    }
)
"""Operations whose result is a tensor of its own."""
