"""The frontier, and which differences between points are real: pure functions, nothing drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paretrim.intervals import CONFIDENCE, Estimate, mean_interval
from paretrim.metric import ACCURACY, Metric
from paretrim.report.points import LatencySetting, Point

PointCosts = tuple[float, ...]
"""Costs of a point, all of them better if lower: (accuracy or another metric as a loss, bytes, milliseconds)."""


@dataclass(frozen=True)
class Rank:
    """The rank of a point in one setting.

    ``measured`` is False if the point has no latency in the setting; such a point is not compared.
    ``dominated_by`` is the label of a frontier point at least as good everywhere and better somewhere, or "". ``guesses`` is
    True if the accuracy is not shown to be better than guessing: such a point is useless however small and fast it is.
    """

    measured: bool
    dominated_by: str
    guesses: bool = False

    @property
    def on_frontier(self) -> bool:
        """Measured, better than guessing, and no other point dominates it."""
        return self.measured and not self.dominated_by and not self.guesses


@dataclass(frozen=True)
class Difference:
    """Accuracy of one arm minus that of another, paired by seed, as a fraction.

    ``interval`` has the confidence ``confidence`` and is None with fewer than two common seeds; ``verdict`` is the whole
    claim in words and names a direction only if the interval excludes 0.
    """

    arm: str
    reference: str
    seeds: tuple[int, ...]
    interval: Estimate | None
    confidence: float
    verdict: str


def dominates(first: PointCosts, second: PointCosts) -> bool:
    """Whether ``first`` is nowhere worse than ``second`` and somewhere better."""
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def non_dominated(costs: Sequence[PointCosts]) -> tuple[bool, ...]:
    """For each entry, whether no other dominates it; equal entries share the answer."""
    return tuple(not any(dominates(other, own) for other in costs) for own in costs)


def costs_of(point: Point, setting: LatencySetting | None) -> PointCosts | None:
    """Accuracy, bytes and median latency as costs; None if the point was not measured in the setting.

    Without a setting (nothing was measured at all) accuracy and bytes decide alone.
    """
    costs = (-point.merit, point.size.value)
    if setting is None:
        return costs
    speed = point.speeds.get(setting)
    return None if speed is None else (*costs, speed.p50_ms.value)


def ranks(points: Sequence[Point], setting: LatencySetting | None) -> tuple[Rank, ...]:
    """Frontier or dominated, by point estimates, for every point.

    If several points dominate one, the most accurate frontier point is named.
    """
    costs = [costs_of(point, setting) for point in points]
    known = [(cost, point) for cost, point in zip(costs, points, strict=True) if cost is not None and not point.guesses]
    kept = non_dominated([cost for cost, _ in known])
    front = sorted((cost, point.label) for (cost, point), keep in zip(known, kept, strict=True) if keep)
    result = []
    for cost, point in zip(costs, points, strict=True):
        above = next((label for other, label in front if cost is not None and dominates(other, cost)), "")
        result.append(Rank(measured=cost is not None, dominated_by=above, guesses=point.guesses))
    return tuple(result)


def paired_difference(arm: Point, reference: Point, *, comparisons: int = 1) -> Difference:
    """Accuracy, or another metric, of ``arm`` minus ``reference`` over the seeds both have.

    With several ``comparisons`` each interval is widened so that all hold together with 95 % confidence.

    Source: Bonferroni's inequality; Student's paired t interval.
    """
    own = {run.seed: run.deployed_value for run in arm.runs}
    other = {run.seed: run.deployed_value for run in reference.runs}
    seeds = tuple(sorted(own.keys() & other.keys()))
    # Rounded because accuracies are counts of images: a spread of 1e-17 is arithmetic, not variation between seeds.
    differences = [own[seed] - other[seed] for seed in seeds]
    if arm.metric.is_share:
        differences = [round(one, 12) for one in differences]
    confidence = 1 - (1 - CONFIDENCE) / comparisons
    same = len(set(differences)) == 1 and differences[0] != 0.0
    interval = mean_interval(differences, confidence=confidence) if len(seeds) > 1 and not same else None
    verdict = _verdict(arm, reference, interval, len(seeds))
    return Difference(arm.label, reference.label, seeds, interval, confidence, verdict)


def paired_differences(points: Sequence[Point]) -> tuple[Difference, ...]:
    """Every point but the first against the first; all intervals hold together with 95 % confidence."""
    return tuple(paired_difference(point, points[0], comparisons=len(points) - 1) for point in points[1:])


def order_study(points: Sequence[Point]) -> tuple[Point, ...]:
    """Points that differ in the order of the same stages, in their own order; empty if fewer than two do.

    If an order occurs more than once with the same stages (in a grid over other settings too), only points whose stages also
    have the same settings are compared. Of several such families, the one with the most orders is taken.
    """
    families: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        if len(point.order) > 1:
            families.setdefault(tuple(sorted(point.order)), []).append(point)
    studies: list[tuple[Point, ...]] = []
    for family in families.values():
        if len({point.order for point in family}) == len(family):
            studies.append(tuple(family))
            continue
        alike: dict[tuple[str, ...], dict[tuple[str, ...], Point]] = {}
        for point in family:
            alike.setdefault(_stage_settings(point), {}).setdefault(point.order, point)
        studies.extend(tuple(by_order.values()) for by_order in alike.values())
    largest = max(studies, key=len, default=())
    return largest if len(largest) > 1 else ()


def _stage_settings(point: Point) -> tuple[str, ...]:
    stages = [
        (stage.name, sorted((key, repr(value)) for key, value in stage.settings.items())) for stage in point.runs[0].history
    ]
    return tuple(sorted(map(str, stages)))


def _verdict(one: Point, other: Point, interval: Estimate | None, seeds: int) -> str:
    if interval is None:
        if seeds > 1:
            return f"nothing can be said: the {seeds} differences are all equal, so their spread is unknown"
        return f"nothing can be said: {seeds or 'no'} common seed{'' if seeds == 1 else 's'}, at least 2 are needed"
    arm, reference, metric = one.label, other.label, one.metric
    if metric != ACCURACY:
        return _verdict_in(metric, arm, reference, interval)
    low, high = 100 * interval.low, 100 * interval.high
    if interval.low > 0:
        return f"{arm} is more accurate than {reference}, by {low:.2f} to {high:.2f} points"
    if interval.high < 0:
        return f"{arm} is less accurate than {reference}, by {-high:.2f} to {-low:.2f} points"
    return f"no difference shown: {low:+.2f} to {high:+.2f} points includes 0".replace("-", "\N{MINUS SIGN}")


def _verdict_in(metric: Metric, arm: str, reference: str, interval: Estimate) -> str:
    """The same for a metric other than accuracy, of which less may be better."""
    ends = (metric.change(interval.low), metric.change_text(interval.high))
    if interval.low <= 0 <= interval.high:
        return f"no difference shown: {' to '.join(ends)} includes 0"
    side = "better" if metric.gain(interval.value, 0.0) > 0 else "worse"
    return f"{arm} is {side} than {reference}: {metric.name} {' to '.join(ends)}"
