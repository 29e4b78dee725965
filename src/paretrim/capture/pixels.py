"""Converters of operations that turn channels into blocks of pixels, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from paretrim.capture.call import Call
from paretrim.capture.work import Value, View, Work
from paretrim.graph.operations.attributes import Pair


def shuffled_pixels(work: Work, call: Call, source: str, factor: Pair) -> View:
    """A value [C * r * s, H, W] as [C, H * r, W * s]."""
    channels, height, width = work.shapes[source]
    shape = (channels // (factor[0] * factor[1]), height * factor[0], width * factor[1])
    return work.emit(call, "pixel_shuffle", [source], shape=shape, attributes={"factor": factor})


def gathered_pixels(work: Work, call: Call, source: str, factor: Pair) -> View:
    """A value [C, H * r, W * s] as [C * r * s, H, W]."""
    channels, height, width = work.shapes[source]
    shape = (channels * factor[0] * factor[1], height // factor[0], width // factor[1])
    return work.emit(call, "pixel_unshuffle", [source], shape=shape, attributes={"factor": factor})


def moved_blocks(work: Work, call: Call, view: View, order: list[int]) -> View | None:
    """A permuted view that turns blocks of pixels into channels or channels into blocks; None for any other permutation."""
    if len(view.shape) != 5 or not view.plain:
        return None
    base, shape = work.shapes[view.name], view.shape
    if order in ([0, 3, 5, 1, 2, 4], [0, 1, 3, 5, 2, 4]) and base == (shape[0], shape[1] * shape[2], shape[3] * shape[4]):
        return _blocks_to_channels(work, call, view, channels_first=order[1] == 1)
    if order == [0, 1, 4, 2, 5, 3] and base == (shape[0] * shape[1] * shape[2], *shape[3:]):
        channels, source, factor = shape[0], view.name, (shape[1], shape[2])
    elif order == [0, 3, 4, 1, 5, 2] and base == (shape[0] * shape[1] * shape[2], *shape[3:]):
        channels, factor = shape[2], (shape[0], shape[1])
        groups = {"groups": factor[0] * factor[1]}
        source = work.emit(call, "channel_shuffle", [view.name], shape=base, attributes=groups).name
    else:
        return None
    made = shuffled_pixels(work, call, source, factor)
    return View(made.name, (channels, shape[3], factor[0], shape[4], factor[1]))


def _blocks_to_channels(work: Work, call: Call, view: View, *, channels_first: bool) -> View:
    """[C, H / r, r, W / s, s] as [r, s, C, H / r, W / s], or as [C, r, s, H / r, W / s] with the channels first."""
    channels, down, rows, across, columns = view.shape
    made = gathered_pixels(work, call, view.name, (rows, columns))
    if channels_first:
        return View(made.name, (channels, rows, columns, down, across))
    shuffled = work.emit(call, "channel_shuffle", [made.name], shape=made.shape, attributes={"groups": channels})
    return View(shuffled.name, (rows, columns, channels, down, across))


def _pixel_shuffle(work: Work, call: Call) -> Value:
    factor = call.integer("upscale_factor")
    return shuffled_pixels(work, call, work.read(call, call.source), (factor, factor))


def _pixel_unshuffle(work: Work, call: Call) -> Value:
    factor = call.integer("downscale_factor")
    return gathered_pixels(work, call, work.read(call, call.source), (factor, factor))


PIXELS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {"pixel_shuffle": _pixel_shuffle, "pixel_unshuffle": _pixel_unshuffle}
)
"""Operations whose result is a new tensor."""
