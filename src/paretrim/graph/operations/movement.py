"""Operations that move, select or join values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from paretrim.errors import UnsupportedOperation
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.attributes import COUNT, INDEX, PAIR, TRIPLE, Settings, Shape, optional
from paretrim.graph.operations.operation import NodeCall, Operation, image_shape
from paretrim.graph.operations.requantize import centered, clamped, ratio
from paretrim.graph.windows import Values

if TYPE_CHECKING:
    from paretrim.graph.types import Array


def _joined_shape(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    if any(not shape or shape[1:] != shapes[0][1:] for shape in shapes):
        raise UnsupportedOperation(f"concat joins channels of equal maps and was given {list(shapes)}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _integer_join(call: NodeCall) -> Values:
    parts, output = [], call.node.type
    for value, source in zip(call.inputs, call.types, strict=True):
        if (source.scale, source.zero_point) == (output.scale, output.zero_point):
            parts.append(value)
        else:
            steps = np.asarray(centered(value, source) * ratio(source, output))
            parts.append(clamped(np.rint(steps), output.zero_point, 0, 255))
    return np.concatenate(parts, axis=1)


def _slice_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    axis, start, stop, step = (settings.integer(name) for name in ("axis", "start", "stop", "step"))
    if axis >= len(shapes[0]) or not start < stop <= shapes[0][axis]:
        raise UnsupportedOperation(f"slice {start}:{stop}:{step} of axis {axis} leaves the input {shapes[0]}")
    return (*shapes[0][:axis], (stop - start - 1) // step + 1, *shapes[0][axis + 1 :])


def _slice(call: NodeCall) -> Values:
    settings = call.settings
    selected = slice(settings.integer("start"), settings.integer("stop"), settings.integer("step"))
    return np.ascontiguousarray(call.inputs[0][(slice(None),) * (settings.integer("axis") + 1) + (selected,)])


def _padded_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image = image_shape("pad", shapes[0])
    before, after = settings.integers("before"), settings.integers("after")
    return tuple(extent + first + last for extent, first, last in zip(image, before, after, strict=True))


def _pad(call: NodeCall) -> Values:
    before, after = call.settings.integers("before"), call.settings.integers("after")
    return np.pad(call.inputs[0], ((0, 0), *zip(before, after, strict=True)), constant_values=call.types[0].zero_point)


def _shuffled_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image, groups = image_shape("channel_shuffle", shapes[0]), settings.integer("groups")
    if image[0] % groups:
        raise UnsupportedOperation(f"channel_shuffle in {groups} groups does not divide {image[0]} channels")
    return image


def _shuffle(call: NodeCall) -> Values:
    count, channels, height, width = call.inputs[0].shape
    grouped = call.inputs[0].reshape(count, call.settings.integer("groups"), -1, height, width)
    return grouped.swapaxes(1, 2).reshape(count, channels, height, width)


def _pixels_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    (channels, height, width), (down, across) = image_shape("pixel_shuffle", shapes[0]), settings.pair("factor")
    if channels % (down * across):
        raise UnsupportedOperation(f"pixel_shuffle by {down} x {across} does not divide {channels} channels")
    return channels // (down * across), height * down, width * across


def _shuffle_pixels(call: NodeCall) -> Values:
    count, channels, height, width = call.inputs[0].shape
    down, across = call.settings.pair("factor")
    blocks = call.inputs[0].reshape(count, channels // (down * across), down, across, height, width)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(count, -1, height * down, width * across)


def _blocks_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    (channels, height, width), (down, across) = image_shape("pixel_unshuffle", shapes[0]), settings.pair("factor")
    if height % down or width % across:
        raise UnsupportedOperation(f"pixel_unshuffle by {down} x {across} does not divide {height} x {width} pixels")
    return channels * down * across, height // down, width // across


def _unshuffle_pixels(call: NodeCall) -> Values:
    count, channels, height, width = call.inputs[0].shape
    down, across = call.settings.pair("factor")
    blocks = call.inputs[0].reshape(count, channels, height // down, down, width // across, across)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(count, -1, height // down, width // across)


def _flat_shape(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    return (math.prod(shapes[0]),)


def _flatten(call: NodeCall) -> Values:
    return call.inputs[0].reshape(len(call.inputs[0]), -1)


def _unflat_shape(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    if len(shapes[0]) == 1:
        return (*shapes[0], 1, 1)
    raise UnsupportedOperation(f"unflatten needs an input [C] and was given {shapes[0]}")


def _unflatten(call: NodeCall) -> Values:
    return call.inputs[0][:, :, None, None]


CONCAT = Operation(
    name="concat",
    number=11,
    meaning="along channels",
    shape=_joined_shape,
    real=lambda call: np.concatenate(call.inputs, axis=1),
    integer=_integer_join,
    channels=channel_rules.CONCAT,
    arity=None,
    rescaling="each",
)

SLICE = Operation(
    name="slice",
    number=12,
    meaning="start, stop, step along one axis (0 = channels)",
    shape=_slice_shape,
    real=_slice,
    integer=_slice,
    channels=channel_rules.SLICE,
    attributes={"axis": INDEX, "start": INDEX, "stop": INDEX, "step": optional(COUNT, 1)},
    grid="keeps",
)

PAD = Operation(
    name="pad",
    number=13,
    meaning="zeros before and after each axis",
    shape=_padded_shape,
    real=_pad,
    integer=_pad,
    channels=channel_rules.PAD,
    attributes={"before": TRIPLE, "after": TRIPLE},
    grid="keeps",
)

CHANNEL_SHUFFLE = Operation(
    name="channel_shuffle",
    number=14,
    meaning="channels [groups, C/groups] transposed",
    shape=_shuffled_shape,
    real=_shuffle,
    integer=_shuffle,
    channels=channel_rules.SHUFFLE,
    attributes={"groups": COUNT},
    grid="keeps",
)

PIXEL_SHUFFLE = Operation(
    name="pixel_shuffle",
    number=22,
    meaning="[C*r*s, H, W] -> [C, H*r, W*s]: channels become the pixels of a block",
    shape=_pixels_shape,
    real=_shuffle_pixels,
    integer=_shuffle_pixels,
    channels=channel_rules.PIXELS,
    attributes={"factor": PAIR},
    grid="keeps",
)

PIXEL_UNSHUFFLE = Operation(
    name="pixel_unshuffle",
    number=23,
    meaning="[C, H*r, W*s] -> [C*r*s, H, W]: pixels of a block become channels",
    shape=_blocks_shape,
    real=_unshuffle_pixels,
    integer=_unshuffle_pixels,
    channels=channel_rules.BLOCKS,
    attributes={"factor": PAIR},
    grid="keeps",
)

FLATTEN = Operation(
    name="flatten",
    number=15,
    meaning="[C, H, W] -> [C*H*W]",
    shape=_flat_shape,
    real=_flatten,
    integer=_flatten,
    channels=channel_rules.FLATTEN,
    grid="keeps",
)

UNFLATTEN = Operation(
    name="unflatten",
    number=16,
    meaning="[C] -> [C, 1, 1]",
    shape=_unflat_shape,
    real=_unflatten,
    integer=_unflatten,
    channels=channel_rules.PASSING,
    grid="keeps",
)
