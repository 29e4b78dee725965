"""Downloads one file over HTTP: an interrupted download resumes, and a wrong file is never used."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import filelock

from paretrim.errors import DataUnavailable
from paretrim.files import require_space

Progress = Callable[[int, int], None]
"""Called with the bytes fetched so far and the total (0 if the server does not tell)."""

CHUNK_BYTES = 1 << 18


def download(
    url: str,
    path: Path,
    *,
    md5: str,
    progress: Progress | None = None,
    attempts: int = 4,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> None:
    """Fetch ``url`` to ``path``; ``path`` appears only once its MD5 is right.

    A partial download stays in ``path`` + ``.part`` and is continued by the next attempt or the next run. Of several processes
    one fetches the file and the others wait for it.

    Raises:
        DataUnavailable: the server cannot be reached or refuses, or the file is not the published one.
        OutOfSpace: the disk cannot hold the rest of the file.
    """
    part, lock = path.with_name(path.name + ".part"), path.with_name(f".{path.name}.lock")
    try:
        held = filelock.FileLock(lock).acquire()  # two processes would write into one another's partial download
    except OSError as error:
        raise _failed(url, path, part, error) from error
    with held:
        if not path.exists():  # another process may have fetched it while this one waited
            _fetch(url, path, part, md5=md5, progress=progress, attempts=attempts, pause_s=pause_s, timeout_s=timeout_s)
        lock.unlink(missing_ok=True)


def _fetch(
    url: str,
    path: Path,
    part: Path,
    *,
    md5: str,
    progress: Progress | None,
    attempts: int,
    pause_s: float,
    timeout_s: float,
) -> None:
    for attempt in range(1, attempts + 1):
        try:
            _continue(url, part, progress, timeout_s)
            break
        except (OSError, http.client.HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
            if refused or attempt == attempts:
                raise _failed(url, path, part, error) from error
        time.sleep(pause_s * attempt)
    try:
        require_md5(part, md5)
    except DataUnavailable as error:
        part.unlink()
        raise DataUnavailable(f"{url} sent a file that is not the published one; it was deleted: {error}") from error
    part.replace(path)


def require_md5(path: Path, md5: str) -> None:
    """Compare a file with its published checksum.

    Raises:
        DataUnavailable: they differ.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise DataUnavailable(f"'{path}' has MD5 {found}, expected {md5}; delete it and run again to download it")


def _continue(url: str, part: Path, progress: Progress | None, timeout_s: float) -> None:
    """One attempt: append to ``part`` from where it ends, or start over if the server sends the whole file."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to send; the checksum decides whether the part is good
        raise
    with response:
        continued = response.status == http.HTTPStatus.PARTIAL_CONTENT
        done = start if continued else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else 0
        require_space(part.parent, max(total - done, 0))
        with part.open("ab" if continued else "wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    if done < total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _failed(url: str, path: Path, part: Path, error: Exception) -> DataUnavailable:
    kept = (
        f"{part.stat().st_size:,} bytes are kept and the next run continues from there"
        if part.exists()
        else "nothing had arrived"
    )
    return DataUnavailable(f"downloading {url} failed ({error}); {kept}. Without a network, put the file at '{path}' yourself")
