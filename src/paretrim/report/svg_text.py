"""Text in pictures that are made without a browser: how much room it needs, and that it is safe."""

from __future__ import annotations

from paretrim.visible import escape

LETTER, CAPITAL, WIDE = 7.2, 9.6, 12.6
"""Room for a letter of a label, a capital, and an m or a w of either kind: fonts differ, so with something to spare."""

LONGEST = 34
"""Letters of a label; what is longer ends in an ellipsis."""


def shortened(label: str) -> str:
    """A label that is not too long."""
    return label if len(label) <= LONGEST else label[: LONGEST - 1].rstrip() + "…"


def room(label: str) -> float:
    """Pixels the label takes at most, in 13 pixels high letters."""
    return sum(WIDE if letter in "mwMW@%" else CAPITAL if letter.isupper() else LETTER for letter in label)


def content(text: str) -> str:
    """Content of an element: escaped, and without control characters, which XML forbids."""
    return escape(text)
