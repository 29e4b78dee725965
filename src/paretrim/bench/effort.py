"""How thoroughly to measure: every number of the protocol, with its default."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from paretrim.plain_settings import AboveZero, OneOrMore, ZeroOrAbove, ZeroOrMore, plain_settings


@plain_settings()
class Effort:
    """Settings of one measuring session.

    ``processes`` fresh processes each run ``rounds`` rounds; a round calls every deployment once, in an order of its own. Before
    each timed call come ``primers`` untimed calls of the same deployment, fewer if together they would take longer than
    ``primer_seconds``, but at least one: caches and thread pools are then as in a program that runs one network again and again
    (``docs/decisions/0014``). With ``primers=0`` they are as the other deployments left them.

    Warm-up of a deployment lasts at least ``warmup_calls`` calls and ``warmup_seconds``, then until the medians of its last two
    blocks of 25 calls differ by less than ``settled`` (a fraction), at most ``warmup_limit_seconds``.

    A fixed matrix product is timed every ``window`` rounds; a window whose product is more than ``drift`` (a fraction) off the
    process's median is left out of every statistic (the clock changed), and so is one in which the process's own threads waited
    for a core longer than in its median window by more than ``preempted`` of the window (another program ran). If deployments
    have several threads, all their cores then compute the product at once; a window in which the caller takes longer for it than
    alone by more than ``shared`` (a fraction) is left out too: the system's cores were one core (``docs/decisions/0015``).

    ``checked`` is how many images' outputs are compared before and after timing and between processes.

    ``gate_seconds`` is how long one session may wait, in all, for a quiet machine; ``timeout_seconds`` how long one process may
    take.

    Raises:
        InvalidSettings: a number is too small or not finite.
    """

    processes: OneOrMore = 5
    rounds: OneOrMore = 300
    primers: ZeroOrMore = 10
    primer_seconds: ZeroOrAbove = 0.03
    warmup_calls: OneOrMore = 50
    warmup_seconds: ZeroOrAbove = 1.0
    warmup_limit_seconds: ZeroOrAbove = 20.0
    settled: AboveZero = 0.02
    window: OneOrMore = 25
    drift: AboveZero = 0.03
    preempted: AboveZero = 0.10
    shared: AboveZero = 0.3
    checked: OneOrMore = 64
    gate_seconds: ZeroOrAbove = 60.0
    timeout_seconds: AboveZero = 1800.0


QUICK = Effort(processes=4, rounds=30, warmup_calls=10, warmup_seconds=0.1, warmup_limit_seconds=1.0, gate_seconds=0.0)
"""Seconds, for demonstrations: medians and 90th percentiles, wide intervals.

Four processes are the fewest whose 95 % intervals have that coverage (in simulations three cover 90 %, two 85 %).
"""

STANDARD = Effort()
"""Enough samples (1,500) for a 99th percentile."""

PUBLISHED = Effort(processes=10)
"""For a number that others will quote."""

EFFORTS: Mapping[str, Effort] = MappingProxyType({"quick": QUICK, "standard": STANDARD, "published": PUBLISHED})
"""The presets by the name a recipe or command line gives."""
