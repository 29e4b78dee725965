"""A slice of a value of the graph, which many converters are written with."""

from __future__ import annotations

from paretrim.capture.call import Call
from paretrim.capture.work import View, Work
from paretrim.graph.types import Attribute


def cut(work: Work, call: Call, source: str, axis: int, *, start: int, stop: int, step: int) -> View:
    """A slice of a value along an axis that is not the batch."""
    shape = work.shapes[source]
    if (start, stop, step) == (0, shape[axis], 1):
        return View(source, shape)
    left = (*shape[:axis], len(range(start, stop, step)), *shape[axis + 1 :])
    attributes: dict[str, Attribute] = {"axis": axis, "start": start, "stop": stop, "step": step}
    return work.emit(call, "slice", [source], shape=left, attributes=attributes)
