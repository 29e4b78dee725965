"""Accuracy against measured latency, drawn below a study's accuracies if its files were timed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paretrim.report import svg
from paretrim.report.points import LatencySetting, Point, Speed
from paretrim.report.svg import Axis, round_step, spanning

HEIGHT = 420
TOP, BOTTOM, LEFT, RIGHT = 52, 50, 58, 24
LINE = 15
"""Height of a line of labels."""

REACH = 0.15
"""Points further below the best than this are named but not drawn: they would squeeze all others into a line."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Mark:
    """A drawn point: where it is, its label, and whether it is the most accurate at its latency or less."""

    x: float
    y: float
    label: str
    best: bool


def render(points: Sequence[Point], setting: LatencySetting, *, name: str, top: float, width: float) -> str:
    """The panel as one SVG group, ``HEIGHT`` high from ``top``; the same points give the same text.

    ``name`` is the setting in words. The step line joins the points that are not beaten in accuracy at their latency or less.
    """
    timed = [(point, point.speeds[setting]) for point in points if setting in point.speeds]
    metric = timed[0][0].metric
    highest = max(point.merit for point, _ in timed)
    shown = [(point, speed) for point, speed in timed if not metric.is_share or point.merit >= highest - REACH]
    ends = [value for point, _ in shown for value in (point.deployed.low, point.deployed.high)]
    vertical = spanning(ends, start=top + HEIGHT - BOTTOM, end=top + TOP, share=metric.is_share)
    logs = [math.log10(value) for _, speed in shown for value in (speed.p50_ms.low, speed.p50_ms.high)]
    room = max(0.05 * (max(logs) - min(logs)), 0.01)
    horizontal = Axis(min(logs) - room, max(logs) + room, LEFT, width - RIGHT, 1.0)
    best = _best(shown)
    marks = [
        Mark(
            horizontal.place(math.log10(speed.p50_ms.value)),
            vertical.place(point.deployed.value),
            point.label,
            point.label in best,
        )
        for point, speed in shown
    ]
    missing = [f"{point.label} ({100 * point.deployed.value:.1f} %)" for point, _ in timed if (point, _) not in shown]
    left_out = f"; too inaccurate to be drawn: {', '.join(missing)}" if missing else ""
    title = f"{metric.heading}, against median latency of one image, ms (log scale), {name}{left_out}"
    return "".join(
        (
            '<g class="latency">\n',
            f'<text class="soft" x="{LEFT}" y="{top + 28:g}">{svg.content(title)}</text>\n',
            grid_lines(vertical, horizontal, top=top, width=width),
            *(_ranges(point, speed, vertical, horizontal) for point, speed in shown),
            step_line([mark for mark in marks if mark.best], right=width - RIGHT),
            *(
                f'<circle class="{"mean" if mark.best else "beaten"}" cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="5"/>\n'
                for mark in marks
            ),
            placed_labels(marks, top=top + TOP - LINE, bottom=top + HEIGHT - BOTTOM, width=width),
            "</g>\n",
        )
    )


def _best(shown: Sequence[tuple[Point, Speed]]) -> set[str]:
    """Labels of points better than every faster one."""
    found: set[str] = set()
    highest = -math.inf
    for point, _ in sorted(shown, key=lambda pair: (pair[1].p50_ms.value, -pair[0].merit)):
        if point.merit > highest:
            highest = point.merit
            found.add(point.label)
    return found


def grid_lines(vertical: Axis, horizontal: Axis, *, top: float, width: float) -> str:
    """Ticks of both axes, with their lines; ``horizontal`` is of decimal logarithms."""
    bottom = top + HEIGHT - BOTTOM
    lines = []
    for tick in vertical.ticks():
        y = vertical.place(tick)
        lines.append(
            f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="soft" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{vertical.text(tick)}</text>\n'
        )
    for value in _round_values(10**horizontal.low, 10**horizontal.high):
        x = horizontal.place(math.log10(value))
        lines.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top + TOP:g}" y2="{bottom:g}"/>'
            f'<text class="soft" x="{x:.1f}" y="{bottom + 18:g}" text-anchor="middle">{value:g}</text>\n'
        )
    return "".join(lines)


def _round_values(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten, even steps if it is short."""
    if high / low < 6:
        step = round_step((high - low) / 5)
        return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    factors = (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for power in powers for factor in factors if low <= (value := float(f"{factor * 10.0**power:.6g}")) <= high]


def _ranges(point: Point, speed: Speed, vertical: Axis, horizontal: Axis) -> str:
    x, y = horizontal.place(math.log10(speed.p50_ms.value)), vertical.place(point.deployed.value)
    low, high = vertical.place(point.deployed.low), vertical.place(point.deployed.high)
    fast, slow = (horizontal.place(math.log10(value)) for value in (speed.p50_ms.low, speed.p50_ms.high))
    return (
        f'<line class="span" x1="{x:.1f}" x2="{x:.1f}" y1="{high:.1f}" y2="{low:.1f}"/>'
        f'<line class="span" x1="{fast:.1f}" x2="{slow:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>\n'
    )


def step_line(best: Sequence[Mark], *, right: float) -> str:
    """The frontier: steps through these marks, to the right edge."""
    path = ""
    for mark in sorted(best, key=lambda mark: mark.x):
        path += f"M{mark.x:.1f},{mark.y:.1f}" if not path else f"H{mark.x:.1f}V{mark.y:.1f}"
    return f'<path class="steps" d="{path}H{right:.1f}"/>\n'


def placed_labels(marks: Sequence[Mark], *, top: float, bottom: float, width: float) -> str:
    """Each label beside its point, moved up or down until it covers no other; one that moved is joined to its point.

    Those on the line come first; a label without room is left out.
    """
    taken: list[Box] = [(mark.x - 6, mark.y - 6, mark.x + 6, mark.y + 6) for mark in marks]
    found = []
    for mark in sorted(marks, key=lambda mark: (not mark.best, mark.y)):
        label = svg.shortened(mark.label)
        room = svg.room(label)
        right = mark.x + 10 + room < width - 4
        left = mark.x + 10 if right else mark.x - 10 - room
        shifts = (by for step in range(len(marks) + 1) for by in (step * LINE, -step * LINE))
        boxes = ((by, (left, mark.y + by - 8, left + room, mark.y + by + 7)) for by in shifts)
        free = (
            by for by, box in boxes if top <= box[1] and box[3] <= bottom and not any(_overlap(box, other) for other in taken)
        )
        shift = next(free, None)
        if shift is None:
            continue
        taken.append((left, mark.y + shift - 8, left + room, mark.y + shift + 7))
        x, anchor = (mark.x + 10, "start") if right else (mark.x - 10, "end")
        if shift:
            found.append(f'<line class="span" x1="{mark.x:.1f}" x2="{x:.1f}" y1="{mark.y:.1f}" y2="{mark.y + shift:.1f}"/>')
        place = f'x="{x:.1f}" y="{mark.y + shift + 4:.1f}" text-anchor="{anchor}"'
        found.append(f'<text class="soft label" {place}>{svg.content(label)}</text>\n')
    return "".join(found)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
