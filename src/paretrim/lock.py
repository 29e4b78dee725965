"""One process at a time in a run folder. The lock is the system's, so it dies with the process that holds it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import filelock

from paretrim.errors import InvalidRecipe, RunInUse
from paretrim.files import DAMAGE, clear_torn, is_file, is_folder, read_json, write_atomically

NOTE = "holder.json"
"""Who holds the folder, for the error that a second process gets; the lock itself is another file."""

ANOTHER = "choose another folder (--folder, or folder= in Python)"
"""The next step that errors about a folder give."""

OURS = ("stages", "teachers", "deployed", "timings")
"""Subfolders that only the holder of a run folder writes in."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make ``folder`` and keep every other process out of it until the block ends.

    Half-written files of an earlier holder that was killed are removed first.

    Raises:
        RunInUse: another process holds it; the message says which, where and since when.
        InvalidRecipe: the folder cannot be made, or nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: no path has such characters, or not in this locale
        raise InvalidRecipe(f"folder '{folder}' cannot be made: {_in_the_way(folder) or _why(error)}; {ANOTHER}") from error
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise RunInUse(f"folder '{folder}' is in use by {_holder(folder / NOTE)}; wait until it is done or {ANOTHER}") from error
    except OSError as error:
        raise InvalidRecipe(f"folder '{folder}' cannot be written: {error.strerror}; {ANOTHER}") from error
    try:
        try:
            clear_torn(folder, within=OURS)
        except OSError as error:
            raise InvalidRecipe(f"folder '{folder}' cannot be read: {_why(error)}; {ANOTHER}") from error
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        note = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        write_atomically(folder / NOTE, json.dumps(note).encode())
        yield
    finally:
        (folder / NOTE).unlink(missing_ok=True)
        lock.release()


def _in_the_way(folder: Path) -> str:
    """What has the name of a folder that cannot be made, if anything; the system only says that a file exists."""
    if is_file(folder):
        return "there is a file of that name"
    with contextlib.suppress(OSError, ValueError):  # a name that no folder can have is no link either
        return "it is a link to nothing" if folder.is_symlink() and not is_folder(folder) else ""
    return ""


def _why(error: OSError | ValueError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else str(error)


def _holder(note: Path) -> str:
    """The holder in words; it may only just have started, and not have written its note yet."""
    try:
        facts = cast(dict[str, Any], read_json(note))
        own = (facts["pid"], facts["host"]) == (os.getpid(), socket.gethostname())
        who = "another call in this process," if own else "process"
        return f"{who} {facts['pid']} on {facts['host']} since {facts['started']}"
    except DAMAGE:
        return "another process that has just started"
