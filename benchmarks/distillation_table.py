"""The tables of distillation losses in docs/which-recipe.md, generated only from results/distillation.jsonl."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from page_parts import with_part

from paretrim.intervals import mean_interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "distillation.jsonl"
PAGE = ROOT / "docs" / "which-recipe.md"
BEGIN = "<!-- From here to the end marker: python benchmarks/distillation_table.py -->"
END = "<!-- end -->"
PLAIN = "labels"


def tables(text: str) -> str:
    """A table for every number of epochs; differences are paired by seed."""
    runs: dict[int, dict[str, Sequence[float]]] = defaultdict(dict)
    for line in map(json.loads, text.splitlines()):
        runs[line["epochs"]][line["loss"]] = line["accuracies"]
    return "\n\n".join(_table(epochs, runs[epochs]) for epochs in sorted(runs))


def _table(epochs: int, accuracies: Mapping[str, Sequence[float]]) -> str:
    plain = accuracies[PLAIN]
    rows = [
        f"{epochs} epochs, {len(plain)} seeds:",
        "",
        "| loss | accuracy, % | difference from labels, points |",
        "|---|---|---|",
    ]
    for loss, values in accuracies.items():
        difference = ""
        if loss != PLAIN:
            found = mean_interval([100 * (value - other) for value, other in zip(values, plain, strict=True)])
            difference = f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
        rows.append(f"| {loss} | {100 * sum(values) / len(values):.1f} | {difference} |")
    return "\n".join(rows)


def page_of(page: str, lines: str) -> str:
    """The page, with the part between its markers replaced."""
    return with_part(page, BEGIN, END, tables(lines))


if __name__ == "__main__":
    PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), LINES.read_text(encoding="utf-8")), encoding="utf-8")
