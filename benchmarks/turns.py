"""Times workloads in turn, each once per round, in a new order every round."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping


def seconds_in_turn(
    workloads: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of every workload in every round: CPU time by default; an untimed call of each comes first."""
    for run in workloads.values():
        run()
    order, seconds = random.Random(0), {name: list[float]() for name in workloads}
    for _ in range(rounds):
        names = list(workloads)
        order.shuffle(names)
        for name in names:
            start = clock()
            workloads[name]()
            seconds[name].append(clock() - start)
    return seconds
