"""Converters of operations that write channels, rows or columns of one value into another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch

from paretrim.capture.along import along, fixed_places, ordered_channels
from paretrim.capture.call import Call
from paretrim.capture.cut import cut, placed
from paretrim.capture.elementwise import combine, pointwise
from paretrim.capture.scale_shift import affine, per_channel
from paretrim.capture.work import Constant, Value, View, Work


def _slice_scatter(work: Work, call: Call) -> Value:
    shape = call.shape()
    axis = call.integer("dim") % (len(shape) + 1) - 1
    if axis < 0:
        raise call.refused("it writes to some images of the batch; every image must be computed alike")
    bounds = (call.arguments[name] for name in ("start", "end"))
    start, end = (bound if isinstance(bound, int) else None for bound in bounds)
    places = range(*slice(start, end, call.integer("step")).indices(shape[axis]))
    return written(work, call, axis, places, call.arguments["src"])


def _select_scatter(work: Work, call: Call) -> Value:
    shape = call.shape()
    axis = call.integer("dim") % (len(shape) + 1) - 1
    if axis < 0:
        raise call.refused("it writes to one image of the batch; every image must be computed alike")
    return written(work, call, axis, [call.integer("index") % shape[axis]], call.arguments["src"])


def written(work: Work, call: Call, axis: int, places: Sequence[int], source: object) -> View:
    """The first argument with other channels (axis 0), rows (1) or columns (2) at these places: an argument or a number."""
    shape = call.shape()
    if len(shape) not in (1, 3):
        raise call.refused(f"it writes to a part of {shape}; only parts of maps [C, H, W] and of vectors can be written to")
    where = _Places(axis, tuple(places), shape[axis])
    given = Constant("number", torch.tensor(float(source))) if isinstance(source, int | float) else work.constant(source)
    into = work.constant(call.source)
    if into is None:
        name = work.read(call, call.source)
        before = View(name, work.shapes[name])
        if not where.places:
            return before
        return _over(work, call, before, where, given, source)
    value = _block(work, call, source, (*shape[:axis], len(where.places), *shape[axis + 1 :]))
    if axis == 0:
        beta = np.array(per_channel(call, into, shape))
        beta[list(where.places)] = 0
        made = _among_zeros(work, call, value, where)
        return affine(work, call, made.name, np.ones_like(beta), beta) if beta.any() else made
    number = _uniform(call, into)
    return _raised(work, call, _among_zeros(work, call, _raised(work, call, value, -number), where), number)


@dataclass(frozen=True)
class _Places:
    """Some channels (axis 0), rows (1) or columns (2) of a value, of which there are ``extent``."""

    axis: int
    places: tuple[int, ...]
    extent: int

    @property
    def run(self) -> bool:
        """Whether they follow each other."""
        return self.places == tuple(range(self.places[0], self.places[0] + len(self.places)))


def _over(work: Work, call: Call, before: View, where: _Places, given: Constant | None, source: object) -> View:
    """A value with another one, or constants, at some places."""
    shape = before.shape
    part = (*shape[: where.axis], len(where.places), *shape[where.axis + 1 :])
    if given is None:
        value = _block(work, call, source, part)
        if len(where.places) == where.extent and where.run:
            return value
        if where.axis == 0:
            return _channels_between(work, call, before, value, where)
        return combine(work, call, "add", _without(work, call, before, where), _among_zeros(work, call, value, where))
    if where.axis == 0:
        gamma, beta = np.ones(shape[0], np.float32), np.zeros(shape[0], np.float32)
        gamma[list(where.places)] = 0
        beta[list(where.places)] = per_channel(call, given, part)
        return affine(work, call, before.name, gamma, beta)
    number = _uniform(call, given)
    return _raised(work, call, _without(work, call, _raised(work, call, before, -number), where), number)


def _raised(work: Work, call: Call, value: View, number: float) -> View:
    return pointwise(work, call, value, "add_constant", number) if number else value


def _block(work: Work, call: Call, source: object, shape: tuple[int, ...]) -> View:
    """An argument as a value of this shape, along whose axes it may be repeated."""
    view = work.operand(call, source)
    if view.shape == shape and work.shapes[view.name] == shape:
        return view
    if len(view.shape) == len(shape) == 3 and all(side in (1, whole) for side, whole in zip(view.shape, shape, strict=True)):
        return work.spread(call, View(work.settled(call, view), view.shape), shape)
    return View(work.settled(call, replace(view, shape=shape)), shape)


def _uniform(call: Call, constant: Constant) -> float:
    """The number that a constant is filled with."""
    numbers = constant.array
    if numbers.size == 0 or not np.isfinite(numbers).all() or (numbers != numbers.flat[0]).any():
        raise call.refused(
            f"'{constant.name}' is joined with activations, but is the same for every image and differs from place to place; use "
            "one number for all places, or one for each of the channels that are written to"
        )
    return float(numbers.flat[0])


def _channels_between(work: Work, call: Call, before: View, value: View, where: _Places) -> View:
    """Channels of a value where they are written to, those of the value before elsewhere: a concatenation of runs."""
    sources = [(before.name, index) for index in range(where.extent)]
    for index, place in enumerate(where.places):
        sources[place] = (value.name, index)
    starts = [0, *(i for i in range(1, len(sources)) if sources[i] != (sources[i - 1][0], sources[i - 1][1] + 1)), len(sources)]
    parts = []
    for first, last in pairwise(starts):
        name, start = sources[first]
        parts.append(cut(work, call, name, 0, start=start, stop=start + last - first, step=1).name)
    return View(parts[0], before.shape) if len(parts) == 1 else work.emit(call, "concat", parts, shape=before.shape)


def _among_zeros(work: Work, call: Call, value: View, where: _Places) -> View:
    """A value at these places, with zeros at all others."""
    if where.run:
        return placed(work, call, value, where.axis, start=where.places[0], extent=where.extent)
    if where.axis:
        return along(work, call, value, where.axis, np.eye(where.extent, dtype=np.float32)[:, list(where.places)])
    spare = placed(work, call, value, 0, start=0, extent=len(where.places) + 1)
    order = [where.places.index(place) if place in where.places else len(where.places) for place in range(where.extent)]
    return ordered_channels(work, call, spare, order)


def _without(work: Work, call: Call, value: View, where: _Places) -> View:
    """A value with zeros at these rows or columns."""
    if not where.run:
        kept = np.eye(where.extent, dtype=np.float32)
        kept[list(where.places)] = 0
        return along(work, call, value, where.axis, kept)
    after = where.places[-1] + 1
    kept_parts = [
        placed(
            work,
            call,
            cut(work, call, value.name, where.axis, start=start, stop=stop, step=1),
            where.axis,
            start=start,
            extent=where.extent,
        )
        for start, stop in ((0, where.places[0]), (after, where.extent))
        if stop > start
    ]
    if not kept_parts:
        return pointwise(work, call, value, "mul_constant", 0.0)
    return kept_parts[0] if len(kept_parts) == 1 else combine(work, call, "add", *kept_parts)


def index_put(work: Work, call: Call) -> Value | None:
    """``x[:, [0, 2]] = y``, with fixed numbers; None where the indices are something else."""
    given = call.arguments["indices"]
    assert isinstance(given, list | tuple)
    axes = [axis for axis, index in enumerate(given) if index is not None]
    places = fixed_places(work, given[axes[0]]) if len(axes) == 1 else []
    if not places or axes[0] == 0:
        return None
    call.require("accumulate", False, _ADD)
    return _at(work, call, axes[0] - 1, places, call.arguments["values"])


def _index_fill(work: Work, call: Call) -> Value:
    source = call.arguments["value"]
    return _indexed(work, call, source)


def _index_copy(work: Work, call: Call) -> Value:
    return _indexed(work, call, call.arguments["source"])


_ADD = "add to a slice, x[:, 1:3] += y, or to x[:, index] once for every index"


def _indexed(work: Work, call: Call, source: object) -> Value:
    axis = call.integer("dim") % (len(call.shape()) + 1) - 1
    places = fixed_places(work, call.arguments["index"])
    if not places or axis < 0:
        raise call.refused("write only to channels, rows and columns, with fixed numbers; images of a batch cannot be indexed")
    return _at(work, call, axis, places, source)


def _at(work: Work, call: Call, axis: int, places: Sequence[int], source: object) -> View:
    extent = call.shape()[axis]
    places = [place % extent for place in places]
    if len(set(places)) < len(places):
        raise call.refused(f"it writes to the same place twice, in any order: the places are {places}; give each once")
    return written(work, call, axis, places, source)


WRITING: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {"slice_scatter": _slice_scatter, "select_scatter": _select_scatter, "index_fill": _index_fill, "index_copy": _index_copy}
)
"""Operations whose result is a new tensor."""
