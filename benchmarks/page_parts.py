"""The part of a page of docs/ that a command writes: what lies between two markers."""

from __future__ import annotations


def with_part(page: str, begin: str, end: str, part: str) -> str:
    """The page with ``part`` between the markers, which stay.

    Raises:
        ValueError: the page lacks a marker, has it twice, or has them in the other order.
    """
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs '{begin}' and after it '{end}', each once")
    return f"{page.split(begin)[0]}{begin}\n\n{part}\n\n{end}{page.split(end)[1]}"
