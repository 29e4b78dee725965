"""The lines of results/peers.jsonl: the result of a case, why it could not run, and the latency of its file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock

from paretrim import files
from paretrim.errors import CorruptFile


@dataclass(frozen=True)
class Origin:
    """Where a line comes from. ``load`` is the load average before the case ran: above 0.5, wall time means little."""

    cpu: str
    cores: int
    system: str
    versions: Mapping[str, str]
    commit: str
    created: str
    load: float


@dataclass(frozen=True)
class ResultLine:
    """The result of a case with one draw of calibration images (``seed``); ``script`` is the digest of its code."""

    case: str
    network: str
    seed: int
    correct: int
    images: int
    file_bytes: int
    file_digest: str
    wall_s: float
    cpu_s: float
    user_lines: int
    script: str
    origin: Origin


@dataclass(frozen=True)
class AbsentLine:
    """A case that could not run here, and why."""

    case: str
    network: str
    seed: int
    reason: str
    script: str
    origin: Origin


@dataclass(frozen=True)
class LatencyLine:
    """Milliseconds of one image on ``threads`` threads: mean of the medians of fresh processes, with its 95 % interval."""

    case: str
    network: str
    seed: int
    file_digest: str
    threads: int
    p50_ms: float
    p50_ms_low: float
    p50_ms_high: float
    processes: int
    rounds: int
    noise: tuple[str, ...]
    origin: Origin


Line = ResultLine | AbsentLine | LatencyLine
KINDS: Mapping[str, type[Line]] = {"result": ResultLine, "absent": AbsentLine, "latency": LatencyLine}


def to_json(line: Line) -> str:
    """One line without its newline."""
    (kind,) = (name for name, one in KINDS.items() if type(line) is one)
    return json.dumps({"kind": kind, **dataclasses.asdict(line)})


def from_json(text: str, *, place: str) -> Line:
    """The inverse of :func:`to_json`.

    Raises:
        CorruptFile: the text is not such a line.
    """
    try:
        given = json.loads(text)
        kind = KINDS[given.pop("kind")]
        given["origin"] = Origin(**given["origin"])
        if kind is LatencyLine:
            given["noise"] = tuple(given["noise"])
        return kind(**given)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(
            f"{place} is no line of peers ({error}); kinds are {', '.join(KINDS)}; restore the file from a copy, or delete it"
        ) from error


def read(path: Path) -> list[Line]:
    """The last line of every kind for a case, network and seed; a result replaces an absence, and the other way round."""
    newest: dict[tuple[object, ...], Line] = {}
    for number, text in enumerate(_whole(path).splitlines(), start=1):
        line = from_json(text, place=f"'{path}', line {number}")
        newest[isinstance(line, LatencyLine), line.case, line.network, line.seed] = line
    return list(newest.values())


def append(path: Path, line: Line) -> None:
    """Append a line and sync it; a last line that a crash left incomplete is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        files.write_atomically(path, f"{_whole(path)}{to_json(line)}\n".encode())


def _whole(path: Path) -> str:
    """The complete lines of a file, as text."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text[: text.rfind("\n") + 1]
