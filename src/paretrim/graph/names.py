"""Names of values: finding a free one, and making one printable for files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

LONGEST_NAME = 500
"""Characters; and of UTF-8, bytes."""

UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb"
    "\U000e0000-\U000e0fff]"
)
"""Control characters, and those that show nothing or turn the direction of what is around them."""

_ROOM = 100
"""How much shorter than that a captured name is, so that later steps can add to it."""


def free_name(wished: str, taken: Collection[str]) -> str:
    """The name, with underscores behind it as long as it is taken."""
    while wished in taken:
        wished += "_"
    return wished


def printable(name: str) -> str:
    """The name as files can hold it: what cannot be printed is written out, and the end of a long one is a digest of it."""
    shown = UNSEEN.sub(lambda found: found.group().encode("unicode_escape").decode(), name)
    if len(shown.encode()) <= LONGEST_NAME - _ROOM:
        return shown
    digest = hashlib.sha256(shown.encode()).hexdigest()[:16]
    return f"{shown.encode()[: LONGEST_NAME - _ROOM - 20].decode(errors='ignore')}...{digest}"
