"""Moves the scales of a sum by a few units in the last place, so that every runtime rounds it like the graph.

A sum has 65,536 pairs of inputs, and a few of them lie so near a tie that the order of float32 operations decides. If such a pair
is common in a network (a channel that is constant), a value is one step off in every image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from paretrim.graph.interpreter import compute
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import FloatArray, InputSpec, Node, ValueType

REACH = 16
"""Maximum move of a scale, in units in the last place."""

_CANDIDATES_AT_ONCE = 64

_Scales = tuple[FloatArray, FloatArray, FloatArray]
"""Scales of both inputs and of the sum, float32 [candidates, 1]."""

_Floats = npt.NDArray[np.floating[Any]]

_ZeroPoints = tuple[int, int, int]


def sum_scales(node: Node, kinds: tuple[ValueType, ValueType], moved: int | None) -> tuple[float, float]:
    """Scales for input ``moved`` of a quantized ``add`` and for its result, as near as possible to the original ones.

    If ``moved`` is None, the inputs keep their scales (the first one is returned), and only the result's scale moves.

    With these scales, all known orders of operations give the graph's result for every pair of inputs. If no candidate achieves
    that, the one with the fewest wrong pairs is taken; pairs that are wrong in ONNX Runtime count most.
    """
    first, second = (np.arange(256, dtype=np.uint8)[shape] for shape in (np.s_[:, None], np.s_[None, :]))
    pair = tuple(np.broadcast_to(value, (256, 256)) for value in (first, second))
    expected = compute(node, pair, kinds, InputSpec((1, 1, 1)))
    ratios = [kind.scale / node.type.scale for kind in kinds]
    centered = [value.astype(np.float64) - kind.zero_point for value, kind in zip(pair, kinds, strict=True)]
    exact = ratios[0] * centered[0] + ratios[1] * centered[1] + node.type.zero_point
    # Twice the distance by which a candidate moves a sum, which is far more than float32 rounding.
    near = np.abs(exact - np.floor(exact) - 0.5) <= REACH * 2.0**-22 * 255 * (sum(ratios) + 1)
    a, b, wanted = (value[near].astype(np.float32) for value in (*pair, expected))
    zero_points = (kinds[0].zero_point, kinds[1].zero_point, node.type.zero_point)
    settings = settings_of(node)
    low, high = settings.integer("lo"), settings.integer("hi")
    moves = _moves()
    if moved is None:
        moves, moved = moves[moves[:, 0] == 0], 0
    own = (kinds[moved].scale, node.type.scale)
    best, least = own, np.inf
    for start in range(0, len(moves), _CANDIDATES_AT_ONCE):
        candidates = moves[start : start + _CANDIDATES_AT_ONCE]
        scales = [np.full((len(candidates), 1), kind.scale, np.float32) for kind in (*kinds, node.type)]
        for index, by in ((moved, candidates[:, :1]), (2, candidates[:, 1:])):
            scales[index] = (scales[index].view(np.int32) + by).view(np.float32)
        wrong = np.zeros(len(candidates))
        with np.errstate(all="ignore"):  # at the ends of float32 a candidate may be useless
            for form, weight in _FORMS:
                steps = np.rint(form(a, b, (scales[0], scales[1], scales[2]), zero_points))
                wrong += weight * (np.clip(steps, low, high) != wanted).sum(1)
        index = int(wrong.argmin())
        if wrong[index] < least:
            found = (float(scales[moved][index, 0]), float(scales[2][index, 0]))
            # A scale that does not move keeps its exact value, which may not be a float32.
            least = wrong[index]
            best = (found[0] if candidates[index, 0] else own[0], found[1] if candidates[index, 1] else own[1])
        if least == 0:
            break
    return best


def _moves() -> npt.NDArray[np.int32]:
    """Moves of the input's and the result's scale, in units in the last place [candidates, 2], the smallest first."""
    extent = np.arange(-REACH, REACH + 1, dtype=np.int32)
    moves = np.stack(np.meshgrid(extent, extent, indexing="ij"), axis=-1).reshape(-1, 2)
    return moves[np.argsort(np.abs(moves).sum(1), kind="stable")]


def _fused(a: FloatArray, b: _Floats, c: _Floats) -> FloatArray:
    """``a * b + c`` with a single rounding (two where float64 rounds as well, which is too rare to matter here)."""
    return np.asarray((a.astype(np.float64) * b + c).astype(np.float32))


def _constant(first: FloatArray, second: FloatArray, zero_points: _ZeroPoints) -> FloatArray:
    zeros = first.astype(np.float64) * zero_points[0] + second.astype(np.float64) * zero_points[1]
    return np.asarray((zero_points[2] - zeros).astype(np.float32))


def _separately(a: FloatArray, b: FloatArray, scales: _Scales, zero_points: _ZeroPoints) -> FloatArray:
    """The order of the graph, and of ONNX Runtime on a CPU without fused multiply-add."""
    first, second = scales[0] / scales[2], scales[1] / scales[2]
    return np.asarray(a * first + (b * second + _constant(first, second, zero_points)))


def _in_onnxruntime(a: FloatArray, b: FloatArray, scales: _Scales, zero_points: _ZeroPoints) -> FloatArray:
    """The same order with fused multiply-add: what ONNX Runtime does on most CPUs."""
    first, second = scales[0] / scales[2], scales[1] / scales[2]
    return _fused(a, first, _fused(b, second, _constant(first, second, zero_points)))


def _in_openvino(a: FloatArray, b: FloatArray, scales: _Scales, zero_points: _ZeroPoints) -> FloatArray:
    """OpenVINO's fused kernel: the convolution's result in steps of the other input, then one rescaling of the sum."""
    (first, second, out), (zero_a, zero_b, zero_out) = scales, zero_points
    ratio = first / second
    zero = np.float32(zero_a) + np.float32(zero_b) * second / first
    low, high = -zero * ratio, (np.float32(255) - zero) * ratio
    total = _fused(a, (high - low) / np.float32(255), low) + b
    lowest, highest = out * np.float32(-zero_out) / second, out * np.float32(255 - zero_out) / second
    extent = highest - lowest
    return _fused(total, np.float32(255) / extent, -lowest * np.float32(255) / extent)


def _in_openvino_swapped(a: FloatArray, b: FloatArray, scales: _Scales, zero_points: _ZeroPoints) -> FloatArray:
    (first, second, out), (zero_a, zero_b, zero_out) = scales, zero_points
    return _in_openvino(b, a, (second, first, out), (zero_b, zero_a, zero_out))


_Form = Callable[[FloatArray, FloatArray, _Scales, _ZeroPoints], FloatArray]

_FORMS: tuple[tuple[_Form, int], ...] = (
    (_separately, 1000),
    (_in_onnxruntime, 1000),
    (_in_openvino, 1),
    (_in_openvino_swapped, 1),
)
"""Known orders of operations, and the weight of a wrong pair in each."""
