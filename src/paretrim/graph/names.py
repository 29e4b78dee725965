"""Names of values: finding a free one, and making one printable for files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

LONGEST_NAME = 500
"""Most characters of a name, and most bytes of it in UTF-8."""

UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb"
    "\U000e0000-\U000e0fff]"
)
"""Control characters, invisible ones, and those that change the direction of the text around them."""

_ROOM = 100
"""How much shorter a captured name must be, so that later steps can append to it."""


def free_name(wished: str, taken: Collection[str]) -> str:
    """The name, with underscores appended until it is free."""
    while wished in taken:
        wished += "_"
    return wished


def printable(name: str) -> str:
    """The name as files can hold it: unprintable characters are written out, and a long name ends in a digest of itself."""
    shown = UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), name)
    if len(shown.encode()) <= LONGEST_NAME - _ROOM:
        return shown
    digest = hashlib.sha256(shown.encode()).hexdigest()[:16]
    return f"{shown.encode()[: LONGEST_NAME - _ROOM - 20].decode(errors='ignore')}...{digest}"
