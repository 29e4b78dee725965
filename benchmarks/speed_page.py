"""The tables of docs/speed.md, generated only from the lines in results/runtime.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from page_parts import with_part
from runtime_lines import LARGE_MAP, PEAK_GOAL, LatencyLine, LayerLine, Line, Origin, StartupLine, read

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "speed.md"
RESULTS = ROOT / "results" / "runtime.jsonl"
BEGIN = "<!-- From here to the end marker: python benchmarks/runtime.py --markdown -->"
END = "<!-- end -->"
NOTHING = "There are no measurements yet."


def page_of(page: str, results: Path) -> str:
    """The page, with the part between its markers replaced.

    Raises:
        ValueError: the page lacks a marker, or has it twice.
    """
    text = results.read_text(encoding="utf-8") if results.is_file() else ""
    return with_part(page, BEGIN, END, tables(read(text)))


def tables(lines: Sequence[Line]) -> str:
    """Markdown of everything measured; a part for each instruction set, in the order in which they were first measured."""
    if not lines:
        return NOTHING
    sets = list(dict.fromkeys(line.origin.instruction_set for line in lines))
    parts = [part for name in sets for part in _on([line for line in lines if line.origin.instruction_set == name], name)]
    return "\n\n".join([*parts, _origins([line.origin for line in lines])])


def _on(lines: Sequence[Line], instruction_set: str) -> list[str]:
    """The sections of the lines of one instruction set."""
    latencies = [line for line in lines if isinstance(line, LatencyLine)]
    startups = [line for line in lines if isinstance(line, StartupLine)]
    layers = [line for line in lines if isinstance(line, LayerLine)]
    where = "" if instruction_set == Origin.instruction_set else f" ({instruction_set})"
    return [
        *(_section(f"Against dense INT8{where}", _against(latencies), latencies)),
        *(_section(f"Threads{where}", _threads(latencies), [line for line in latencies if line.scaling])),
        *(_section(f"From a file to its first result{where}", _startup(startups), startups)),
        *(_section(f"Share of the peak rate{where}", _peak(layers), layers)),
    ]


def _section(title: str, body: str, lines: Sequence[Line]) -> list[str]:
    return [f"## {title}", body] if lines else []


def _against(lines: Sequence[LatencyLine]) -> str:
    rows = [
        (
            _network(line),
            _percent(line.zeros),
            f"{100 * line.zeros_found:.1f} %",
            f"{line.threads}{' (best)' if line.fastest_threads else ''}",
            str(line.batch),
            f"{line.ours_p50_ms:.3f}",
            f"{line.best_dense_int8} {line.best_dense_int8_p50_ms:.3f}",
            _interval(line.ratio, line.ratio_low, line.ratio_high),
            _interval(line.over_openvino, line.over_openvino_low, line.over_openvino_high),
            line.verdict,
        )
        for line in lines
    ]
    heading = (
        "network",
        "zeros of prunable",
        "zeros of all",
        "threads",
        "batch",
        "ours, ms",
        "best dense INT8, ms",
        "ratio",
        "ratio to OpenVINO's best",
        "goal",
    )
    return _table(heading, rows)


def _threads(lines: Sequence[LatencyLine]) -> str:
    scaled = [(line, line.scaling) for line in lines]
    rows = [
        (
            _network(line),
            _percent(line.zeros),
            str(line.threads),
            str(line.batch),
            _interval(found.value, found.low, found.high),
            line.threads_verdict,
        )
        for line, found in scaled
        if found
    ]
    return _table(("network", "zeros of prunable", "threads", "batch", "times one thread", "goal"), rows)


def _startup(lines: Sequence[StartupLine]) -> str:
    rows = [
        (
            _network(line),
            _percent(line.zeros),
            f".{line.file}",
            f"{line.file_bytes:,}",
            str(line.threads),
            _interval(line.first_result_ms, line.first_result_ms_low, line.first_result_ms_high, 1),
            f"{line.import_ms:.0f}",
            "" if line.first_start_ms is None else f"{line.first_start_ms:.0f}",
            line.verdict,
        )
        for line in lines
    ]
    heading = (
        "network",
        "zeros of prunable",
        "file",
        "bytes",
        "threads",
        "first result, ms",
        "imports, ms",
        "the very first time, ms",
        "goal",
    )
    return _table(heading, rows)


def _peak(lines: Sequence[LayerLine]) -> str:
    """A row per network and sparsity: layers with large maps together, the slowest of them, and how many reach the goal."""
    large = [line for line in lines if line.positions >= LARGE_MAP]
    rows = []
    for key in dict.fromkeys((line.network, line.zeros) for line in large):
        here = [line for line in large if (line.network, line.zeros) == key]
        whole = sum(line.time_us for line in here)
        together = sum(line.time_us * line.share_of_peak for line in here) / whole
        slowest = min(here, key=lambda line: line.share_of_peak)
        reaching = sum(line.share_of_peak_low >= PEAK_GOAL.least for line in here)
        least = f"{_percent(slowest.share_of_peak)} ({slowest.layer})"
        rows.append((_network(here[0]), _percent(key[1]), _percent(together), least, f"{reaching} of {len(here)}"))
    heading = ("network", "zeros of prunable", "together", "slowest layer", f"layers that reach {_percent(PEAK_GOAL.least)}")
    return _table(heading, rows)


def _origins(origins: Iterable[Origin]) -> str:
    """Origin of the lines, and noise while they were measured."""
    said: dict[str, None] = {}
    for origin in origins:
        packages = ", ".join(f"{name} {version}" for name, version in sorted(origin.versions.items()))
        said[f"- {origin.cpu}; {packages}; commit {origin.commit or 'unknown'}; effort {origin.effort}."] = None
    for remark in dict.fromkeys(remark for origin in origins for remark in origin.noise):
        said[f"- Not quiet: {remark}."] = None
    return "\n".join(["## Where these numbers come from", "", *said])


def _network(line: Line) -> str:
    name = line.network.rpartition(":")[2]  # of a factory, without its module
    size = "" if line.origin.size == Origin.size else f", {line.origin.size} pixels"
    return f"{name}{size}" if line.origin.weights == "random" else f"{name}{size}, {line.origin.weights}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _interval(value: float, low: float, high: float, digits: int = 2) -> str:
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
