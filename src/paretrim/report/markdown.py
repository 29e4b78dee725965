"""Markdown from data: tables, and text that shows names as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from paretrim.visible import visible

Cells = Sequence[str]


def listed(texts: Iterable[str]) -> str:
    """Each text once, in order of first appearance."""
    return ", ".join(dict.fromkeys(text for text in texts if text))


def table(heading: Cells, rows: Sequence[Cells], *, left: int, last_left: bool = False) -> str:
    """A table whose first ``left`` columns, and on request its last, are text; numbers are aligned right."""
    columns = len(heading)
    rule = [":--" if i < left or (last_left and i == columns - 1) else "--:" for i in range(columns)]
    lines = [[plain(cell) for cell in row] for row in (heading, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))


def plain(text: str) -> str:
    """Escape text so that Markdown shows it as it is: names are data, not markup, HTML or line breaks."""
    # An underscore between letters is not markup, and names are full of them.
    return re.sub(r"([\\`*\[\]<>|&~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", visible(text))


def address(path: str) -> str:
    """An address inside a link's parentheses."""
    return quote(path, safe="/.:#~")
