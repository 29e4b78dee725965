"""Moves the scales of results by a few units in the last place, so that every runtime rounds them like the graph.

Runtimes multiply and divide by scales in different orders. That matters only for results so near a tie that the last bit of a
float32 decides; but if such an input is common, a value is one step off in every image. If all inputs can be enumerated (256 for
a concat and for each channel of a BatchNorm, 65,536 pairs for a product), this module chooses a scale with which all known orders
give the graph's result for all inputs. Sums have a separate search (:mod:`paretrim.deploy.onnx_sums`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paretrim.graph.interpreter import compute
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import Array, FloatArray, InputSpec, Node, ValueType

REACH = 16
"""Maximum move of a scale, in units in the last place."""

_Form = Callable[[FloatArray], FloatArray]
"""Unrounded steps above the zero point, for candidate scales of the result [candidates, 1]."""


def concat_scale(node: Node, kinds: Sequence[ValueType]) -> float:
    """Scale for the result of a quantized ``concat``, or for requantizing one of its inputs to its grid."""
    steps = np.arange(256, dtype=np.uint8)
    found: list[tuple[FloatArray, FloatArray]] = []
    expected = []
    for kind in dict.fromkeys((kind.scale, kind.zero_point) for kind in kinds):
        source = ValueType((256, 1, 1), "uint8", *kind)
        if kind != (node.type.scale, node.type.zero_point):
            found.append((np.subtract(steps, kind[1], dtype=np.float32), np.full(256, kind[0], np.float32)))
            expected.append(_expected(node, [steps.reshape(1, 256, 1, 1)], [source]))
    if not found:
        return node.type.scale
    centered: FloatArray = np.concatenate([values for values, _ in found])
    scales: FloatArray = np.concatenate([values for _, values in found])
    return _moved(
        node, np.concatenate(expected), [*_divided(centered * scales), lambda out: np.asarray(centered * (scales / out))]
    )


def product_scale(node: Node, kinds: Sequence[ValueType]) -> float:
    """Scale for the result of a quantized ``mul``."""
    first, second = (kind for kind in kinds)
    pairs = [np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(shape), (1, 1, 256, 256)) for shape in ((256, 1), (1, 256))]
    expected = _expected(node, pairs, [ValueType((1, 256, 256), "uint8", kind.scale, kind.zero_point) for kind in kinds])
    a, b = (pair.reshape(-1).astype(np.float32) - kind.zero_point for pair, kind in zip(pairs, kinds, strict=True))
    product = a * b
    scales = np.float32(first.scale) * np.float32(second.scale)
    apart = (a * np.float32(first.scale)) * (b * np.float32(second.scale))
    return _moved(node, expected, [lambda out: product * (scales / out), *_divided(product * scales), *_divided(apart)])


def batch_norm_scale(node: Node, source: ValueType, factor: Array, term: Array) -> float:
    """Scale for the result of a quantized ``batch_norm`` that is written as a Mul with ``factor`` and an Add of ``term``."""
    channels = len(factor.reshape(-1))
    steps = np.broadcast_to(np.arange(256, dtype=np.uint8), (1, channels, 1, 256))
    expected = _expected(node, [steps], [ValueType((channels, 1, 256), "uint8", source.scale, source.zero_point)])
    real = (steps[0, :, 0].astype(np.float32) - source.zero_point) * np.float32(source.scale)
    factors, terms = (np.asarray(value, np.float32).reshape(-1, 1) for value in (factor, term))
    separately = (real * factors + terms).reshape(-1)
    fused = (real.astype(np.float64) * factors + terms).astype(np.float32).reshape(-1)
    return _moved(node, expected, [*_divided(separately), *_divided(fused)])


def _expected(node: Node, inputs: Sequence[Array], kinds: Sequence[ValueType]) -> Array:
    return compute(node, tuple(inputs), tuple(kinds), InputSpec((1, 1, 1))).reshape(-1)


def _divided(real: FloatArray) -> tuple[_Form, _Form]:
    """Division by the scale, and multiplication by its reciprocal."""
    return lambda out: real / out, lambda out: real * (np.float32(1) / out)


def _moved(node: Node, expected: Array, forms: Sequence[_Form]) -> float:
    """The scale nearest to the node's with which all forms give the graph's results; else the first form counts most.

    The first form is ONNX Runtime's, which rounds and then adds the zero point; others may add it first. If inputs lie exactly on
    ties (a ratio of scales such as 45 / 44), only the graph's own order rounds them to even, and every move makes it worse.
    """
    settings = settings_of(node)
    low, high = (settings.integer("lo"), settings.integer("hi")) if OPERATIONS[node.op].clamps else (0, 255)
    zero_point = np.float32(node.type.zero_point)
    moves = np.arange(-REACH, REACH + 1, dtype=np.int32)
    moves = moves[np.argsort(np.abs(moves), kind="stable")]
    scales = (np.float32(node.type.scale).view(np.int32) + moves).view(np.float32)[:, None]
    with np.errstate(all="ignore"):  # at the ends of float32 a candidate may be useless
        exact = forms[0](scales[:1])[0] + zero_point
        near = np.abs(exact - np.floor(exact) - 0.5) <= 2.0**-12
        wrong = np.zeros(len(moves))
        for index, form in enumerate(forms):
            steps = form(scales)[:, near]
            for rounded, weight in ((np.rint(steps) + zero_point, 1 if index else 1000), (np.rint(steps + zero_point), 1)):
                wrong += weight * (np.clip(rounded, low, high) != expected[near]).sum(1)
    return float(scales[int(wrong.argmin()), 0])
