"""The data behind every section of the page: points, settings and ranks, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretrim.graph.entropy import WeightSummary
from paretrim.metric import Metric
from paretrim.report.frontier import Rank, ranks
from paretrim.report.points import LatencySetting, Point, Speed, aggregate, baseline_of, setting_name, settings_of
from paretrim.results.outcome import Outcome

LAYER_ROWS = 6000
"""Most per-layer rows of a page (about 30 bytes each); beyond it only frontier points keep theirs."""


@dataclass(frozen=True)
class PageView:
    """``settings`` and ``standings`` are parallel; without any latency each has one entry, for the setting None.

    ``samples_ms`` holds raw latencies by "label|runtime|threads".
    """

    points: tuple[Point, ...]
    settings: tuple[LatencySetting | None, ...]
    standings: tuple[tuple[Rank, ...], ...]
    baseline: Point | None
    samples_ms: Mapping[str, Sequence[float]]

    @property
    def metric(self) -> Metric:
        """The metric of all points."""
        return self.points[0].metric

    def name(self, setting: LatencySetting | None) -> str:
        """A setting in words."""
        known = [other for other in self.settings if other is not None]
        return setting_name(setting, known) if setting is not None else "no latency measured"

    @property
    def has_trim(self) -> bool:
        """Whether sizes are those of ``.trim`` files, and the ONNX files are shown beside them."""
        return any(point.trim_bytes for point in self.points)

    def speed(self, point: Point, setting: LatencySetting | None) -> Speed | None:
        """Latency of a point, if it was measured."""
        return point.speeds.get(setting) if setting is not None else None

    def distribution(self, point: Point, setting: LatencySetting | None) -> Sequence[float]:
        """Raw latencies of a point, if they were given."""
        return self.samples_ms.get(f"{point.label}|{setting.runtime}|{setting.threads}", ()) if setting is not None else ()


def view_of(outcomes: Sequence[Outcome], samples_ms: Mapping[str, Sequence[float]]) -> PageView:
    """Aggregate and rank.

    Raises:
        InvalidRecipe: see :func:`paretrim.report.points.aggregate`.
    """
    points = aggregate(outcomes)
    settings: tuple[LatencySetting | None, ...] = settings_of(points) or (None,)
    return PageView(points, settings, tuple(ranks(points, setting) for setting in settings), baseline_of(points), samples_ms)


def payload(view: PageView) -> dict[str, object]:
    """What the page's script draws, as plain values."""
    entries = []
    for i, point in enumerate(view.points):
        views = [
            _standing(view, point, setting, ranked[i]) for setting, ranked in zip(view.settings, view.standings, strict=True)
        ]
        deployed, size = point.deployed, point.size
        entries.append(
            {
                "label": point.label,
                "value": [_rounded(value, view.metric) for value in (deployed.value, deployed.low, deployed.high)],
                "bytes": [round(value) for value in (size.value, size.low, size.high)],
                "views": views,
                "guesses": point.guesses,
            }
        )
    metric = {"share": view.metric.is_share, "up": view.metric.higher_is_better}
    baseline = None if view.baseline is None else view.points.index(view.baseline)
    return {"points": entries, "baseline": baseline, "layers": _layers(view), "metric": metric}


def _rounded(value: float, metric: Metric) -> float:
    return round(value, 6) if metric.is_share else float(f"{value:.6g}")


def points_with_layers(view: PageView) -> tuple[int, ...]:
    """Places of the points whose layers the page holds: all, or only those on a frontier if all would be too much."""
    if sum(len(point.runs[0].layers) for point in view.points) <= LAYER_ROWS:
        return tuple(range(len(view.points)))
    best = [i for i in range(len(view.points)) if any(ranked[i].on_frontier for ranked in view.standings)]
    kept, rows = [], 0
    for i in best:
        rows += len(view.points[i].runs[0].layers)
        if rows <= LAYER_ROWS:
            kept.append(i)
    return tuple(kept)


def _standing(view: PageView, point: Point, setting: LatencySetting | None, rank: Rank) -> dict[str, object]:
    speed = view.speed(point, setting)
    latency = (
        None if speed is None else [float(f"{value:.5g}") for value in (speed.p50_ms.value, speed.p50_ms.low, speed.p50_ms.high)]
    )
    return {"ms": latency, "best": rank.on_frontier}


def _layers(view: PageView) -> dict[str, object]:
    """Layers of each point's first run; names, shapes and types are shared, a row is [kind, type, zeros, bytes, entropy]."""
    kinds: dict[tuple[str, str, int], int] = {}
    dtypes: dict[str, int] = {}

    def row(layer: WeightSummary) -> list[int]:
        kind = (layer.name, " × ".join(map(str, layer.shape)), layer.weights)
        first = kinds.setdefault(kind, len(kinds))
        return [first, dtypes.setdefault(layer.dtype, len(dtypes)), layer.zeros, layer.bytes, round(layer.entropy_bytes)]

    rows = {str(i): [row(layer) for layer in view.points[i].runs[0].layers] for i in points_with_layers(view)}
    return {"rows": rows, "kinds": [list(kind) for kind in kinds], "dtypes": list(dtypes)}
