"""Maps whose channels were permuted to the last axis, as in channels-last networks; no data is moved for it."""

from __future__ import annotations

from dataclasses import replace

from paretrim.capture.call import Call
from paretrim.capture.work import Constant, View, Work


def as_map(work: Work, call: Call, argument: object) -> tuple[View, View]:
    """A value [C, H, W] of the graph, and the argument as a view of it: channels last, a single pixel, or the map itself."""
    view = work.view(call, argument, may_be_last=True)
    if view.last:
        return View(view.name, work.shapes[view.name]), view
    if view.plain and view.shape[:-1] == (1,) * (len(view.shape) - 1):
        pixel = (view.shape[-1], 1, 1)
        name = work.settled(call, replace(view, shape=pixel))
        return View(name, pixel), View(name, view.shape)
    name = work.read(call, argument)
    return View(name, work.shapes[name]), View(name, work.shapes[name])


def axis_of_map(view: View, axis: int) -> int:
    """The axis of the value [C, H, W] that a view of it, maybe with channels last, has as this one."""
    return (1, 2, 0)[axis] if view.last else axis


def with_channels_last(value: View) -> View:
    """A value [C, H, W] with its channels last, [H, W, C]."""
    return View(value.name, (*value.shape[1:], value.shape[0]), last=True)


def over_channels(constant: Constant, channels: int) -> Constant:
    """A constant with one number per channel [C] as [C, 1, 1]; any other unchanged."""
    if constant.tensor.numel() != channels or constant.tensor.shape[-1] != channels:
        return constant
    return Constant(constant.name, constant.tensor.reshape(channels, 1, 1))
