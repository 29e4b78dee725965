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


def show_rows(headings: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> None:
    """Write a plain table: the first column to the left, numbers to the right. Cells of ``words`` wrap, and all are to the left.

    A truncated number would be a wrong one, so a narrow terminal wraps the names instead.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, heading in enumerate(headings):
        number = position > 0 and not words
        table.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        # Names are data, not markup.
        table.add_row(*(Text(visible(cell)) for cell in row))
    result_console().print(table)
