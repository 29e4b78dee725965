"""Text that came from outside (a file, a recipe, a folder, an exception), made safe to show.

A name may hold terminal escapes, characters that reverse their line, or halves of characters that no encoding can
write. Whatever does not print is shown as U+FFFD, so that a name is never more than a name.
"""

from __future__ import annotations

import html

REPLACEMENT = "\ufffd"
"""Stands for a character that does not print: a control character, a change of direction, a lone surrogate."""

QUOTED = 80
"""Most characters that :func:`brief` gives."""


def visible(text: str) -> str:
    """The text in one line, with :data:`REPLACEMENT` for every character that does not print."""
    return text if text.isprintable() else "".join(one if one.isprintable() else REPLACEMENT for one in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay."""
    return "\n".join(map(visible, text.split("\n")))


def brief(value: object) -> str:
    """A value as Python writes it, in one line and cut where it is long: what an error quotes of what it was given."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a structure as deep
        text = f"of type {type(value).__name__}"
    return visible(text if len(text) <= QUOTED else f"{text[: QUOTED - 3]}...")


def escape(text: str) -> str:
    """The text in one line for HTML: as :func:`visible` gives it, and no markup is read from it."""
    return html.escape(visible(text))
