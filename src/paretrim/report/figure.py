"""The figure of a study: every arm's accuracy with its interval and its single seeds, as one SVG file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from paretrim import files
from paretrim.report import wording
from paretrim.report.points import Point

WIDTH = 800
ROW, TOP, BOTTOM = 34, 44, 50
LETTER, CAPITAL, WIDE = 7.2, 9.6, 12.6
"""Room for a letter of a label, a capital, and an m or a w of either kind: fonts differ, so with something to spare."""

LONGEST = 34
"""Letters of a label; what is longer ends in an ellipsis."""

NUMBERS = 140
"""Room for the numbers at the right."""

# Light first, dark where the reader's system is; the paper is painted because a picture does not know the page it lies on.
STYLE = """
:root { --paper: #ffffff; --ink: #171b20; --soft: #56606c; --line: #e2e6ea; --accent: #0a62b8; --dot: #8a95a3; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e7eaee; --soft: #a5afbb; --line: #2c323a; --accent: #74b5f7; --dot: #76818e; }
}
text { fill: var(--ink); font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
.paper { fill: var(--paper); }
.soft { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--line); }
.first { stroke: var(--dot); stroke-dasharray: 2 4; }
.range { stroke: var(--accent); stroke-width: 2; }
.mean { fill: var(--accent); stroke: var(--paper); stroke-width: 1.5; }
.seed { fill: none; stroke: var(--dot); stroke-width: 1.25; }
"""


@dataclass(frozen=True)
class Axis:
    """Fractions from ``low`` to ``high`` on pixels from ``left`` to ``right``; ``step`` lies between two ticks."""

    low: float
    high: float
    left: float
    right: float
    step: float

    def place(self, value: float) -> float:
        """Pixel of a value."""
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)

    def ticks(self) -> tuple[float, ...]:
        """Multiples of the step within the axis."""
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return tuple(i * self.step for i in range(first, last + 1))


def write(points: Sequence[Point], path: Path) -> None:
    """Write the figure, atomically.

    Raises:
        OutOfSpace: the disk is full.
    """
    files.write_atomically(path, render(points).encode())


def render(points: Sequence[Point]) -> str:
    """The figure as SVG text, one row a point from top to bottom; the same points give the same text."""
    labels = [_shortened(point.label) for point in points]
    left = 20 + max(_room(label) for label in labels)
    axis = _axis(points, left=left, right=WIDTH - NUMBERS)
    bottom = TOP + ROW * len(points)
    height = bottom + BOTTOM
    rows = "".join(
        _row(point, label, axis, middle=TOP + ROW * (i + 0.5))
        for i, (point, label) in enumerate(zip(points, labels, strict=True))
    )
    first = axis.place(points[0].accuracy.value)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">\n'
        f"<title>Deployed accuracy of {len(points)} arm{'' if len(points) == 1 else 's'}</title>\n"
        f"<desc>{_text(_description(points))}</desc>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n'
        f"{_key(points, left=left)}{_scale(axis, bottom=bottom)}"
        f'<line class="first" x1="{first:.1f}" x2="{first:.1f}" y1="{TOP}" y2="{bottom}"/>\n'
        f"{rows}</svg>\n"
    )


def accuracy_in_words(point: Point) -> str:
    """Percent with half the interval; without one where all seeds agree: their spread is then no measure of anything."""
    if len(point.runs) > 1 and len({run.deployed_accuracy for run in point.runs}) == 1:
        return f"{100 * point.accuracy.value:.2f} every seed"
    return wording.accuracy(point.accuracy)


def _row(point: Point, label: str, axis: Axis, *, middle: float) -> str:
    """Label, seeds, interval, mean and numbers; the seeds lie below the mean so that neither hides the other."""
    accuracy, line = point.accuracy, middle - 4
    seeds = "".join(
        f'<circle class="seed" cx="{axis.place(run.deployed_accuracy):.1f}" cy="{middle + 7:g}" r="2.5"/>' for run in point.runs
    )
    low, mean, high = (axis.place(value) for value in (accuracy.low, accuracy.value, accuracy.high))
    return (
        f'<text x="{axis.left - 12:.1f}" y="{middle + 4:g}" text-anchor="end">{_text(label)}</text>'
        f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{line:g}" y2="{line:g}"/>'
        f'<circle class="mean" cx="{mean:.1f}" cy="{line:g}" r="5"/>{seeds if len(point.runs) > 1 else ""}'
        f'<text x="{WIDTH - 12}" y="{middle + 4:g}" text-anchor="end">{_text(accuracy_in_words(point))}</text>\n'
    )


def _scale(axis: Axis, *, bottom: float) -> str:
    digits = max(0, -math.floor(math.log10(100 * axis.step) + 1e-9))
    lines = "".join(
        f'<line class="grid" x1="{axis.place(tick):.1f}" x2="{axis.place(tick):.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="soft" x="{axis.place(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{100 * tick:.{digits}f}</text>\n'
        for tick in axis.ticks()
    )
    middle = (axis.left + axis.right) / 2
    return f'{lines}<text class="soft" x="{middle:.1f}" y="{bottom + 38}" text-anchor="middle">deployed accuracy, %</text>\n'


def _key(points: Sequence[Point], *, left: float) -> str:
    """What the marks mean, in one line above the rows."""
    several = any(len(point.runs) > 1 for point in points)
    marks = [
        (
            '<line class="range" x1="{0}" x2="{1}" y1="20" y2="20"/><circle class="mean" cx="{2}" cy="20" r="5"/>',
            "mean, 95 % interval" if several else "95 % interval",
        )
    ]
    if several:
        marks.append(('<circle class="seed" cx="{2}" cy="20" r="2.5"/>', "one seed"))
    marks.append(('<line class="first" x1="{2}" x2="{2}" y1="11" y2="29"/>', _shortened(points[0].label)))
    found, at = "", left
    for mark, name in marks:
        shape = mark.format(f"{at:.1f}", f"{at + 26:.1f}", f"{at + 13:.1f}")
        found += f'{shape}<text class="soft" x="{at + 32:.1f}" y="24">{_text(name)}</text>\n'
        at += 32 + 0.9 * _room(name) + 18
    return found


def _axis(points: Sequence[Point], *, left: float, right: float) -> Axis:
    """From the least to the greatest value any row shows, with a margin, on ticks a person would choose."""
    shown = [value for point in points for value in (point.accuracy.low, point.accuracy.high)]
    shown += [run.deployed_accuracy for point in points for run in point.runs]
    margin = max(0.03 * (max(shown) - min(shown)), 0.0005)
    low, high = min(shown) - margin, max(shown) + margin
    rough = (high - low) / 7
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return Axis(low, high, left, right, step)


def _description(points: Sequence[Point]) -> str:
    return "; ".join(f"{point.label}: {accuracy_in_words(point)} %" for point in points)


def _shortened(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1].rstrip() + "…"


def _room(label: str) -> float:
    return sum(WIDE if letter in "mwMW@%" else CAPITAL if letter.isupper() else LETTER for letter in label)


def _text(content: str) -> str:
    """Content of an element: escaped, and without control characters, which XML forbids."""
    return escape("".join(character if character.isprintable() else "\ufffd" for character in content))
