"""Pictures of a sensitivity scan: a small panel for each layer, with the metric and the loss against the share of zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from paretrim import files
from paretrim.curves import Curve, Sensitivity
from paretrim.report import svg
from paretrim.report.svg import Axis, spanning
from paretrim.visible import escape

COLUMNS, WIDTH, HEIGHT = 4, 225, 150
"""Panels per row, and the size of one in pixels."""

LEFT, RIGHT, TOP, BOTTOM = 36, 14, 34, 22
"""Room around the plot of a panel."""

LOSS_PATTERN = 'stroke-dasharray="4 3"'
"""The dash pattern of the loss, so that the lines differ without colour too."""

UNITS = {"unstructured": "weights", "1x4": "blocks", "channel": "channels"}
TITLES = {"unstructured": "single weights", "1x4": "blocks of 1x4", "channel": "whole channels"}

STYLE = """
:root { --paper: #ffffff; --ink: #171b20; --soft: #56606c; --line: #e2e6ea; --accent: #0a62b8; --second: #b04a06; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e7eaee; --soft: #a5afbb; --line: #2c323a; --accent: #74b5f7; --second: #f2a765; }
}
text { fill: var(--soft); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
.paper { fill: var(--paper); }
.name { fill: var(--ink); font-weight: 500; }
.grid { stroke: var(--line); }
.value, .loss { fill: none; stroke: var(--accent); stroke-width: 1.75; stroke-linejoin: round; }
.loss { stroke: var(--second); }
"""


def section(scans: Sequence[Sensitivity]) -> str:
    """The part of the page; empty without scans."""
    if not scans:
        return ""
    first = scans[0]
    parts = "".join(
        f"<h3>{escape(TITLES.get(scan.pattern, scan.pattern))}</h3>"
        f'<p class="note">{escape(_scales(scan))}</p><div class="wide">{picture(scan)}</div>'
        for scan in scans
    )
    key = "".join(
        f'<li><svg viewBox="0 0 22 14" aria-hidden="true"><path d="M1,7H21" class="{kind}" {dashes}/></svg>{escape(text)}</li>'
        for kind, dashes, text in (("value", "", first.metric.name), ("loss", LOSS_PATTERN, "loss"))
    )
    said = (
        f"Each layer of the dense network pruned alone by {first.score}, nothing trained, on {first.images:,} validation images. "
        "Channels that are added up go together and share a panel."
    )
    return (
        '<section id="sensitivity"><h2>Sensitivity of the layers</h2>'
        f'<p class="note">{escape(said)}</p><ul class="key">{key}</ul>{parts}</section>'
    )


def write(scans: Sequence[Sensitivity], path: Path) -> None:
    """Write all scans as one SVG file, atomically.

    Raises:
        OutOfSpace: the disk is full.
    """
    files.write_atomically(path, render(scans).encode())


def render(scans: Sequence[Sensitivity]) -> str:
    """All scans below each other as SVG text that needs nothing else."""
    top, parts = 0.0, []
    for scan in scans:
        title = f"{TITLES.get(scan.pattern, scan.pattern)}: {_scales(scan)}"
        parts.append(f'<text x="8" y="{top + 20:g}">{svg.content(title)}</text>{_panels(scan, top=top + 30)}')
        top += 30 + _height(scan) + 14
    width = COLUMNS * WIDTH
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top:g}" width="{width}" height="{top:g}" role="img">\n'
        f"<title>Sensitivity of the layers: metric (solid) and loss (dashed) against zeros in one layer alone</title>\n"
        f'<style>{STYLE}</style>\n<rect class="paper" width="{width}" height="{top:g}"/>\n{"".join(parts)}</svg>\n'
    )


def picture(scan: Sensitivity) -> str:
    """One scan as an SVG element; the page has the style."""
    width, height = COLUMNS * WIDTH, _height(scan)
    return (
        f'<svg class="scan" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(_scales(scan))}">{_panels(scan, top=0.0)}</svg>'
    )


def _height(scan: Sensitivity) -> int:
    return HEIGHT * math.ceil(len(scan.curves) / COLUMNS)


def _scales(scan: Sensitivity) -> str:
    """The axes that the panels share, in words; without panels, why there are none."""
    if not scan.curves:
        return f"None of the {UNITS.get(scan.pattern, 'units')} of this network can be removed."
    most = max((point.loss for curve in scan.curves for point in curve.points), default=scan.loss)
    return (
        f"Upwards {scan.metric.heading}, {scan.metric.number(scan.value)} without zeros, and the loss, from {scan.loss:.3g} to "
        f"{most:.3g} in every panel; across, zeros in %."
    )


def _panels(scan: Sensitivity, *, top: float) -> str:
    values = [point.value for curve in scan.curves for point in curve.points] or [scan.value]
    losses = [point.loss for curve in scan.curves for point in curve.points] or [scan.loss]
    parts = []
    for number, curve in enumerate(scan.curves):
        row, column = divmod(number, COLUMNS)
        x, y = column * WIDTH, top + row * HEIGHT
        start, end = y + HEIGHT - BOTTOM, y + TOP
        value_axis = spanning(values, start=start, end=end, share=scan.metric.is_share)
        loss_axis = spanning(losses, start=start, end=end, share=False)
        zeros = Axis(0.0, 1.0, x + LEFT, x + WIDTH - RIGHT, 0.5)
        parts.append(_panel(scan, curve, zeros, value_axis, loss_axis))
    return "".join(parts)


def _panel(scan: Sensitivity, curve: Curve, zeros: Axis, values: Axis, losses: Axis) -> str:
    """Name, grid and the two lines of one layer."""
    ticks = values.ticks()
    shown = ticks[:: math.ceil(len(ticks) / 3)]  # more would overlap
    across = "".join(
        f'<path class="grid" d="M{zeros.start:g} {y:.1f}H{zeros.end:g}"/>'
        f'<text x="{zeros.start - 5:g}" y="{y + 4:.1f}" text-anchor="end">{values.text(tick)}</text>'
        for tick, y in ((tick, values.place(tick)) for tick in shown)
    )
    upwards = "".join(
        f'<path class="grid" d="M{x:.1f} {values.start:g}V{values.end:g}"/>'
        f'<text x="{x:.1f}" y="{values.start + 15:g}" text-anchor="middle">{zeros.text(tick)}</text>'
        for tick, x in ((tick, zeros.place(tick)) for tick in zeros.ticks())
    )
    value_line = _path([(zeros.place(point.sparsity), values.place(point.value)) for point in curve.points])
    loss_line = _path([(zeros.place(point.sparsity), losses.place(point.loss)) for point in curve.points])
    units = f"{curve.units:,} {UNITS.get(scan.pattern, 'units')}"
    name = svg.shortened(curve.name)
    return (
        f"<g><title>{svg.content(_numbers(scan, curve, units))}</title>{across}{upwards}"
        f'<path class="loss" {LOSS_PATTERN} d="{loss_line}"/><path class="value" d="{value_line}"/>'
        f'<text class="name" x="{zeros.start:g}" y="{values.end - 20:g}">{svg.content(name)}</text>'
        f'<text x="{zeros.start:g}" y="{values.end - 6:g}">{units}</text></g>\n'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _numbers(scan: Sensitivity, curve: Curve, units: str) -> str:
    """All points in words."""
    points = (f"{100 * one.sparsity:.1f} %: {scan.metric.text(one.value)}, loss {one.loss:.4g}" for one in curve.points)
    return f"{', '.join(curve.layers)}: {units}; zeros {'; '.join(points)}"
