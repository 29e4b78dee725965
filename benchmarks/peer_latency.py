"""Times the files of all cases of a network, interleaved: one process per case computes one image at a time on request."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from peer_cases import Case
from peer_environments import variables
from peer_lines import LatencyLine, Origin, ResultLine

from paretrim.bench.machine_load import disturbed, read_load, unquiet
from paretrim.errors import UnstableMachine
from paretrim.intervals import mean_interval

PROCESSES, ROUNDS, WARM_UP, IMAGES = 5, 300, 50, 1000
LEAD = 10
"""Calls of a file before the one that counts: its turn begins with the caches full of the other files."""

ServedFile = tuple[Case, ResultLine, Sequence[str | Path]]
"""A case, what it came to, and the command that serves its file."""


class Server:
    """A process that computes one image on request and reports how long it took."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def time_ns(self, image: int) -> int:
        """Nanoseconds of one call.

        Raises:
            UnstableMachine: the process has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{image}\n")
            self.process.stdin.flush()
            said = self.process.stdout.readline()
        except BrokenPipeError:
            said = ""
        if not said.strip().isdigit():
            raise UnstableMachine(f"{self.process.args!r} ended instead of computing an image; run this command to see why")
        return int(said)


def time_files(files: Sequence[ServedFile], origin: Callable[[Case], Origin]) -> Iterator[LatencyLine]:
    """A line for every file.

    Raises:
        UnstableMachine: the machine is busy, or a process ended.
    """
    busy = unquiet(read_load(), threads=1)
    if busy:
        raise UnstableMachine(f"nothing is timed now: {'; '.join(busy)}; wait until the machine is quiet")
    medians: dict[str, list[float]] = {case.name: [] for case, _, _ in files}
    noise: list[str] = []
    for number in range(PROCESSES):
        before, start = read_load(), time.perf_counter()
        for name, samples in one_process_each(files, seed=number).items():
            medians[name].append(median(samples) / 1e6)
        said = disturbed(before, read_load(), seconds=time.perf_counter() - start)
        noise += [f"processes {number + 1}: {what}" for what in said]
    for case, result, _ in files:
        found = mean_interval(medians[case.name])
        yield LatencyLine(
            case=case.name,
            network=result.network,
            seed=result.seed,
            file_digest=result.file_digest,
            threads=1,
            p50_ms=found.value,
            p50_ms_low=found.low,
            p50_ms_high=found.high,
            processes=PROCESSES,
            rounds=ROUNDS,
            noise=tuple(noise),
            origin=origin(case),
        )


def one_process_each(files: Sequence[ServedFile], *, seed: int) -> dict[str, list[int]]:
    """Nanoseconds of every file in every round; in each all compute the same images in turn, in another order, the last timed."""
    chance = random.Random(seed)
    with ExitStack() as opened:
        servers: dict[str, Server] = {}
        for case, _, command in files:
            process = opened.enter_context(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    env=variables(1),
                )
            )
            servers[case.name] = Server(process)
            for image in range(WARM_UP):
                servers[case.name].time_ns(image)
        samples: dict[str, list[int]] = {name: [] for name in servers}
        for _ in range(ROUNDS):
            image = chance.randrange(IMAGES)
            for name in chance.sample(list(servers), len(servers)):
                for before in range(LEAD, 0, -1):
                    servers[name].time_ns((image - before) % IMAGES)
                samples[name].append(servers[name].time_ns(image))
    return samples
