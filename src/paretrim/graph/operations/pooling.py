"""Pooling: the largest and the mean of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from paretrim.errors import UnsupportedOperation
from paretrim.graph import windows
from paretrim.graph.node import Array
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.attributes import CLAMP, NO_EDGES, ONES, PAIR, Settings, Shape
from paretrim.graph.operations.operation import NodeCall, Operation, image_shape
from paretrim.graph.operations.requantize import centered, requantize
from paretrim.graph.operations.sliding import slide
from paretrim.graph.windows import Values, Windows


def _max_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image = image_shape("max_pool", shapes[0])
    return (image[0], *slide("max_pool", image, settings.pair("window"), settings, inside=True))


def _average_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image = image_shape("avg_pool", shapes[0])
    padding, counted = settings.edges("padding"), settings.edges("count_padding")
    if any(count > pad for count, pad in zip(counted, padding, strict=True)):
        raise UnsupportedOperation(f"avg_pool counts {counted} of the padding {padding}; it cannot count more than there is")
    return (image[0], *slide("avg_pool", image, settings.pair("window"), settings, inside=True))


def _adaptive_shape(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image, size = image_shape("adaptive_avg_pool", shapes[0]), settings.pair("output_size")
    return (image[0], *size)


def _largest(call: NodeCall) -> Values:
    return windows.largest_in_window(call.inputs[0], Windows.of(call.settings), 0 if call.types[0].quantized else -np.inf)


def _sums(call: NodeCall, x: Values) -> tuple[Values, npt.NDArray[np.int64]]:
    if call.node.op == "adaptive_avg_pool":
        return windows.sum_adaptive(x, call.settings.pair("output_size"))
    sliding = Windows.of(call.settings)
    counts = windows.counted_positions(x.shape, sliding, call.settings.edges("count_padding"))
    return windows.sum_in_window(x, sliding), counts


def _real_average(call: NodeCall) -> Values:
    total, counts = _sums(call, call.inputs[0])
    return np.asarray(total / counts.astype(np.float32))


def _integer_average(call: NodeCall) -> Values:
    exact = np.int32 if 255 * call.inputs[0][0, 0].size < 2**31 else np.int64
    total, counts = _sums(call, centered(call.inputs[0], call.types[0], exact))
    multiplier = np.float32(call.types[0].scale) / (np.float32(call.node.type.scale) * counts.astype(np.float32))
    return requantize(total.astype(np.float32), multiplier, call)


MAX_POOL = Operation(
    name="max_pool",
    number=18,
    meaning="window, stride, padding, dilation, ceil",
    shape=_max_shape,
    real=_largest,
    integer=_largest,
    channels=channel_rules.PASSING,
    attributes={"window": PAIR, "stride": PAIR, "padding": NO_EDGES, "dilation": ONES},
    grid="keeps",
    work="window",
)

AVG_POOL = Operation(
    name="avg_pool",
    number=19,
    meaning="window, stride, padding, ceil, count_padding",
    shape=_average_shape,
    real=_real_average,
    integer=_integer_average,
    channels=channel_rules.PASSING,
    attributes={"window": PAIR, "stride": PAIR, "padding": NO_EDGES, "count_padding": NO_EDGES, **CLAMP},
    rescaling="each",
    work="window",
)

ADAPTIVE_AVG_POOL = Operation(
    name="adaptive_avg_pool",
    number=20,
    meaning="to a given [h, w]",
    shape=_adaptive_shape,
    real=_real_average,
    integer=_integer_average,
    channels=channel_rules.PASSING,
    attributes={"output_size": PAIR, **CLAMP},
    rescaling="each",
    work="input",
)
