"""Arms with equally many zeros in different patterns: pure functions of points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from paretrim.report.points import Point, baseline_of

SINGLE = "unstructured"
"""The pattern of single weights."""

TOLERANCE = 0.01
"""Arms have equal zeros if their remaining weights differ by at most this share of the dense network's."""


@dataclass(frozen=True)
class Price:
    """An arm that prunes single weights, the arms of other patterns that leave as many, and the share of weights it leaves."""

    reference: Point
    others: tuple[Point, ...]
    left: float


def prices(points: Sequence[Point]) -> tuple[Price, ...]:
    """For every arm that prunes single weights, the arms of other patterns with equal zeros; those without any are left out.

    Weights of removed channels count as zeros. Remaining weights are counted in the deployed files, relative to the baseline: the
    network that latencies name, or the one without stages. Without a baseline nothing is compared.
    """
    dense = baseline_of(points)
    if dense is None:
        return ()
    whole = fmean(run.weights for run in dense.runs)
    left = {point.label: fmean(run.weights - run.zeros for run in point.runs) / whole for point in points}
    found = []
    for reference in points:
        if patterns(reference) != {SINGLE}:
            continue
        near = [
            point
            for point in points
            if patterns(point) - {SINGLE} and abs(left[point.label] - left[reference.label]) <= TOLERANCE
        ]
        if near:
            found.append(Price(reference, tuple(near), left[reference.label]))
    return tuple(found)


def patterns(point: Point) -> frozenset[str]:
    """The patterns in which an arm prunes, as its stages' settings say."""
    return frozenset(pattern for stage in point.runs[0].history for pattern in _patterns(stage.name, stage.settings))


def _patterns(name: str, settings: Mapping[str, object]) -> Iterator[str]:
    if name == "prune":
        yield str(settings.get("pattern", SINGLE))
    parts = settings.get("parts", ())
    for part in parts if isinstance(parts, (list, tuple)) else ():
        if isinstance(part, Mapping):
            yield from _patterns(str(part.get("stage")), part)
