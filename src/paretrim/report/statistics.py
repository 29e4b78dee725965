"""The few intervals a report needs, in plain Python: Student's t over seeds, Wilson's over test images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from paretrim.bench.types import Estimate

CONFIDENCE = 0.95
"""Confidence of every interval unless it says otherwise."""


def t_cdf_two_sided(angle: float, freedom: int) -> float:
    """P(|T| < t) for Student's t with ``freedom`` degrees, where ``t = sqrt(freedom) * tan(angle)``.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4 (exact finite sums).
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2 == 1
    term = total = cosine if odd else 1.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))


def t_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| < t) = ``confidence``; 2.776 for 0.95 and 4 degrees of freedom."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf_two_sided(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean with Student's t interval; needs at least two values, which are taken as independent runs."""
    mean = fmean(values)
    half = t_quantile(confidence, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def wilson_interval(share: float, count: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """Interval of a probability seen as ``share`` of ``count`` independent trials.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    spread = z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))
