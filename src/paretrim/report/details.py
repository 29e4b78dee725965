"""The second half of the page: recipes and layers, latencies in full, where the numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from paretrim.bench.machine_load import shortened
from paretrim.intervals import Estimate
from paretrim.metric import ACCURACY
from paretrim.report import wording
from paretrim.report.points import LatencySetting, Point, Speed
from paretrim.report.view import PageView, points_with_layers
from paretrim.results.outcome import Outcome, StageOutcome
from paretrim.visible import escape

NAMED = 4
"""Up to this many layers of one width are named; beyond that, only their number is given."""

FEW = 12
"""Up to this many recipes are listed in full; beyond that, the dominated ones are collapsed."""


def recipes(view: PageView) -> str:
    """What was done for each point: stages with their settings, layers, files."""
    with_layers = set(points_with_layers(view))
    entries = [_recipe(i, point, layers=i in with_layers) for i, point in enumerate(view.points)]
    best = [any(ranked[i].on_frontier for ranked in view.standings) for i in range(len(entries))]
    if len(entries) <= FEW:
        body = "".join(entries)
    else:
        rest = [entry for entry, keep in zip(entries, best, strict=True) if not keep]
        body = "".join(entry for entry, keep in zip(entries, best, strict=True) if keep)
        body += f"<details><summary>Dominated: {len(rest)} more</summary>{''.join(rest)}</details>" if rest else ""
    left_out = len(entries) - len(with_layers)
    note = (
        f'<p class="note">To keep the page small, {left_out} dominated points come without their layers; the store has them.</p>'
    )
    return f'<section id="recipes"><h2>Recipes and layers</h2>{body}{note if left_out else ""}</section>'


def latencies(view: PageView) -> str:
    """Percentiles with their intervals, the A/A floor and disturbances."""
    known = [setting for setting in view.settings if setting is not None]
    if not known:
        return ""
    blocks = "".join(_latency_rows(view, j, setting) for j, setting in enumerate(known))
    remarks = "".join(f"<li>{escape(text)}</li>" for text in _noise(view, known))
    noise = f"<h4>What was unquiet</h4><ul>{remarks}</ul>" if remarks else '<p class="note">No noise was remarked.</p>'
    titles = "".join(
        f'<p class="meta" data-s={j}{" hidden" if j else ""}>{escape(view.name(s))}</p>' for j, s in enumerate(known)
    )
    head = "".join(
        f"<th>{text}</th>" for text in ("point", "p50, ms", "p90, ms", "p99, ms", "speed-up", "A/A floor", "calls", "processes")
    )
    return (
        f'<section id="latency"><h2>Latency in full</h2>{titles}'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>{blocks}</table></div>'
        '<p class="note">The A/A floor is the interval of the ratio of the baseline against its own copy in the same session: a '
        f"speed-up inside it means nothing. A dash means that too few calls were timed.</p>{noise}</section>"
    )


def provenance(view: PageView, *, reproduce: Sequence[str]) -> str:
    """Machine, versions, and what is needed to get the numbers again."""
    runs = [run for point in view.points for run in point.runs]
    machines = list(dict.fromkeys(run.machine for run in runs))
    facts: list[tuple[str, str]] = []
    for machine in machines:
        isa = ", ".join(machine.isa) or "none detected"
        facts.append(("machine", f"{machine.processor}, {machine.memory_bytes / 1e9:.1f} GB memory"))
        saturates = "" if machine.has_dot_product else " (no VNNI: 8-bit weights saturate in some runtimes)"
        facts.append(("instruction sets", isa + saturates))
        facts.append(("system", f"{machine.system}, Python {machine.python}"))
    facts.append(("versions", "; ".join(dict.fromkeys(_versions(run.versions) for run in runs))))
    facts.append(("commit", ", ".join(dict.fromkeys(run.commit for run in runs))))
    facts.append(("seeds", ", ".join(map(str, sorted({run.seed for run in runs})))))
    commands = f"<pre><code>{chr(10).join(map(escape, reproduce))}</code></pre>" if reproduce else ""
    seeds = "the same seeds give the same training; latencies agree within their intervals on the same machine"
    return (
        f'<section id="provenance"><h2>Where the numbers come from</h2>{_facts(facts)}<h4>To reproduce</h4>'
        f"<p>Check out the commit, install the versions above and run the recipes with their seeds: {seeds}. "
        f"Each recipe's digest, settings and file are listed with it above.</p>{commands}</section>"
    )


def _recipe(i: int, point: Point, *, layers: bool) -> str:
    brief = f"{wording.value(point.deployed, point.metric)} {point.metric.unit}".rstrip() + f", {wording.size(point.size.value)}"
    first = point.runs[0]
    what = "class" if point.metric == ACCURACY else "result"
    facts = [
        (
            "agreement",
            f"{wording.percent(point.agreement)} of test images get the same {what} in training and from the file",
        ),
        (point.metric.name, "; ".join(_run_value(run) for run in point.runs)),
        ("recipe", ", ".join(dict.fromkeys(run.recipe for run in point.runs))),
        ("file", "; ".join(map(_files, point.runs))),
        ("run in", ", ".join(dict.fromkeys(run.runtime for run in point.runs))),
    ]
    seed = f", seed {first.seed}" if len(point.runs) > 1 else ""
    stages = f"<h4>Stages{seed}</h4>{_stages(first.history)}" if first.history else ""
    settings = f"<h4>Settings</h4>{_settings_table(first)}" if first.settings or first.history else ""
    counted = f'<h4>Layers{seed}</h4><div class="wide layers" data-point="{i}"></div>' if layers and first.layers else ""
    return (
        f'<details id="p{i}"><summary>{escape(point.label)} <span class="range">{escape(brief)}</span></summary>'
        f"<div>{_facts(facts)}{stages}{settings}{counted}</div></details>"
    )


def _files(run: Outcome) -> str:
    files = [] if run.file_bytes is None else [f"{run.file} ({run.file_bytes:,} bytes)"]
    files += [] if run.trim_bytes is None else [f"its .trim file ({run.trim_bytes:,} bytes)"]
    return ", ".join(files) + (f"; no ONNX file: {run.onnx_problem}" if run.onnx_problem else "")


def _run_value(run: Outcome) -> str:
    exported, metric = "", run.judged_by
    what = "classes" if metric == ACCURACY else "results"
    if run.onnx_value is not None and run.onnx_agreement is not None and run.onnx_runtime != run.runtime:
        exported = (
            f", {metric.text(run.onnx_value)} of the ONNX file in {run.onnx_runtime} "
            f"({wording.percent(run.onnx_agreement)} of the {what} the same)"
        )
    for runtime, share in (run.onnx_agreements or {}).items():
        if runtime not in (run.onnx_runtime, run.runtime):
            exported += f", in {runtime} {wording.percent(share)} of the {what} the same"
    for runtime, problem in (run.onnx_problems or {}).items():
        exported += f", the ONNX file does not run in {runtime}: {problem}"
    deployed, trained = metric.text(run.deployed_value), metric.text(run.trained_value)
    return f"seed {run.seed}: {deployed} deployed, {trained} trained{exported}"


def _bits(stage: StageOutcome) -> str:
    """Bits of weights: those of most layers first, then the exceptions, by name if they are few."""
    if not stage.layer_bits:
        return str(stage.bits)
    widths = Counter(stage.layer_bits.values())
    usual, *others = sorted(widths, key=lambda bits: (-widths[bits], -bits))
    parts = [str(usual)]
    for bits in others:
        layers = [name for name, own in stage.layer_bits.items() if own == bits]
        parts.append(f"{bits} in {', '.join(layers) if len(layers) <= NAMED else f'{len(layers)} layers'}")
    return "; ".join(parts)


def _stages(history: Sequence[StageOutcome]) -> str:
    metric = history[0].judged_by
    head = "".join(
        f"<th>{text}"
        for text in ("stage", f"validation {escape(metric.heading)}", "change", "zeros of all", "bits", "epochs", "seconds")
    )
    rows = "".join(
        f"<tr><td>{escape(stage.name)}<td>{metric.number(stage.value_before)} → {metric.number(stage.value_after)}"
        f"<td>{metric.change(stage.value_after - stage.value_before)}<td>{wording.percent(stage.sparsity, 1)}"
        f"<td>{escape(_bits(stage))}<td>{stage.epochs}<td>{stage.seconds:,.0f}"
        for stage in history
    )
    return f'<div class="wide"><table><thead><tr>{head}</thead><tbody>{rows}</table></div>'


def _settings_table(run: Outcome) -> str:
    """What each stage was told, and the rest of the recipe: one setting a row."""
    parts = [(f"{number}. {stage.name}", stage.settings) for number, stage in enumerate(run.history, start=1)]
    parts.append(("recipe", {key: value for key, value in run.settings.items() if key != "stages"}))
    rows = "".join(
        f"<tr><td>{escape(part)}<td>{escape(name)}<td>{escape(value)}"
        for part, settings in parts
        for name, value in _flat(settings)
    )
    head = "<th>of<th>setting<th>value"
    return f'<div class="wide"><table class="settings"><thead><tr>{head}</thead><tbody>{rows}</table></div>'


def _flat(settings: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str]]:
    """Every setting by its full name, as a recipe would write it."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({', '.join(f'{key} = {_plain(inner)}' for key, inner in value.items())})"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _latency_rows(view: PageView, j: int, setting: LatencySetting) -> str:
    rows = []
    for point in view.points:
        speed = view.speed(point, setting)
        if speed is not None:
            rows.append(f"<tr><th>{escape(point.label)}</th>{_latency_cells(speed)}")
    return f"<tbody data-s={j}{' hidden' if j else ''}>{''.join(rows)}</tbody>"


def _latency_cells(speed: Speed) -> str:
    cells = [_estimate(speed.p50_ms), _estimate(speed.p90_ms), _estimate(speed.p99_ms), _estimate(speed.speedup, unit="×")]
    cells += [f"{speed.floor.low:.3f}–{speed.floor.high:.3f}", f"{speed.samples:,}", str(speed.processes)]
    return "".join(f"<td>{cell}" for cell in cells)


def _estimate(estimate: Estimate | None, unit: str = "") -> str:
    if estimate is None:
        return "–"
    return f"{wording.milliseconds(estimate.value)}{unit} <i>{wording.span(estimate)}</i>"


def _noise(view: PageView, settings: Sequence[LatencySetting]) -> list[str]:
    """The remarks in each setting, shortened; points of one session share them."""
    found = []
    for setting in settings:
        speeds = [speed for point in view.points if (speed := view.speed(point, setting)) is not None]
        remarks = dict.fromkeys(remark for speed in speeds for remark in speed.noise)
        found += [f"{view.name(setting)}: {text}" for text in shortened(remarks)]
    return found


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return f'<dl class="facts">{"".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts)}</dl>'
