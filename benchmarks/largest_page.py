"""The lines of ``benchmarks/largest.py``, and the table of docs/large-networks.md, which is generated only from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from page_parts import with_part

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "large-networks.md"
RESULTS = ROOT / "results" / "largest.jsonl"
BEGIN = "<!-- From here to the end marker: python benchmarks/largest.py --markdown -->"
END = "<!-- end -->"
NOTHING = "There are no measurements yet."

THREADS = 2
"""Threads on which elapsed time is measured."""

GOAL_S = 10.0
"""Seconds that capturing and deploying together should take."""


@dataclass(frozen=True)
class LargestLine:
    """One network. Seconds are CPU seconds on one thread, None if not measured; ``refused`` is the error, if there was one.

    ``load`` is the number of runnable processes per core during the measurement. ``elapsed_s`` are seconds on the clock of
    capturing and deploying together, on :data:`THREADS` threads of an idle machine; a line with them has nothing else.
    """

    network: str
    parameters: int
    capture_cpu_s: float | None
    deploy_cpu_s: float | None
    onnx_cpu_s: float | None
    trim_bytes: int | None
    refused: str
    load: float
    cpu: str
    versions: Mapping[str, str]
    commit: str
    elapsed_s: float | None = None

    @property
    def together_s(self) -> float | None:
        """CPU seconds of capturing and deploying."""
        if self.capture_cpu_s is None or self.deploy_cpu_s is None:
            return None
        return self.capture_cpu_s + self.deploy_cpu_s


def to_json(line: LargestLine) -> str:
    """One line of JSON."""
    return json.dumps(dataclasses.asdict(line))


def read(text: str) -> list[LargestLine]:
    """Lines in their order; the last of several for one network replaces the first, but one with elapsed time adds to it."""
    found: dict[str, LargestLine] = {}
    for written in text.splitlines():
        line = LargestLine(**json.loads(written))
        earlier = found.get(line.network)
        adds = earlier is not None and line.elapsed_s is not None
        found[line.network] = dataclasses.replace(earlier, elapsed_s=line.elapsed_s) if earlier and adds else line
    return list(found.values())


def page_of(page: str, results: Path) -> str:
    """The page, with the part between its markers replaced.

    Raises:
        ValueError: the page lacks a marker, or has it twice.
    """
    lines = read(results.read_text(encoding="utf-8")) if results.is_file() else []
    return with_part(page, BEGIN, END, tables(lines))


def tables(lines: Sequence[LargestLine]) -> str:
    """Markdown: a table, how many networks meet the goal, errors, and the origin of the lines."""
    if not lines:
        return NOTHING
    rows = [
        "| network | million parameters | seconds | CPU seconds: capture | deploying | together | ONNX file | .trim, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ordered = sorted(lines, key=lambda line: (-line.parameters, line.network))
    rows += [_row(line) for line in ordered if not line.refused]
    waited = _within([line.elapsed_s for line in lines])
    worked = _within([line.together_s for line in lines])
    said = [
        f"On the clock, with {THREADS} threads of an idle machine, {waited} networks take less than {GOAL_S:.0f} seconds. In CPU "
        f"seconds of one thread it is {worked}."
    ]
    said += [
        f"- {line.network} ({line.parameters / 1e6:.0f} million parameters): {line.refused}" for line in ordered if line.refused
    ]
    return "\n\n".join(["\n".join(rows), *said, _origins(lines)])


def _within(seconds: Sequence[float | None]) -> str:
    known = [value for value in seconds if value is not None]
    return f"{sum(value < GOAL_S for value in known)} of {len(known)}"


def _row(line: LargestLine) -> str:
    seconds = (line.elapsed_s, line.capture_cpu_s, line.deploy_cpu_s, line.together_s, line.onnx_cpu_s)
    shown = " | ".join("-" if value is None else f"{value:.1f}" for value in seconds)
    size = "-" if line.trim_bytes is None else f"{line.trim_bytes / 1e6:.0f}"
    return f"| {line.network} | {line.parameters / 1e6:.1f} | {shown} | {size} |"


def _origins(lines: Sequence[LargestLine]) -> str:
    said: dict[str, None] = {}
    for line in lines:
        packages = ", ".join(f"{name} {line.versions[name]}" for name in ("paretrim", "torch") if name in line.versions)
        said[f"- {line.cpu}; {packages}; commit {line.commit or 'unknown'}."] = None
    loads = [line.load for line in lines]
    return "\n".join(
        ["Where these numbers come from:", "", *said, f"- Runnable processes per core: {min(loads):.1f} to {max(loads):.1f}."]
    )
