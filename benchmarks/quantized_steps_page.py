"""The lines of ``benchmarks/quantized_steps.py --json``, and the tables of docs/training-speed.md, generated only from them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from estimates import verdict_at_most
from page_parts import with_part

from paretrim.intervals import Estimate

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "training-speed.md"
RESULTS = ROOT / "results" / "quantized-steps.jsonl"
BEGIN = "<!-- From here to the end marker: python benchmarks/quantized_steps.py --markdown -->"
END = "<!-- end -->"
NOTHING = "There are no measurements yet."

LIMIT = 1.6
"""Maximum time of a step, as a multiple of the plain step."""


@dataclass(frozen=True)
class StepLine:
    """One recipe on one network.

    ``ratio`` is the CPU time of a step over that of the plain step in the same round, with the 95 % interval of the median;
    ``load`` is the number of runnable processes per core during the measurement.
    """

    network: str
    recipe: str
    bfloat16: bool
    batch: int
    threads: int
    ratio: float
    ratio_low: float
    ratio_high: float
    step_cpu_ms: float
    plain_cpu_ms: float
    rounds: int
    load: float
    cpu: str
    versions: Mapping[str, str]
    commit: str

    @property
    def key(self) -> tuple[object, ...]:
        """The key by which a later line replaces it."""
        return self.network, self.recipe, self.bfloat16, self.batch, self.threads

    @property
    def verdict(self) -> str:
        """Whether the step is within the limit."""
        return verdict_at_most(Estimate(self.ratio, self.ratio_low, self.ratio_high), LIMIT, "x")


def to_json(line: StepLine) -> str:
    """One line of JSON, with its verdict beside its values."""
    return json.dumps(dataclasses.asdict(line) | {"verdict": line.verdict})


def read(text: str) -> list[StepLine]:
    """Lines in their order; the last of several with one key replaces the first. Verdicts are recomputed."""
    found: dict[tuple[object, ...], StepLine] = {}
    for written in text.splitlines():
        content = json.loads(written)
        content.pop("verdict")
        line = StepLine(**content)
        found[line.key] = line
    return list(found.values())


def page_of(page: str, results: Path) -> str:
    """The page, with the part between its markers replaced.

    Raises:
        ValueError: the page lacks a marker, or has it twice.
    """
    lines = read(results.read_text(encoding="utf-8")) if results.is_file() else []
    return with_part(page, BEGIN, END, tables(lines))


def tables(lines: Sequence[StepLine]) -> str:
    """Markdown: a table for each network, type and batch size, and the origin of the lines."""
    if not lines:
        return NOTHING
    parts = []
    for network, short, batch in dict.fromkeys((line.network, line.bfloat16, line.batch) for line in lines):
        own = [line for line in lines if (line.network, line.bfloat16, line.batch) == (network, short, batch)]
        parts.append(f"## {network}, {'bfloat16' if short else 'float32'}, batches of {batch}\n\n{_table(own)}")
    return "\n\n".join([*parts, _origins(lines)])


def _table(lines: Sequence[StepLine]) -> str:
    rows = ["| recipe | CPU time of a step over the plain step | CPU ms per step | at most 1.6 |", "| --- | --- | --- | --- |"]
    for line in sorted(lines, key=lambda line: line.ratio):
        link = f"[{line.recipe}](../recipes/methods/{line.recipe}.toml)"
        ratio = f"{line.ratio:.2f} [{line.ratio_low:.2f}, {line.ratio_high:.2f}]"
        rows.append(f"| {link} | {ratio} | {line.step_cpu_ms:.0f} | {line.verdict} |")
    return "\n".join(rows)


def _origins(lines: Sequence[StepLine]) -> str:
    said: dict[str, None] = {}
    for line in lines:
        packages = ", ".join(f"{name} {line.versions[name]}" for name in ("paretrim", "torch") if name in line.versions)
        threads = f"{line.threads} thread{'s' if line.threads > 1 else ''}"
        how = f"batches of {line.batch}, {threads}, {line.rounds} rounds; {line.load:.1f} runnable processes per core"
        said[f"- {line.network}: {line.cpu}; {packages}; commit {line.commit or 'unknown'}; {how}."] = None
    return "\n".join(["## Where these numbers come from", "", *said])
