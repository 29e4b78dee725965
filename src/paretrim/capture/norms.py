"""Normalisation by statistics of the image itself, expressed with means, products and a power.

Files have no such operation, so every intermediate value has its own grid. In 8 bits a variance that differs much between
positions costs accuracy, which the measured accuracy shows. BatchNorm costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from paretrim.capture.call import Call
from paretrim.capture.elementwise import combine, pointwise
from paretrim.capture.last import as_map, over_channels
from paretrim.capture.layers import normalised_by_constants
from paretrim.capture.pooling import mean, reduced, result_of
from paretrim.capture.scale_shift import affine, numbers_of
from paretrim.capture.work import Value, View, Work


def _normalised(work: Work, call: Call, value: View, average: Callable[[View], View]) -> View:
    """A map [C, H, W] minus its average, divided by the square root of its variance."""
    centred = combine(work, call, "add", value, pointwise(work, call, average(value), "mul_constant", -1.0))
    variance = average(combine(work, call, "mul", centred, centred))
    factor = pointwise(work, call, pointwise(work, call, variance, "add_constant", call.number("eps")), "power", -0.5)
    result = combine(work, call, "mul", centred, factor)
    return _scaled(work, call, result)


def _scaled(work: Work, call: Call, value: View) -> View:
    """Times the weight, plus the bias, if there are any."""
    channels = value.shape[0]
    tensors = []
    for name, number in (("weight", 1.0), ("bias", 0.0)):
        given = work.constant(call.arguments[name]) if name in call.arguments else None
        none = np.full(channels, number, np.float32)
        tensors.append(none if given is None else numbers_of(call, over_channels(given, channels), value.shape))
    return affine(work, call, value.name, *tensors)


def _normalised_part(work: Work, call: Call) -> tuple[View, View, set[int]]:
    """A map [C, H, W] with the axes over which a layer normalises it, and the argument as a view of it.

    These are the channels of a channels-last map or of a vector, or all axes of a map.
    """
    normalized = call.integers("normalized_shape")
    value, seen = as_map(work, call, call.source)
    over_channels = seen.last or seen.shape[:-1] == (1,) * (len(seen.shape) - 1)
    if normalized != (seen.shape[-1:] if over_channels else seen.shape):
        raise call.refused(
            f"it normalises {list(normalized)} of {list(seen.shape)}; normalise whole images, or channels permuted to the last "
            "axis, or use BatchNorm"
        )
    return value, seen, {1} if over_channels else {1, 2, 3}


def _layer_norm(work: Work, call: Call) -> Value:
    """Over the channels of a channels-last map, or over a whole map or vector."""
    value, seen, axes = _normalised_part(work, call)
    made = _normalised(work, call, value, lambda given: mean(work, call, given, axes))
    return replace(seen, name=made.name)


def _group_norm(work: Work, call: Call) -> Value:
    """Over the pixels of a map and a group of its channels."""
    source, groups = work.read(call, call.source), call.integer("num_groups")
    value = View(source, work.shapes[source])
    _require_map(call, value)
    size = value.shape[0] // groups
    shares = np.kron(np.eye(groups), np.full((size, size), 1 / size)).astype(np.float32)

    def average(given: View) -> View:
        pooled = mean(work, call, given, {2, 3})
        return pooled if size == 1 else work.mixed(call, pooled, shares)

    return _normalised(work, call, value, average)


def _instance_norm(work: Work, call: Call) -> Value:
    """Over the pixels of a map; with running statistics it is a batch norm in eval mode."""
    if not call.arguments["use_input_stats"]:
        return normalised_by_constants(work, call)
    call.no_effect("running_mean", "running_var", "momentum")
    source = work.read(call, call.source)
    value = View(source, work.shapes[source])
    _require_map(call, value)
    return _normalised(work, call, value, lambda given: mean(work, call, given, {2, 3}))


def _require_map(call: Call, value: View) -> None:
    if len(value.shape) != 3:
        raise call.refused(
            f"it normalises {list(value.shape)}; this norm is supported for maps [C, H, W] only; apply it to maps, or use "
            "BatchNorm"
        )


def _rms_norm(work: Work, call: Call) -> Value:
    """As a layer norm, but only divided by the root of the mean square."""
    value, seen, axes = _normalised_part(work, call)
    epsilon = call.optional_number("eps")
    least = float(np.finfo(np.float32).eps) if epsilon is None else epsilon
    power = mean(work, call, combine(work, call, "mul", value, value), axes)
    factor = pointwise(work, call, pointwise(work, call, power, "add_constant", least), "power", -0.5)
    return replace(seen, name=_scaled(work, call, combine(work, call, "mul", value, factor)).name)


def _variance(work: Work, call: Call, what: str) -> tuple[View, View]:
    """Variances over some axes of a map, and the means that they are taken around."""
    value, axes = reduced(work, call, what)
    count = math.prod(value.shape[axis - 1] for axis in axes)
    lost = _lost(call)
    if count <= lost:
        raise call.refused(f"it takes the {what} of {count} numbers, divided by {count} - {lost:g}; set correction=0")
    middle = mean(work, call, value, axes)
    centred = combine(work, call, "add", value, pointwise(work, call, middle, "mul_constant", -1.0))
    found = mean(work, call, combine(work, call, "mul", centred, centred), axes)
    return (pointwise(work, call, found, "mul_constant", count / (count - lost)) if lost else found), middle


def _lost(call: Call) -> float:
    """The correction of a variance: what is subtracted from the count of its numbers."""
    if "unbiased" in call.arguments:
        return 1.0 if call.arguments["unbiased"] else 0.0
    given = call.optional_number("correction")
    return 1.0 if given is None else given


def _spread(*, root: bool, with_mean: bool) -> Callable[[Work, Call], Value]:
    """Variances or, with ``root``, standard deviations."""

    def convert(work: Work, call: Call) -> Value:
        found, middle = _variance(work, call, "standard deviation" if root else "variance")
        if root:
            found = pointwise(work, call, found, "power", 0.5)
        result = result_of(work, call, found)
        return (result, result_of(work, call, middle)) if with_mean else result

    return convert


NORMS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "layer_norm": _layer_norm,
        "group_norm": _group_norm,
        "instance_norm": _instance_norm,
        "rms_norm": _rms_norm,
        "var": _spread(root=False, with_mean=False),
        "std": _spread(root=True, with_mean=False),
        "var_mean": _spread(root=False, with_mean=True),
        "std_mean": _spread(root=True, with_mean=True),
    }
)
"""Operations whose result is a new tensor."""
