"""Times arms in turn, each once per round, in a new order every round."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping


def seconds_in_turn(
    arms: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of every arm in every round: CPU time by default; an untimed call of each comes first."""
    for arm in arms.values():
        arm()
    order, seconds = random.Random(0), {name: [] for name in arms}
    for _ in range(rounds):
        names = list(arms)
        order.shuffle(names)
        for name in names:
            start = clock()
            arms[name]()
            seconds[name].append(clock() - start)
    return seconds
