"""Parts of static pictures as SVG text: axes, labels, and small pictures in table rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from paretrim.intervals import Estimate
from paretrim.visible import escape

LETTER, CAPITAL, WIDE = 7.2, 9.6, 12.6
"""Widths of a letter of a label, a capital, and an m or w of either case; generous, since fonts differ."""

LONGEST = 34
"""Most letters of a label; a longer one ends in an ellipsis."""

SPARK_BINS, SPARK_STEPS = 28, 12
INTERVAL_WIDTH, INTERVAL_HEIGHT = 180, 16


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` on pixels from ``start`` to ``end``; ``step`` is the distance of two ticks."""

    low: float
    high: float
    start: float
    end: float
    step: float
    share: bool = True

    def place(self, value: float) -> float:
        """Pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> tuple[float, ...]:
        """Multiples of the step within the axis."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return tuple(i * self.step for i in range(first, last + 1))

    def digits(self) -> int:
        """Decimals needed to distinguish its ticks; for shares, of percent."""
        return max(0, -math.floor(math.log10((100 if self.share else 1) * self.step) + 1e-9))

    def text(self, tick: float) -> str:
        """The text of a tick: for shares in percent, without the sign."""
        return f"{100 * tick if self.share else tick:.{self.digits()}f}"


def spanning(values: Sequence[float], *, start: float, end: float, share: bool = True) -> Axis:
    """An axis from the least to the greatest of some values, shares or not, with a margin and round ticks."""
    least = 0.0005 if share else max(0.001 * max(map(abs, values)), 1e-12)
    margin = max(0.03 * (max(values) - min(values)), least)
    low, high = min(values) - margin, max(values) + margin
    return Axis(low, high, start, end, round_step((high - low) / 7), share)


def round_step(rough: float) -> float:
    """The smallest of 1, 2 and 5 times powers of ten that is at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def shortened(label: str) -> str:
    """The label, truncated if it is too long."""
    return label if len(label) <= LONGEST else label[: LONGEST - 1].rstrip() + "…"


def room(label: str) -> float:
    """Greatest width of the label in pixels, in a font of 13 pixels."""
    return sum(WIDE if letter in "mwMW@%" else CAPITAL if letter.isupper() else LETTER for letter in label)


def content(text: str) -> str:
    """Content of an element: escaped, and without control characters, which XML forbids."""
    return escape(text)


def sparkline(samples_ms: Sequence[float], *, span: tuple[float, float]) -> str:
    """Histogram of latencies over their own median, from ``span[0]`` to ``span[1]`` times it, with a line at the median.

    Values outside go into the first or the last bin.
    """
    ordered = sorted(value for value in samples_ms if math.isfinite(value))
    low, high = span
    if not ordered or high <= low or not ordered[len(ordered) // 2] > 0:
        return ""
    median = ordered[len(ordered) // 2]
    counts = [0] * SPARK_BINS
    for value in ordered:
        counts[_bin(value / median, low=low, high=high)] += 1
    # Square roots: the tail is why a latency distribution is drawn, and linear heights hide it.
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
