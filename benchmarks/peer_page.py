"""docs/studies/peers.md, generated only from the lines in results/peers.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from peer_cases import CASES, FLOAT, HERE, Case
from peer_lines import AbsentLine, LatencyLine, Line, ResultLine

from paretrim.intervals import accuracy_interval, mean_interval

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "studies" / "peers.md"
RESULTS = ROOT / "results" / "peers.jsonl"
QUIET = 0.5
"""Load average up to which wall time is shown."""

HEAD = """<!-- Written by `python benchmarks/peers.py --markdown`; do not edit. -->

# Paretrim and other toolkits, side by side

Paretrim and other toolkits on the same trained networks, the same images of CIFAR-10 and the same CPU, measured by
`python benchmarks/peers.py`. Each toolkit is used as its own documentation recommends, by a short script in
[benchmarks/peers/](../../benchmarks/peers), in its own environment with pinned versions.

- **Accuracy** is that of the file on all test images, one at a time, in the runtime that the toolkit recommends. It is the mean
  over several draws of 512 training images for calibration, with Student's 95 % interval, which covers only the draw. The test
  images are a sample too: an accuracy near 92 % has a sampling error of half a point. All cases share the test images, so
  differences have a smaller error.
- **Bytes** are those of all files that ship (OpenVINO needs two).
- **CPU seconds** are those of the whole script, including imports. Wall time is shown if the machine was otherwise idle.
- **Lines** are lines of code in the script, without the network, comments and blank lines.
- **Latency** is for one image on one thread, as normalised float32 for every runtime, after ten other calls in the same process.

![Accuracy against latency on resnet20](../figures/peers.svg)
"""
NOTHING = "There are no results yet."
PENDING = "not timed yet"


@dataclass(frozen=True)
class Row:
    """A case on one network: its results, one line per seed, and its latency if it was timed."""

    case: Case
    lines: tuple[ResultLine, ...]
    latency: LatencyLine | None

    @property
    def ours(self) -> bool:
        """Whether it is Paretrim's."""
        return self.case.environment == HERE

    @property
    def accuracies(self) -> dict[int, float]:
        """Percent, by seed."""
        return {line.seed: 100 * line.correct / line.images for line in self.lines}

    @property
    def accuracy(self) -> float:
        """Mean percent."""
        return fmean(self.accuracies.values())

    @property
    def file_bytes(self) -> float:
        """Mean bytes."""
        return fmean(line.file_bytes for line in self.lines)

    @property
    def cpu_s(self) -> float:
        """Mean CPU seconds."""
        return fmean(line.cpu_s for line in self.lines)

    @property
    def user_lines(self) -> float:
        """Lines of code."""
        return self.lines[-1].user_lines

    @property
    def p50_ms(self) -> float | None:
        """Milliseconds, if it was timed."""
        return self.latency.p50_ms if self.latency else None


def page_of(lines: Sequence[Line]) -> str:
    """The whole page."""
    networks = list(dict.fromkeys(line.network for line in lines))
    sections = [section(network, [line for line in lines if line.network == network]) for network in networks]
    return "\n".join([HEAD, *(sections or [f"{NOTHING}\n"]), *([origins(lines)] if lines else [])])


def section(network: str, lines: Sequence[Line]) -> str:
    """The tables of one network, one per task, and where a peer wins."""
    rows = rows_of(lines)
    absent = {line.case: line for line in lines if isinstance(line, AbsentLine)}
    baseline = next((row for row in rows if row.case.task == FLOAT), None)
    parts = [f"## {network}\n"]
    if baseline:
        found = accuracy_interval(baseline.lines[0].correct, baseline.lines[0].images)
        interval = f"{100 * found.value:.2f} % [{100 * found.low:.2f}, {100 * found.high:.2f}] by its test images"
        parts.append(f"As trained: {interval}, {baseline.file_bytes:,.0f} bytes as ONNX, latency {latency_of(baseline)}.\n")
    for task in dict.fromkeys(case.task for case in CASES if case.task != FLOAT):
        here = [row for row in rows if row.case.task == task]
        missing = [f"- {case.title}: {absent[case.name].reason}" for case in CASES if case.task == task and case.name in absent]
        if here or missing:
            parts += [f"### {task}\n", *([f"{table(here, baseline)}\n", f"{verdicts(here)}\n"] if here else [])]
            parts += ["Not run here:\n", "\n".join(missing) + "\n"] if missing else []
    return "\n".join(parts)


def rows_of(lines: Sequence[Line]) -> list[Row]:
    """Rows in the order of the cases."""
    rows = []
    for case in CASES:
        results = tuple(line for line in lines if isinstance(line, ResultLine) and line.case == case.name)
        digests = {line.file_digest for line in results}
        timed = [
            line for line in lines if isinstance(line, LatencyLine) and line.case == case.name and line.file_digest in digests
        ]
        if results:
            rows.append(Row(case, results, timed[-1] if timed else None))
    return rows


def table(rows: Sequence[Row], baseline: Row | None) -> str:
    """One row per case, the most accurate first."""
    heading = ("", "accuracy, %", "drop, points", "bytes", "CPU seconds", "wall, s", "lines", "runtime", "latency, ms")
    cells = [
        (
            f"**{row.case.title}**" if row.ours else row.case.title,
            spread(list(row.accuracies.values())),
            f"{baseline.accuracy - row.accuracy:+.2f}" if baseline else "",
            f"{row.file_bytes:,.0f}",
            f"{row.cpu_s:.1f}",
            wall_of(row),
            f"{row.user_lines:.0f}",
            row.case.runtime,
            latency_of(row),
        )
        for row in sorted(rows, key=lambda row: -row.accuracy)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heading, ["---"] * len(heading), *cells])


def spread(values: Sequence[float]) -> str:
    """Mean with its interval over seeds."""
    if len(values) < 2:
        return f"{values[0]:.2f} (one draw)"
    found = mean_interval(values)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def wall_of(row: Row) -> str:
    """Mean wall time of the runs on an idle machine, in seconds."""
    quiet = [line.wall_s for line in row.lines if line.origin.load <= QUIET]
    return f"{fmean(quiet):.1f}" if quiet else "busy"


def latency_of(row: Row) -> str:
    """The latency with its interval, or a note that there is none yet."""
    found = row.latency
    return f"{found.p50_ms:.3f} [{found.p50_ms_low:.3f}, {found.p50_ms_high:.3f}]" if found else PENDING


AXES: Mapping[str, tuple[Callable[[Row], float | None], str]] = {
    "bytes": (lambda row: row.file_bytes, "{:,.0f}"),
    "CPU seconds": (lambda row: row.cpu_s, "{:.1f}"),
    "lines of code": (lambda row: row.user_lines, "{:.0f}"),
    "latency, ms": (lambda row: row.p50_ms, "{:.3f}"),
}
"""Values for which lower is better, with their number formats."""


def verdicts(rows: Sequence[Row]) -> str:
    """The most accurate case of Paretrim against the peer that is best on each axis."""
    peers = [row for row in rows if not row.ours]
    ours = max((row for row in rows if row.ours), key=lambda row: row.accuracy, default=None)
    if ours is None or not peers:
        return "Only one side has results, so there is no comparison yet."
    said = [accuracy_verdict(ours, max(peers, key=lambda row: row.accuracy))]
    for name, (value, form) in AXES.items():
        our = value(ours)
        found = {row.case.title: number for row in peers if (number := value(row)) is not None}
        if our is None or not found:
            said.append(f"- {name}: {PENDING}.")
            continue
        title = min(found, key=found.__getitem__)
        numbers = f"{form.format(found[title])} ({title}) against {form.format(our)} ({ours.case.title})"
        result = "**a peer wins**" if found[title] < our else "Paretrim wins" if our < found[title] else "equal"
        said.append(f"- {name}: {result}, {numbers}.")
    return "\n".join(["The most accurate case of Paretrim against the best peer by each measure:\n", *said])


def accuracy_verdict(ours: Row, peer: Row) -> str:
    """The verdict on accuracy, from the interval of the difference paired by draw."""
    numbers = f"{peer.accuracy:.2f} % ({peer.case.title}) against {ours.accuracy:.2f} % ({ours.case.title})"
    seeds = sorted(ours.accuracies.keys() & peer.accuracies.keys())
    if len(seeds) < 2:
        return f"- accuracy: {numbers}; one draw cannot show a difference."
    found = mean_interval([peer.accuracies[seed] - ours.accuracies[seed] for seed in seeds])
    result = "**a peer wins**" if found.low > 0 else "Paretrim wins" if found.high < 0 else "no difference shown"
    return f"- accuracy: {result}, {numbers}, difference {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]."


def origins(lines: Sequence[Line]) -> str:
    """Versions by environment, machines and commits, each once, and remarks about noise."""
    environments = {case.name: "Paretrim" if case.environment == HERE else case.environment for case in CASES}
    packages: dict[str, None] = {}
    machines: dict[str, None] = {}
    for line in lines:
        origin = line.origin
        versions = ", ".join(f"{name} {version}" for name, version in sorted(origin.versions.items())) or "nothing installed"
        packages[f"- {environments.get(line.case, line.case)}: {versions}."] = None
        machines[f"- {origin.cpu}, {origin.cores} core{'s' if origin.cores != 1 else ''}."] = None
        if isinstance(line, LatencyLine):
            machines |= {f"- Not quiet: {remark}.": None for remark in line.noise}
    commits = ", ".join(dict.fromkeys(line.origin.commit or "unknown" for line in lines))
    return "\n".join(["## Where these numbers come from", "", *packages, *machines, f"- Commits: {commits}.", ""])
