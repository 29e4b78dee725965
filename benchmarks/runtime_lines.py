"""The lines that ``benchmarks/runtime.py --json`` prints, their goals, and how they are read.

Times are milliseconds for one call. Ratios are another's time divided by ours: above 1 is faster; ``_low`` and ``_high`` end
their 95 % intervals. ``zeros`` is the share asked for in the layers that are pruned, ``zeros_found`` that in the whole file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from estimates import Goal, verdict, verdict_at_most

from paretrim.intervals import Estimate

LARGE = ("resnet18", "vgg16_bn", "wide_resnet_28_10")
SMALL = ("resnet20", "resnet56")

RATIO_GOALS = {0.0: Goal(0.7, 1.0), 0.8: Goal(1.8, 2.5), 0.9: Goal(3.5, 5.0), 0.95: Goal(6.0, 9.0)}
"""Large networks, against the faster dense INT8 runtime on as many threads."""

OPENVINO_GOALS = {0.0: Goal(1.3), 0.8: Goal(2.5)}
"""Small networks, both runtimes on the number of threads that is best for them."""

THREADS_GOAL = Goal(1.7)
"""Large networks, two threads against one."""

PEAK_GOAL = Goal(0.5)
"""Share of the peak rate in a layer whose map has :data:`LARGE_MAP` positions or more."""

LARGE_MAP = 16 * 16
STARTUP_GOALS_MS = {"resnet18": 100.0}


@dataclass(frozen=True)
class Origin:
    """Where a line comes from. ``weights`` are ``random`` or ``trained``; ``noise`` describes what disturbed the session.

    ``size`` is the side of the images in pixels, ``instruction_set`` the best of the native runtime on the CPU. The first lines,
    all of 32 pixels and with AVX-512 VNNI, do not say them.
    """

    cpu: str
    weights: str
    versions: Mapping[str, str]
    commit: str
    effort: str
    noise: tuple[str, ...] = ()
    size: int = 32
    instruction_set: str = "avx512_vnni_vbmi"


@dataclass(frozen=True)
class LatencyLine:
    """One network with one share of zeros on one number of threads, against dense INT8 in other runtimes.

    ``ratio`` is against the faster of the peers on the same number of threads, whose median is in ``dense_int8_p50_ms``;
    ``over_openvino`` against OpenVINO on the number of threads that is best for it; ``over_one_thread`` against this file on one
    thread. ``fastest_threads`` is true if this number of threads is our best. ``floor`` ends the interval of the same ratio
    between two copies of one file. ``convolutions_in_int8`` is each peer's own report of what it executes.
    """

    network: str
    zeros: float
    threads: int
    ours_p50_ms: float
    best_dense_int8: str
    best_dense_int8_p50_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    over_openvino: float
    over_openvino_low: float
    over_openvino_high: float
    over_one_thread: float | None
    over_one_thread_low: float | None
    over_one_thread_high: float | None
    fastest_threads: bool
    dense_int8_p50_ms: Mapping[str, float]
    convolutions_in_int8: Mapping[str, str]
    zeros_found: float
    batch: int
    floor_low: float
    floor_high: float
    origin: Origin

    @property
    def key(self) -> tuple[object, ...]:
        """The key by which a later line replaces it."""
        return self.network, self.origin.instruction_set, self.origin.size, self.zeros, self.threads, self.batch

    @property
    def verdict(self) -> str:
        """The verdicts on the goals of this line; empty if it has none."""
        if self.batch != 1:
            return ""
        if self.network in SMALL and self.fastest_threads:
            said = verdict(
                Estimate(self.over_openvino, self.over_openvino_low, self.over_openvino_high), OPENVINO_GOALS.get(self.zeros)
            )
            return f"{said} x OpenVINO" if said else ""
        if self.network not in LARGE:
            return ""
        return verdict(Estimate(self.ratio, self.ratio_low, self.ratio_high), RATIO_GOALS.get(self.zeros))

    @property
    def threads_verdict(self) -> str:
        """Whether two threads help as much as they should."""
        scaling = self.scaling
        asked = self.network in LARGE and self.threads == 2 and self.batch == 1
        return verdict(scaling, THREADS_GOAL) if scaling and asked else ""

    @property
    def scaling(self) -> Estimate | None:
        """The time on one thread divided by this one; ``None`` if one thread was not measured in the same session."""
        value, low, high = self.over_one_thread, self.over_one_thread_low, self.over_one_thread_high
        return None if value is None or low is None or high is None else Estimate(value, low, high)


@dataclass(frozen=True)
class StartupLine:
    """From opening a file to its first logits, in fresh processes: median with interval over ``starts`` of them.

    Kernels were chosen at an earlier start and stored beside the file; ``first_start_ms`` is that start, a single one,
    or ``None`` if kernels had been chosen before. ``import_ms``
    is the median time to import NumPy and the runtime, which comes on top. The file is in the system's cache.
    """

    network: str
    zeros: float
    threads: int
    file: str
    file_bytes: int
    first_result_ms: float
    first_result_ms_low: float
    first_result_ms_high: float
    import_ms: float
    first_start_ms: float | None
    starts: int
    origin: Origin

    @property
    def key(self) -> tuple[object, ...]:
        """The key by which a later line replaces it."""
        return self.network, self.origin.instruction_set, self.origin.size, self.zeros, self.threads, self.file

    @property
    def verdict(self) -> str:
        """Whether the time to the first result meets its goal."""
        limit = STARTUP_GOALS_MS.get(self.network)
        found = Estimate(self.first_result_ms, self.first_result_ms_low, self.first_result_ms_high)
        return "" if limit is None else verdict_at_most(found, limit, "ms")


@dataclass(frozen=True)
class LayerLine:
    """One convolution or linear layer on one thread, one image.

    ``share_of_peak`` is the rate of products on the surviving blocks of four weights, divided by the peak rate of this CPU's dot
    product: median over ``profiles`` profiles with its interval. The peak is the highest rate of a microbenchmark at the same
    moment. ``positions`` are those of the layer's output map.
    """

    network: str
    zeros: float
    layer: str
    kernel: str
    positions: int
    surviving_multiply_adds: int
    time_us: float
    share_of_peak: float
    share_of_peak_low: float
    share_of_peak_high: float
    peak_multiply_adds_a_second: float
    profiles: int
    origin: Origin

    @property
    def key(self) -> tuple[object, ...]:
        """The key by which a later line replaces it."""
        return self.network, self.origin.instruction_set, self.origin.size, self.zeros, self.layer

    @property
    def share(self) -> Estimate:
        """Share of the peak with its interval."""
        return Estimate(self.share_of_peak, self.share_of_peak_low, self.share_of_peak_high)

    @property
    def verdict(self) -> str:
        """Whether a layer with a large map meets its goal; other layers have none."""
        return verdict(self.share, PEAK_GOAL) if self.positions >= LARGE_MAP and self.network in LARGE else ""


Line = LatencyLine | StartupLine | LayerLine
KINDS: Mapping[str, type[Line]] = {"latency": LatencyLine, "startup": StartupLine, "layer": LayerLine}


def to_json(line: Line) -> str:
    """One line of JSON; it holds its kind and its verdict beside its values."""
    kind = next(name for name, kind in KINDS.items() if isinstance(line, kind))
    return json.dumps({"measure": kind, **dataclasses.asdict(line), "verdict": line.verdict})


def read(text: str) -> list[Line]:
    """Lines of a file in order; the last of several with the same key takes the place of the first."""
    found: dict[tuple[object, ...], Line] = {}
    for line in map(from_json, text.splitlines()):
        found[(type(line), *line.key)] = line
    return list(found.values())


def from_json(text: str) -> Line:
    """The line that :func:`to_json` wrote; its verdict is computed again."""
    content = json.loads(text)
    kind = KINDS[content.pop("measure")]
    content.pop("verdict")
    origin = content.pop("origin")
    return kind(**content, origin=Origin(**origin | {"noise": tuple(origin["noise"])}))
