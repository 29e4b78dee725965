"""Sliding windows in NumPy: exact integer convolution on BLAS, and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paretrim.graph.dtypes import pieces
from paretrim.graph.operations.attributes import Edges, Pair, Settings

Values = npt.NDArray[Any]
"""An array of numbers of some type; which one is the caller's choice."""

CACHED_BYTES = 2**21
"""Columns are formed for as many images at a time as fit here: they are read once by the multiplication and stay in cache."""


SEEN_AT_ONCE = 2**18
"""Inputs of windows that are gathered at once, for one input channel at least: those of all channels may take gigabytes."""

SUMMED_AT_ONCE = 2**14
"""Sums in float32 that are formed at once: they, and as many products, stay in cache."""

ADDED_AT_ONCE = 2**15
"""Products that are formed, and sums that are looked at, at once, one behind the other where sums are few."""


@dataclass(frozen=True)
class Windows:
    """How a window slides: vertical before horizontal, padding as (top, left, bottom, right)."""

    window: Pair
    stride: Pair
    padding: Edges
    dilation: Pair = (1, 1)

    @classmethod
    def of(cls, settings: Settings, window: Pair | None = None) -> Windows:
        """Read from the attributes of a node; a convolution brings its window with its weight."""
        dilation = settings.pair("dilation") if "dilation" in settings.values else (1, 1)
        return cls(window or settings.pair("window"), settings.pair("stride"), settings.edges("padding"), dilation)

    def extents(self, shape: tuple[int, ...]) -> Pair:
        """Number of windows down and across an unpadded [..., H, W]."""
        top, left, bottom, right = self.padding
        down = (shape[-2] + top + bottom - (self.window[0] - 1) * self.dilation[0] - 1) // self.stride[0] + 1
        across = (shape[-1] + left + right - (self.window[1] - 1) * self.dilation[1] - 1) // self.stride[1] + 1
        return down, across

    def pad(self, images: Values, fill: float) -> Values:
        """[..., H, W] grown by the padding."""
        top, left, bottom, right = self.padding
        if not any(self.padding):
            return images
        shape = (*images.shape[:-2], images.shape[-2] + top + bottom, images.shape[-1] + left + right)
        grown = np.full(shape, fill, dtype=images.dtype)
        grown[..., top : top + images.shape[-2], left : left + images.shape[-1]] = images
        return grown

    def positions(self, padded: Values, extents: Pair) -> Iterator[tuple[int, int, Values]]:
        """Each place (i, j) in the window with what all windows see there, a view [..., down, across] of ``padded``."""
        for i in range(self.window[0]):
            top = i * self.dilation[0]
            for j in range(self.window[1]):
                left = j * self.dilation[1]
                rows = slice(top, top + (extents[0] - 1) * self.stride[0] + 1, self.stride[0])
                yield i, j, padded[..., rows, left : left + (extents[1] - 1) * self.stride[1] + 1 : self.stride[1]]


def convolve(images: Values, weight: Values, windows: Windows, *, groups: int) -> Values:
    """Convolution of [N, Ci, H, W] with [Co, Ci / groups, kh, kw], padded with 0, of whole numbers in a float type.

    Every image is multiplied on its own, so a result never depends on what else is in the batch.
    """
    count, channels = images.shape[:2]
    outputs = weight.shape[0]
    down, across = windows.extents(images.shape)
    padded = windows.pad(images, 0)
    if groups == channels == outputs:
        return _depthwise(padded, weight, windows, (down, across))
    matrix = weight.reshape(groups, outputs // groups, -1)
    result = np.empty((count, groups, outputs // groups, down * across), dtype=images.dtype)
    plain = windows.window == (1, 1) and windows.stride == (1, 1)
    step = count if plain else max(1, CACHED_BYTES // (matrix.shape[2] * groups * down * across * images.itemsize))
    for first in range(0, count, step):
        part = padded[first : first + step]
        columns = part if plain else _columns(part, windows, (down, across))
        np.matmul(matrix, columns.reshape(len(part), groups, -1, down * across), out=result[first : first + step])
    return result.reshape(count, outputs, down, across)


def _columns(padded: Values, windows: Windows, extents: Pair) -> Values:
    """What every window sees, [N, C, kh, kw, down, across]."""
    columns = np.empty((*padded.shape[:2], *windows.window, *extents), dtype=padded.dtype)
    for i, j, seen in windows.positions(padded, extents):
        columns[:, :, i, j] = seen
    return columns


def _depthwise(padded: Values, weight: Values, windows: Windows, extents: Pair) -> Values:
    result = np.zeros((*padded.shape[:2], *extents), dtype=padded.dtype)
    for i, j, seen in windows.positions(padded, extents):
        result += seen * weight[:, 0, i, j, None, None]
    return result


def sum_in_order(images: Values, weight: Values, start: Values, windows: Windows, *, groups: int) -> Values:
    """Float32 convolution of [N, Ci, H, W] with [Co, Ci / groups, kh, kw], each sum in one order: that of the weights in memory.

    A sum begins at ``start`` [Co]; to it are added number times weight by input channels, then rows, then columns of the kernel,
    each with one rounding to float32 (fused multiply-add). At the end 0 is added, which leaves no negative zero.
    """
    count, (outputs, depth) = len(images), weight.shape[:2]
    down, across = windows.extents(images.shape)
    padded = windows.pad(images, 0)
    by_group = padded.reshape(count, groups, depth, *padded.shape[2:])
    factors = weight.reshape(groups, outputs // groups, -1, 1).transpose(2, 0, 1, 3).astype(np.float64)
    small = any(((magnitude > 0) & (magnitude < 2.0**-51)).any() for magnitude in (np.abs(weight), np.abs(images)))
    result = np.empty((groups, outputs // groups, count * down * across), np.float32)
    result[...] = start.reshape(groups, -1, 1)
    step = max(1, SUMMED_AT_ONCE // outputs)
    positions = windows.window[0] * windows.window[1]
    channels = min(depth, max(1, SEEN_AT_ONCE // (positions * groups * result.shape[2])))
    room = np.empty((channels, *windows.window, groups, count, down, across))
    for channel in range(0, depth, channels):
        part = by_group[:, :, channel : channel + channels]
        seen = room[: part.shape[2]]
        for i, j, values in windows.positions(part, (down, across)):
            seen[:, i, j] = values.transpose(2, 1, 0, 3, 4)
        terms = seen.reshape(-1, groups, 1, result.shape[2])
        own = factors[channel * positions :][: len(terms)]
        for first in range(0, result.shape[2], step):
            _add_in_order(result[:, :, first : first + step], own, terms[..., first : first + step], small=small)
    np.add(result, np.float32(0), out=result)
    by_image = result.reshape(outputs, count, down, across).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(by_image)


def _add_in_order(sums: Values, factors: Values, terms: Values, *, small: bool) -> None:
    """Add to float32 sums [G, O, P] the products of factors [K, G, O, 1] and terms [K, G, 1, P], float64, one after the other.

    Some products at a time are added with two roundings. If one of these sums may be another than with a single rounding, those
    are added again with care. ``small`` says that there are factors other than 0 below 2^-51.
    """
    at_once = min(len(factors), max(1, ADDED_AT_ONCE // sums.size))
    products, exact = np.empty((at_once, *sums.shape)), np.empty((at_once, *sums.shape))
    rounded, bits = np.empty(sums.shape, np.float32), np.empty(exact.shape, np.int64)
    for first in range(0, len(factors), at_once):
        count = min(at_once, len(factors) - first)
        np.multiply(factors[first : first + count], terms[first : first + count], out=products[:count])  # exact in float64
        rounded[...] = sums
        for product, total in zip(products[:count], exact, strict=False):
            np.add(rounded, product, out=total)
            rounded[...] = total
        np.bitwise_and(exact[:count].view(np.int64), _BELOW_FLOAT32, out=bits[:count])
        if (bits[:count] == _HALF_WAY).any() or (small and _any_subnormal(exact[:count])):
            _add_with_care(sums, products[:count])
        else:
            sums[...] = rounded


_BELOW_FLOAT32, _HALF_WAY = 2**29 - 1, 2**28
"""Bits of a float64 that float32 lacks, and those of one half-way between two float32.

Rounding to float64 and then to float32 differs from one rounding only where the float64 is half-way between two float32. Below
the normal numbers of float32, which has fewer bits there, half-way looks otherwise; but where all factors are 0 or at least 2^-51
in size, such a sum is a multiple of the smallest float32, and exact.
"""


def _any_subnormal(totals: Values) -> bool:
    """Whether a float64 other than 0 is below the normal numbers of float32."""
    sizes = np.abs(totals)
    return bool(((sizes > 0) & (sizes < np.finfo(np.float32).tiny)).any())


def _add_with_care(sums: Values, products: Values) -> None:
    """Add products [K, ...], float64, to float32 sums [...], each with one rounding."""
    for product in products:
        before = sums.astype(np.float64)
        total = before + product
        _round_to_odd(total, before, product)
        sums[...] = total


def _round_to_odd(total: Values, first: Values, second: Values) -> None:
    """Make the last bit of ``total``, a rounded sum of two, odd where it is not exact: rounding to float32 is then right."""
    back = total - first
    error = (first - (total - back)) + (second - back)
    even = (error != 0) & (total.view(np.int64) & 1 == 0)
    total[even] = np.nextafter(total[even], np.copysign(np.inf, error[even]))


def largest_accumulator(weight: Values, bias: Values, zero_point: int) -> int:
    """Bound on ``|bias + sum w * (q - zero_point)|`` and on every partial sum, for any uint8 ``q``."""
    reach = max(zero_point, 255 - zero_point)
    sums = np.zeros(len(weight), np.int64)
    for rows, part in pieces(weight):
        sums[rows] += np.abs(part.astype(np.int16)).sum(axis=1, dtype=np.int64)  # int8 has no magnitude of -128
    return int((sums * reach + np.abs(bias.astype(np.int64))).max())


def accumulate_in(weight: Values, bias: Values, zero_point: int) -> type[np.float32] | type[np.float64]:
    """Float type in which ``bias + sum w * (q - zero_point)`` is exact in any order of summation.

    Every product and every partial sum is an integer no larger than :func:`largest_accumulator`. Floats hold all integers
    up to 2**24 (float32) and 2**53 (float64), so below that bound no addition, fused or not, ever rounds.
    """
    return np.float32 if largest_accumulator(weight, bias, zero_point) <= 2**24 else np.float64


def largest_in_window(images: Values, windows: Windows, fill: float) -> Values:
    """Maximum of every window of [N, C, H, W]; padding counts as ``fill``."""
    extents = windows.extents(images.shape)
    result: Values | None = None
    for _, _, seen in windows.positions(windows.pad(images, fill), extents):
        result = seen.copy() if result is None else np.maximum(result, seen, out=result)
    assert result is not None
    return result + 0 if result.dtype == np.float32 else result  # no negative zero


def sum_in_window(images: Values, windows: Windows) -> Values:
    """Sum of every window of [N, C, H, W], in the type of ``images``; padding counts as 0."""
    extents = windows.extents(images.shape)
    result = np.zeros((*images.shape[:2], *extents), dtype=images.dtype)
    for _, _, seen in windows.positions(windows.pad(images, 0), extents):
        np.add(result, seen, out=result)
    return result


def counted_positions(shape: tuple[int, ...], windows: Windows, counted: Edges) -> npt.NDArray[np.int64]:
    """How many positions of each window lie inside the image grown by ``counted``, int64 [down, across]."""
    top, left, bottom, right = windows.padding
    inside = np.zeros((shape[-2] + top + bottom, shape[-1] + left + right), dtype=np.int64)
    rows = slice(top - counted[0], top + shape[-2] + counted[2])
    inside[rows, left - counted[1] : left + shape[-1] + counted[3]] = 1
    bare = Windows(windows.window, windows.stride, (0, 0, 0, 0), windows.dilation)
    return np.asarray(sum_in_window(inside[None, None], bare)[0, 0], dtype=np.int64)


def window_counts(settings: Settings, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """How many values each window of an average pool over an image [..., H, W] is the mean of, int64 [down, across]."""
    return counted_positions(shape, Windows.of(settings), settings.edges("count_padding"))


def adaptive_counts(settings: Settings, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The same for an adaptive average pool."""
    sides = (adaptive_bounds(extent, pieces) for extent, pieces in zip(shape[-2:], settings.pair("output_size"), strict=True))
    down, across = ([stop - start for start, stop in bounds] for bounds in sides)
    return np.outer(down, across).astype(np.int64)


def adaptive_bounds(extent: int, pieces: int) -> list[tuple[int, int]]:
    """Windows ``[floor(i * extent / pieces), ceil((i + 1) * extent / pieces))`` of adaptive pooling.

    >>> adaptive_bounds(5, 2)
    [(0, 3), (2, 5)]
    """
    return [(i * extent // pieces, -(-(i + 1) * extent // pieces)) for i in range(pieces)]


def sum_adaptive(images: Values, size: Pair) -> tuple[Values, npt.NDArray[np.int64]]:
    """Sums [N, C, *size] over adaptive windows in the type of ``images``, and the number of positions of each."""
    rows, columns = adaptive_bounds(images.shape[-2], size[0]), adaptive_bounds(images.shape[-1], size[1])
    result = np.empty((*images.shape[:2], *size), dtype=images.dtype)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            seen = images[:, :, top:bottom, left:right].reshape(*images.shape[:2], -1)
            if images.dtype == np.float32:  # one after the other: only a running sum guarantees that
                seen = np.add.accumulate(seen, axis=2)[:, :, -1:]
            result[:, :, i, j] = seen.sum(axis=2, dtype=images.dtype)
    counts = np.outer([bottom - top for top, bottom in rows], [right - left for left, right in columns])
    return result, counts.astype(np.int64)
