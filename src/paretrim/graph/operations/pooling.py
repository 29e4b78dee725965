"""Pooling: the largest and the mean of a window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from paretrim.errors import UnsupportedOperation
from paretrim.graph import windows
from paretrim.graph.node import Array, Attribute, Float64Array, ValueType
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.attributes import CLAMP, NO_EDGES, ONES, PAIR, Settings, Shape
from paretrim.graph.operations.operation import NodeCall, Operation, Results, always, image_shape
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


_Sums = Callable[[NodeCall, Values], tuple[Values, npt.NDArray[np.int64]]]
"""The sums of all windows of a value, and how many values each adds up."""


def _window_sums(call: NodeCall, x: Values) -> tuple[Values, npt.NDArray[np.int64]]:
    return windows.sum_in_window(x, Windows.of(call.settings)), windows.window_counts(call.settings, x.shape)


def _adaptive_sums(call: NodeCall, x: Values) -> tuple[Values, npt.NDArray[np.int64]]:
    return windows.sum_adaptive(x, call.settings.pair("output_size"))


def _real_average(sums: _Sums, call: NodeCall) -> Values:
    total, counts = sums(call, call.inputs[0])
    return np.asarray(total / counts.astype(np.float32))


def _integer_average(sums: _Sums, call: NodeCall) -> Values:
    exact = np.int32 if 255 * call.inputs[0][0, 0].size < 2**31 else np.int64
    total, counts = sums(call, centered(call.inputs[0], call.types[0], exact))
    multiplier = np.float32(call.types[0].scale) / (np.float32(call.node.type.scale) * counts.astype(np.float32))
    return requantize(total.astype(np.float32), multiplier, call)


_MOST_AVERAGED = 256
"""Averages of more values have too many possible results for a relevant share of them to be ties."""


def _possible_averages(
    counts: Callable[[Settings, Shape], npt.NDArray[np.int64]], settings: Settings, kinds: Sequence[ValueType]
) -> list[Float64Array]:
    (kind,) = kinds
    found = np.unique(counts(settings, kind.shape))
    zero = kind.scale * kind.zero_point
    return [kind.scale * np.arange(255.0 * count + 1) / count - zero for count in found[found <= _MOST_AVERAGED]]


def _mean_of_window(settings: Settings) -> tuple[str, dict[str, Attribute]] | None:
    """An average pool over the same windows; it has no dilation."""
    if settings.pair("dilation") != (1, 1):
        return None
    return AVG_POOL.name, {name: settings.values[name] for name in ("window", "stride", "padding")}


MAX_POOL = Operation(
    name="max_pool",
    number=18,
    meaning="window, stride, padding, dilation, ceil",
    shape=_max_shape,
    real=_largest,
    integer=_largest,
    channels=channel_rules.PASSING,
    grid="keeps",
    scaling=always("homogeneous"),
    results=None,
    attributes={"window": PAIR, "stride": PAIR, "padding": NO_EDGES, "dilation": ONES},
    work="window",
    averaged=_mean_of_window,
)

AVG_POOL = Operation(
    name="avg_pool",
    number=19,
    meaning="window, stride, padding, ceil, count_padding",
    shape=_average_shape,
    real=partial(_real_average, _window_sums),
    integer=partial(_integer_average, _window_sums),
    channels=channel_rules.PASSING,
    grid="requantizes",
    scaling=always("homogeneous"),
    results=Results(
        partial(_possible_averages, windows.window_counts),
        lambda settings, kinds: kinds[0].scale / math.prod(settings.pair("window")),
    ),
    attributes={"window": PAIR, "stride": PAIR, "padding": NO_EDGES, "count_padding": NO_EDGES, **CLAMP},
    rescaling="each",
    work="window",
)

ADAPTIVE_AVG_POOL = Operation(
    name="adaptive_avg_pool",
    number=20,
    meaning="to a given [h, w]",
    shape=_adaptive_shape,
    real=partial(_real_average, _adaptive_sums),
    integer=partial(_integer_average, _adaptive_sums),
    channels=channel_rules.PASSING,
    grid="requantizes",
    scaling=always("homogeneous"),
    results=Results(
        partial(_possible_averages, windows.adaptive_counts), lambda _, kinds: kinds[0].scale / math.prod(kinds[0].shape[1:])
    ),
    attributes={"output_size": PAIR, **CLAMP},
    rescaling="each",
    work="input",
)
