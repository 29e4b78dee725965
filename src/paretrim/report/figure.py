"""The figure of a study, as one SVG file that needs nothing else.

Every arm's accuracy with its interval and its single seeds, and below them, if the files were timed, accuracy against latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paretrim import files
from paretrim.metric import Metric
from paretrim.report import scatter, svg, wording
from paretrim.report.points import Point, setting_name, settings_of
from paretrim.report.svg import Axis, spanning

WIDTH = 800
ROW, TOP, BOTTOM = 34, 44, 50
NUMBERS = 140
"""Width of the numbers on the right."""

# Light by default, dark if the reader's system is; the background is painted because a picture does not know its page.
STYLE = """
:root { --paper: #ffffff; --ink: #171b20; --soft: #56606c; --line: #e2e6ea; --accent: #0a62b8; --dot: #8a95a3; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e7eaee; --soft: #a5afbb; --line: #2c323a; --accent: #74b5f7; --dot: #76818e; }
}
text { fill: var(--ink); font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
.paper { fill: var(--paper); }
.soft { fill: var(--soft); font-size: 12px; }
.label { paint-order: stroke; stroke: var(--paper); stroke-width: 4; stroke-linejoin: round; }
.grid { stroke: var(--line); }
.first { stroke: var(--dot); stroke-dasharray: 2 4; }
.range { stroke: var(--accent); stroke-width: 2; }
.span { stroke: var(--dot); }
.steps { fill: none; stroke: var(--accent); stroke-dasharray: 5 3; }
.beaten { fill: var(--paper); stroke: var(--dot); stroke-width: 1.5; }
.mean { fill: var(--accent); stroke: var(--paper); stroke-width: 1.5; }
.seed { fill: none; stroke: var(--dot); stroke-width: 1.25; }
"""


def write(points: Sequence[Point], path: Path) -> None:
    """Write the figure, atomically.

    Raises:
        OutOfSpace: the disk is full.
    """
    files.write_atomically(path, render(points).encode())


def render(points: Sequence[Point]) -> str:
    """The figure as SVG text, one row a point from top to bottom, then the latencies; the same points give the same text."""
    labels = [svg.shortened(point.label) for point in points]
    left = 20 + max(svg.room(label) for label in labels)
    axis = _axis(points, left=left, right=WIDTH - NUMBERS)
    bottom = TOP + ROW * len(points)
    settings = settings_of(points)
    height = bottom + BOTTOM + (scatter.HEIGHT if settings else 0)
    against = ""
    if settings:
        name = setting_name(settings[0], settings)
        against = scatter.render(points, settings[0], name=name, top=bottom + BOTTOM, width=WIDTH)
    rows = "".join(
        _row(point, label, axis, middle=TOP + ROW * (i + 0.5))
        for i, (point, label) in enumerate(zip(points, labels, strict=True))
    )
    first = axis.place(points[0].deployed.value)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">\n'
        f"<title>Deployed {points[0].metric.name} of {len(points)} arm{'' if len(points) == 1 else 's'}</title>\n"
        f"<desc>{svg.content(_description(points))}</desc>\n"
        f"<style>{STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n'
        f"{_key(points, left=left)}{_scale(axis, points[0].metric, bottom=bottom)}"
        f'<line class="first" x1="{first:.1f}" x2="{first:.1f}" y1="{TOP}" y2="{bottom}"/>\n'
        f"{rows}{against}</svg>\n"
    )


def value_in_words(point: Point) -> str:
    """The value (accuracy in percent) with half the interval; without one if all seeds agree.

    Their spread then measures nothing.
    """
    if len(point.runs) > 1 and len({run.deployed_value for run in point.runs}) == 1:
        return f"{point.metric.number(point.deployed.value)} every seed"
    return wording.value(point.deployed, point.metric)


def _row(point: Point, label: str, axis: Axis, *, middle: float) -> str:
    """Label, seeds, interval, mean and numbers; the seeds are drawn below the mean so that neither hides the other."""
    value, line = point.deployed, middle - 4
    seeds = "".join(
        f'<circle class="seed" cx="{axis.place(run.deployed_value):.1f}" cy="{middle + 7:g}" r="2.5"/>' for run in point.runs
    )
    low, mean, high = (axis.place(one) for one in (value.low, value.value, value.high))
    return (
        f'<text x="{axis.start - 12:.1f}" y="{middle + 4:g}" text-anchor="end">{svg.content(label)}</text>'
        f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{line:g}" y2="{line:g}"/>'
        f'<circle class="mean" cx="{mean:.1f}" cy="{line:g}" r="5"/>{seeds if len(point.runs) > 1 else ""}'
        f'<text x="{WIDTH - 12}" y="{middle + 4:g}" text-anchor="end">{svg.content(value_in_words(point))}</text>\n'
    )


def _scale(axis: Axis, metric: Metric, *, bottom: float) -> str:
    lines = "".join(
        f'<line class="grid" x1="{axis.place(tick):.1f}" x2="{axis.place(tick):.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="soft" x="{axis.place(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{axis.text(tick)}</text>\n'
        for tick in axis.ticks()
    )
    middle, name = (axis.start + axis.end) / 2, f"deployed {svg.content(metric.heading)}"
    return f'{lines}<text class="soft" x="{middle:.1f}" y="{bottom + 38}" text-anchor="middle">{name}</text>\n'


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
    marks.append(('<line class="first" x1="{2}" x2="{2}" y1="11" y2="29"/>', svg.shortened(points[0].label)))
    found, at = "", left
    for mark, name in marks:
        shape = mark.format(f"{at:.1f}", f"{at + 26:.1f}", f"{at + 13:.1f}")
        found += f'{shape}<text class="soft" x="{at + 32:.1f}" y="24">{svg.content(name)}</text>\n'
        at += 32 + 0.9 * svg.room(name) + 18
    return found


def _axis(points: Sequence[Point], *, left: float, right: float) -> Axis:
    """The range from the least to the greatest value shown in any row."""
    shown = [value for point in points for value in (point.deployed.low, point.deployed.high)]
    shown += [run.deployed_value for point in points for run in point.runs]
    return spanning(shown, start=left, end=right, share=points[0].metric.is_share)


def _description(points: Sequence[Point]) -> str:
    return "; ".join(f"{point.label}: {value_in_words(point)} {point.metric.unit}".rstrip() for point in points)
