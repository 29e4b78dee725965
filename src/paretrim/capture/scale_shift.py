"""Values that are scaled and shifted by constants: one for each channel, or for each pixel of each channel."""

from __future__ import annotations

import math

import numpy as np

from paretrim.capture.call import Call
from paretrim.capture.pixels import gathered_pixels, shuffled_pixels
from paretrim.capture.work import Constant, View, Work
from paretrim.graph.types import Array, Float64Array, FloatArray

_MOST_NUMBERS = 2**20
"""Maximum number of constants for pixels: 4 MB of scales and as much of shifts."""


def widened(constant: Constant, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a value of this shape (without the batch) and a constant together; that of the value if they do not fit."""
    own = tuple(constant.tensor.shape)
    own = own[1:] if len(own) > len(shape) and own[0] == 1 else own
    fits = len(own) <= len(shape) and all(1 in pair or pair[0] == pair[1] for pair in zip(own[::-1], shape[::-1], strict=False))
    return tuple(np.broadcast_shapes(own, shape)) if fits else shape


def numbers_of(call: Call, constant: Constant, shape: tuple[int, ...]) -> FloatArray:
    """A constant as numbers for the channels of a value of this shape, [C] or [C, 1, 1], or for all of its pixels, [C, H, W]."""
    array = _finite(call, constant)
    array = array[0] if array.ndim > len(shape) and array.shape[0] == 1 else array
    if array.size == 1:
        array = array.reshape((1,) * len(shape))
    if array.ndim > len(shape) or np.broadcast_shapes(array.shape, widened(constant, shape)) != shape:
        raise call.refused(
            f"the constant '{constant.name}' of shape {constant.array.shape} does not fit {shape}; give it one number for each "
            "channel, [C, 1, 1], or the shape of the value, with 1 for axes along which it stays the same"
        )
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    same = all(side == 1 for side in array.shape[1:])
    return np.broadcast_to(array, (shape[0], *[1] * (len(shape) - 1)) if same else shape)


def per_channel(call: Call, constant: Constant, shape: tuple[int, ...]) -> FloatArray:
    """A constant as one number [C] for each channel of a value of this shape."""
    array = _finite(call, constant)
    if array.size != 1 and array.shape[-len(shape) :] != (shape[0], *[1] * (len(shape) - 1)):
        raise call.refused(
            f"the constant '{constant.name}' of shape {array.shape} is not one number per channel of {shape}; reshape it to "
            "[C, 1, 1]"
        )
    return np.broadcast_to(array.reshape(-1), shape[:1])


def _finite(call: Call, constant: Constant) -> FloatArray:
    """The numbers of a constant; of those that are the same for all pixels, such as from ``torch.ones_like``, one pixel's."""
    array = constant.array
    if not np.isfinite(array).all():
        raise call.refused(f"the constant '{constant.name}' holds NaN or infinity; a file contains finite numbers only")
    if array.ndim > 2 and array.size and (array == array[..., :1, :1]).all():
        array = array[..., :1, :1]
    return array


def affine(
    work: Work, call: Call, source: str, gamma: FloatArray | Float64Array, beta: FloatArray | Float64Array, *, joins: bool = False
) -> View:
    """A value times ``gamma`` plus ``beta``, numbers for its channels or pixels as :func:`numbers_of` gives them.

    With ``joins`` it is merged with one right before it, so that ``(x - mean) / std`` is one node and rounds once. Numbers for
    pixels are numbers for channels of the map in which every pixel is a channel.
    """
    shape = work.shapes[source]
    if max(gamma.size, beta.size) <= shape[0]:
        return _of_channels(
            work, call, source, *(_spread(numbers.reshape(-1), shape[:1]) for numbers in (gamma, beta)), joins=joins
        )
    if len(shape) != 3:
        raise call.refused(
            f"it has numbers {list(gamma.shape)} for a value of shape {list(shape)}; only maps [C, H, W] have one for every "
            "pixel, so make the value a map first"
        )
    if math.prod(shape) > _MOST_NUMBERS:
        raise call.refused(
            f"its constant has a number for every pixel of {shape}; at most {_MOST_NUMBERS:,} are supported, so give it one per "
            "channel, or use a smaller map"
        )
    gathered = _pixels_as_channels(work, call, source)
    made = _of_channels(work, call, gathered, *(_spread(given, shape) for given in (gamma, beta)), joins=joins)
    return shuffled_pixels(work, call, made.name, (shape[1], shape[2]))


def _spread(numbers: FloatArray | Float64Array, shape: tuple[int, ...]) -> Float64Array:
    return np.broadcast_to(np.asarray(numbers, np.float64), shape).reshape(-1)


def _of_channels(work: Work, call: Call, source: str, gamma: Float64Array, beta: Float64Array, *, joins: bool) -> View:
    """A BatchNorm with mean 0 and variance 1."""
    before = next((node for node in work.nodes if node.name == source), None)
    if joins and before is not None and before.op == "batch_norm" and before.attributes["epsilon"] == 0.0:
        source = before.inputs[0]
        first, then = (before.tensors[name].astype(np.float64) for name in ("gamma", "beta"))
        gamma, beta = first * gamma, then * gamma + beta
    scale, shift = gamma.astype(np.float32), beta.astype(np.float32)
    tensors: dict[str, Array] = {"gamma": scale, "beta": shift, "mean": np.zeros_like(scale), "variance": np.ones_like(scale)}
    return work.emit(call, "batch_norm", [source], shape=work.shapes[source], attributes={"epsilon": 0.0}, tensors=tensors)


def _pixels_as_channels(work: Work, call: Call, source: str) -> str:
    """A map [C, H, W] as [C * H * W, 1, 1]; one that was just made from such a value is that value."""
    shape = work.shapes[source]
    before = next((node for node in work.nodes if node.name == source), None)
    if before is not None and before.op == "pixel_shuffle" and work.shapes[before.inputs[0]][1:] == (1, 1):
        return before.inputs[0]
    return gathered_pixels(work, call, source, (shape[1], shape[2])).name
