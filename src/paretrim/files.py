"""Files that survive a kill and a full disk: written aside, synced, then renamed over the old one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from paretrim.errors import CannotWrite, OutOfSpace

_TRIM = b"\x89TRIM\r\n\x1a"

_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""Names of the files that :func:`write_atomically` writes before it renames them."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` so that a reader, or a crash at any moment, sees the old file or the new one.

    Raises:
        OutOfSpace: the disk is full; the old file is intact and nothing is left behind.
        CannotWrite: the place does not allow it; likewise.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with _explained(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):  # on a read-only disk this fails too, and says less
                aside.unlink(missing_ok=True)
        _sync_folder(path.parent)


def is_trim_file(path: Path) -> bool:
    """Whether a file is a ``.trim`` file by its first bytes, whatever its name; by its name where it does not begin as any does.

    A file that cannot be read counts by its name too: whoever opens it says why.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(_TRIM)) == _TRIM or path.suffix == ".trim"
    except (OSError, ValueError):
        return path.suffix == ".trim"


def clear_torn(folder: Path, *, within: Sequence[str]) -> None:
    """Remove what killed processes left half written in ``folder`` itself and at any depth of its subfolders ``within``.

    Only for a folder in which no other process writes now: a file that is being written looks the same. Nothing else is
    touched, whatever its name, and links are not followed.
    """
    for path in (*folder.glob(".*.part"), *(path for name in within for path in (folder / name).rglob(".*.part"))):
        if _ASIDE.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add one line to a text file of lines and sync it. A torn last line from an earlier crash is ended first.

    Raises:
        OutOfSpace: the disk is full.
        CannotWrite: the place does not allow it.
    """
    with _explained(path, len(line) + 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                torn = file.read(1) != b"\n"
            else:
                torn = False
            file.write((b"\n" if torn else b"") + line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def require_space(folder: Path, needed_bytes: int) -> None:
    """Check before a long job that ``needed_bytes`` fit into ``folder``.

    Raises:
        OutOfSpace: they do not.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise OutOfSpace(
            f"'{folder}' needs {needed_bytes:,} bytes and its disk has {free:,} free; free some or choose another folder"
        )


@contextlib.contextmanager
def _explained(path: Path, size: int) -> Iterator[None]:
    """Turns the system's refusal to write into a sentence with the next step."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _out_of_space(path, size) from error
        raise CannotWrite(
            f"'{path}' cannot be written: {error.strerror}; choose another place, or allow writing there"
        ) from error


def _out_of_space(path: Path, size: int) -> OutOfSpace:
    free = shutil.disk_usage(path.parent).free
    return OutOfSpace(
        f"no space left for '{path}': {size:,} bytes to write, {free:,} free; free some and run the same command again"
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
