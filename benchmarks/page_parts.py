"""What pages of docs/ generated from stored lines share: the lines, their numbers, and the generated part between two markers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

Line = Mapping[str, object]


def read(path: Path) -> list[Line]:
    """The stored lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def number(line: Line, name: str) -> float:
    """A number of a line."""
    return float(str(line[name]))


def with_part(page: str, begin: str, end: str, part: str) -> str:
    """The page with ``part`` between the markers, which are kept.

    Raises:
        ValueError: a marker is missing or occurs twice, or they are in the wrong order.
    """
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs '{begin}' and after it '{end}', each once")
    return f"{page.split(begin)[0]}{begin}\n\n{part}\n\n{end}{page.split(end)[1]}"
