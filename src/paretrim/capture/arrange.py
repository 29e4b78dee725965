"""Converters of operations that move, concatenate, select or reshape values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from types import MappingProxyType

from torch.fx import Node as FxNode

from paretrim.capture.along import ORDERS, fixed_places, ordered
from paretrim.capture.call import Call, operation_of
from paretrim.capture.concat import concat
from paretrim.capture.cut import axis_in, cut, placed
from paretrim.capture.elementwise import pointwise
from paretrim.capture.expanded import expanded
from paretrim.capture.last import axis_of_map, with_channels_last
from paretrim.capture.pixels import PIXELS, moved_blocks
from paretrim.capture.remedies import reason_behind
from paretrim.capture.work import Value, View, Work
from paretrim.graph.types import Attribute

_WHOLE_BATCH = 2**31
"""A slice that ends here or later takes everything."""


def _slice(work: Work, call: Call) -> Value:
    start, end = call.arguments["start"], call.arguments["end"]
    if call.integer("dim") == 0:
        if start in (None, 0) and (not isinstance(end, int) or end >= _WHOLE_BATCH):
            return work.view(call, call.source, may_be_last=True)
        raise call.refused("it slices the batch; every image must be computed alike")
    view = work.view(call, call.source, may_be_last=True)
    axis = call.integer("dim") % (len(view.shape) + 1) - 1
    base = work.shapes[view.name]
    within = axis_in(view.shape, base, axis) if view.plain and 1 < len(view.shape) < len(base) == 3 else None
    source = view.name if within is not None or view.last else work.read(call, call.source)
    axis, shape = axis_of_map(view, axis) if within is None else within, work.shapes[source]
    first = None if start is None else call.integer("start")
    stop = None if end is None else call.integer("end")
    first, stop, step = slice(first, stop, call.integer("step")).indices(shape[axis])
    made = cut(work, call, source, axis, start=first, stop=stop, step=step)
    if view.last:
        return with_channels_last(made)
    return made if within is None else View(made.name, call.shape())


def _split(work: Work, call: Call) -> Value:
    view = work.view(call, call.source, may_be_last=True)
    source = view.name if view.last else work.read(call, call.source)
    axis = call.integer("dim") % (len(work.shapes[source]) + 1) - 1
    call.no_effect("chunks", "split_size", "split_sizes")
    if axis < 0:
        raise call.refused("it splits the batch; every image must be computed alike")
    stops = [0, *accumulate(int(part.shape[axis + 1]) for part in call.node.meta["val"])]
    axis = axis_of_map(view, axis)
    parts = tuple(cut(work, call, source, axis, start=start, stop=stop, step=1) for start, stop in pairwise(stops))
    return tuple(map(with_channels_last, parts)) if view.last else parts


_MODES: Mapping[str, str] = MappingProxyType({"reflection_pad2d": "reflect", "replication_pad2d": "replicate"})
"""Padding operations with other values than a constant."""


def _copied_edges(work: Work, call: Call) -> Value:
    """Padding of maps with their own rows and columns, or of rows [C, L] with their own entries."""
    mode = _MODES.get(call.operation) or str(call.arguments["mode"])
    amounts = call.integers("padding" if call.operation in _MODES else "pad")
    view = work.view(call, call.source)
    of_rows = len(amounts) == len(view.shape) == 2
    if not (of_rows or len(amounts) == 4) or min(amounts) < 0 or mode not in ("reflect", "replicate", "circular"):
        raise call.refused(
            f"pad only height and width, by 0 or more, with zeros or in mode 'reflect', 'replicate' or 'circular'; this is "
            f"{list(amounts)} in mode '{mode}'"
        )
    if of_rows:
        source = _as_one_row(work, call, view)
        value = View(source, work.shapes[source])
        return View(_copied_along(work, call, value, 2, mode, (amounts[0], amounts[1])).name, call.shape())
    source = work.read(call, call.source)
    value = _copied_along(work, call, View(source, work.shapes[source]), 1, mode, (amounts[2], amounts[3]))
    return _copied_along(work, call, value, 2, mode, (amounts[0], amounts[1]))


def _as_one_row(work: Work, call: Call, view: View) -> str:
    """The value of rows [C, L] as a map of one row."""
    return work.settled(call, replace(view, shape=(view.shape[0], 1, view.shape[1])))


def _copied_along(work: Work, call: Call, value: View, axis: int, mode: str, amounts: tuple[int, int]) -> View:
    """Add rows (axis 1) or columns (axis 2) of the image before and after it, as a sum of values that do not overlap."""
    extent, (before, after) = value.shape[axis], amounts
    first: list[int] = {
        "reflect": [*range(before, 0, -1)],
        "replicate": [0] * before,
        "circular": [*range(extent - before, extent)],
    }[mode]
    last: list[int] = {
        "reflect": [*range(extent - 2, extent - 2 - after, -1)],
        "replicate": [extent - 1] * after,
        "circular": [*range(after)],
    }[mode]
    total = placed(work, call, value, axis, start=before, extent=before + extent + after)
    for places, start in ((first, 0), (last, before + extent)):
        if places:
            edge = _gathered(work, call, value, axis, places)
            edge = placed(work, call, edge, axis, start=start, extent=total.shape[axis])
            total = work.emit(call, "add", [total.name, edge.name], shape=total.shape)
    return total


def _gathered(work: Work, call: Call, value: View, axis: int, places: list[int]) -> View:
    """Rows or columns of a value in this order."""
    ascending = places == list(range(places[0], places[0] + len(places)))
    if ascending or len(set(places)) == 1:
        stop = places[-1] + 1
        found = cut(work, call, value.name, axis, start=places[0], stop=stop, step=1)
        return work.spread(call, found, (*found.shape[:axis], len(places), *found.shape[axis + 1 :]))
    total: View | None = None
    for index, place in enumerate(places):
        found = cut(work, call, value.name, axis, start=place, stop=place + 1, step=1)
        found = placed(work, call, found, axis, start=index, extent=len(places))
        total = found if total is None else work.emit(call, "add", [total.name, found.name], shape=found.shape)
    assert total is not None
    return total


def _padded_with(work: Work, call: Call, view: View, number: float, amounts: list[int]) -> View:
    """Padding with a number other than zero: subtract it, pad with zeros, and add it back."""
    lowered = pointwise(work, call, view, "add_constant", -number)
    for axis, index in ((2, 0), (1, 2), (0, 4)):
        before, after = amounts[index : index + 2]
        extent = before + lowered.shape[axis] + after
        lowered = placed(work, call, lowered, axis, start=before, extent=extent)
    return pointwise(work, call, lowered, "add_constant", number)


def _pad(work: Work, call: Call) -> Value:
    if call.arguments.get("mode", "constant") != "constant":
        return _copied_edges(work, call)
    view = work.view(call, call.source)
    if len(view.shape) == 4 and view.shape[0] == 1:  # channels as the depth, with a leading axis of size 1
        work.known[call.node.all_input_nodes[0]] = View(work.settled(call, replace(view, shape=view.shape[1:])), view.shape[1:])
    amounts, value = list(call.integers("pad")), call.arguments["value"]
    of_rows = len(amounts) == len(view.shape) == 2
    source = _as_one_row(work, call, view) if of_rows else work.read(call, call.source)
    number = 0.0 if value in (None, 0, -math.inf) else call.finite("value", call.number("value"))
    if len(work.shapes[source]) != 3 or len(amounts) > (4 if value == -math.inf else 6):
        with_what = f" with {number}" if number else ""
        raise call.refused(
            f"padding {amounts} of {work.shapes[source]}{with_what}; the batch cannot be padded, nor the channels with -inf"
        )
    amounts += [0] * (6 - len(amounts))
    for axis, before in ((2, 0), (1, 2), (0, 4)):  # negative padding cuts off
        stop = work.shapes[source][axis] + min(amounts[before + 1], 0)
        source = cut(work, call, source, axis, start=max(-amounts[before], 0), stop=stop, step=1).name
    amounts = [max(amount, 0) for amount in amounts]
    if not any(amounts):
        return View(source, call.shape())
    if value == -math.inf:
        return View(source, call.shape(), never_wins=(amounts[2], amounts[0], amounts[3], amounts[1]))
    if number:
        found = _padded_with(work, call, View(source, work.shapes[source]), number, amounts)
        return replace(found, shape=call.shape()) if of_rows else found
    attributes: dict[str, Attribute] = {
        "before": (amounts[4], amounts[2], amounts[0]),
        "after": (amounts[5], amounts[3], amounts[1]),
    }
    shape = call.shape()
    made = (shape[0], 1, shape[1]) if of_rows else shape[-3:]
    return View(work.emit(call, "pad", [source], shape=made, attributes=attributes).name, shape)


def _reshape(work: Work, call: Call) -> Value:
    view, shape = work.view(call, call.source), call.shape()
    if any(view.never_wins):
        work.read(call, call.source)  # raises the error
    call.no_effect("dim", "start_dim", "end_dim", "shape", "size", "other", "dtype")
    if math.prod(shape) != math.prod(view.shape):
        raise call.refused(
            f"{view.shape} becomes {shape}: the batch is mixed with another axis; keep the batch as a separate first axis"
        )
    return replace(view, shape=shape)


_REDUCTIONS = frozenset(("amax", "amin", "mean", "sum", "var", "std"))


def _permute(work: Work, call: Call) -> Value:
    view = work.view(call, call.source, may_be_turned=True, may_be_last=True)
    rank = len(view.shape) + 1
    if call.operation == "permute":
        order = [axis % rank for axis in call.integers("dims")]
    else:
        order = list(range(rank))
        first, second = call.integer("dim0") % rank, call.integer("dim1") % rank
        order[first], order[second] = order[second], order[first]
    if order == list(range(rank)):
        return view
    if view.last and order == [0, 3, 1, 2]:
        return View(view.name, work.shapes[view.name])
    moved = [axis for axis in order[1:] if axis == 0 or view.shape[axis - 1] != 1]
    if order[0] == 0 and moved == sorted(moved):  # only axes of size 1 are permuted
        return replace(view, shape=call.shape())
    base = work.shapes[view.name]
    if order == [0, 2, 3, 1] and view.plain and view.shape == base and not reason_behind(_behind(call.node)):
        return View(view.name, call.shape(), last=True)
    if order == [*range(rank - 2), rank - 1, rank - 2] and rank > 2 and (view.turned or view.plain):
        return replace(view, shape=call.shape(), turned=not view.turned)
    view = work.view(call, call.source)
    if (moved_view := moved_blocks(work, call, view, order)) is not None:
        return moved_view
    if order != [0, 2, 1, 3, 4] or len(base) != 3 or view.shape[2:] != base[1:] or view.shuffled:
        known = "keep the channels first; other orders are supported only for channel shuffle, space to depth and depth to space"
        if any(operation_of(user) in _REDUCTIONS for user in call.node.users):
            known = "use nn.MaxPool2d or nn.AvgPool2d for blocks of pixels; they are not reduced along permuted axes"
        raise call.refused(f"{reason_behind(_behind(call.node)) or known} (axes are permuted to {order})")
    return View(view.name, call.shape(), view.shape[0])


def _behind(node: FxNode) -> set[str]:
    """Names of all operations that depend on a value."""
    met: set[FxNode] = set()
    waiting = [node]
    while waiting:
        for user in waiting.pop().users:
            if user not in met:
                met.add(user)
                waiting.append(user)
    return {operation_of(user) for user in met}


def _shuffle(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    groups = {"groups": call.integer("groups")}
    return work.emit(call, "channel_shuffle", [source], shape=work.shapes[source], attributes=groups)


def _repeat(work: Work, call: Call) -> Value:
    """Repeated channels, as in turning a grayscale image into three channels."""
    source, times = work.read(call, call.source), call.integers("repeats")
    shape = work.shapes[source]
    if len(shape) != 3 or len(times) != 4 or times[0] != 1 or times[2:] != (1, 1):
        raise call.refused(f"repeat only the channels of maps [N, C, H, W]; this repeats {shape} {list(times)} times")
    return work.emit(call, "concat", [source] * times[1], shape=call.shape())


def _chosen(work: Work, call: Call) -> Value:
    """Channels, rows or columns in another order, for example from RGB to BGR."""
    source = work.read(call, call.source)
    shape = work.shapes[source]
    if call.operation == "index":
        listed = call.arguments["indices"]
        axes = [axis for axis, index in enumerate(listed) if index is not None] if isinstance(listed, list | tuple) else []
        places = fixed_places(work, listed[axes[0]]) if len(axes) == 1 and isinstance(listed, list | tuple) else []
    else:
        axes, places = [call.integer("dim")], fixed_places(work, call.arguments["index"])
    axis = axes[0] % (len(shape) + 1) - 1 if len(axes) == 1 else -1
    if len(shape) not in (1, 3) or axis < 0 or not places:
        raise call.refused("index channels, rows or columns, one axis at a time and with fixed numbers; images cannot be indexed")
    return ordered(work, call, View(source, shape), axis, [place % shape[axis] for place in places])


def _same(work: Work, call: Call) -> Value:
    call.no_effect("dtype", "other")
    return work.view(call, call.source, may_be_turned=True, may_be_last=True)


def _without_nan(work: Work, call: Call) -> Value:
    """A captured network computes the nearest finite number wherever the module would give NaN or infinity."""
    call.no_effect("nan")
    return work.view(call, call.source, may_be_turned=True, may_be_last=True)


def _copy(work: Work, call: Call) -> Value:
    """A value overwritten by a copy of another one is that other value from then on."""
    call.no_effect("self")
    source, shape = call.argument("src"), call.shape()
    view = work.view(call, source)
    if view.shape == shape:
        return view
    if len(view.shape) != len(shape) or len(shape) != 3:
        raise call.refused(f"it copies {view.shape} to {shape}; copy only between equal shapes")
    return View(work.read(call, source), shape, spread=True)


def _expand(work: Work, call: Call) -> Value:
    view, shape = work.view(call, call.source), call.shape()
    call.no_effect("size", "other")
    if shape == view.shape:
        return view
    if len(shape) == 1 and view.shape == (1,):
        return work.spread(call, view, shape)
    if (repeated := expanded(work, call, view, shape)) is not None:
        return repeated
    if len(shape) != 3 or len(view.shape) != 3:
        raise call.refused(f"expand only maps [C, H, W]; this expands {view.shape} to {shape}")
    return View(work.read(call, call.source), shape, spread=True)


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
        "type_as": _same,
    }
)
"""Operations whose result may share the memory of their input."""

COPIES: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        **PIXELS,
        "cat": concat,
        "pad": _pad,
        "reflection_pad2d": _copied_edges,
        "replication_pad2d": _copied_edges,
        "channel_shuffle": _shuffle,
        "constant_pad_nd": _pad,
        "clone": _same,
        "_to_copy": _same,
        "nan_to_num": _without_nan,
        "copy": _copy,
        "repeat": _repeat,
        "index": _chosen,
        "index_select": _chosen,
        **ORDERS,
    }
)
"""Operations whose result is a new tensor."""
