"""Operations that move, select or join values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from paretrim.errors import UnsupportedOperation
from paretrim.graph.node import Array
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.attributes import COUNT, INDEX, PAIR, TRIPLE, AttributeRule, Settings, Shape, optional
from paretrim.graph.operations.operation import Meaning, NodeCall, Operation, Results, ShapeRule, always, image_shape
from paretrim.graph.operations.requantize import centered, clamped, levels, ratio
from paretrim.graph.windows import Values


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
        raise UnsupportedOperation(f"slice {start}:{stop}:{step} of axis {axis} leaves the input {shapes[0]}; stay within it")
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
        raise UnsupportedOperation(
            f"channel_shuffle in {groups} groups does not divide {image[0]} channels; choose groups that divide them"
        )
    return image


def _rearranged(call: NodeCall, split: Shape, order: Shape) -> Values:
    """The input with its axes behind the batch split into ``split``, in another order, and merged to the shape of the output."""
    x = call.inputs[0]
    return x.reshape(len(x), *split).transpose(0, *order).reshape(len(x), *call.node.type.shape)


def _shuffle(call: NodeCall) -> Values:
    (channels, height, width), groups = call.node.type.shape, call.settings.integer("groups")
    return _rearranged(call, (groups, channels // groups, height, width), (2, 1, 3, 4))


def _pixels_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    (channels, height, width), (down, across) = image_shape("pixel_shuffle", shapes[0]), settings.pair("factor")
    if channels % (down * across):
        raise UnsupportedOperation(
            f"pixel_shuffle by {down} x {across} does not divide {channels} channels; choose a factor that divides them"
        )
    return channels // (down * across), height * down, width * across


def _shuffle_pixels(call: NodeCall) -> Values:
    (channels, height, width), (down, across) = call.node.type.shape, call.settings.pair("factor")
    return _rearranged(call, (channels, down, across, height // down, width // across), (1, 4, 2, 5, 3))


def _blocks_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    (channels, height, width), (down, across) = image_shape("pixel_unshuffle", shapes[0]), settings.pair("factor")
    if height % down or width % across:
        raise UnsupportedOperation(
            f"pixel_unshuffle by {down} x {across} does not divide {height} x {width} pixels; choose a factor that divides them"
        )
    return channels * down * across, height // down, width // across


def _unshuffle_pixels(call: NodeCall) -> Values:
    (channels, height, width), (down, across) = call.node.type.shape, call.settings.pair("factor")
    return _rearranged(call, (channels // (down * across), height, down, width, across), (1, 3, 5, 2, 4))


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


def _moving(
    *,
    name: str,
    number: int,
    meaning: str,
    shape: ShapeRule,
    moves: Meaning,
    channels: channel_rules.ChannelRule,
    attributes: Mapping[str, AttributeRule] = MappingProxyType({}),
    same_values: bool = False,
) -> Operation:
    """An operation that only moves values, or adds zeros: it does the same to floats and to integers, whose grid stays."""
    return Operation(
        name,
        number,
        meaning,
        shape,
        moves,
        moves,
        channels,
        grid="keeps",
        scaling=always("homogeneous"),
        results=None,
        attributes=attributes,
        same_values=same_values,
    )


CONCAT = Operation(
    name="concat",
    number=11,
    meaning="along channels",
    shape=_joined_shape,
    real=lambda call: np.concatenate(call.inputs, axis=1),
    integer=_integer_join,
    channels=channel_rules.CONCAT,
    grid="requantizes",
    scaling=always("homogeneous"),
    results=Results(lambda _, kinds: list(map(levels, kinds)), lambda _, kinds: min(kind.scale for kind in kinds)),
    arity=None,
    rescaling="each",
)

SLICE = _moving(
    name="slice",
    number=12,
    meaning="start, stop, step along one axis (0 = channels)",
    shape=_slice_shape,
    moves=_slice,
    channels=channel_rules.SLICE,
    attributes={"axis": INDEX, "start": INDEX, "stop": INDEX, "step": optional(COUNT, 1)},
)

PAD = _moving(
    name="pad",
    number=13,
    meaning="zeros before and after each axis",
    shape=_padded_shape,
    moves=_pad,
    channels=channel_rules.PAD,
    attributes={"before": TRIPLE, "after": TRIPLE},
)

CHANNEL_SHUFFLE = _moving(
    name="channel_shuffle",
    number=14,
    meaning="channels [groups, C/groups] transposed",
    shape=_shuffled_shape,
    moves=_shuffle,
    channels=channel_rules.SHUFFLE,
    attributes={"groups": COUNT},
)

PIXEL_SHUFFLE = _moving(
    name="pixel_shuffle",
    number=22,
    meaning="[C*r*s, H, W] -> [C, H*r, W*s]: channels become the pixels of a block",
    shape=_pixels_shape,
    moves=_shuffle_pixels,
    channels=channel_rules.PIXELS,
    attributes={"factor": PAIR},
)

PIXEL_UNSHUFFLE = _moving(
    name="pixel_unshuffle",
    number=23,
    meaning="[C, H*r, W*s] -> [C*r*s, H, W]: pixels of a block become channels",
    shape=_blocks_shape,
    moves=_unshuffle_pixels,
    channels=channel_rules.BLOCKS,
    attributes={"factor": PAIR},
)

FLATTEN = _moving(
    name="flatten",
    number=15,
    meaning="[C, H, W] -> [C*H*W]",
    shape=_flat_shape,
    moves=_flatten,
    channels=channel_rules.FLATTEN,
    same_values=True,
)

UNFLATTEN = _moving(
    name="unflatten",
    number=16,
    meaning="[C] -> [C, 1, 1]",
    shape=_unflat_shape,
    moves=_unflatten,
    channels=channel_rules.PASSING,
    same_values=True,
)
