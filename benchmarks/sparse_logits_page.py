"""The section of docs/training-speed.md on stored sparse logits, generated only from results/sparse-logits.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from estimates import verdict_at_most
from page_parts import with_part

from paretrim.intervals import Estimate

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "training-speed.md"
RESULTS = ROOT / "results" / "sparse-logits.jsonl"
BEGIN = "<!-- From here to the end marker: python benchmarks/sparse_logits.py --markdown -->"
END = "<!-- end of sparse logits -->"

MOST_BYTES = 0.1
"""Maximum size of the stored logits, as a share of dense float32 logits."""

MOST_TIME = 1.05
"""Maximum time of a step that reads stored logits, as a multiple of the plain step."""


def section(text: str) -> str:
    """A table with a row for each line, and the origin of the lines."""
    lines = [json.loads(line) for line in text.splitlines()]
    rows = [
        "| network | top | bytes per image and epoch | of float32 logits | at most 0.1 | CPU time of a step over the plain step "
        "| at most 1.05 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *map(_row, lines),
    ]
    origins = dict.fromkeys(map(_origin, lines))
    return "\n".join([*rows, "", *origins])


def stored_share(line: Mapping[str, Any]) -> float:
    """Stored bytes as a share of dense float32 logits."""
    share: float = line["stored_bytes"] / line["dense_bytes"]
    return share


def _row(line: Mapping[str, Any]) -> str:
    share = stored_share(line)
    each = line["stored_bytes"] / (line["images"] * line["epochs"])
    small = "yes" if share <= MOST_BYTES else "no"
    verdict = verdict_at_most(Estimate(line["ratio"], line["ratio_low"], line["ratio_high"]), MOST_TIME, "x")
    ratio = f"{line['ratio']:.3f} [{line['ratio_low']:.3f}, {line['ratio_high']:.3f}]"
    return f"| {line['network']} | {line['top']} | {each:.1f} | {share:.3f} | {small} | {ratio} | {verdict} |"


def _origin(line: Mapping[str, Any]) -> str:
    made = f"{line['cpu']}; torch {line['versions']['torch']}; commit {line['commit'] or 'unknown'}"
    threads = f"{line['threads']} thread{'s' if line['threads'] > 1 else ''}"
    how = f"{line['images']:,} images of {line['data']}, batches of {line['batch']}, {threads}, {line['rounds']} rounds"
    quiet = f"plain step {line['plain_cpu_ms']:.0f} ms; {line['load']:.1f} runnable processes per core"
    return f"- {line['network']}: {made}; {how}; {quiet}."


def page_of(page: str, lines: str) -> str:
    """The page, with the part between its markers replaced."""
    return with_part(page, BEGIN, END, section(lines))
