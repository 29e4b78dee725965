"""Files that survive a kill and a full disk: written aside, synced, then renamed over the old one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from paretrim.errors import CannotWrite, CorruptFile, InvalidRecipe, OutOfSpace, reason_of
from paretrim.visible import brief

TRIM_START = b"\x89TRIM\r\n\x1a"
"""The first bytes of every ``.trim`` file."""

LARGEST_JSON = 2**24
"""Most bytes that :func:`read_json` reads by default."""

_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""Names of the files that :func:`write_atomically` writes before it renames them."""

NONE, NO_REGULAR = "there is none", "a folder, a pipe or a device"
"""Reasons of :func:`why_no_file`: nothing is there, or something that is no file."""

DAMAGE = (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a damaged or edited JSON file raises: ``int`` of an infinity, which JSON as read by Python may hold, among it."""

LONGEST_NAME = 100
"""Most bytes of a name that becomes a folder."""

_FORBIDDEN = frozenset('/\\:*?"<>|')
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
"""Names that Windows reserves for devices, with any extension."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` so that a reader, or a crash at any moment, sees the old file or the new one.

    Raises:
        OutOfSpace: the disk is full; the old file is intact and nothing is left behind.
        CannotWrite: the place does not allow it; the old file is intact.
    """
    with written_aside(path, len(content)) as file:
        file.write(content)


@contextlib.contextmanager
def written_aside(path: Path, size: int) -> Iterator[BinaryIO]:
    """A new file, to be read and written in any order, that replaces ``path`` at the end unless an error occurs.

    ``size`` is about how many bytes it will have, for the message if there is no room.

    Raises:
        OutOfSpace, CannotWrite: as from :func:`write_atomically`.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with _explained(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):  # fails too on a read-only disk, with a less useful error
                aside.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder that is removed at the end.

    Raises:
        CannotWrite: the system's place for temporary files allows none.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="paretrim-")
    except OSError as error:
        raise CannotWrite(
            f"no temporary folder can be made: {error.strerror or error}; let TMPDIR name a folder in which files can be written"
        ) from error
    with made as name:
        yield Path(name)


def path_of(path: object, what: str = "a .trim, .graph or .onnx file") -> Path:
    """The path of a file as the Python API is given it; ``what`` is it.

    Raises:
        CorruptFile: it is neither a text nor a Path.
    """
    if isinstance(path, str | Path):
        return Path(path)
    raise CorruptFile(f"the path is {brief(path)}; give the path of {what} as a text or a Path")


def folder_of(folder: object) -> Path:
    """The folder of a run as the Python API is given it.

    Raises:
        InvalidRecipe: it is neither a text nor a Path.
    """
    if isinstance(folder, str | Path):
        return Path(folder)
    raise InvalidRecipe(f"folder is {brief(folder)}; give a text or a Path")


def name_or_content(path: Path) -> str | bytes:
    """The path as text, or the file's content if its name is no UTF-8, which most libraries cannot open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.read_bytes()
    return str(path)


def is_trim_file(path: Path) -> bool:
    """Whether a file is a ``.trim`` file: by its first bytes, and by its name if it does not start like one.

    A file that cannot be read is judged by its name; opening it will say what is wrong.
    """
    if not is_file(path):  # opening a pipe would wait for a writer
        return path.suffix == ".trim"
    begins_so = False
    with contextlib.suppress(OSError, ValueError):
        if path.is_file():  # a pipe would keep the reader waiting
            with path.open("rb") as file:
                begins_so = file.read(len(TRIM_START)) == TRIM_START
    return begins_so or path.suffix == ".trim"


def read_regular(path: Path, *, at_most: int) -> bytes:
    """The content of a file that was named from outside: a regular file of at most ``at_most`` bytes.

    Raises:
        OSError: it is missing, may not be read, is larger, or is a folder, a pipe or a device; ``strerror`` says which.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for a writer
    except ValueError as error:
        raise OSError(errno.EINVAL, "its path holds a zero character", str(path)) from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
        most = min(
            at_most, max(os.fstat(handle).st_size, 2**16)
        )  # read() allocates this much first, so ask for no more than there is
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {at_most:,} bytes", str(path))
    return content


def read_json(path: Path, *, at_most: int = LARGEST_JSON) -> object:
    """The value in a small JSON file that a program keeps for itself, and that may be damaged.

    Raises:
        OSError: as :func:`read_regular`.
        ValueError: it is not UTF-8 or not JSON, or is nested too deep.
    """
    try:
        return json.loads(read_regular(path, at_most=at_most).decode())
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def is_file(path: Path) -> bool:
    """Whether there is a regular file that may be accessed; false, never an error, for names that are too long or malformed."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_file()
    return False


def why_no_file(path: Path) -> str:
    """Why no regular file can be read under a path, for a message; empty if there is one."""
    try:
        if path.is_file():
            return ""
        return NO_REGULAR if path.exists() else NONE
    except (OSError, ValueError) as error:  # not allowed, too long, or with a zero character
        return str(error.strerror) if isinstance(error, OSError) else str(error)


def require_file(path: Path) -> None:
    """Refuse a path under which there is no regular file.

    Raises:
        CorruptFile: there is none, or its place cannot be read.
    """
    reason = why_no_file(path)
    if reason == NONE:
        raise CorruptFile(f"there is no file '{path}'; check the path")
    if reason == NO_REGULAR:
        raise CorruptFile(f"'{path}' is {reason}; give a file")
    if reason:
        raise CorruptFile(f"'{path}' cannot be read: {reason}; check the path and its permissions")


def is_folder(path: Path) -> bool:
    """The same for a folder."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_dir()
    return False


def require_name(name: object, what: str) -> str:
    """Check a name from a file that becomes a folder name: it must be a single path component on every system.

    Raises:
        InvalidRecipe: it is not; ``what`` names the key.
    """
    if (
        isinstance(name, str)
        and name.isprintable()
        and len(name.encode()) <= LONGEST_NAME
        and name == name.strip(" .")
        and not _FORBIDDEN & set(name)
        and name.partition(".")[0].lower() not in ("", *_RESERVED)
    ):
        return name
    raise InvalidRecipe(
        f"{what} is {brief(name)}; it names a folder, so write 1 to {LONGEST_NAME} printable characters without any of "
        f"{' '.join(sorted(_FORBIDDEN))}, no dot or space at either end, and no reserved name like con or nul"
    )


def clear_torn(folder: Path, *, within: Sequence[str]) -> None:
    """Remove half-written files of killed processes from ``folder`` and, at any depth, from its subfolders ``within``.

    Call it only while no other process writes there: a file that is being written looks the same. Nothing else is touched, and
    links are not followed.
    """
    for path in (*folder.glob(".*.part"), *(path for name in within for path in (folder / name).rglob(".*.part"))):
        if _ASIDE.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append one line to a text file and sync it. A torn last line from an earlier crash is terminated first.

    Raises:
        OutOfSpace: the disk is full.
        CannotWrite: the place does not allow it.
    """
    with _explained(path, len(line) + 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would wait for a reader
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
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
    """Turn an operating-system error on writing into a message with the next step."""
    try:
        yield
    except ValueError as error:  # of the operating system's calls: no path is so
        raise CannotWrite(
            f"'{path}' holds a character that no path can hold ({reason_of(error)}); choose another name"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _out_of_space(path, size, error) from error
        raise CannotWrite(
            f"'{path}' cannot be written: {error.strerror}; choose another place, or allow writing there"
        ) from error


def _out_of_space(path: Path, size: int, error: OSError) -> OutOfSpace:
    if error.errno == errno.EFBIG:
        return OutOfSpace(
            f"no space left for '{path}': its {size:,} bytes are more than this process or file system allows in one file; raise "
            "the limit (ulimit -f) or choose another place, and run the same command again"
        )
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
