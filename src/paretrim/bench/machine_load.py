"""The load of the machine, waiting until it is quiet, and what a session's remarks about it say."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from paretrim.bench.types import Load
from paretrim.intervals import Estimate

PROC = Path("/proc")
PRESSURE_LIMIT = 0.10
STEAL_LIMIT = 0.01
OWN_WAIT_LIMIT = 0.10
POLL_SECONDS = 1.0

WAITED = "tasks waited for a CPU"
STOLEN = "the hypervisor took"
KEPT_WAITING = "its own threads waited for a core"
STOPPED = "this container is stopped"
SPOILING = (WAITED, STOLEN, KEPT_WAITING, STOPPED)
"""Remarks that contain one of these mean that other work took the CPU while latency was measured."""

FLOOR_LIMIT = 1.1
"""If the interval of a file against its own copy reaches this ratio, the session says nothing about other files."""

PLACE = re.compile(r"process(?:es)? ([\d, ]+): ")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def read_load(proc: Path = PROC) -> Load:
    """Read pressure, load average, runnable tasks and CPU ticks; fields whose file the system lacks are ``None``."""
    pressure = re.search(r"^some avg10=([\d.]+) .*total=(\d+)", _text(proc / "pressure" / "cpu"), re.MULTILINE)
    average = re.match(r"([\d.]+) [\d.]+ [\d.]+ (\d+)/", _text(proc / "loadavg"))
    ticks = re.search(r"^cpu +([\d ]+)$", _text(proc / "stat"), re.MULTILINE)
    # user nice system idle iowait irq softirq steal; guest time is already inside user.
    counts = [int(word) for word in ticks[1].split()][:8] if ticks else []
    return Load(
        pressure=float(pressure[1]) / 100 if pressure else None,
        waited_us=int(pressure[2]) if pressure else None,
        average=float(average[1]) if average else None,
        runnable=int(average[2]) if average else None,
        steal_ticks=counts[7] if len(counts) == 8 else None,
        all_ticks=sum(counts) if len(counts) == 8 else None,
    )


def unquiet(load: Load, *, threads: int) -> list[str]:
    """Reasons not to measure deployments of up to ``threads`` threads now; empty means quiet."""
    said = []
    if load.pressure is not None and load.pressure > PRESSURE_LIMIT:
        said.append(f"{WAITED} {load.pressure:.0%} of the last 10 s (limit {PRESSURE_LIMIT:.0%})")
    if load.runnable is not None and load.runnable > threads:
        said.append(f"{load.runnable} tasks want to run (limit {threads}, this one among them)")
    return said


def disturbed(before: Load, after: Load, *, seconds: float) -> list[str]:
    """What disturbed the ``seconds`` between two readings: stolen time, or tasks kept waiting for a CPU."""
    said = []
    if before.steal_ticks is not None and after.steal_ticks is not None and before.all_ticks and after.all_ticks:
        stolen = (after.steal_ticks - before.steal_ticks) / max(after.all_ticks - before.all_ticks, 1)
        if stolen > STEAL_LIMIT:
            said.append(f"{STOLEN} {stolen:.1%} of the CPU time (limit {STEAL_LIMIT:.0%})")
    if before.waited_us is not None and after.waited_us is not None and seconds > 0:
        waited = (after.waited_us - before.waited_us) / (seconds * 1e6)
        if waited > PRESSURE_LIMIT:
            said.append(f"{WAITED} {waited:.0%} of the time (limit {PRESSURE_LIMIT:.0%})")
    return said


def waited_ns(tasks: Path = PROC / "self" / "task") -> int:
    """Time that this process's live threads spent ready to run without a core; 0 if the system does not tell."""
    fields = [_text(task / "schedstat").split() for task in tasks.iterdir()] if tasks.is_dir() else []
    return sum(int(words[1]) for words in fields if len(words) == 3)


def wait_until_quiet(
    seconds: float,
    *,
    threads: int,
    look: Callable[[], Load] = read_load,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[str], float]:
    """Wait for a quiet machine, at most ``seconds``; return what was still disturbing then, and the seconds spent waiting."""
    start = clock()
    while True:
        said = unquiet(look(), threads=threads)
        waited = clock() - start
        if not said or waited >= seconds:
            return said, waited
        sleep(min(POLL_SECONDS, seconds - waited))


def doubts(remarks: Iterable[str], floor: Estimate) -> tuple[str, ...]:
    """Why a session's times support no claim, in words, from its own checks; empty if it was sound."""
    found = shortened(remark for remark in remarks if any(said in remark for said in SPOILING))
    wide = floor.low < 1 / FLOOR_LIMIT or floor.high > FLOOR_LIMIT
    return (
        *found,
        *([f"the baseline measured {floor.low:.2f} to {floor.high:.2f} times as fast as its own copy"] if wide else []),
    )


def shortened(remarks: Iterable[str]) -> tuple[str, ...]:
    """Merge remarks that differ only in their process and first number into one, with the range of that number.

    >>> shortened(["process 1: 6 tasks want to run (limit 1)", "processes 2, 3: 8 tasks want to run (limit 1)"])
    ('6 to 8 tasks want to run (limit 1), in 3 processes',)
    """
    numbers: dict[tuple[str, str], list[str]] = {}
    processes: dict[tuple[str, str], set[str]] = {}
    for remark in remarks:
        place = PLACE.match(remark)
        said = remark[place.end() :] if place else remark
        # Text in quotes is a name, so a number in it is not a measurement.
        number = None if "'" in said else NUMBER.search(said)
        key = (said, "") if number is None else (said[: number.start()], said[number.end() :])
        numbers.setdefault(key, []).extend([number.group()] if number else [])
        processes.setdefault(key, set()).update(re.findall(r"\d+", place.group(1)) if place else ())
    return tuple(_said(*key, numbers[key], len(processes[key])) for key in numbers)


def _said(before: str, after: str, numbers: list[str], processes: int) -> str:
    ordered = sorted(dict.fromkeys(numbers), key=float)
    value = ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}" if ordered else ""
    place = f", in {processes} process{'es' if processes > 1 else ''}" if processes else ""
    return f"{before}{value}{after}{place}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
