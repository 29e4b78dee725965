"""The standard output: text for people, or exactly one JSON value. Notes and progress go to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paretrim.run.progress import Watcher, watching
from paretrim.visible import visible, visible_lines

WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


@contextmanager
def at_work() -> Iterator[Watcher]:
    """Show progress and notes until the block ends; the network's own code prints to standard error, not among the results."""
    with redirect_stdout(sys.stderr), watching(Console(stderr=True)) as watcher:
        yield watcher


def result_console() -> Console:
    """Where tables go: as wide as the terminal, or :data:`WIDTH` without one."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def say(text: str) -> None:
    """Write lines for people."""
    sys.stdout.write(visible_lines(text) + "\n")


def emit(value: object) -> None:
    """Write one JSON value."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def show_words(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table of text; cells that are too wide wrap."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    result_console().print(table)


def show_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a plain table: the first column to the left, numbers to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, heading in enumerate(headings):
        # A truncated cell would be a wrong number, so a narrow terminal wraps the names instead.
        table.add_column(heading, justify="right" if position else "left", no_wrap=bool(position), overflow="fold")
    for row in rows:
        # Names are data, not markup.
        table.add_row(*(Text(visible(cell)) for cell in row))
    result_console().print(table)
