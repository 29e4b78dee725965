"""A slice of a value of the graph, and a value padded with zeros, used by many converters."""

from __future__ import annotations

from paretrim.capture.call import Call
from paretrim.capture.work import View, Work
from paretrim.graph.types import Attribute


def cut(work: Work, call: Call, source: str, axis: int, *, start: int, stop: int, step: int) -> View:
    """A slice of a value along an axis that is not the batch."""
    shape = work.shapes[source]
    if (start, stop, step) == (0, shape[axis], 1):
        return View(source, shape)
    if not range(start, stop, step):
        raise call.refused(f"it takes nothing of {shape}: a slice from {start} to {stop}; leave it out")
    left = (*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :])
    attributes: dict[str, Attribute] = {"axis": axis, "start": start, "stop": stop, "step": step}
    return work.emit(call, "slice", [source], shape=left, attributes=attributes)


def placed(work: Work, call: Call, value: View, axis: int, *, start: int, extent: int) -> View:
    """A value among zeros: from ``start`` in ``extent`` rows or columns."""
    after = extent - start - value.shape[axis]
    if start == after == 0:
        return value
    shape = (*value.shape[:axis], extent, *value.shape[axis + 1 :])
    attributes: dict[str, Attribute] = {
        "before": tuple(start if place == axis else 0 for place in range(3)),
        "after": tuple(after if place == axis else 0 for place in range(3)),
    }
    return work.emit(call, "pad", [value.name], shape=shape, attributes=attributes)


def axis_in(shape: tuple[int, ...], base: tuple[int, ...], axis: int) -> int | None:
    """The axis of a value of shape ``base`` that is this one of its view of ``shape``, which only lacks axes of size 1.

    >>> axis_in((8, 5), (8, 1, 5), 1)
    2
    """
    places, at = [], 0
    for side in shape:
        while at < len(base) and base[at] != side:
            if base[at] != 1:
                return None
            at += 1
        places.append(at)
        at += 1
    return places[axis] if at <= len(base) and all(side == 1 for side in base[at:]) else None
