"""Small pictures that sit in a line of a table, as SVG text without any style of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from paretrim.intervals import Estimate

SPARK_BINS, SPARK_STEPS = 28, 12
INTERVAL_WIDTH, INTERVAL_HEIGHT = 180, 16


def sparkline(samples_ms: Sequence[float], *, span: tuple[float, float]) -> str:
    """Histogram of latencies over their own median, from ``span[0]`` to ``span[1]`` times it, with a line at the median.

    What lies outside is in the first or the last bin.
    """
    ordered = sorted(value for value in samples_ms if math.isfinite(value))
    low, high = span
    if not ordered or high <= low or not ordered[len(ordered) // 2] > 0:
        return ""
    median = ordered[len(ordered) // 2]
    counts = [0] * SPARK_BINS
    for value in ordered:
        counts[_bin(value / median, low=low, high=high)] += 1
    # Square roots: the tail is what a latency distribution is drawn for, and linear heights hide it.
    heights = [math.ceil(SPARK_STEPS * math.sqrt(count / max(counts))) for count in counts]
    steps = "".join(f"v{before - after}h1" if before != after else "h1" for before, after in pairwise([0, *heights]))
    at = _bin(1.0, low=low, high=high) + 0.5
    return (
        f'<svg class=spark viewBox="0 0 {SPARK_BINS} {SPARK_STEPS}" preserveAspectRatio=none aria-hidden=true>'
        f'<path d="M0 {SPARK_STEPS}{steps}V{SPARK_STEPS}z"/><path class=at d="M{at:g} 0V{SPARK_STEPS}"/></svg>'
    )


def _bin(value: float, *, low: float, high: float) -> int:
    return min(SPARK_BINS - 1, max(0, int((value - low) / (high - low) * SPARK_BINS)))


def interval(estimate: Estimate, *, reach: float) -> str:
    """A value with its interval on an axis from -``reach`` to ``reach``, and a line at 0."""
    middle, half = INTERVAL_HEIGHT / 2, INTERVAL_WIDTH / 2

    def place(value: float) -> float:
        return half + (half - 5) * (value / reach if reach else 0.0)

    low, value, high = place(estimate.low), place(estimate.value), place(estimate.high)
    return (
        f'<svg class="interval" viewBox="0 0 {INTERVAL_WIDTH} {INTERVAL_HEIGHT}" aria-hidden="true">'
        f'<line class="zero" x1="{half:g}" x2="{half:g}" y1="0" y2="{INTERVAL_HEIGHT}"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<circle cx="{value:.1f}" cy="{middle:g}" r="3.5"/></svg>'
    )
