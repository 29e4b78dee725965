"""The table a person reads after a run; narrower terminals lose the columns that matter least."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paretrim.outcome import Outcome
from paretrim.report import wording
from paretrim.report.frontier import Rank, ranks
from paretrim.report.points import Point, Setting, aggregate, setting_name, settings_of

GAP = 2
LINE_WIDTH = 120
"""Width of the plain text that goes to a file or a pipe."""


@dataclass(frozen=True)
class Column:
    """One column; ``keep`` is its importance, columns with the lowest go first when the terminal is narrow."""

    heading: str
    cell: Callable[[Point, Rank], str]
    keep: int
    right: bool = True


def table(outcomes: Sequence[Outcome], *, width: int, setting: Setting | None = None) -> Table:
    """One row a point, at most ``width`` characters wide where its essential columns fit.

    ``setting`` decides the frontier; without it, the setting most points were measured in.

    Raises:
        InvalidRecipe: see :func:`paretrim.report.points.aggregate`.
    """
    points = aggregate(outcomes)
    settings = settings_of(points)
    chosen = setting or (settings[0] if settings else None)
    standings = ranks(points, chosen)
    columns = _fitting(_columns(settings), list(zip(points, standings, strict=True)), width)
    result = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", caption_justify="left")
    for column in columns:
        result.add_column(
            _printable(column.heading), justify="right" if column.right else "left", overflow="fold", no_wrap=column.right
        )
    for point, rank in zip(points, standings, strict=True):
        style = "" if rank.on_frontier else "dim"
        result.add_row(*(_printable(column.cell(point, rank), style=style) for column in columns))
    notes = [f"accuracy in %, ± half the 95 % interval ({'; '.join(dict.fromkeys(point.basis for point in points))})"]
    if chosen is not None:
        notes.append(f"frontier: accuracy, bytes and p50 in ms with {setting_name(chosen, settings)}")
    if len(columns) < len(_columns(settings)):
        notes.append("some columns are left out; widen the terminal or write the page to see all")
    result.caption = _printable("\n".join(notes), style="dim")
    return result


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


def _columns(settings: Sequence[Setting]) -> list[Column]:
    columns = [
        Column("label", lambda point, _: point.label, 100, right=False),
        Column("order", lambda point, _: wording.order(point.order), 20, right=False),
        Column("seeds", lambda point, _: str(len(point.seeds)), 40),
        Column("accuracy", lambda point, _: wording.accuracy(point.accuracy), 99),
        Column("deployed\n− trained", lambda point, _: wording.points(point.drift), 30),
        Column("size", lambda point, _: wording.size(point.file_bytes.value), 98),
        Column("entropy", lambda point, _: wording.size(point.entropy_bytes), 25),
        Column("zeros", lambda point, _: wording.percent(point.sparsity, 1), 45),
    ]
    for i, setting in enumerate(settings):
        name = setting_name(setting, settings).replace(", ", "\n")
        columns.append(Column(f"p50 ms\n{name}", _latency(setting), 97 if i == 0 else 60 - 2 * i))
        columns.append(Column(f"speed-up\n{name}", _speedup(setting), 70 if i == 0 else 59 - 2 * i))
    return [*columns, Column("on the frontier", lambda _, rank: wording.standing(rank), 80, right=False)]


def _latency(setting: Setting) -> Callable[[Point, Rank], str]:
    def cell(point: Point, _: Rank) -> str:
        speed = point.speeds.get(setting)
        return "–" if speed is None else f"{wording.milliseconds(speed.p50_ms.value)} [{wording.span(speed.p50_ms)}]"

    return cell


def _speedup(setting: Setting) -> Callable[[Point, Rank], str]:
    def cell(point: Point, _: Rank) -> str:
        speed = point.speeds.get(setting)
        return "–" if speed is None else f"{wording.times(speed.speedup.value)} [{wording.span(speed.speedup)}]"

    return cell


def _fitting(columns: Sequence[Column], rows: Sequence[tuple[Point, Rank]], width: int) -> list[Column]:
    """The most important columns that fit side by side, in their order."""
    widths = {}
    for column in columns:
        body = max((len(column.cell(point, rank)) for point, rank in rows), default=0)
        heading = max(len(line) for line in column.heading.splitlines())
        # Text columns fold; numbers must not be cut.
        widths[column.heading] = max(heading, body if column.right else min(body, 24)) + GAP
    kept: set[str] = set()
    used = 0
    for column in sorted(columns, key=lambda column: -column.keep):
        if used + widths[column.heading] > width and len(kept) >= 2:
            continue
        used += widths[column.heading]
        kept.add(column.heading)
    return [column for column in columns if column.heading in kept]


def _printable(content: str, *, style: str = "") -> Text:
    """Names are data: no markup is read from them and no control character reaches the terminal."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in content), style=style)
