"""What measuring produces. Everything printed about latency is a function of the raw samples kept here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One thing that is timed: a deployed file in a runtime with a number of threads.

    ``runtime`` is ``onnxruntime``, ``openvino`` or ``reference``; ``path`` the deployed file.
    """

    name: str
    path: str
    runtime: str
    threads: int = 1


@dataclass(frozen=True)
class Machine:
    """Where the numbers come from."""

    cpu: str
    cores: int
    isa: tuple[str, ...]
    memory_bytes: int
    system: str
    python: str

    @property
    def has_vnni(self) -> bool:
        return any("vnni" in name for name in self.isa)


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval; the unit is in the name of the field that holds it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Timing:
    """All raw samples of one arm: ``samples_ns[process][round]``, in the order they were taken.

    Rounds are aligned between the arms of one session, so round r of two arms ran next to each other.
    """

    arm: Arm
    runtime_version: str
    batch: int
    samples_ns: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Session:
    """One measuring session: arms that ran interleaved in the same processes and may be compared with each other.

    ``baseline`` is the name of the arm every ratio refers to; ``floor`` the interval of the ratio of that arm against its own
    copy (A/A): a difference inside it means nothing. ``noise`` lists what was unquiet, in words.
    """

    timings: tuple[Timing, ...]
    baseline: str
    floor: Estimate
    machine: Machine
    seed: int
    dropped_rounds: int
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latency:
    """Summary of one arm, as it goes into the results store. Milliseconds for one call of ``batch`` images.

    ``speedup`` is baseline time / this time from paired rounds: above 1 is faster than the baseline.
    """

    runtime: str
    runtime_version: str
    threads: int
    batch: int
    samples: int
    processes: int
    p50_ms: Estimate
    p90_ms: Estimate
    p99_ms: Estimate
    speedup: Estimate
    baseline: str
    floor: Estimate
    noise: tuple[str, ...] = ()
