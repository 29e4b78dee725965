"""What happens inside one fresh process: warm up, check, time in interleaved rounds, check again.

Rounds are interleaved because a machine drifts: measured in sequential blocks, two copies of one network differed by up to
26 %; as paired ratios of shuffled rounds, by less than 1.5 %. Each call is timed alone, so that tails exist.
Source: MLPerf inference rules (single stream); google/benchmark (random interleaving); Georges et al., OOPSLA 2007 (processes).
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paretrim.bench.effort import Effort
from paretrim.bench.pinning import pin_caller
from paretrim.errors import ExportMismatch

Images = npt.NDArray[np.generic]
Inference = Callable[[Images], npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]]
Clock = Callable[[], int]

BLOCK = 25
"""Calls whose median is compared with that of the next block during warm-up."""

ENOUGH = 64
"""From this many images on, caches and branch predictors cannot learn them."""

NUMBERS = 256
"""Numbers compared of each image's outputs: all of them, or this many, evenly spaced."""

TOLERANCE = 1e-3
"""Outputs of an image are the same if no number differs by more than this share of the largest."""

REFERENCE_SIZE = 256
REFERENCE_REPEATS = 5


@dataclass(frozen=True)
class RoundSchedule:
    """The calls of a session: ``order[round]`` permutes the deployments, ``draws[round]`` are the images of the round's batch."""

    order: npt.NDArray[np.int64]
    draws: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rounds:
    """What timing gave: ``samples_ns[deployment][round]``, reference times around each window, and what each window had to wait.

    ``waited[window]`` is the time this process's threads were ready to run and had no core, added over threads, as a share of
    the window: another program was on the cores. ``contention``, beside each reference time, is how many times as long the
    reference took while the deployments' other cores computed it too: about 1, or up to 2 if they are one core.
    """

    samples_ns: list[list[int]]
    reference_ns: list[int]
    waited: list[float]
    contention: list[float]


def make_schedule(seed: int, process: int, *, deployments: int, rounds: int, images: int, batch: int) -> RoundSchedule:
    """Draw the schedule of one process; the same numbers give the same schedule. Images are drawn with replacement."""
    stream = np.random.default_rng([seed, process])
    order = stream.permuted(np.tile(np.arange(deployments), (rounds, 1)), axis=1)
    return RoundSchedule(order, stream.integers(images, size=(rounds, batch)))


def warm_up(call: Inference, batches: Sequence[Images], effort: Effort, *, clock: Clock = time.perf_counter_ns) -> bool:
    """Call until warm (see :class:`Effort`); return whether the times settled before the limit."""
    block: list[int] = []
    medians: list[float] = []
    calls = 0
    start = clock()
    while True:
        begin = clock()
        call(batches[calls % len(batches)])
        end = clock()
        calls += 1
        block.append(end - begin)
        if len(block) == BLOCK:
            medians.append(float(np.median(block)))
            block.clear()
        seconds = (end - start) / 1e9
        steady = len(medians) > 1 and abs(medians[-1] - medians[-2]) < effort.settled * medians[-2]
        if steady and calls >= effort.warmup_calls and seconds >= effort.warmup_seconds:
            return True
        if calls >= effort.warmup_calls and seconds >= effort.warmup_limit_seconds:
            return False


def busy_after(call: Inference, batch: Images, *, seconds: float = 0.02, calls: int = 3) -> float:
    """CPU seconds the process uses in the ``seconds`` after a call while its caller sleeps, because helper threads spin.

    The median over ``calls``: threads that spin do so after every call, while a virtual machine that stops for a moment
    charges it to the process that was running.
    """
    burnt = []
    for _ in range(calls):
        call(batch)
        before = time.process_time()
        time.sleep(seconds)
        burnt.append(time.process_time() - before)
    return sorted(burnt)[calls // 2]


def outputs_of(call: Inference, images: Images, *, batch: int, count: int) -> list[list[float]]:
    """What a deployment returns for the first ``count`` images, called with ``batch`` at once: up to :data:`NUMBERS` for each.

    Raises:
        ExportMismatch: an output is not [batch, ...] or not finite.
    """
    count = min(len(images), count)
    numbers: list[list[float]] = []
    for start in range(0, count, batch):
        rows = np.arange(start, start + batch) % len(images)
        found = call(np.ascontiguousarray(images[rows]))
        parts = []
        for output in map(np.asarray, found if isinstance(found, tuple) else (found,)):
            if output.ndim < 2 or len(output) != batch:
                raise ExportMismatch(
                    f"its output has shape {output.shape} for a batch of {batch}, but outputs are [{batch}, ...]; export it "
                    "with a free batch size"
                )
            if not np.isfinite(output).all():
                raise ExportMismatch(
                    f"its output for images {rows[0]} to {rows[-1]} is not finite; the deployed file is broken, so export it "
                    "again"
                )
            parts.append(output.reshape(batch, -1))
        together = np.concatenate(parts, axis=1)
        width = together.shape[1]
        chosen = min(width, NUMBERS)
        numbers.extend(together[:, np.arange(chosen) * width // chosen].tolist())
    return numbers[:count]


def differing(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> int:
    """How many images have outputs that are not the same up to :data:`TOLERANCE`."""
    one, other = (np.asarray(numbers, np.float64) for numbers in (ours, theirs))
    if one.shape != other.shape:
        return len(one)
    return int((np.abs(one - other).max(axis=1) > TOLERANCE * np.abs(one).max(axis=1)).sum())


class ReferenceWork:
    """A fixed float32 matrix product, on the caller's core and on the ``others``. Its threads sleep between uses.

    Args:
        others: cores beside the caller's; empty if every deployment has one thread.
    """

    def __init__(self, others: Sequence[int] = (), *, clock: Clock = time.perf_counter_ns) -> None:
        self._clock = clock
        self._matrix = np.random.default_rng(0).standard_normal((REFERENCE_SIZE, REFERENCE_SIZE), dtype=np.float32)
        self._product = np.empty_like(self._matrix)
        self._wanted = threading.Event()
        self._computing = [threading.Event() for _ in others]
        for core, computing in zip(others, self._computing, strict=True):
            threading.Thread(target=self._compute, args=(core, computing), daemon=True).start()

    def alone(self) -> int:
        """Nanoseconds of the product on the caller's core: the fastest of five, since one interrupt is not drift."""
        return min(self._times())

    def contention(self) -> float:
        """How many times as long the product takes the caller while the other cores compute it too; 1 if there are none.

        The median of five times over the fastest of five alone.
        """
        if not self._computing:
            return 1.0
        alone = self.alone()
        self._wanted.set()
        try:
            for computing in self._computing:
                computing.wait()
            return sorted(self._times())[REFERENCE_REPEATS // 2] / alone
        finally:
            self._wanted.clear()

    def _times(self) -> list[int]:
        times = []
        for _ in range(REFERENCE_REPEATS):
            begin = self._clock()
            np.matmul(self._matrix, self._matrix, out=self._product)
            times.append(self._clock() - begin)
        return times

    def _compute(self, core: int, computing: threading.Event) -> None:
        pin_caller(core)
        product = np.empty_like(self._matrix)
        while self._wanted.wait():
            while self._wanted.is_set():
                np.matmul(self._matrix, self._matrix, out=product)  # without Python's lock
                computing.set()
            computing.clear()


def time_rounds(
    calls: Sequence[Inference],
    images: Images,
    schedule: RoundSchedule,
    effort: Effort,
    *,
    reference: Callable[[], int],
    contention: Callable[[], float],
    waited: Callable[[], int],
    mark: Callable[[int], None],
    clock: Clock = time.perf_counter_ns,
) -> Rounds:
    """Time every deployment once a round; ``reference`` and ``contention`` run before, between and after the windows.

    ``waited`` gives the nanoseconds this process's threads have waited for a core so far. ``mark`` gets the deployment
    before each call, outside the clock, so that a process that dies leaves behind where it was.
    """
    samples = [[0] * len(schedule.order) for _ in calls]
    reference_ns, crowded = [reference()], [contention()]
    shares = []
    enough = effort.primer_seconds * 1e9
    opened, before = clock(), waited()
    for number, order in enumerate(schedule.order.tolist()):
        if number and number % effort.window == 0:
            shares.append((waited() - before) / max(clock() - opened, 1))
            reference_ns.append(reference())
            crowded.append(contention())
            opened, before = clock(), waited()
        batch = np.ascontiguousarray(images[schedule.draws[number]])
        for deployment in order:
            mark(deployment)
            call = calls[deployment]
            primed = clock()
            for _ in range(effort.primers):
                call(batch)
                if clock() - primed >= enough:
                    break
            begin = clock()
            call(batch)
            samples[deployment][number] = clock() - begin
    shares.append((waited() - before) / max(clock() - opened, 1))
    reference_ns.append(reference())
    crowded.append(contention())
    return Rounds(samples, reference_ns, shares, crowded)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage once, then keep the collector from running inside a timed call."""
    gc.collect()
    gc.freeze()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        gc.unfreeze()
