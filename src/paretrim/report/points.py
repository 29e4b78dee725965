"""From outcomes (one run each) to points (one label over its seeds), which tables and pictures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType

from paretrim.bench.machine_load import doubts
from paretrim.bench.types import Latency
from paretrim.deploy.runnable import NATIVE
from paretrim.errors import InvalidRecipe
from paretrim.intervals import Estimate, mean_interval, wilson_interval
from paretrim.metric import ACCURACY, Metric
from paretrim.report.zeros import prunable_sparsity
from paretrim.results.outcome import Outcome


@dataclass(frozen=True, order=True)
class LatencySetting:
    """What latencies must share to be on one axis: the runtime, its threads, the batch and the CPU."""

    runtime: str
    threads: int
    batch: int
    cpu: str


@dataclass(frozen=True)
class Speed:
    """Latency of a point in one setting, over its seeds.

    With several seeds a value is the mean over seeds and its interval spans the intervals of all of them. ``p90_ms`` and
    ``p99_ms`` are None if too few calls were timed to know them. ``runtimes`` are those that ran it, which differ from the
    setting's if that one cannot.
    """

    p50_ms: Estimate
    p90_ms: Estimate | None
    p99_ms: Estimate | None
    speedup: Estimate
    floor: Estimate
    baselines: tuple[str, ...]
    runtimes: tuple[str, ...]
    versions: tuple[str, ...]
    samples: int
    processes: int
    noise: tuple[str, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why these times must not make a headline, in words; empty if their session was sound."""
        return doubts(self.noise, self.floor)


@dataclass(frozen=True)
class Point:
    """One label over its seeds. Values are those of ``metric``; accuracies are fractions of the test set.

    ``runs`` are in order of seed.

    ``deployed`` is the deployed file's value; ``basis`` says in words what its interval covers. The interval of ``file_bytes`` is
    the smallest and the largest ONNX file, None if a run has none; ``trim_bytes`` is the same for the ``.trim``
    files, for all points or none. ``drift`` is the deployed value minus the trained one, ``entropy_bytes`` the order-0 entropy
    of the weights alone, means over seeds. ``sparsity`` is the share of zeros among all weights, ``prunable_sparsity`` among
    those of layers that were pruned, None if none was. ``classes`` is the number of classes to guess among, None if the
    lines do not tell.
    """

    label: str
    runs: tuple[Outcome, ...]
    deployed: Estimate
    basis: str
    drift: float
    agreement: float
    file_bytes: Estimate | None
    entropy_bytes: float
    sparsity: float
    speeds: Mapping[LatencySetting, Speed]
    trim_bytes: Estimate | None = None
    prunable_sparsity: float | None = None
    classes: int | None = None

    @property
    def metric(self) -> Metric:
        """The metric of its values."""
        return self.runs[0].judged_by

    @property
    def merit(self) -> float:
        """Its value, negated if less is better."""
        return self.metric.merit(self.deployed.value)

    @property
    def guesses(self) -> bool:
        """Whether the accuracy is not shown to be better than guessing: its interval reaches down to 1 / classes."""
        return self.classes is not None and self.deployed.low <= 1 / self.classes

    @property
    def size(self) -> Estimate:
        """Bytes that decide the frontier: of the ``.trim`` files, or of the ONNX files if a line lacks those."""
        size = self.trim_bytes or self.file_bytes
        assert size is not None, "aggregate refuses such points"
        return size

    @property
    def onnx_problems(self) -> tuple[str, ...]:
        """Why runs have no ONNX file, each reason once."""
        return tuple(dict.fromkeys(run.onnx_problem for run in self.runs if run.onnx_problem))

    @property
    def onnx_agreements(self) -> dict[str, float]:
        """Mean share of test images on which the ONNX file gives the deployed class, in runtimes that all runs know."""
        known = [run.onnx_agreements or {} for run in self.runs]
        return {runtime: fmean(one[runtime] for one in known) for runtime in known[0] if all(runtime in one for one in known)}

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the stages as they ran."""
        return self.runs[0].order

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of every run, ascending."""
        return tuple(run.seed for run in self.runs)


def setting_of(outcome: Outcome, latency: Latency) -> LatencySetting:
    """The setting of a latency: that of the session it was measured in."""
    return LatencySetting(latency.in_place_of or latency.runtime, latency.threads, latency.batch, outcome.machine.cpu)


def aggregate(outcomes: Sequence[Outcome]) -> tuple[Point, ...]:
    """One point per (study, network, label), in order of first appearance.

    Labels that several studies or networks share are made distinct by adding the study or the network.

    Raises:
        InvalidRecipe: no outcomes, several data sets or metrics, a label with two orders of stages, a label with a seed
            twice, or sizes of two kinds of file.
    """
    if not outcomes:
        raise InvalidRecipe("there are no outcomes to report; run a study first or check the path of its store")
    data = list(dict.fromkeys(outcome.data for outcome in outcomes))
    if len(data) > 1:
        raise InvalidRecipe(f"outcomes of {len(data)} data sets ({', '.join(data)}) cannot share one frontier; report each alone")
    metrics = list(dict.fromkeys(outcome.judged_by for outcome in outcomes))
    if len(metrics) > 1:
        names = ", ".join(metric.heading for metric in metrics)
        raise InvalidRecipe(f"outcomes judged by {len(metrics)} metrics ({names}) cannot share one frontier; report each alone")
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.study, outcome.network, outcome.label), []).append(outcome)
    # Sizes of different kinds of file do not compare: one kind for all points.
    trim = all(outcome.trim_bytes is not None for outcome in outcomes)
    alone = next((outcome.label for outcome in outcomes if outcome.file_bytes is None), None)
    if alone is not None and not trim:
        raise InvalidRecipe(
            f"'{alone}' has no ONNX file, and other outcomes are from before .trim files, so their sizes do not compare; report "
            "them apart"
        )
    labels = [label for _, _, label in groups]
    studies = {study for study, _, _ in groups}
    points = []
    for (study, network, label), runs in groups.items():
        shared = labels.count(label) > 1
        several_networks = shared and len({n for s, n, text in groups if text == label and s == study}) > 1
        parts = [label, *([study] if shared and len(studies) > 1 else []), *([network] if several_networks else [])]
        points.append(_point(" · ".join(parts), runs, trim=trim))
    return tuple(points)


def subject(points: Sequence[Point]) -> str:
    """Network and data in words: what a page is about."""
    runs = [run for point in points for run in point.runs]
    return f"{', '.join(dict.fromkeys(run.network for run in runs))} on {runs[0].data}"


def settings_of(points: Sequence[Point]) -> tuple[LatencySetting, ...]:
    """Every setting that a point was measured in, those with the most points first; on a tie the native runtime, then by name."""
    counts: dict[LatencySetting, int] = {}
    for point in points:
        for setting in point.speeds:
            counts[setting] = counts.get(setting, 0) + 1
    return tuple(sorted(counts, key=lambda setting: (-counts[setting], setting.runtime != NATIVE, setting)))


def setting_name(setting: LatencySetting, among: Sequence[LatencySetting]) -> str:
    """A setting in words; batch and CPU only if they distinguish it from the others."""
    parts = [setting.runtime, f"{setting.threads} thread{'' if setting.threads == 1 else 's'}"]
    if len({other.batch for other in among}) > 1 or setting.batch != 1:
        parts.append(f"batch {setting.batch}")
    if len({other.cpu for other in among}) > 1:
        parts.append(setting.cpu)
    return ", ".join(parts)


def baseline_of(points: Sequence[Point]) -> Point | None:
    """What the others are compared with: the point latencies name as baseline, else the only one without any stage."""
    named = {name for point in points for speed in point.speeds.values() for name in speed.baselines}
    matching = [point for point in points if point.label in named or point.runs[0].label in named]
    if len(matching) == 1:
        return matching[0]
    untouched = [point for point in matching or points if not point.order]
    return untouched[0] if len(untouched) == 1 else None


def _point(label: str, outcomes: Sequence[Outcome], *, trim: bool) -> Point:
    runs = tuple(sorted(outcomes, key=lambda run: run.seed))
    seeds = [run.seed for run in runs]
    repeated = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if repeated:
        raise InvalidRecipe(
            f"label '{label}' has several outcomes with seed {repeated[0]}; keep the newest of each run "
            "(paretrim.results.store.latest) or give different recipes different labels"
        )
    orders = sorted({" -> ".join(run.order) or "no stage" for run in runs})
    if len(orders) > 1:
        raise InvalidRecipe(f"label '{label}' stands for several orders ({'; '.join(orders)}); give each its own label")
    values = [run.deployed_value for run in runs]
    metric = runs[0].judged_by
    if len(runs) > 1:
        mean = mean_interval(values)
        deployed = Estimate(mean.value, max(0.0, mean.low), min(1.0, mean.high)) if metric.is_share else mean
        basis = f"t interval over {len(runs)} seeds"
    elif metric != ACCURACY:
        deployed = Estimate(values[0], values[0], values[0])
        basis = f"{runs[0].test_images:,} test {metric.count}s, one seed: no interval"
    else:
        deployed = wilson_interval(values[0], runs[0].test_images)
        basis = f"Wilson interval over {runs[0].test_images:,} test images, one seed"
    file_sizes = [run.file_bytes for run in runs if run.file_bytes is not None]
    shares = [prunable_sparsity(run.layers, run.history) for run in runs]
    prunable = [share for share in shares if share is not None]
    trim_sizes = [run.trim_bytes for run in runs if trim and run.trim_bytes is not None]
    return Point(
        label=label,
        runs=runs,
        deployed=deployed,
        basis=basis,
        drift=fmean(run.deployed_value - run.trained_value for run in runs),
        agreement=fmean(run.agreement for run in runs),
        file_bytes=_range(file_sizes) if len(file_sizes) == len(runs) else None,
        entropy_bytes=fmean(sum(layer.entropy_bytes for layer in run.layers) for run in runs),
        sparsity=fmean(run.sparsity for run in runs),
        speeds=MappingProxyType(_speeds(runs)),
        trim_bytes=_range(trim_sizes) if trim_sizes else None,
        prunable_sparsity=fmean(prunable) if prunable else None,
        classes=runs[0].classes,
    )


def _range(sizes: Sequence[int]) -> Estimate:
    return Estimate(fmean(sizes), min(sizes), max(sizes))


def _speeds(runs: Sequence[Outcome]) -> dict[LatencySetting, Speed]:
    found: dict[LatencySetting, list[Latency]] = {}
    for run in runs:
        for latency in run.latencies:
            found.setdefault(setting_of(run, latency), []).append(latency)
    return {setting: _speed(latencies) for setting, latencies in found.items()}


def _speed(latencies: Sequence[Latency]) -> Speed:
    return Speed(
        p50_ms=_span([latency.p50_ms for latency in latencies]),
        p90_ms=_span_known([latency.p90_ms for latency in latencies]),
        p99_ms=_span_known([latency.p99_ms for latency in latencies]),
        speedup=_span([latency.speedup for latency in latencies]),
        floor=_span([latency.floor for latency in latencies]),
        baselines=tuple(dict.fromkeys(latency.baseline for latency in latencies)),
        runtimes=tuple(dict.fromkeys(latency.runtime for latency in latencies)),
        versions=tuple(dict.fromkeys(f"{latency.runtime} {latency.runtime_version}" for latency in latencies)),
        samples=sum(latency.samples for latency in latencies),
        processes=sum(latency.processes for latency in latencies),
        noise=tuple(dict.fromkeys(remark for latency in latencies for remark in latency.noise)),
    )


def _span(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of values within the span of all intervals: wider than any of them, so it never flatters."""
    return Estimate(fmean(e.value for e in estimates), min(e.low for e in estimates), max(e.high for e in estimates))


def _span_known(estimates: Sequence[Estimate | None]) -> Estimate | None:
    known = [estimate for estimate in estimates if estimate is not None]
    return _span(known) if known and len(known) == len(estimates) else None
