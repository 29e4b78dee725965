"""Exit codes, and the messages of failures."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import paretrim
from paretrim.cli.streams import OutputLost
from paretrim.errors import ParetrimError, reason_of
from paretrim.own_code import failing_call
from paretrim.visible import visible

DONE = 0
FAILED = 1
USAGE = 2
"""Wrong arguments, or a recipe or study that breaks a rule."""
MISSED = 3
"""Everything worked but a target was not met."""
STOPPED = 130
"""Stopped by Ctrl-C; the number is the shell's convention."""
TERMINATED = 143
"""Stopped by SIGTERM."""

TRACEBACK = "PARETRIM_TRACEBACK"
"""Environment variable that adds a traceback to every error."""

_ALLOCATOR = "can't allocate memory"
"""torch's message when the machine's memory runs out; for a GPU there is an exception class."""


def explained(error: Exception, *, limited: bool = False) -> str:
    """The message; empty if no one can read it. Lines after the first are indented, so that no name can fake a message.

    If the command takes ``--limit`` (``limited``), the message about a file over its limit names that option.
    """
    if isinstance(error, OutputLost):
        return f"standard output cannot be written: {error.reason}; write to another file or disk" if error.reason else ""
    said = _meant(error).replace("\n", "\n  ")
    return re.sub(r"load it with limit=(\d+), or", r"give --limit \1, or", said) if limited else said


def _meant(error: Exception) -> str:
    if isinstance(error, ParetrimError):
        return str(error)
    reason = reason_of(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _ALLOCATOR in reason:
        return f"memory ran out ({reason}); close other programs, or choose fewer or smaller images or a smaller batch size"
    if isinstance(error, OSError) and error.strerror:
        place = f"'{visible(str(error.filename))}': " if error.filename is not None else ""
        return f"{place}{error.strerror}; check the path, its permissions and the free space on its disk"
    if call := failing_call(error):
        return f"your own code failed with {reason}, in {call}; correct it ({TRACEBACK}=1 in the environment shows the traceback)"
    return (
        f"unexpected {reason}{_place(error)}; this is a bug in Paretrim: please report it with the traceback "
        f"that {TRACEBACK}=1 in the environment shows"
    )


def _place(error: Exception) -> str:
    """The place in the package where it happened."""
    package = Path(paretrim.__file__).parent
    inside = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(package)]
    return f" ({Path(inside[-1].filename).relative_to(package)}, line {inside[-1].lineno})" if inside else ""
