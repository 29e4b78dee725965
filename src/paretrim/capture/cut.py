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
