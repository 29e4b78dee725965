"""Text that came from outside (a file, a recipe, a folder, an exception), made safe to show.

A name may hold terminal escapes, characters that reverse the line, or lone surrogates that no encoding can write. Whatever does
not print is shown as U+FFFD, so that a name stays a name.
"""

from __future__ import annotations

import difflib
import html
from collections.abc import Sequence

REPLACEMENT = "\ufffd"
"""Replaces a character that does not print: a control character, a change of direction, a lone surrogate."""

QUOTED = 80
"""Most characters that :func:`brief` returns."""


def visible(text: str) -> str:
    """The text in one line, with :data:`REPLACEMENT` for every character that does not print."""
    return text if text.isprintable() else "".join(one if one.isprintable() else REPLACEMENT for one in text)


def visible_lines(text: str) -> str:
    """The same for text of several lines; the line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def brief(value: object) -> str:
    """The repr of a value in one line, truncated if long: how errors quote what they were given."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nesting as deep
        text = f"of type {type(value).__name__}"
    return visible(text if len(text) <= QUOTED else f"{text[: QUOTED - 3]}...")


def suggestion(given: str, names: Sequence[str], what: str) -> str:
    """The name that a wrong one was meant to be, or else all of them, called ``what``: "allowed"."""
    near = difflib.get_close_matches(given, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"{what} are {', '.join(names)}"


def escape(text: str) -> str:
    """The text in one line for HTML: as :func:`visible` returns it, with markup escaped."""
    return html.escape(visible(text))
