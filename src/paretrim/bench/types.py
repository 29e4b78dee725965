"""The results of measuring. Everything printed about latency is computed from the raw samples kept here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from paretrim.bench.effort import Effort
from paretrim.intervals import Estimate
from paretrim.plain_settings import FilledText, OneOrMore, plain_settings
from paretrim.stored_fields import LATER

Verdict = Literal["faster", "slower", "no difference"]
"""``no difference`` means none was shown beyond the difference between the baseline and its own copy."""


@plain_settings()
class Deployment:
    """What is timed: a deployed file in a runtime, with a number of threads.

    ``runtime`` is one of :data:`paretrim.deploy.runnable.RUNTIMES`, ``path`` the deployed file.

    Raises:
        InvalidSettings: a value is of another type, a text is empty, or there are fewer than 1 threads.
    """

    name: FilledText
    path: FilledText
    runtime: FilledText
    threads: OneOrMore = 1

    def __post_init__(self) -> None:
        if isinstance(self.path, os.PathLike):  # as most callers have it; sessions are stored with texts
            object.__setattr__(self, "path", os.fspath(self.path))


@dataclass(frozen=True)
class Machine:
    """Where the numbers come from. ``cores`` counts the logical CPUs this process may use; ``isa`` what matters to kernels."""

    cpu: str
    cores: int
    isa: tuple[str, ...]
    memory_bytes: int
    system: str
    python: str

    @property
    def processor(self) -> str:
        """The CPU and how many of its cores, in words."""
        return f"{self.cpu}, {self.cores} core{'s' if self.cores != 1 else ''}"

    @property
    def has_vnni(self) -> bool:
        """Whether one instruction adds 8-bit products in 32 bits (x86)."""
        return any("vnni" in name for name in self.isa)

    @property
    def has_dot_product(self) -> bool:
        """Whether 8-bit products are added in 32 bits, by VNNI or by Arm's dot product; without it some runtimes saturate."""
        return self.has_vnni or "asimddp" in self.isa


@dataclass(frozen=True)
class Load:
    """How busy the machine was at one moment; ``None`` if the system does not tell.

    ``pressure`` is the share of the last ten seconds in which some task waited for a CPU (PSI), ``waited_us`` that waiting
    added up since boot; ``runnable`` the tasks that run or want to, the reader among them; ticks count since boot.
    """

    pressure: float | None = None
    waited_us: int | None = None
    average: float | None = None
    runnable: int | None = None
    steal_ticks: int | None = None
    all_ticks: int | None = None


@dataclass(frozen=True)
class Timing:
    """All raw samples of one deployment: ``samples_ns[process][round]``, in the order they were taken.

    Rounds are aligned between the deployments of one session, so round r of two of them ran next to each other. ``sha256`` is
    the digest of the deployed file, the same before and after.
    """

    deployment: Deployment
    runtime_version: str
    sha256: str
    samples_ns: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TimingSession:
    """One measuring session: deployments that ran interleaved in the same processes and may be compared with each other.

    Raw material only; floor, drops, intervals and verdicts are functions of it (``paretrim.bench.statistics``).

    ``baseline`` is the name of the deployment every ratio refers to and ``copy`` the same file opened a second time (A/A).
    ``reference_ns[process]`` are the times of the reference kernel, before every window of rounds and after the last.
    ``waited[process][window]`` is the time the process's own threads waited for a core, as a share of the window.
    ``contention[process]`` says, beside each reference time, how many times as long the reference took while the other cores of
    the deployments computed it too. ``loads[process]`` is the machine's load before and after a process. ``noise`` lists
    disturbances, in words.
    """

    timings: tuple[Timing, ...]
    copy: Timing
    baseline: str
    batch: int
    images: int
    effort: Effort
    seed: int
    reference_ns: tuple[tuple[int, ...], ...]
    waited: tuple[tuple[float, ...], ...]
    contention: tuple[tuple[float, ...], ...]
    loads: tuple[tuple[Load, Load], ...]
    machine: Machine
    versions: Mapping[str, str] = field(default_factory=dict)
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latency:
    """Summary of one deployment, as it goes into the results store. Milliseconds for one call of ``batch`` images.

    ``speedup`` is baseline time / this time from paired rounds: above 1 is faster than the baseline. ``floor`` is the same ratio
    for the baseline's own copy: a difference inside it means nothing. A percentile the number of samples cannot support is
    ``None``. ``min_ms`` has no interval because the bootstrap of a minimum is not consistent. ``outliers`` are samples beyond
    Tukey's outer fences: counted, never removed; ``dropped_rounds`` were left out because of drift, preemption or shared cores.
    ``wilcoxon_p`` is a check beside the interval: the signed-rank test over the processes' median ratios. ``in_place_of`` is the
    runtime that the session is about, if it cannot run this deployment and ``runtime`` did instead.
    """

    runtime: str
    runtime_version: str
    threads: int
    batch: int
    samples: int
    processes: int
    p50_ms: Estimate
    p90_ms: Estimate | None
    p99_ms: Estimate | None
    speedup: Estimate
    baseline: str
    floor: Estimate
    noise: tuple[str, ...] = ()
    name: str = ""
    verdict: Verdict = "no difference"
    wilcoxon_p: float = 1.0
    mean_ms: Estimate | None = None
    min_ms: float | None = None
    outliers: int = 0
    dropped_rounds: int = 0
    in_place_of: str | None = field(default=None, metadata=LATER)
