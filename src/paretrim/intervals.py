"""Confidence intervals in plain Python: Student's t over runs, Wilson's over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from paretrim.errors import InvalidRecipe

CONFIDENCE = 0.95
"""Confidence of every interval unless it says otherwise."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval; the unit is in the name of the field that holds it."""

    value: float
    low: float
    high: float


def _t_within(angle: float, freedom: int) -> float:
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
        low, high = (middle, high) if _t_within(middle, freedom) < confidence else (low, middle)
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


def accuracy_interval(correct: int, n: int) -> Estimate:
    """Accuracy with :func:`wilson_interval`, which stays within [0, 1] and is sound near 1.

    Source: Brown, Cai, DasGupta 2001.

    Raises:
        InvalidRecipe: there are no images, or more correct ones than images.
    """
    if n < 1 or not 0 <= correct <= n:
        raise InvalidRecipe(f"{correct} correct of {n} images is not an accuracy; give 0 <= correct <= n and n of at least 1")
    return wilson_interval(correct / n, n)


def beats_guessing(accuracy: float, images: int, classes: int) -> bool:
    """Whether an accuracy on this many images is shown to be above 1 / classes: its whole Wilson 95 % interval is."""
    return accuracy_interval(round(accuracy * images), images).low > 1 / classes
