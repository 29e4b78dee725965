"""Numbers and claims in words, the same in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paretrim.intervals import Estimate
from paretrim.metric import ACCURACY, Metric
from paretrim.report.frontier import Rank, paired_difference
from paretrim.report.points import LatencySetting, Point, Speed

MINUS = "\N{MINUS SIGN}"
TOLERANCE = 0.01
"""A headline point may lose this share of the test images against the baseline.

For a metric that is not a share, it is this part of the baseline's value.
"""


@dataclass(frozen=True)
class Highlight:
    """One best point in words: why it was picked, which point it is, the claim, and how sure the accuracy is."""

    title: str
    label: str
    claim: str
    caveat: str


def size(count: float) -> str:
    """Bytes with three digits and a decimal unit: 1.23 MB."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * limit:
            return f"{_three_digits(count / limit)} {unit}"
    return f"{count:.0f} B"


def size_heading(among: Sequence[Point]) -> str:
    """The heading over the sizes that decide the frontier: which kind of file, if there are two."""
    return ".trim" if any(point.trim_bytes for point in among) else "size"


def size_cost(among: Sequence[Point]) -> str:
    """The bytes that decide the frontier, in words."""
    return ".trim bytes" if any(point.trim_bytes for point in among) else "bytes"


def stand_ins(among: Sequence[Point]) -> str:
    """Which points were timed in a runtime other than their setting's, and why; empty if none was."""
    elsewhere: dict[tuple[str, str], dict[str, None]] = {}
    for point in among:
        for setting, speed in point.speeds.items():
            for runtime in speed.runtimes:
                if runtime != setting.runtime:
                    elsewhere.setdefault((setting.runtime, runtime), {})[point.label] = None
    return "; ".join(
        f"earlier versions timed float networks in {other} in place of {native}: {', '.join(labels)}"
        for (native, other), labels in elsewhere.items()
    )


def onnx_size(point: Point) -> str:
    """Bytes of the ONNX file, or that there is none."""
    return size(point.file_bytes.value) if point.file_bytes else "none"


def missing_onnx(among: Sequence[Point]) -> list[str]:
    """Which points have no ONNX file, and why."""
    return [
        f"{point.label} has no ONNX file, and no latency where one is needed: {problem}"
        for point in among
        for problem in point.onnx_problems
    ]


def milliseconds(value: float) -> str:
    """Three significant digits, without the unit."""
    return _three_digits(value)


def milliseconds_with_half(estimate: Estimate) -> str:
    """Milliseconds with the interval's larger half: 0.0662 ± 0.0164."""
    return f"{_three_digits(estimate.value)} ± {_rounded_up(_half(estimate), _decimals(estimate.value))}"


def times_with_half(estimate: Estimate) -> str:
    """A ratio with the interval's larger half: 1.46× ± 0.36."""
    return f"{times(estimate.value)} ± {_rounded_up(_half(estimate), _decimals(estimate.value))}"


def span(estimate: Estimate) -> str:
    """Interval of milliseconds."""
    return f"{_three_digits(estimate.low)}\u2013{_three_digits(estimate.high)}"


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction as percent."""
    return f"{100 * fraction:.{digits}f} %"


def zeros(prunable: float | None, total: float) -> str:
    """The share of zeros: 90.0 % of the prunable weights, 80.9 % of all."""
    of_all = f"{percent(total, 1)} of all"
    return of_all if prunable is None else f"{percent(prunable, 1)} of the prunable weights, {of_all}"


def points(fraction: float, digits: int = 2) -> str:
    """A signed difference of fractions in percentage points, without the unit."""
    text = f"{100 * fraction:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", MINUS)


def value(estimate: Estimate, metric: Metric = ACCURACY) -> str:
    """A value with the interval's larger half, without the unit: 95.12 ± 0.20; alone if there is no interval."""
    half = _half(estimate)
    if metric.is_share and (half or metric == ACCURACY):
        return f"{metric.number(estimate.value)} ± {100 * half:.2f}"
    return f"{metric.number(estimate.value)} ± {half:.2g}" if half else metric.number(estimate.value)


def capital(name: str) -> str:
    """With a capital letter."""
    return name[:1].upper() + name[1:]


def with_unit(what: str, metric: Metric) -> str:
    """A heading over differences, with their unit."""
    return f"{what}, {metric.of_change}" if metric.of_change else what


def values_note(metric: Metric, bases: str) -> str:
    """What values, intervals and agreements mean; ``bases`` says what intervals cover."""
    return (
        f"{capital(metric.name)} is that of the deployed file{'' if metric.higher_is_better else ', and lower is better'}; "
        f"± is half of the 95 % interval ({bases}). Over seeds it covers what training "
        "leaves to chance, not the choice of test images. "
        + (
            "Agreement is the share of test images to which the file and the training framework give the same class."
            if metric == ACCURACY
            else "Agreement is how far the file and the training framework decide alike, mean over test images."
        )
    )


def times(value: float) -> str:
    """A ratio: 2.31×."""
    return f"{_three_digits(value)}×"


def order(stages: Sequence[str]) -> str:
    """Stages in the order they ran."""
    return " → ".join(stages) or "none"


def standing(rank: Rank) -> str:
    """Frontier, dominated by whom, no better than guessing, or not measured."""
    if not rank.measured:
        return "not measured"
    if rank.guesses:
        return "no better than guessing"
    return f"dominated by {rank.dominated_by}" if rank.dominated_by else "frontier"


def speed_claim(speed: Speed) -> str:
    """Faster or slower than the baseline, only if the interval excludes 1 and the A/A floor."""
    if speed.speedup.low > max(1.0, speed.floor.high):
        return f"{times(speed.speedup.value)} faster"
    if speed.speedup.high < min(1.0, speed.floor.low):
        return f"{times(1 / speed.speedup.value)} slower"
    return "no faster beyond the noise"


def size_claim(point: Point, reference: Point) -> str:
    """How many times smaller or larger the file is."""
    ratio = reference.size.value / point.size.value if point.size.value else 1.0
    if 0.995 < ratio < 1.005:
        return "the same size"
    return f"{times(ratio)} smaller" if ratio > 1 else f"{times(1 / ratio)} larger"


def metric_claim(point: Point, reference: Point) -> tuple[str, str]:
    """The difference in points, and what is known about it."""
    difference = paired_difference(point, reference)
    metric = point.metric
    text = metric.change_text(point.deployed.value - reference.deployed.value, 1)
    if difference.interval is None:
        return text, "too few common seeds for an interval"
    low, high = metric.change(difference.interval.low), metric.change_text(difference.interval.high)
    sure = "" if difference.interval.low > 0 or difference.interval.high < 0 else "; no difference shown"
    return (
        metric.change_text(difference.interval.value, 1),
        f"{low} to {high} over {len(difference.seeds)} common seeds{sure}",
    )


def highlights(
    all_points: Sequence[Point],
    *,
    ranks: Sequence[Rank],
    setting: LatencySetting | None,
    baseline: Point | None,
    chosen: str | None,
) -> tuple[Highlight, ...]:
    """What to name first: the chosen point, else the fastest and the smallest within :data:`TOLERANCE`.

    They are compared with the baseline, or with the most accurate point if there is none. No speed is named from times that
    their own session casts doubt on.
    """
    reference = baseline or max(all_points, key=lambda point: point.merit)
    picks = [("Chosen", point) for point in all_points if point.label == chosen and point is not reference]
    if chosen is None:
        picks = _best(all_points, ranks=ranks, setting=setting, reference=reference)
    return tuple(_highlight(title, point, reference=reference, setting=setting) for title, point in picks)


def speed_doubts(among: Sequence[Point], setting: LatencySetting | None) -> tuple[str, ...]:
    """Why no speed is named in a headline, each reason once; empty if the times are sound or there are none."""
    known = [point.speeds[setting] for point in among if setting in point.speeds] if setting is not None else []
    return tuple(dict.fromkeys(doubt for speed in known for doubt in speed.doubts))


def _best(
    all_points: Sequence[Point], *, ranks: Sequence[Rank], setting: LatencySetting | None, reference: Point
) -> list[tuple[str, Point]]:
    """The frontier points worth naming, and as what."""
    others = [point for point, rank in zip(all_points, ranks, strict=True) if rank.on_frontier and point is not reference]
    metric = reference.metric
    tolerance = TOLERANCE if metric.is_share else TOLERANCE * abs(reference.deployed.value)
    close = [point for point in others if point.merit >= reference.merit - tolerance]
    limit = f"within {100 * TOLERANCE:.0f} {'point' if metric.is_share else '%'} of {reference.label}"
    if not close:
        return (
            [
                (
                    f"{'Most accurate' if metric == ACCURACY else 'Best'} besides {reference.label}",
                    max(others, key=lambda point: point.merit),
                )
            ]
            if others
            else []
        )
    smallest = min(close, key=lambda point: point.size.value)
    if setting is None or speed_doubts(all_points, setting):
        return [(f"Smallest {limit}", smallest)]
    fastest = min(close, key=lambda point: point.speeds[setting].p50_ms.value)
    if fastest is smallest:
        return [(f"Smallest and fastest {limit}", smallest)]
    return [(f"Fastest {limit}", fastest), (f"Smallest {limit}", smallest)]


def _highlight(title: str, point: Point, *, reference: Point, setting: LatencySetting | None) -> Highlight:
    difference, caveat = metric_claim(point, reference)
    parts = [size_claim(point, reference)]
    speed = point.speeds.get(setting) if setting is not None else None
    if speed is not None and not speed.doubts:
        named = ", ".join(speed.baselines)
        parts.append(speed_claim(speed) + ("" if reference.label in speed.baselines else f" than {named}"))
    return Highlight(title, point.label, f"{' and '.join(parts)}, {point.metric.name} {difference}", caveat)


def _half(estimate: Estimate) -> float:
    return max(estimate.high - estimate.value, estimate.value - estimate.low)


def _rounded_up(value: float, decimals: int) -> str:
    """Rounded up, so that an interval is not shown narrower than it is."""
    unit: float = 10.0**-decimals
    return f"{math.ceil(value / unit - 1e-9) * unit:,.{decimals}f}"


def _three_digits(value: float) -> str:
    return f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    """Decimals that show three significant digits; none above 99.95, and six if a value is close to 0."""
    if abs(value) < 1e-6:
        return 6 if value else 2
    return max(0, 2 - math.floor(math.log10(float(f"{abs(value):.2e}"))))
