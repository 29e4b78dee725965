"""The standard streams of a command, and what happens when they are closed."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast

IN_ASCII = {"–": "-", "−": "-", "±": "~", "→": ">", "×": "x", "·": ".", "…": ".", "µ": "u", "é": "e", "ë": "e"}
"""One character each, so that tables stay aligned, for what our own texts hold beside ASCII.

They stand in terminals and files whose encoding lacks it, as with ``LC_ALL=C`` and ``PYTHONUTF8=0``.
"""


class OutputLost(Exception):
    """Standard output cannot be written. ``reason`` is the system's message; empty if the reader just closed it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _StreamGuard:
    """A stream that calls ``lost`` when it cannot be written, and is then redirected to nothing.

    Without the redirection Python would try again at exit, and end with its own message and exit code.
    """

    def __init__(self, stream: TextIO, lost: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._lost = lost

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write all of it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        with contextlib.suppress(OSError, ValueError):  # a test's stream has no file number
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
        self._lost(error)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Make loss of standard output raise :class:`OutputLost`, and ignore loss of standard error."""
    before = sys.stdout, sys.stderr
    codecs.register_error("paretrim-ascii", _in_ascii)
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="paretrim-ascii")
    output, notes = _open(sys.stdout), _open(sys.stderr)
    sys.stdout = cast(TextIO, _StreamGuard(output, _raise_lost))
    sys.stderr = cast(TextIO, _StreamGuard(notes, lambda _: None))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that the stream's encoding lacks: :data:`IN_ASCII`, else a question mark each."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(IN_ASCII.get(one, "?") for one in error.object[error.start : error.end]), error.end


def _raise_lost(error: OSError) -> None:
    raise OutputLost("" if error.errno == errno.EPIPE else error.strerror or str(error))


def _open(stream: TextIO | None) -> TextIO:
    """The stream, or one that refuses writes if the process was started with it closed.

    The substitute occupies the free file descriptor. Otherwise a file opened later would get it, and whatever a library prints
    would end up in that file.
    """
    return stream or os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
