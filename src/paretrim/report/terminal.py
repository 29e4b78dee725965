"""The table in the terminal after a run; narrow terminals drop the least important columns."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paretrim.bench.machine_load import shortened
from paretrim.metric import ACCURACY, Metric
from paretrim.report import wording
from paretrim.report.frontier import Rank, ranks
from paretrim.report.points import LatencySetting, Point, aggregate, setting_name, settings_of
from paretrim.results.outcome import Outcome
from paretrim.visible import visible, visible_lines

GAP = 2
LABEL_WIDTH = 26
"""Labels up to this length, and up to a quarter of the terminal, are shown in one line; longer ones may wrap."""

LINE_WIDTH = 120
"""Width of the plain text that goes to a file or a pipe."""


@dataclass(frozen=True)
class Row:
    """A point as the table shows it. ``beaten_by`` is the number of the row that dominates it, or 0."""

    number: int
    point: Point
    rank: Rank
    beaten_by: int


@dataclass(frozen=True)
class Column:
    """One column; ``keep`` is its importance, those with the lowest are dropped first when the terminal is narrow."""

    heading: str
    cell: Callable[[Row], str]
    keep: int
    right: bool = True


def table(outcomes: Sequence[Outcome], *, width: int, setting: LatencySetting | None = None) -> Table:
    """One row a point, at most ``width`` characters wide if its essential columns fit.

    ``setting`` decides the frontier; without it, the setting in which most points were measured.

    Raises:
        InvalidRecipe: see :func:`paretrim.report.points.aggregate`.
    """
    points = aggregate(outcomes)
    settings = settings_of(points)
    chosen = setting or (settings[0] if settings else None)
    numbers = {point.label: number for number, point in enumerate(points, start=1)}
    rows = [
        Row(numbers[point.label], point, rank, numbers.get(rank.dominated_by, 0))
        for point, rank in zip(points, ranks(points, chosen), strict=True)
    ]
    wanted = _columns(points, settings)
    columns = _fitting(wanted, rows, width)
    result = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", caption_justify="left")
    for column in columns:
        result.add_column(
            _printable(column.heading), justify="right" if column.right else "left", overflow="fold", no_wrap=column.right
        )
    for row in rows:
        style = "" if row.rank.on_frontier else "dim"
        result.add_row(*(_printable(column.cell(row), style=style) for column in columns))
    left_out = [column.heading.replace("\n", " ") for column in wanted if column not in columns]
    result.caption = _printable("\n".join(_notes(points, settings, chosen, left_out)), style="dim")
    return result


def _notes(
    points: Sequence[Point], settings: Sequence[LatencySetting], chosen: LatencySetting | None, left_out: Sequence[str]
) -> list[str]:
    """What a reader must know to read the table correctly."""
    metric, bases = points[0].metric, "; ".join(dict.fromkeys(point.basis for point in points))
    notes = [f"±: larger half of the 95 % interval; {metric.name}{_unit(metric)}, {bases}"]
    if chosen is not None:
        notes.append(
            f"frontier: {points[0].metric.name}, {wording.size_cost(points)} and p50 with {setting_name(chosen, settings)}"
        )
    if beside := wording.stand_ins(points):
        notes.append(beside)
    notes += wording.missing_onnx(points)
    heard = [remark for point in points for speed in point.speeds.values() for remark in speed.noise]
    remarks = shortened(dict.fromkeys(heard))
    if remarks:
        more = f"; {len(remarks) - 1} more on the page" if len(remarks) > 1 else ""
        notes.append(f"not quiet while timing: {remarks[0]}{more}")
    if left_out:
        notes.append(f"left out for width, on the page: {', '.join(left_out)}")
    return notes


def _unit(metric: Metric) -> str:
    """The unit of the numbers, and which end is better if people might expect the other."""
    unit = f" in {metric.unit}" if metric.unit else ""
    return unit if metric.higher_is_better else f"{unit} (lower is better)"


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Write the table to a console, coloured on a terminal and plain elsewhere.

    Raises:
        InvalidRecipe: see :func:`paretrim.report.points.aggregate`.
    """
    console.print(table(outcomes, width=console.width))


def text(outcomes: Sequence[Outcome], *, width: int = LINE_WIDTH) -> str:
    """The table as plain text without control characters.

    Raises:
        InvalidRecipe: see :func:`paretrim.report.points.aggregate`.
    """
    buffer = io.StringIO()
    show(outcomes, Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _columns(points: Sequence[Point], settings: Sequence[LatencySetting]) -> list[Column]:
    """Every column that says something about these points."""
    columns = [
        Column("#", lambda row: str(row.number), 90),
        Column("label", lambda row: visible(row.point.label), 100, right=False),
        Column(points[0].metric.name, lambda row: wording.value(row.point.deployed, row.point.metric), 99),
        Column(wording.size_heading(points), lambda row: wording.size(row.point.size.value), 98),
        Column("zeros\nof all", lambda row: wording.percent(row.point.sparsity, 1), 65),
    ]
    if any(point.prunable_sparsity is not None for point in points):
        columns.insert(4, Column("zeros of\nprunable", _prunable, 66))
    if any(point.trim_bytes for point in points):
        columns.append(Column("ONNX", lambda row: wording.onnx_size(row.point), 64))
    runtimes = dict.fromkeys(name for point in points for name in point.onnx_agreements)
    columns += [
        Column(f"same {'class' if points[0].metric == ACCURACY else 'result'}\n{runtime}", _agreement(runtime), 28)
        for runtime in runtimes
    ]
    for i, setting in enumerate(settings):
        name = setting_name(setting, settings).replace(", ", "\n")
        columns.append(Column(f"p50 ms\n{name}", _latency(setting), 97 if i == 0 else 60 - 2 * i))
        columns.append(Column(f"speed-up\n{name}", _speedup(setting), 70 if i == 0 else 61 - 2 * i))
    columns.append(Column("frontier", _standing, 80, right=False))
    if any(len(point.seeds) > 1 for point in points):
        columns.append(Column("seeds", lambda row: str(len(row.point.seeds)), 62))
    columns.append(Column("weights'\nentropy", lambda row: wording.size(row.point.entropy_bytes), 25))
    columns.append(Column("deployed\n− trained", lambda row: row.point.metric.change(row.point.drift), 30))
    if any(wording.order(point.order) != point.label for point in points if point.order):
        columns.append(Column("order", lambda row: wording.order(row.point.order), 20, right=False))
    return columns


def _prunable(row: Row) -> str:
    share = row.point.prunable_sparsity
    return "–" if share is None else wording.percent(share, 1)


def _agreement(runtime: str) -> Callable[[Row], str]:
    """Share of test images on which the ONNX file gives the deployed class in a runtime."""

    def cell(row: Row) -> str:
        share = row.point.onnx_agreements.get(runtime)
        return "" if share is None else wording.percent(share)

    return cell


def _standing(row: Row) -> str:
    if not row.rank.measured:
        return "not measured"
    if row.rank.guesses:
        return "no, guesses"
    return f"no, see {row.beaten_by}" if row.beaten_by else "yes"


def _latency(setting: LatencySetting) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        speed = row.point.speeds.get(setting)
        return "–" if speed is None else wording.milliseconds_with_half(speed.p50_ms)

    return cell


def _speedup(setting: LatencySetting) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        speed = row.point.speeds.get(setting)
        if speed is None:
            return "–"
        return (
            "baseline"
            if set(speed.baselines) == {run.label for run in row.point.runs}
            else wording.times_with_half(speed.speedup)
        )

    return cell


def _fitting(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[Column]:
    """The most important columns that fit side by side, in their order."""
    widths = {}
    for column in columns:
        body = max((len(column.cell(row)) for row in rows), default=0)
        heading = max(len(line) for line in column.heading.splitlines())
        # Text columns wrap; numbers must not be cut.
        widths[column.heading] = max(heading, body if column.right else min(body, max(LABEL_WIDTH, width // 4))) + GAP
    kept: set[str] = set()
    used = -GAP  # none after the last
    for column in sorted(columns, key=lambda column: -column.keep):
        if used + widths[column.heading] > width and len(kept) >= 2:
            continue
        used += widths[column.heading]
        kept.add(column.heading)
    return [column for column in columns if column.heading in kept]


def _printable(content: str, *, style: str = "") -> Text:
    """Escape a name: it is data, so it gives no markup, and no control character reaches the terminal."""
    return Text(visible_lines(content), style=style)
