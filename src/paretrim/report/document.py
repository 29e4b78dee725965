"""A page for the documentation, in Markdown: what a study ran and its results, made from its lines alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from urllib.parse import quote

from paretrim import files
from paretrim.intervals import Estimate
from paretrim.metric import ACCURACY, Metric
from paretrim.report import wording
from paretrim.report.figure import value_in_words
from paretrim.report.frontier import Difference, order_study, paired_differences, ranks
from paretrim.report.patterns import prices
from paretrim.report.points import Point, Speed, aggregate, setting_name, settings_of, subject
from paretrim.results.outcome import Outcome
from paretrim.visible import visible

Row = Sequence[str]

NONE = "–"


def write(
    outcomes: Sequence[Outcome], path: Path, *, title: str | None = None, figure: str = "", sources: Sequence[str] = ()
) -> None:
    """Write the page, atomically; see :func:`render`.

    Raises:
        InvalidRecipe: nothing to report, or the outcomes cannot share one page (:func:`paretrim.report.points.aggregate`).
        OutOfSpace: the disk is full.
    """
    files.write_atomically(path, render(outcomes, title=title, figure=figure, sources=sources).encode())


def render(outcomes: Sequence[Outcome], *, title: str | None = None, figure: str = "", sources: Sequence[str] = ()) -> str:
    """The page as Markdown; the same outcomes give the same text.

    Args:
        outcomes: runs on one data set, the newest of repeated runs.
        title: the heading; study, network and data if None.
        figure: address of the picture (:mod:`paretrim.report.figure`) as seen from the page, or "" for none.
        sources: addresses of the lines as seen from the page.

    Raises:
        InvalidRecipe: as for :func:`write`.
    """
    points = aggregate(outcomes)
    links = ", ".join(f"[{_plain(PurePath(source).name)}]({_address(source)})" for source in sources)
    made = f"Made by `paretrim report --markdown` from {links or 'the lines of the study'}; to change it, change those."
    parts = [
        f"# {_plain(title or _title(points))}",
        f"*{made}*",
        *([f"![Deployed {points[0].metric.name} of every arm]({_address(figure)})"] if figure else []),
        _what_was_run(points),
        _values(points),
        _comparison(points, f"Against {points[0].label}"),
        _orders(points),
        *_prices(points),
        _size(points),
        _latency(points),
        _frontier(points),
        _machine(points),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(points: Sequence[Point]) -> str:
    runs = _runs(points)
    return f"{_listed(run.study for run in runs)}: {subject(points)}"


def _what_was_run(points: Sequence[Point]) -> str:
    """Network, data, seeds, epochs and teacher, as far as the lines tell."""
    runs = _runs(points)
    tests = sorted({run.test_images for run in runs})
    epochs = sorted({sum(stage.epochs for stage in run.history) for point in points if point.order for run in point.runs})
    total = f"{epochs[0]} for every arm with stages" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}" if epochs else ""
    facts = [
        ("Network", _listed([*(run.network for run in runs), *(_beginning(run) for run in runs)])),
        ("Data", _listed([runs[0].data, *(_training_images(run) for run in runs)])),
        ("Test images", f"{_listed(f'{count:,}' for count in tests)}, seen by no stage"),
        ("Seeds", _seeds(points)),
        ("Epochs after the dense network", f"{total}; by stage in the next table" if total else "none"),
        ("Teacher", _teacher(runs)),
    ]
    return "## What was run\n\n" + "\n".join(f"- {name}: {_plain(text)}" for name, text in facts if text)


def _beginning(run: Outcome) -> str:
    """Where the dense network comes from."""
    model, dense = run.settings.get("model"), run.settings.get("dense")
    said = []
    if isinstance(model, Mapping) and isinstance(model.get("weights"), str):
        said.append(f"weights from {PurePath(str(model['weights'])).name}")
    if isinstance(dense, Mapping):
        epochs = dense.get("epochs")
        said.append(f"trained dense for {epochs} epoch{'s' * (epochs != 1)} with each seed")
    return ", ".join(said)


def _training_images(run: Outcome) -> str:
    data = run.settings.get("data")
    count = data.get("train_images") if isinstance(data, Mapping) else None
    return f"{count:,} training images an epoch" if isinstance(count, int) else ""


def _seeds(points: Sequence[Point]) -> str:
    """The seeds, and which arms lack some."""
    seeds = sorted({seed for point in points for seed in point.seeds})
    short = [f"{point.label} ({_listed(map(str, point.seeds))})" for point in points if len(point.seeds) < len(seeds)]
    return _listed(map(str, seeds)) + (f"; not all of them yet: {'; '.join(short)}" if short else "")


def _teacher(runs: Sequence[Outcome]) -> str:
    """The teachers of the runs that distilled, as far as their settings tell."""
    names = []
    for run in runs:
        if "teacher" not in run.settings or not any("distill" in step.split("+") for step in run.order):
            continue
        teacher = run.settings["teacher"]
        if teacher is None:
            names.append("the dense network each run began with")
        elif isinstance(teacher, Mapping):
            weights = teacher.get("weights")
            names.append(f"{teacher.get('network')}" + (f", weights from {PurePath(str(weights)).name}" if weights else ""))
    return _listed(names)


def _values(points: Sequence[Point]) -> str:
    metric = points[0].metric
    rows = [
        (
            point.label,
            _stages(point),
            str(len(point.seeds)),
            value_in_words(point),
            metric.change(point.drift),
            wording.percent(point.agreement),
        )
        for point in points
    ]
    drift = wording.with_unit("deployed − trained", metric)
    heading = ("arm", "stages with their epochs", "seeds", metric.heading, drift, "agreement")
    bases = "; ".join(dict.fromkeys(point.basis for point in points))
    return f"## {wording.capital(metric.name)}\n\n{_table(heading, rows, left=2)}\n\n{wording.values_note(metric, bases)}"


def _stages(point: Point) -> str:
    """Stages in the order they ran, each with its epochs."""
    history = point.runs[0].history
    if len(history) != len(point.order):
        return wording.order(point.order)
    return wording.order([f"{name} {stage.epochs}" for name, stage in zip(point.order, history, strict=True)])


def _orders(points: Sequence[Point]) -> str:
    found = order_study(points)
    if not found or found == tuple(points):
        return ""
    return _comparison(found, f"Does the order matter? Against {found[0].label}")


def _prices(points: Sequence[Point]) -> list[str]:
    """What a pattern of zeros costs, compared with single zeros at equally many remaining weights."""
    return [
        _comparison(
            (price.reference, *price.others),
            f"The price of the pattern: {wording.percent(price.left, 1)} of the weights left, against {price.reference.label}",
        )
        for price in prices(points)
    ]


def _comparison(points: Sequence[Point], heading: str) -> str:
    """Every point against the first, paired by seed, with verdicts that hold for all of them together."""
    if len(points) < 2:
        return ""
    differences = paired_differences(points)
    rows = [(one.arm, str(len(one.seeds)), *_difference(one, points[0].metric), one.verdict) for one in differences]
    table = _table(
        ("arm", "common seeds", wording.with_unit("difference", points[0].metric), "interval", "verdict"),
        rows,
        left=1,
        last_left=True,
    )
    confidence = f"{100 * differences[0].confidence:.4g} %"
    note = f"Intervals are Student's t on differences paired by seed, each with {confidence} confidence" + (
        ", so that all of them hold together with 95 % (Bonferroni)." if len(rows) > 1 else "."
    )
    return "\n\n".join([f"## {_plain(heading)}", _tally(differences, points[0]), table, note])


def _difference(difference: Difference, metric: Metric) -> tuple[str, str]:
    known = difference.interval
    if known is None:
        return NONE, NONE
    return metric.change(known.value), f"{metric.change(known.low)} to {metric.change(known.high)}"


def _tally(differences: Sequence[Difference], first: Point) -> str:
    """Which arms are shown to differ, and which are not."""
    metric = first.metric
    more, less = ("More accurate", "Less accurate") if metric == ACCURACY else ("Better", "Worse")
    sides: dict[str, list[str]] = {more: [], less: [], "Not told apart": []}
    for one in differences:
        shown = one.interval is not None and (one.interval.low > 0 or one.interval.high < 0)
        above = one.interval is not None and metric.merit(one.interval.value) > 0
        sides["Not told apart" if not shown else more if above else less].append(one.arm)
    said = [f"{side}: {_listed(arms) or 'none'}." for side, arms in sides.items()]
    return _plain(f"Compared with {first.label}. {' '.join(said)}")


def _size(points: Sequence[Point]) -> str:
    trim = any(point.trim_bytes for point in points)
    pruned = any(point.prunable_sparsity is not None for point in points)
    rows = [
        (
            point.label,
            *([NONE if point.prunable_sparsity is None else wording.percent(point.prunable_sparsity, 1)] if pruned else []),
            wording.percent(point.sparsity, 1),
            *([wording.size(point.size.value)] if trim else []),
            wording.onnx_size(point),
            wording.size(point.entropy_bytes),
        )
        for point in points
    ]
    headings = (
        "arm",
        *(["zeros of prunable"] if pruned else []),
        "zeros of all",
        *((".trim", "ONNX") if trim else ("file",)),
        "weights' entropy",
    )
    missing = "".join(f" {_plain(text)}." for text in wording.missing_onnx(points))
    note = (
        "Zeros are counted in the exported weights: among those of the layers that pruning takes weights from, and among all. "
        "The weights' entropy is what an ideal order-0 coder, layer by layer, would need for the weights alone; files hold "
        "everything else too. Values are means over seeds."
    )
    return f"## Size\n\n{_table(headings, rows, left=1)}\n\n{note}{missing}"


def _latency(points: Sequence[Point]) -> str:
    """One table for every setting, since times in different runtimes do not belong side by side."""
    settings = settings_of(points)
    if not settings:
        return ""
    parts = ["## Latency", "Milliseconds a call, with the span of the 95 % intervals of all seeds in parentheses."]
    for setting in settings:
        speeds = [(point, point.speeds[setting]) for point in points if setting in point.speeds]
        rows = [
            (point.label, *(_milliseconds(one) for one in (speed.p50_ms, speed.p90_ms, speed.p99_ms)), _speedup(point, speed))
            for point, speed in speeds
        ]
        parts.append(f"### {_plain(setting_name(setting, settings))}")
        parts.append(_table(("arm", "p50, ms", "p90, ms", "p99, ms", "speed-up"), rows, left=1))
        parts.append(_timed([speed for _, speed in speeds]))
    if beside := wording.stand_ins(points):
        parts.append(f"{_plain(beside)}.")
    return "\n\n".join(parts)


def _milliseconds(estimate: Estimate | None) -> str:
    return NONE if estimate is None else f"{wording.milliseconds(estimate.value)} ({wording.span(estimate)})"


def _speedup(point: Point, speed: Speed) -> str:
    if point.label in speed.baselines or point.runs[0].label in speed.baselines:
        return "baseline"
    gain = f"{wording.times(speed.speedup.value)} ({wording.span(speed.speedup)})"
    shown = speed.speedup.low > max(1.0, speed.floor.high) or speed.speedup.high < min(1.0, speed.floor.low)
    return gain if shown else f"{gain}, within the noise"


def _timed(speeds: Sequence[Speed]) -> str:
    """How a setting was measured, its A/A floor, and disturbances."""
    samples = sorted({speed.samples for speed in speeds})
    calls = f"{samples[0]:,}" if len(samples) == 1 else f"{samples[0]:,} to {samples[-1]:,}"
    versions = _listed(version for speed in speeds for version in speed.versions)
    processes = _listed(str(speed.processes) for speed in speeds)
    low, high = min(speed.floor.low for speed in speeds), max(speed.floor.high for speed in speeds)
    noise = dict.fromkeys(remark for speed in speeds for remark in speed.noise)
    said = (
        f"Timed in {versions}; {calls} calls an arm in {processes} processes. The baseline against its own copy measures "
        f"{low:.3f} to {high:.3f}. {'What was not quiet:' if noise else 'Nothing unquiet was seen.'}"
    )
    return "\n\n".join([_plain(said), *(["\n".join(f"- {_plain(remark)}" for remark in noise)] if noise else [])])


def _frontier(points: Sequence[Point]) -> str:
    """Which arms no other beats, by point estimates, in every setting."""
    settings = settings_of(points)
    lines = []
    for setting in settings or (None,):
        best = [point.label for point, rank in zip(points, ranks(points, setting), strict=True) if rank.on_frontier]
        cost = wording.size_cost(points)
        name = points[0].metric.name
        what = f"{name} and {cost}" if setting is None else f"{name}, {cost} and p50 ({setting_name(setting, settings)})"
        lines.append(f"- {what}: {_listed(best)}")
    return "## The frontier\n\nArms that no other beats, by point estimates, in\n\n" + "\n".join(map(_plain, lines))


def _machine(points: Sequence[Point]) -> str:
    """Where and with what the lines were made."""
    runs = _runs(points)
    dates = sorted(run.created[:10] for run in runs)
    versions: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, version in run.versions.items():
            versions.setdefault(name, {})[version] = None
    facts = [
        ("Runs", f"{len(runs)}, {dates[0]}{f' to {dates[-1]}' if dates[-1] != dates[0] else ''}"),
        ("CPU", _listed(run.machine.processor for run in runs)),
        ("Features", _listed(" ".join(run.machine.isa) for run in runs)),
        ("System", _listed(f"{run.machine.system}, Python {run.machine.python}" for run in runs)),
        ("Packages", ", ".join(f"{name} {' and '.join(found)}" for name, found in sorted(versions.items()))),
        ("Source", _listed(f"commit {run.commit}" if run.commit else "no checkout" for run in runs)),
    ]
    return "## Machine and versions\n\n" + "\n".join(f"- {name}: {_plain(text)}" for name, text in facts if text)


def _runs(points: Sequence[Point]) -> list[Outcome]:
    return [run for point in points for run in point.runs]


def _listed(texts: Iterable[str]) -> str:
    """Each text once, in order of first appearance."""
    return ", ".join(dict.fromkeys(text for text in texts if text))


def _table(heading: Row, rows: Sequence[Row], *, left: int, last_left: bool = False) -> str:
    """A table whose first ``left`` columns, and on request its last, are text; numbers are aligned right."""
    columns = len(heading)
    rule = [":--" if i < left or (last_left and i == columns - 1) else "--:" for i in range(columns)]
    lines = [[_plain(cell) for cell in row] for row in (heading, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))


def _plain(text: str) -> str:
    """Escape text so that Markdown shows it as it is: names are data, not markup, HTML or line breaks."""
    # An underscore between letters is not markup, and names are full of them.
    return re.sub(r"([\\`*\[\]<>|&~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", visible(text))


def _address(path: str) -> str:
    """An address inside a link's parentheses."""
    return quote(path, safe="/.:#~")
