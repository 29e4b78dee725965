"""Which cores a deployment may use, for every thread it has.

The calling thread sits on one fixed core for the whole session, whatever deployment it calls: moving it between calls would cool
its caches. A deployment with T threads is opened while the caller may use the first T cores, so that an engine that sizes itself
by the affinity mask sees T. The threads that appeared while it was opened and first called are its helpers; they go to cores 2 to
T (to the caller's core when T is 1), so that no deployment ever computes on more cores than it declares and no helper competes
with its own caller. Deployments are opened in falling order of threads, because Intel's TBB has one pool for the whole process,
sized at its first use.

An engine can break this: ONNX Runtime's helpers spin after a call unless ``session.force_spinning_stop`` is 1, OpenVINO moves its
caller unless ``ENABLE_CPU_PINNING`` is off. Either slows other deployments several times over, so every process checks for both
and reports them in the session's noise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from paretrim.errors import UnstableMachine

CPUS = Path("/sys/devices/system/cpu")
TASKS = Path("/proc/self/task")
Handle = TypeVar("Handle")


def can_pin() -> bool:
    """Whether this system lets a thread choose its cores (Linux does)."""
    return "sched_setaffinity" in dir(os)


def usable_cores() -> tuple[int, ...]:
    """Logical CPUs this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))) if can_pin() else tuple(range(os.cpu_count() or 1))


def choose_cores(threads: int, usable: Sequence[int], *, cpus: Path = CPUS) -> tuple[int, ...]:
    """Choose ``threads`` fixed cores, the caller's first: one logical CPU per physical core, the lowest core last of these.

    The lowest core serves most interrupts, so it is used only when the threads need every core, and then not for the caller.

    Raises:
        UnstableMachine: fewer cores are usable than threads were asked for.
    """
    if threads > len(usable):
        raise UnstableMachine(
            f"a deployment asks for {threads} threads and this process may use {len(usable)} cores; "
            f"measure with at most {len(usable)} threads"
        )
    firsts = [core for core in usable if core == min(_siblings(core, cpus) & set(usable))]
    order = [*firsts[1:], firsts[0], *(core for core in usable if core not in firsts)]
    return tuple(order[:threads])


def open_pinned(open_deployment: Callable[[], Handle], cores: Sequence[int]) -> Handle:
    """Open a deployment that may compute on ``cores`` only; then the caller is on the first of them, the helpers on the others.

    ``open_deployment`` must also call the deployment once: engines start their threads late.
    """
    if not can_pin():
        return open_deployment()
    before = _threads()
    os.sched_setaffinity(0, cores)
    try:
        return open_deployment()
    finally:
        for thread in _threads() - before:
            _pin(thread, cores[1:] or cores)
        os.sched_setaffinity(0, cores[:1])


def pin_caller(core: int) -> None:
    """Confine the calling thread to ``core``; does nothing where pinning is not possible."""
    if can_pin():
        os.sched_setaffinity(0, {core})


def pinned_to(core: int) -> bool:
    """Whether the calling thread is still confined to ``core``; an engine may have moved it. True if nothing can be pinned."""
    return not can_pin() or os.sched_getaffinity(0) == {core}


def _threads() -> set[int]:
    return {int(entry.name) for entry in TASKS.iterdir()}


def _pin(thread: int, cores: Sequence[int]) -> None:
    try:
        os.sched_setaffinity(thread, cores)
    except ProcessLookupError:
        return  # a helper that existed only while the file was loaded


def _siblings(core: int, cpus: Path) -> set[int]:
    """Logical CPUs on the same physical core, itself included."""
    try:
        text = (cpus / f"cpu{core}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return {core}
    found = {core}
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        found.update(range(int(first), int(last or first) + 1))
    return found
